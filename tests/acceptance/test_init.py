"""How an environment comes to life: order of start, what runs at the same time, what must wait."""

import json

import pytest

from .packages import zip_of


def at(events, kind, name=None):
    """Return when the first such event happened, microseconds."""
    return next(each["at_us"] for each in events if each["kind"] == kind and name in (None, each.get("name")))


@pytest.mark.case("LC-1")
def test_without_extensions_the_runtime_is_all_there_is(node, function):
    name = function()
    node.invoke(name, tail=True)
    kinds = [each["kind"] for each in node.timeline(name)]
    assert kinds[:8] == [
        *("sandbox.created", "init.started", "process.started", "runtime.ready", "init.ended"),
        *("invoke.started", "runtime.responded", "runtime.done"),
    ]


@pytest.mark.slow
@pytest.mark.case("LC-2", "LC-3", "EXT-28", "LC-4")
def test_ten_extensions_start_in_order_and_initialise_at_the_same_time(node, function):
    # Given ten extensions, each of which sleeps before it registers, and one that is late to be ready
    names = [f"e{number}" for number in range(10)]
    does = {each: {"before_register_s": 0.3} for each in names}
    does["e3"]["after_register_s"] = 0.5
    name = function(does=does)

    # When it is invoked
    node.invoke(name, tail=True)

    # Then all were started, in order of their names, before the first of them registered
    events = node.timeline(name)
    started = [each["name"] for each in events if each["kind"] == "process.started"]
    assert started == [*names, "runtime"]
    first_registered = at(events, "extension.registered")
    assert all(at(events, "process.started", each) < first_registered for each in names)
    # And the runtime after the last of them had registered
    registered = [each["at_us"] for each in events if each["kind"] == "extension.registered"]
    assert len(registered) == 10
    assert at(events, "process.started", "runtime") >= max(registered)
    # And the invocation began when all were ready
    ready = [each["at_us"] for each in events if each["kind"] in ("extension.ready", "runtime.ready")]
    assert len(ready) == 11
    assert max(ready) <= at(events, "init.ended") <= at(events, "invoke.started")
    assert at(events, "extension.ready", "e3") - at(events, "extension.registered", "e3") >= 500_000


@pytest.mark.case("EXT-29")
def test_every_file_and_link_is_an_extension_but_no_directory(node, function, actor):
    files = {f"extensions/{name}": actor for name in ("b", "a", "d/x")}
    layer = zip_of({**files, "extensions/c": "a"}, mode=0o755, modes={"extensions/c": 0o120777})
    name = function(layers=[layer])
    node.invoke(name, tail=True)
    started = [each["name"] for each in node.timeline(name) if each["kind"] == "process.started"]
    assert started == ["a", "b", "c", "runtime"]


@pytest.mark.case("EXT-1", "EXT-24", "EXT-45")
def test_an_extension_learns_about_the_function_and_each_invocation(node, function):
    name = function(does={"watcher": {}})
    answer = node.invoke(name, {"environ": 1}, tail=True)

    told = [
        line.removeprefix("watcher: ") for line in answer.log.splitlines() if line.startswith("watcher: ")
    ]
    (event,) = [json.loads(line) for line in told if line.startswith("{")]
    assert event["eventType"] == "INVOKE"
    assert event["requestId"] == answer.request_id
    assert event["invokedFunctionArn"].endswith(f":function:{name}")
    assert event["tracing"]["type"] == "X-Amzn-Trace-Id"
    assert not {"payload", "shutdownReason"} & event.keys()

    log = node.log_until(name, "watcher: registered", "REPORT")
    registered = json.loads(next(line for line in log if "registered" in line).partition("registered ")[2])
    assert registered["functionName"] == name
    assert registered["functionVersion"] == "$LATEST"
    assert registered["handler"] == "app.handler"
    assert "accountId" not in registered
    states = [line for line in log if line.startswith("EXTENSION\t")]
    assert len(states) == 1
    assert states[0].startswith("EXTENSION\tName: watcher\tState: Ready\tEvents: [")


@pytest.mark.case("EXT-31")
def test_an_extension_that_cannot_be_executed_fails_the_init(node, function):
    name = function(layers=[zip_of({"extensions/README": "no program"})])
    answer = node.invoke(name)
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Extension.LaunchError"
    assert "permission denied" in answer.payload["errorMessage"]
    node.log_until(
        name, "EXTENSION\tName: README\tState: LaunchError\tEvents: []\tError Type: PermissionDenied"
    )


@pytest.mark.case("EXT-32")
def test_the_eleventh_extension_fails_the_init(node, function):
    answer = node.invoke(function(does={f"e{number:02}": {} for number in range(11)}))
    assert answer.payload["errorType"] == "Extension.LaunchError"


@pytest.mark.case("EXT-33")
def test_an_extension_that_exits_before_it_registers_fails_the_init(node, function):
    answer = node.invoke(function(does={"frail": {"exit_before_register": 1}}))
    assert answer.payload["errorType"] == "Extension.Crash"
    assert answer.payload["errorMessage"].endswith("Error: exit status 1")


@pytest.mark.case("EXT-34")
def test_an_extension_that_reports_an_init_error_fails_the_init(node, function):
    answer = node.invoke(function(does={"frail": {"init_error": 3}}))
    assert answer.payload["errorType"] == "Extension.InitError"
    assert answer.payload["errorMessage"].endswith("Error: exit status 3")


@pytest.mark.case("LC-8", "LC-10")
def test_an_init_that_fails_is_tried_again_within_the_invocation(node, function):
    name = function(variables={"INIT_EXIT": "1", "INIT_LOG": "/tmp/inits"})
    first = node.invoke(name, tail=True)
    assert first.payload["errorType"] == "Runtime.ExitError"
    assert first.payload["errorMessage"].endswith("Runtime exited with error: exit status 1")
    log = node.log_until(name, "Phase: init\tStatus: error", "Phase: invoke\tStatus: error")
    assert sum(line.startswith("INIT_REPORT") for line in log) == 2
    second = node.invoke(name, tail=True)
    assert second.payload["errorType"] == "Runtime.ExitError"
