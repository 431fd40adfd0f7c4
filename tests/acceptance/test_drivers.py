"""The heart of it without isolation, and without any right on the machine."""

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import BotoCoreError

from .conftest import functions_on, running
from .leftovers import command_of, leftovers, processes_of
from .nodes import PATIENCE_S, ROOTLESS, eventually, unique
from .packages import PROBE, RUNTIME, SHELL, actors, extension, zip_directory, zip_of

HERE = Path(__file__).parent
KINDS = {
    "process": (("--driver", "process"), ()),
    "rootless": (("--driver", "bubblewrap"), ROOTLESS),
}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", params=KINDS)
def node(request, tmp_path_factory):
    arguments, prefix = KINDS[request.param]
    data = tmp_path_factory.mktemp(request.param) / unique("data")
    with running(data, *arguments, prefix=prefix) as node:
        yield node


@pytest.fixture
def function(node):
    with functions_on(node) as create:
        yield create


def test_what_cannot_be_had_is_said(node):
    eventually(
        lambda: all(f"warning: {missing}" in node.errors.read_text() for missing in node.info["missing"])
    )
    said = " ".join(node.info["missing"])
    if node.info["driver"] == "process":
        assert "isolates nothing" in said
    else:
        assert "memory sizes are not enforced" in said


def test_cold_warm_and_shut_down_with_extensions(node, function):
    name = function(does={"first": {}, "second": {"before_register_s": 0.1}})
    answers = [node.invoke(name, {"echo": number}, tail=True) for number in range(3)]
    assert [answer.payload["echo"] for answer in answers] == [0, 1, 2]
    assert len({answer.payload["generation"] for answer in answers}) == 1
    assert "Max Memory Used: 0 MB" not in answers[2].log
    node.client.update_function_configuration(FunctionName=name, Timeout=9)
    node.log_until(name, *(f'{each}: {{"eventType": "SHUTDOWN"' for each in ("first", "second")))


def test_a_shell_function_with_a_shell_extension(node, function):
    layers = [extension("speaker", HERE / "extensions" / "speaker.sh")]
    name = function(zip_directory(SHELL), layers=layers, Runtime="provided.al2023", Handler="any")
    answer = node.invoke(name, [1, 2], tail=True)
    assert answer.payload == [1, 2]
    assert 'speaker: {"eventType":"INVOKE"' in answer.log


def test_layers_are_found(node, function):
    source = "import inside\ndef handler(event, context):\n    return inside.NAME\n"
    assert (
        node.invoke(
            function(zip_of({"app.py": source}), layers=[zip_of({"python/inside.py": "NAME = 7"})])
        ).payload
        == 7
    )


@pytest.mark.case("LC-20", "LC-19")
def test_a_timeout(node, function):
    name = function(does={"watcher": {}}, Timeout=20)  # the init after the timeout counts
    before = node.invoke(name, tail=True)
    late = node.invoke(name, {"sleep_s": 60, "spawn": 600})
    assert late.payload["errorType"] == "Sandbox.Timedout"
    node.settle(name)
    after = node.invoke(name)
    assert after.error is None, after.payload
    assert after.payload["environment"] == before.payload["environment"]
    assert after.payload["generation"] != before.payload["generation"]
    node.log_until(name, '"shutdownReason": "timeout"')


@pytest.mark.case("LC-18", "LC-21")
@pytest.mark.parametrize("event", [{"exit": 1}, {"signal": int(signal.SIGKILL)}])
def test_a_crash(node, function, event):
    name = function()
    crashed = node.invoke(name, {"spawn": 600, **event})
    assert crashed.payload["errorType"] == "Runtime.ExitError"
    assert node.invoke(name).error is None


@pytest.mark.case("EXT-35")
def test_a_crash_of_an_extension(node, function):
    name = function(does={"frail": {"exit_on_invoke": 1}})
    crashed = node.invoke(name, {"sleep_s": 20})
    assert crashed.payload["errorType"] == "Extension.Crash"


@pytest.mark.case("LC-23")
def test_nothing_runs_while_the_environment_is_idle(node, function):
    name = function(variables={"TICKING": "1"})
    node.invoke(name, tail=True)
    before = node.invoke(name, tail=True).payload["ticks"]
    time.sleep(1)
    assert node.invoke(name).payload["ticks"] - before < 50


def test_the_wrapper(node, function):
    wrapper = '#!/bin/sh\nWRAPPED=yes exec "$@"\n'
    name = function(layers=[zip_of({"wrapper": wrapper}, mode=0o755)])
    # Without isolation the layers are somewhere else, as the search path tells.
    opt_bin = node.invoke(name, {"environ": 1}).payload["environ"]["PATH"].rpartition(":")[2]
    where = str(Path(opt_bin).with_name("wrapper"))
    node.client.update_function_configuration(
        FunctionName=name, Environment={"Variables": {"AWS_LAMBDA_EXEC_WRAPPER": where}}
    )
    node.wait("function_updated_v2", name)
    assert node.invoke(name, {"environ": 1}).payload["environ"]["WRAPPED"] == "yes"


def test_many_at_once(node, function):
    name = function(does={"watcher": {}})
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda n: node.invoke(name, {"echo": n, "sleep_s": 0.2}), range(16)))
    assert [answer.payload["echo"] for answer in answers] == list(range(16))
    assert {answer.error for answer in answers} == {None}


@pytest.mark.parametrize(
    ("arguments", "prefix"),
    [*KINDS.values(), (("--driver", "process"), ROOTLESS)],
    ids=[*KINDS, "process-rootless"],
)
def test_after_kill_9_nothing_is_left(start, data, arguments, prefix):
    # Given invocations whose functions have started programs, some of them in sessions of their own
    node = start(data, *arguments, prefix=prefix)
    settings = {"Runtime": RUNTIME, "Handler": "app.handler", "Timeout": 120}
    variables = {"ACTORS": json.dumps({"watcher": {"ignore_shutdown": True}})}
    name = node.create(zip_directory(PROBE), layers=[actors("watcher")], variables=variables, **settings)
    idle = node.create(zip_directory(PROBE), **settings)
    node.invoke(idle, {"daemon": 1000}, tail=True)
    with ThreadPoolExecutor(4) as threads:
        event = {"spawn": 1000, "daemon": 1000, "print": "started", "sleep_s": 100}
        answers = [threads.submit(node.invoke, name, event) for _ in range(4)]
        with node.following(name) as lines:
            for _ in answers:
                assert any(line["message"] == "started" for line in lines)
        # Function, extension and two programs each; function and program of the idle one.
        assert len(processes_of(data)) >= 1 + 4 * 4 + 2

        # When the node is killed
        node.kill()
        assert all(isinstance(answer.exception(PATIENCE_S), BotoCoreError) for answer in answers)

    # Then a new one removes all of it
    with running(data, *arguments, prefix=prefix) as node:
        assert processes_of(data) == [node.info["pid"]]
        assert [line for line in leftovers(data) if not line.startswith("process")] == []
        assert node.invoke(name, {"echo": 1}).payload["echo"] == 1


@pytest.mark.case("LC-21")
def test_a_daemon_of_the_function_ends_with_the_environment(node, function):
    name = function()
    node.invoke(name, {"daemon": 1234, "spawn": 1234}, tail=True)

    def started():
        return [pid for pid in processes_of(node.data) if "1234" in command_of(pid)]

    daemons = eventually(lambda: started() if len(started()) == 2 else [])
    node.invoke(name, {"exit": 1}, tail=True)
    node.settle(name)
    assert not set(daemons) & set(processes_of(node.data))
