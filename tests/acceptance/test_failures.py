"""What goes wrong in a function or an extension: what the invoker gets, what the next invocation finds."""

import json
import re
import signal

import pytest

from .nodes import eventually
from .packages import zip_of

WATCHER = {"watcher": {}}


def shutdowns(lines):
    """Return the SHUTDOWN events that the actor called watcher has printed."""
    told = [line.removeprefix("watcher: ") for line in lines if line.startswith('watcher: {"eventType"')]
    return [event for event in map(json.loads, told) if event["eventType"] == "SHUTDOWN"]


@pytest.mark.slow
@pytest.mark.case("RT-25", "LC-19", "LC-20", "EXT-38")
@pytest.mark.case("CP-81")
def test_a_timeout_loses_the_process_and_keeps_tmp(node, function):
    # Given a function that has written to /tmp, and an extension
    name = function(does=WATCHER, Timeout=20)  # the init after the timeout counts
    first = node.invoke(name, {"write": "/tmp/kept"}, tail=True)

    # When it takes too long
    late = node.invoke(name, {"sleep_s": 60})

    # Then the invoker learns it
    assert late.error == "Unhandled"
    assert late.payload == {
        "errorType": "Sandbox.Timedout",
        "errorMessage": f"RequestId: {late.request_id} Error: Task timed out after 20.00 seconds",
    }
    # And the next invocation finds /tmp as it was, and a new process
    node.settle(name)
    second = node.invoke(name, {"read": "/tmp/kept"})
    assert second.error is None, second.payload
    assert second.payload["read"] == "written"
    assert second.payload["environment"] == first.payload["environment"]
    assert second.payload["generation"] != first.payload["generation"]
    assert second.payload["calls"] == 1
    # And the extension heard why, after the runtime had gone, and was started anew
    lines = node.log_until(name, f"REPORT RequestId: {second.request_id}")
    assert [event["shutdownReason"] for event in shutdowns(lines)] == ["timeout"]
    assert len({line for line in lines if line.startswith("watcher: registered")}) == 2
    kinds = [(each["kind"], each.get("name")) for each in node.timeline(name)]
    gone = kinds.index(("process.exited", "runtime"))
    assert gone < kinds.index(("extension.notified", "watcher")) < kinds.index(("shutdown.ended", None))


@pytest.mark.slow
@pytest.mark.case("LC-38")
def test_the_report_of_a_timeout_says_so(node, function):
    name = function(Timeout=1)
    node.invoke(name, tail=True)
    late = node.invoke(name, {"sleep_s": 20}, tail=True)
    report = late.log.splitlines()[-1]
    assert report.endswith("\tStatus: timeout")
    assert 1000 <= float(re.search(r"\tDuration: ([\d.]+) ms", report)[1]) < 3000


@pytest.mark.slow
@pytest.mark.case("EXT-36", "LC-16")
def test_an_extension_that_is_never_done_costs_the_environment_but_not_the_answer(node, function):
    name = function(does={"stuck": {"after_invoke_s": 60}, **WATCHER}, Timeout=2)
    answer = node.invoke(name, {"echo": 1}, tail=True)
    assert answer.payload["echo"] == 1
    assert answer.error is None
    assert "Status: timeout" in answer.log
    lines = node.log_until(name, '"shutdownReason"')
    assert [event["shutdownReason"] for event in shutdowns(lines)] == ["timeout"]


@pytest.mark.case("LC-18", "RT-22", "EXT-38")
@pytest.mark.parametrize(
    ("event", "text"),
    [
        ({"exit": 7}, "Runtime exited with error: exit status 7"),
        ({"exit": 0}, "Runtime exited without providing a reason"),
    ],
)
def test_a_runtime_that_exits_is_replaced(node, function, event, text):
    name = function(does=WATCHER)
    first = node.invoke(name, tail=True)
    crashed = node.invoke(name, event)
    assert crashed.error == "Unhandled"
    assert crashed.payload == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {crashed.request_id} Error: {text}",
    }
    node.settle(name)
    after = node.invoke(name)
    assert after.error is None
    assert after.payload["generation"] != first.payload["generation"]
    lines = node.log_until(name, f"REPORT RequestId: {after.request_id}")
    assert [event["shutdownReason"] for event in shutdowns(lines)] == ["failure"]
    identifiers = [
        json.loads(line.partition("registered ")[2])["id"] for line in lines if "watcher: registered" in line
    ]
    assert len(identifiers) == len(set(identifiers)) == 2


@pytest.mark.case("RT-23")
@pytest.mark.parametrize(
    ("number", "text"),
    [
        (signal.SIGKILL, "signal: killed"),
        (signal.SIGSEGV, "signal: segmentation fault"),
        (signal.SIGABRT, "signal: aborted"),
    ],
)
def test_a_runtime_that_is_killed_is_replaced(node, function, number, text):
    name = function()
    crashed = node.invoke(name, {"signal": int(number)}, tail=True)
    assert crashed.payload["errorType"] == "Runtime.ExitError"
    assert crashed.payload["errorMessage"].endswith(f"Error: Runtime exited with error: {text}")
    assert "Status: error\tError Type: Runtime.ExitError" in crashed.log
    assert node.invoke(name).error is None


@pytest.mark.case("RT-24")
def test_more_memory_than_configured_is_the_functions_end_where_it_can_be_limited(node, function):
    name = function(MemorySize=128)
    answer = node.invoke(name, {"allocate": 1024 << 20}, tail=True)
    used = int(re.search(r"Max Memory Used: (\d+) MB", answer.log)[1])
    if any("memory sizes are not enforced" in missing for missing in node.info["missing"]):
        assert answer.error is None
        assert used >= 1024
    else:
        assert answer.payload["errorType"] == "Runtime.OutOfMemory"
        assert "signal: killed" in answer.payload["errorMessage"]
        is_in_memory = any("files of /tmp are kept in memory" in missing for missing in node.info["missing"])
        assert 100 <= used <= (128 + 512 if is_in_memory else 128)
    node.settle(name)
    assert node.invoke(name).error is None


@pytest.mark.case("LC-17", "RT-33")
@pytest.mark.case("CP-80")
def test_an_error_of_the_handler_changes_nothing_else(node, function):
    name = function(does=WATCHER)
    first = node.invoke(name, tail=True)
    failed = node.invoke(name, {"raise": "a <b> c"}, tail=True)
    assert failed.status == 200
    assert failed.error == "Unhandled"
    assert failed.payload["errorType"] == "ValueError"
    assert failed.payload["errorMessage"] == "a <b> c"
    assert failed.payload["stackTrace"]
    after = node.invoke(name, tail=True)
    assert after.payload["generation"] == first.payload["generation"]
    assert after.payload["calls"] == 3
    assert shutdowns(node.log_until(name, f"REPORT RequestId: {after.request_id}")) == []


@pytest.mark.case("EXT-35", "LC-33")
@pytest.mark.parametrize(("code", "text"), [(0, "exit code 0"), (5, "exit status 5")])
def test_an_extension_that_exits_in_an_invocation_fails_it(node, function, code, text):
    name = function(does={"frail": {"exit_on_invoke": code, "once": True}, **WATCHER})
    crashed = node.invoke(name, {"sleep_s": 20}, tail=True)
    assert crashed.payload == {
        "errorType": "Extension.Crash",
        "errorMessage": f"RequestId: {crashed.request_id} Error: {text}",
    }
    assert "Status: error\tError Type: Extension.Crash" in crashed.log
    node.settle(name)
    after = node.invoke(name)
    assert after.error is None
    lines = node.log_until(name, f"REPORT RequestId: {after.request_id}")
    assert [event["shutdownReason"] for event in shutdowns(lines)] == ["failure"]
    assert sum(line.startswith("frail: registered") for line in lines) == 2


@pytest.mark.case("LC-21")
def test_children_of_the_function_end_with_it(node, function):
    name = function()
    node.invoke(name, {"spawn": 600}, tail=True)
    node.invoke(name, {"exit": 1}, tail=True)
    told = node.invoke(name, {"list": "/proc"}).payload["list"]
    # Pid 1 and the function itself.
    assert sum(each.isdigit() for each in told) == 2


@pytest.mark.case("EXT-37", "LC-30")
def test_deletion_shuts_the_environment_down(node, function):
    name = function(does=WATCHER)
    node.invoke(name, tail=True)
    with node.following(name) as lines:
        node.client.update_function_configuration(FunctionName=name, Timeout=5)
        told = next(line for line in lines if '"SHUTDOWN"' in line["message"])
    (event,) = shutdowns([told["message"]])
    assert event["shutdownReason"] == "spindown"
    kinds = [each["kind"] for each in node.timelines(name)[0]]
    assert kinds.index("runtime.terminated") < kinds.index("extension.notified")
    assert 0 < event["deadlineMs"] - told["timestamp_ms"] <= 2_001


@pytest.mark.slow
@pytest.mark.case("EXT-39", "LC-28")
def test_an_extension_that_ignores_shutdown_is_killed(node, function):
    name = function(does={"stubborn": {"ignore_shutdown": True}})
    node.invoke(name, tail=True)
    with node.following(name) as lines:
        node.client.update_function_configuration(FunctionName=name, Timeout=5)
        next(line for line in lines if '"SHUTDOWN"' in line["message"])
    node.wait("function_updated_v2", name)

    def ended():
        return [each for each in node.timelines(name)[0] if each["kind"] == "shutdown.ended"]

    end = eventually(ended)[0]["at_us"]
    events = node.timelines(name)[0]
    start = next(each["at_us"] for each in events if each["kind"] == "shutdown.started")
    assert 1_900_000 < end - start < 20_000_000
    assert "stubborn: SIGTERM" not in node.log_until(name, '"SHUTDOWN"')


SLOW_INIT = """
import time, pathlib
time.sleep(12)
def handler(event, context):
    return context.get_remaining_time_in_millis()
"""


@pytest.mark.slow
@pytest.mark.case("LC-6", "LC-44")
def test_an_init_of_more_than_ten_seconds_is_done_again_in_the_invocation(node, function):
    name = function(zip_of({"app.py": SLOW_INIT}), Timeout=60)
    answer = node.invoke(name, tail=True)
    assert answer.error is None
    assert 30_000 < answer.payload < 48_500
    lines = node.log_until(name, f"REPORT RequestId: {answer.request_id}")
    assert any("Phase: init\tStatus: timeout" in line for line in lines)
    assert "Init Duration: " not in lines[-1].partition("REPORT")[2]
    assert float(re.search(r"\tDuration: ([\d.]+) ms", lines[-1])[1]) >= 12_000


@pytest.mark.slow
@pytest.mark.case("EXT-15")
def test_an_extension_under_a_wrong_name_keeps_the_function_from_starting(node, function):
    name = function(does={"misnamed": {"name": "other", "events": ["INVOKE"]}}, Timeout=1)
    answer = node.invoke(name)
    assert answer.payload["errorType"] == "Sandbox.Timedout"
    node.log_until(name, "EXTENSION\tName: misnamed\tState: Started")
