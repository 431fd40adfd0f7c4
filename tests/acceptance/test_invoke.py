"""What an invocation gets and gives: answers, reuse, concurrency, variables, sizes."""

import base64
import json
import os
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from botocore.exceptions import ClientError

from .conftest import functions_on, running
from .nodes import PATIENCE_S
from .packages import RUNTIME, SHELL, zip_directory, zip_of


@pytest.mark.case("LC-22", "LC-5")
def test_a_warm_invocation_is_served_by_the_same_process(node, function):
    name = function()
    first, second = node.invoke(name, tail=True), node.invoke(name, tail=True)
    assert (first.payload["pid"], first.payload["generation"]) == (
        second.payload["pid"],
        second.payload["generation"],
    )
    assert (first.payload["calls"], second.payload["calls"]) == (1, 2)
    assert "Init Duration: " in first.log
    assert "Init Duration: " not in second.log


@pytest.mark.slow
@pytest.mark.case("LC-13")
def test_a_slow_extension_does_not_delay_the_answer(node, function):
    # Given an extension that works for a second after each invocation
    name = function(does={"slow": {"after_invoke_s": 1}})
    node.invoke(name, tail=True)

    # When the answer has come
    answer = node.invoke(name)

    # Then the extension is still at work: the timeline does not have its end
    events = [each for each in node.timeline(name) if each.get("request_id") == answer.request_id]
    assert [each["kind"] for each in events] in (
        ["invoke.started", "runtime.responded"],
        ["invoke.started", "runtime.responded", "runtime.done"],
    )
    # And the invocation lasts until it is done
    report = next(
        line
        for line in node.log_until(name, f"REPORT RequestId: {answer.request_id}")
        if line.startswith(f"REPORT RequestId: {answer.request_id}")
    )
    assert float(report.partition("Duration: ")[2].split()[0]) >= 1000


@pytest.mark.slow
@pytest.mark.case("LC-14")
def test_an_environment_takes_nothing_before_its_extensions_are_done(node, function):
    name = function(does={"slow": {"after_invoke_s": 1}})
    for _ in range(3):
        node.invoke(name)
    node.settle(name)
    node.invoke(name, tail=True)
    for events in node.timelines(name):
        kinds = [each["kind"] for each in events if each["kind"] in ("invoke.started", "invoke.ended")]
        assert kinds == ["invoke.started", "invoke.ended"] * (len(kinds) // 2)


@pytest.mark.slow
def test_fifty_at_once_have_fifty_environments(data):
    # Given a node whose functions can reach the test, and a function that waits for the test
    with ExitStack() as stack:
        node = stack.enter_context(running(data, "--network", "host"))
        create = stack.enter_context(functions_on(node))
        threads = stack.enter_context(ThreadPoolExecutor(50))
        gate = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=64))
        gate.settimeout(PATIENCE_S)
        address = "{}:{}".format(*gate.getsockname())
        name = create(zip_directory(SHELL), Runtime="provided.al2023")

        # When fifty invocations are under way at the same time
        events = [{"gate": address, "number": number} for number in range(50)]
        answers = [threads.submit(node.invoke, name, event) for event in events]
        inside = [stack.enter_context(gate.accept()[0]) for _ in events]
        assert sum(each["state"] == "busy" for each in node.environments(name)) == 50
        for connection in inside:
            connection.shutdown(socket.SHUT_WR)

        # Then each has an environment of its own, and its own answer
        told = [answer.result() for answer in answers]
        assert [each.payload[0] for each in told] == events
        streams = {each.payload[1] for each in told}
        assert len(streams) == len({each.request_id for each in told}) == 50

        # And afterwards they are used again
        node.settle(name)
        node.invoke(name, tail=True)
        assert {each["log_stream"] for each in node.environments(name)} == streams


def test_more_than_the_limit_at_once_is_throttled(data):
    with running(data, "--network", "host", "--concurrency", "1") as node, functions_on(node) as create:
        name = create()
        with socket.create_server(("127.0.0.1", 0)) as gate, ThreadPoolExecutor(1) as threads:
            gate.settimeout(PATIENCE_S)
            first = threads.submit(node.invoke, name, {"gate": "{}:{}".format(*gate.getsockname())})
            with gate.accept()[0] as connection:
                with pytest.raises(ClientError) as refused:
                    node.invoke(name)
                connection.sendall(b"open")
            assert first.result().payload["gate"] == "open"
        assert refused.value.response["Error"]["Code"] == "TooManyRequestsException"
        assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 429
        assert node.invoke(name, {"echo": 1}).payload["echo"] == 1


@pytest.mark.case("RT-46", "RT-45")
def test_the_runtime_finds_what_lambda_gives_it(node, function):
    name = function(variables={"MINE": "a=b=c", "LANG": "C"}, MemorySize=256)
    told = node.invoke(name, {"environ": 1, "directory": 1, "stdin": 1}).payload
    environ = told["environ"]
    assert told["directory"] == "/var/task"
    assert told["stdin"] == ""
    expected = {
        "MINE": "a=b=c",
        "LANG": "C",
        "TZ": ":UTC",
        "_HANDLER": "app.handler",
        "LAMBDA_TASK_ROOT": "/var/task",
        "LAMBDA_RUNTIME_DIR": "/var/runtime",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EXECUTION_ENV": f"AWS_Lambda_{RUNTIME}",
        "AWS_LAMBDA_FUNCTION_NAME": name,
        "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "256",
        "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
        "AWS_LAMBDA_LOG_GROUP_NAME": f"/aws/lambda/{name}",
        "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001",
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
    }
    assert {key: environ.get(key) for key in expected} == expected
    assert environ["AWS_LAMBDA_LOG_STREAM_NAME"].endswith(told["environment"])
    assert environ["AWS_ACCESS_KEY_ID"] == environ["AWS_ACCESS_KEY"]
    assert environ["AWS_SECRET_ACCESS_KEY"]
    assert environ["AWS_SESSION_TOKEN"]
    assert environ["PATH"].endswith(":/opt/bin")
    assert "/opt/lib" in environ["LD_LIBRARY_PATH"].split(":")
    here = set(os.environ) - expected.keys() - {"PATH", "PWD", "SHLVL", "_", "LC_CTYPE", "PYTHONPATH"}
    assert not {key for key in here & environ.keys() if os.environ[key] == environ[key]}


@pytest.mark.case("EXT-41", "EXT-42", "EXT-43")
def test_an_extension_finds_what_lambda_gives_it(node, function):
    name = function(does={"watcher": {"tell": True}}, variables={"MINE": "a=b=c"})
    node.invoke(name, tail=True)
    own = json.loads(node.invoke(name, {"read": "/tmp/watcher"}).payload["read"])
    assert own["argv"] == ["/opt/extensions/watcher"]
    assert own["stdin"] == ""
    withheld = {
        *("AWS_EXECUTION_ENV", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"),
        *("AWS_XRAY_CONTEXT_MISSING", "AWS_XRAY_DAEMON_ADDRESS", "LAMBDA_RUNTIME_DIR", "LAMBDA_TASK_ROOT"),
        *("_AWS_XRAY_DAEMON_ADDRESS", "_AWS_XRAY_DAEMON_PORT", "_HANDLER"),
    }
    assert not withheld & own["environ"].keys()
    assert own["environ"]["MINE"] == "a=b=c"
    assert own["environ"]["AWS_LAMBDA_RUNTIME_API"] == "127.0.0.1:9001"
    assert own["environ"]["AWS_ACCESS_KEY_ID"]
    assert own["environ"]["AWS_REGION"] == "us-east-1"


@pytest.mark.case("EXT-43")
def test_extensions_and_function_share_tmp(node, function):
    name = function(does={"writer": {"write_on_invoke": "/tmp/shared"}})
    node.invoke(name, tail=True)
    assert node.invoke(name, {"read": "/tmp/shared"}).payload["read"] == "writer"


@pytest.mark.case("EXT-26", "LC-15")
def test_an_extension_that_did_not_subscribe_is_not_waited_for(node, function):
    name = function(does={"quiet": {"events": ["SHUTDOWN"]}, "none": {"events": []}})
    node.invoke(name, tail=True)
    log = node.invoke(name, tail=True).log
    assert "INVOKE" not in log
    assert not [each for each in node.timeline(name) if each["kind"] == "extension.done"]


WRAPPER = """#!/bin/sh
echo "wrapped $0 $*"
export WRAPPED=yes
exec "$@"
"""


@pytest.mark.case("RT-47")
def test_the_wrapper_is_given_the_command_of_the_runtime(node, function):
    layer = zip_of({"wrapper": WRAPPER}, mode=0o755)
    name = function(layers=[layer], variables={"AWS_LAMBDA_EXEC_WRAPPER": "/opt/wrapper"})
    assert node.invoke(name, {"environ": 1}).payload["environ"]["WRAPPED"] == "yes"
    node.log_until(name, f"wrapped /opt/wrapper /var/lang/bin/{RUNTIME} /var/runtime/bootstrap.py")


@pytest.mark.case("RT-48")
@pytest.mark.parametrize(("path", "status"), [("/opt/none", 127), ("/var/task/app.py", 126)])
def test_a_wrapper_that_cannot_be_run_ends_the_runtime(node, function, path, status):
    answer = node.invoke(function(variables={"AWS_LAMBDA_EXEC_WRAPPER": path}))
    assert answer.payload["errorType"] == "Runtime.ExitError"
    assert answer.payload["errorMessage"].endswith(f"exit status {status}")


@pytest.mark.case("RT-9")
@pytest.mark.parametrize("runtime", ["provided.al2023", "provided.al2"])
def test_a_bootstrap_of_ones_own_gets_every_byte(node, function, runtime):
    name = function(zip_directory(SHELL), Runtime=runtime, Handler="any")
    event = '{"text":"\u00e4\u6f22\U0001f40d","list":[1,2.50,null]}'.encode()
    got = node.client.invoke(FunctionName=name, Payload=event)
    assert got["Payload"].read() == event
    node.log_until(name, "shell function starts in /var/task", f"shell function got {len(event)} bytes")


@pytest.mark.case("RT-41")
def test_a_missing_bootstrap_is_an_invalid_entrypoint(node, function):
    answer = node.invoke(function(zip_of({"readme": ""}), Runtime="provided.al2023"))
    assert answer.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert (
        "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
        in (answer.payload["errorMessage"])
    )


@pytest.mark.case("RT-42")
@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [("#!/bin/sh\n", 0o644, "permission denied"), (b"\0garbage\xff", 0o755, "exec format error")],
)
def test_a_bootstrap_that_cannot_be_executed_is_an_invalid_entrypoint(node, function, content, mode, reason):
    name = function(zip_of({"bootstrap": content}, mode=mode), Runtime="provided.al2023")
    answer = node.invoke(name)
    assert answer.payload["errorType"] == "Runtime.InvalidEntrypoint"
    assert f"fork/exec /var/task/bootstrap: {reason}" in answer.payload["errorMessage"]


@pytest.mark.case("RT-27", "RT-28")
def test_a_response_may_be_six_megabytes_and_not_more(node, function):
    name = function(zip_directory(SHELL), Runtime="provided.al2023")
    most = node.client.invoke(FunctionName=name, Payload=b'{"blanks":6291556}')
    assert most["Payload"].read() == b" " * 6_291_556
    assert "FunctionError" not in most
    over = node.invoke(name, b'{"blanks":6291557}', tail=True)
    assert over.error == "Unhandled"
    assert over.payload["errorType"] == "Function.ResponseSizeTooLarge"
    # And the same process goes on.
    assert "shell function got 7 bytes, event 3" in node.invoke(name, b'"again"', tail=True).log


@pytest.mark.case("CP-85")
def test_a_response_that_is_too_large_is_an_error_with_the_stock_client_too(node, function):
    name = function(MemorySize=512)
    over = node.invoke(name, {"size": 6_291_556}, tail=True)
    assert (over.status, over.error) == (200, "Unhandled")
    assert over.payload == {
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
        "errorType": "Function.ResponseSizeTooLarge",
    }
    assert node.invoke(name, {"size": 7 * 1024 * 1024}).payload == over.payload
    assert node.invoke(name).error is None


def test_a_request_may_be_six_megabytes_and_not_more(node, function):
    name = function(MemorySize=512)
    most = 6_291_456
    text = b'{"echo":1,"print":"%s"}'
    fitting = text % (b"x" * (most - len(text) + 2))
    assert len(fitting) == most
    assert node.invoke(name, fitting).payload["echo"] == 1
    with pytest.raises(ClientError) as refused:
        node.invoke(name, fitting + b" ")
    assert refused.value.response["Error"]["Code"] == "RequestEntityTooLargeException"
    assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] == 413
    assert node.invoke(name).error is None


@pytest.mark.slow
@pytest.mark.case("LC-23")
def test_nothing_runs_while_the_environment_is_idle(node, function):
    # Given a thread that counts hundredths of seconds
    name = function(variables={"TICKING": "1"})
    node.invoke(name, tail=True)
    before = node.invoke(name, tail=True).payload["ticks"]

    # When the environment is idle for a second
    time.sleep(1)

    # Then it has hardly counted
    after = node.invoke(name).payload["ticks"]
    assert after - before < 50
    kinds = [each["kind"] for each in node.timeline(name)]
    assert kinds.count("environment.frozen") >= 1
    assert kinds.count("environment.thawed") >= 1


def test_code_layers_and_runtime_are_read_only_and_tmp_is_not(node, function):
    name = function(layers=[zip_of({"file": "text"})])
    for path in (
        "/var/task/new",
        "/opt/new",
        "/var/runtime/new",
        "/var/lang/new",
        "/usr/new",
        "/etc/new",
        "/new",
    ):
        answer = node.invoke(name, {"write": path})
        assert answer.payload["errorType"] in ("OSError", "PermissionError"), path
    assert node.invoke(name, {"write": "/tmp/new", "read": "/tmp/new"}).payload["read"] == "written"
    assert node.invoke(name, {"write": "/dev/shm/new", "list": "/opt"}).payload["list"] == ["file"]


def test_a_function_sees_neither_the_machine_nor_other_environments(node, function):
    name = function()
    told = node.invoke(name, {"list": "/proc"}).payload["list"]
    assert sum(each.isdigit() for each in told) <= 3
    assert node.invoke(name, {"list": "/home"}).payload["list"] == []
    assert node.invoke(name, {"list": str(node.data)}).payload["errorType"] == "FileNotFoundError"
    assert node.invoke(name, {"gate": node.address}).payload["errorType"] in (
        "ConnectionRefusedError",
        "OSError",
    )


@pytest.mark.case("CP-87")
def test_client_context_and_cognito_reach_the_function(node, function):
    source = (
        "def handler(event, context):\n"
        "    print('has', context.client_context and context.client_context.custom)\n"
        "    return context.client_context and context.client_context.custom\n"
    )
    name = function(zip_of({"app.py": source}))
    context = "eyJjdXN0b20iOnsiayI6InYifX0="
    assert node.invoke(name, ClientContext=context).payload == {"k": "v"}
    # An event has none, whatever the request says.
    node.client.invoke(FunctionName=name, InvocationType="Event", ClientContext=context)
    node.log_until(name, "has {'k': 'v'}", "has None")


def test_a_dry_run_runs_nothing(node, function):
    name = function()
    assert node.invoke(name, InvocationType="DryRun").status == 204
    assert node.timelines(name) == []


def test_modes_in_the_package_are_kept(node, function):
    source = (
        "import os\ndef handler(event, context):\n    return {n: os.stat(n).st_mode for n in os.listdir()}\n"
    )
    modes = {"app.py": 0o644, "tool": 0o755, "data": 0o600}
    name = function(zip_of(dict.fromkeys(modes, source), modes=modes))
    told = node.invoke(name).payload
    assert told["tool"] & stat.S_IXUSR
    assert not told["app.py"] & stat.S_IXUSR
    assert told["data"] & stat.S_IRUSR


@pytest.mark.case("CP-78", "CP-86")
def test_nothing_is_null_and_the_tail_ends_with_the_report(node, function):
    source = "def handler(event, context):\n    print('x' * event['characters'])\n"
    name = function(zip_of({"app.py": source}))
    for characters in (1, 5_000):
        reply = node.client.invoke(
            FunctionName=name, LogType="Tail", Payload=json.dumps({"characters": characters}).encode()
        )
        assert reply["Payload"].read() == b"null"
        tail = base64.b64decode(reply["LogResult"])
        assert len(tail) <= 4096
        assert tail.splitlines()[-1].startswith(b"REPORT RequestId: ")
