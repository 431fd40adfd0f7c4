"""SnapStart on a real node, through boto3, with the stock client: with snapshots, and without."""

from __future__ import annotations

import json
import re
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from urllib.request import urlopen

import pytest
from botocore.exceptions import ClientError
from tests.chosen import chosen_driver, criu_problem

from remora.runtimes.catalog import Runtimes, default_cache
from remora.spec.runtimes import SNAPSTART

from .conftest import functions_on, running
from .leftovers import leftovers
from .nodes import PATIENCE_S, REMORA, eventually, unique
from .packages import HERE, extension, zip_of

PYTHON = next((name for name in Runtimes(default_cache(), "us-east-1").names() if name in SNAPSTART), "")
COPIED, REPLAYED = (), ("--network", "host")
"""Command lines of nodes that take snapshots, and of nodes that initialise every environment."""
REPLAY_ONLY = criu_problem() or ("" if chosen_driver() == "bubblewrap" else "another driver is tested")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON.startswith("python"), reason="this machine has no Python with SnapStart"),
]
only_copied = pytest.mark.skipif(bool(REPLAY_ONLY), reason=REPLAY_ONLY or "snapshots are taken")

TOLD_OF_A_RESTORE = ["restoreStart", "restoreRuntimeDone", "restoreReport", "start"]
MODULE = """
import json, os, random, sys, time, uuid
from snapshot_restore_py import register_after_restore, register_before_snapshot
{before}
MARKER = "kept-in-" + "memory"
print("static")
STATE = {{"random": random.random(), "monotonic": time.monotonic()}}
open("/tmp/made", "w").write("in-the-" + "init")
{hooks}
def handler(event, context):
    STATE["runs"] = STATE.get("runs", 0) + 1
    tmp = open("/tmp/made").read()
    open("/tmp/made", "w").write(event.get("write", tmp))
    time.sleep(event.get("sleep_s", 0))
    return {{
        **STATE, "tmp": tmp, "now": time.monotonic(), "next": random.random(),
        "unique": [uuid.uuid4().hex, os.urandom(8).hex(), random.SystemRandom().random()],
        "stream": context.log_stream_name, "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"],
    }}
"""
EXTENSION = """#!/usr/bin/python3
import http.client, json, os
api = http.client.HTTPConnection(os.environ["AWS_LAMBDA_RUNTIME_API"])
def call(method, path, headers, body=None):
    api.request(method, "/2020-01-01/extension/" + path, body, headers)
    reply = api.getresponse()
    return reply.headers.get("Lambda-Extension-Identifier"), json.loads(reply.read())
who, _ = call("POST", "register", {"Lambda-Extension-Name": "ext"}, json.dumps({"events": ["INVOKE"]}))
print("registered", who, flush=True)
while True:
    _, event = call("GET", "event/next", {"Lambda-Extension-Identifier": who})
    print("heard", event["eventType"], who, flush=True)
"""


def module(hooks="", before=""):
    return zip_of({"app.py": MODULE.format(hooks=hooks, before=before)})


@contextmanager
def node_with(tmp_path_factory, arguments):
    with running(tmp_path_factory.mktemp("snapstart") / unique("data"), *arguments) as node:
        yield node


@pytest.fixture(
    scope="module",
    params=[pytest.param(COPIED, id="copied", marks=only_copied), pytest.param(REPLAYED, id="replayed")],
)
def node(request, tmp_path_factory):
    with node_with(tmp_path_factory, request.param) as node:
        yield node


@pytest.fixture(scope="module")
def copying(tmp_path_factory):
    with node_with(tmp_path_factory, COPIED) as node:
        yield node


def prepared(create, content, **settings):
    return create(content, Runtime=PYTHON, SnapStart={"ApplyOn": "PublishedVersions"}, **settings)


def described(node, name, qualifier="1"):
    return node.client.get_function_configuration(FunctionName=name, Qualifier=qualifier)


def published(node, create, content, **settings):
    """Create a function, publish it, wait; return its name."""
    name = prepared(create, content, **settings)
    node.client.publish_version(FunctionName=name)
    eventually(lambda: described(node, name)["State"] != "Pending")
    return name


def refused(node, name, qualifier="1"):
    with pytest.raises(ClientError) as caught:
        node.client.invoke(FunctionName=name, Qualifier=qualifier)
    status = caught.value.response["ResponseMetadata"]["HTTPStatusCode"]
    return status, caught.value.response["Error"]["Code"]


def streams(node, name):
    """Return the lines of each log stream of a function, the first one first."""
    found: dict[str, list[str]] = {}
    with node.following(name) as lines:
        for line in lines:
            found.setdefault(line["stream"], []).append(line["message"])
            if line["message"].startswith("REPORT"):
                break
    return list(found.values())


@pytest.mark.case("CP-111")
@pytest.mark.case("SS-1")
@pytest.mark.case("SS-2")
@pytest.mark.case("SS-5")
def test_a_version_is_published(node, request):
    is_copied = "copied" in request.node.callspec.id
    with functions_on(node) as create:
        name = prepared(create, module(before="time.sleep(3)"))
        reply = node.client.publish_version(FunctionName=name)
        assert (reply["State"], reply["StateReasonCode"]) == ("Pending", "Creating")
        assert refused(node, name) == (409, "ResourceConflictException")
        node.client.get_waiter("published_version_active").wait(
            FunctionName=name, Qualifier="1", WaiterConfig={"Delay": 0.05, "MaxAttempts": 4_800}
        )
        status = "On" if is_copied else "Off"
        on = {"ApplyOn": "PublishedVersions", "OptimizationStatus": status}
        assert described(node, name)["SnapStart"] == on
        assert described(node, name, "$LATEST")["SnapStart"] == {**on, "OptimizationStatus": "Off"}
        assert node.invoke(name).payload["type"] == "on-demand"
        assert node.invoke(name, Qualifier="1").payload["type"] == "snap-start"


@pytest.mark.case("SS-4")
@pytest.mark.case("SS-9")
@pytest.mark.case("SS-10")
def test_hooks_run_around_the_snapshot_and_the_log_tells(node):
    hooks = "\n".join(f"register_{where}(print, '{name}')" for where, name in HOOKS)
    with functions_on(node) as create:
        name = published(node, create, module(hooks))
        first = node.invoke(name, tail=True, Qualifier="1").log
        node.settle(name)
        second = node.invoke(name, tail=True, Qualifier="1").log
        told = node.get(f"report?function={name}")
        assert (told["restores"], told["cold_starts"], told["init_ms"]) == (1, 0, None)
        assert 0 < told["restore_ms"]["max"] < PATIENCE_S * 1000
        command = [REMORA, "report", f"{name}:1", "--endpoint", node.endpoint]
        shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "\n1 restore from snapshots\n" in shown
        assert re.search(r"\nrestore +p50 [\d.,]+ ms ", shown)
        init, *_ = found = streams(node, name)
        restored = next(lines for lines in found if lines[-1].startswith("REPORT"))
    told = [line for line in init if "\t" not in line]
    assert told == ["static", "b2", "b1"]
    assert init[-1].startswith("INIT_REPORT Init Duration: ")
    assert [line.split(" ")[0] for line in restored] == [
        *("RESTORE_START", "a1", "a2", "RESTORE_REPORT", "START", "END", "REPORT")
    ]
    assert re.search(r"\tRestore Duration: [\d.]+ ms\tBilled Restore Duration: \d+ ms", first)
    assert "Init Duration" not in first
    assert "Restore" not in second


HOOKS = [
    ("before_snapshot", "b1"),
    ("before_snapshot", "b2"),
    ("after_restore", "a1"),
    ("after_restore", "a2"),
]


@pytest.mark.case("SS-6")
def test_a_hook_before_the_snapshot_that_fails(node):
    hook = "@register_before_snapshot\ndef fail():\n    raise ValueError('not now')\n"
    with functions_on(node) as create:
        name = published(node, create, module(hook))
        found = described(node, name)
        assert (found["State"], found["StateReasonCode"]) == ("Failed", "FunctionError.RuntimeInitError")
        assert found["SnapStart"]["OptimizationStatus"] == "Off"
        assert refused(node, name) == (409, "ResourceConflictException")
        node.log_until(name, "Status: error\tError Type: Runtime.BeforeSnapshotError")


@pytest.mark.parametrize("does", ["raise ValueError('not now')", "os._exit(1)"], ids=["raises", "exits"])
@pytest.mark.case("SS-12")
@pytest.mark.case("SS-15")
def test_a_hook_after_the_restore_that_fails(node, does):
    with functions_on(node) as create:
        name = published(node, create, module(f"@register_after_restore\ndef fail():\n    {does}\n"))
        for _ in range(2):
            assert refused(node, name) == (400, "SnapStartException")
        eventually(lambda: node.environments(name) == [])
        assert "static" in "".join(node.log_until(name, "RESTORE_REPORT Restore Duration: "))


@pytest.mark.case("CP-114")
@pytest.mark.case("SS-13")
def test_a_hook_after_the_restore_that_takes_too_long(node):
    with functions_on(node) as create:
        name = published(node, create, module("register_after_restore(time.sleep, 20)"))
        assert refused(node, name) == (408, "SnapStartTimeoutException")
        node.log_until(name, "Status: timeout")


@only_copied
@pytest.mark.case("SS-14", partly="shown for six seconds, for a busy machine loads snapshots for long")
def test_a_hook_after_the_restore_that_takes_long(copying):
    with functions_on(copying) as create:
        name = published(copying, create, module("register_after_restore(time.sleep, 6)"))
        answer = copying.invoke(name, tail=True, Qualifier="1")
        assert answer.error is None
        assert int(re.search(r"Billed Restore Duration: (\d+) ms", answer.log)[1]) >= 6_000


@only_copied
@pytest.mark.case("SS-3")
@pytest.mark.case("SS-28")
@pytest.mark.case("SS-29", partly="shown for Python and ten environments")
@pytest.mark.case("SS-31")
@pytest.mark.case("SS-39")
@pytest.mark.case("SS-40")
def test_ten_environments_of_one_snapshot(copying):
    with functions_on(copying) as create:
        name = published(copying, create, module(), Timeout=60)
        with ThreadPoolExecutor(10) as threads:
            asked = [{"sleep_s": 15, "write": f"changed-by-{number}"} for number in range(10)]
            answers = list(threads.map(lambda event: copying.invoke(name, event, Qualifier="1"), asked))
        found = [answer.payload for answer in answers]
        assert [each["runs"] for each in found] == [1] * 10
        assert {each["tmp"] for each in found} == {"in-the-init"}
        assert len({each["random"] for each in found}) == len({each["next"] for each in found}) == 1
        for kind in range(3):
            assert len({each["unique"][kind] for each in found}) == 10
        assert all(each["now"] > each["monotonic"] for each in found)
        assert len({each["log_stream"] for each in copying.environments(name)}) == 10
        lines = copying.log_until(name, *["REPORT"])
        assert lines.count("static") == 1


@only_copied
@pytest.mark.case("SS-30")
def test_generators_of_openssl_are_seeded_anew(copying):
    code = """
import _thread, ssl, time
first = ssl.RAND_bytes(8).hex()
def handler(event, context):
    drawn = [ssl.RAND_bytes(8).hex()]
    _thread.start_new_thread(lambda: drawn.append(ssl.RAND_bytes(8).hex()), ())
    time.sleep(15)
    return [first, *drawn]
"""
    with functions_on(copying) as create:
        name = published(copying, create, zip_of({"app.py": code}), Timeout=60)
        with ThreadPoolExecutor(20) as threads:
            asked = [threads.submit(copying.invoke, name, Qualifier="1") for _ in range(20)]
            found = [each.result().payload for each in asked]
    firsts, *drawn = zip(*found, strict=True)
    assert len(set(firsts)) == 1
    assert [len(set(each)) for each in drawn] == [20, 20]


@only_copied
@pytest.mark.case("SS-31")
def test_a_hook_makes_random_numbers_differ(copying):
    with functions_on(copying) as create:
        name = published(copying, create, module("register_after_restore(random.seed)"))
        with ThreadPoolExecutor(2) as threads:
            events = [{"sleep_s": 10}] * 2
            answers = list(threads.map(lambda event: copying.invoke(name, event, Qualifier="1"), events))
        assert len({answer.payload["next"] for answer in answers}) == 2


@only_copied
@pytest.mark.case("SS-23")
def test_an_extension_goes_on_in_each_environment(copying):
    layer = zip_of({"extensions/ext": EXTENSION}, mode=0o755)
    with functions_on(copying) as create:
        name = published(copying, create, module(), layers=[layer])
        with ThreadPoolExecutor(2) as threads:
            events = [{"sleep_s": 10}] * 2
            list(threads.map(lambda event: copying.invoke(name, event, Qualifier="1"), events))
        eventually(lambda: sum("heard INVOKE" in line for line in said(copying, name)) == 2)
        lines = said(copying, name)
    registered = [line.split()[1] for line in lines if line.startswith("registered")]
    assert [line.split()[2] for line in lines if line.startswith("heard")] == registered * 2
    assert len(registered) == 1


@only_copied
@pytest.mark.case("SS-24")
@pytest.mark.parametrize("transport", ["HTTP", "TCP"])
def test_telemetry_tells_each_copy_of_its_restore(copying, transport):
    settings = {"layers": [extension("listener", HERE / "extensions" / "listener.py")]}
    with functions_on(copying) as create:
        name = published(copying, create, module(), variables={"LISTEN_OVER": transport}, **settings)
        with ThreadPoolExecutor(2) as threads:
            events = [{"sleep_s": 10}] * 2
            list(threads.map(lambda event: copying.invoke(name, event, Qualifier="1"), events))
        heard = eventually(lambda: heard_by_copies(copying, name))
    for events in heard:
        told = {event["type"].removeprefix("platform."): event for event in events}
        assert [kind for kind in told if kind in TOLD_OF_A_RESTORE] == TOLD_OF_A_RESTORE
        assert told["restoreRuntimeDone"]["record"] == {"status": "success"}
        for kind in ("initStart", "initRuntimeDone", "initReport"):
            assert told[kind]["record"]["initializationType"] == "snap-start"
            assert told[kind]["time"] < told["restoreStart"]["time"]


def heard_by_copies(node, name):
    """Return what an extension heard in each of two copies, after what it had heard before; or None."""
    heard = {}
    for line in log(node, name):
        if line["message"].startswith("heard: "):
            event = json.loads(line["message"].removeprefix("heard: "))
            heard.setdefault(line["stream"], []).append(event)
    copies = [events for events in heard.values() if any(e["type"] == "platform.start" for e in events)]
    before = [event for events in heard.values() if events not in copies for event in events]
    return [before + events for events in copies] if len(copies) == 2 else None


def said(node, name):
    return [line["message"] for line in log(node, name)]


def log(node, name):
    with urlopen(f"{node.endpoint}/_remora/logs?function={name}") as reply:
        return [json.loads(line) for line in reply]


@only_copied
@pytest.mark.case("SS-37")
@pytest.mark.case("SS-38")
def test_nothing_of_a_snapshot_can_be_read_on_disk_and_nothing_is_left(copying):
    directory = copying.data / "snapshots"
    before = set(directory.iterdir())
    with functions_on(copying) as create:
        name = published(copying, create, module())
        (made,) = set(directory.iterdir()) - before
        content = made.read_bytes()
        assert len(content) > 1 << 20
        for marker in (b"kept-in-memory", b"in-the-init", b"snapshot_restore_py"):
            assert marker not in content
        copying.client.delete_function(FunctionName=name, Qualifier="1")
        assert refused(copying, name) == (404, "ResourceNotFoundException")
        eventually(lambda: not made.exists())


@only_copied
@pytest.mark.case("SS-41")
@pytest.mark.case("SS-42")
@pytest.mark.case("SS-38")
def test_snapshots_outlive_the_node_and_damaged_ones_are_made_anew(data, start):
    node = start(data)
    name = published(
        node, lambda content, **settings: node.create(content, Handler="app.handler", **settings), module()
    )
    random = node.invoke(name, Qualifier="1").payload["random"]
    node.kill()
    node = start(data)
    assert node.invoke(name, Qualifier="1").payload["random"] == random
    node.kill()
    (snapshot,) = (data / "snapshots").glob("*.snapshot")
    content = bytearray(snapshot.read_bytes())
    content[len(content) // 2] ^= 1
    snapshot.write_bytes(content)
    node = start(data)
    assert refused(node, name) == (409, "SnapStartNotReadyException")
    eventually(lambda: described(node, name)["State"] == "Active")
    assert node.invoke(name, Qualifier="1").payload["random"] != random
    assert node.terminate() == 0


@only_copied
@pytest.mark.parametrize("moment_s", [0.05, 0.15, 1.0], ids=str)
def test_a_killed_node_leaves_no_copies_running(data, start, moment_s):
    node = start(data)
    name = published(node, partial(node.create, Handler="app.handler"), module())
    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(node.invoke, name, {"sleep_s": 5}, Qualifier="1") for _ in range(4)]
        time.sleep(moment_s)
        node.kill()
        assert all(each.exception() is not None for each in asked)
    eventually(lambda: not [each for each in leftovers(data) if each.startswith("process")])
    node = start(data)
    assert node.invoke(name, Qualifier="1").payload["runs"] == 1
    assert node.terminate() == 0
    assert leftovers(data) == []


@pytest.mark.case("SS-33")
def test_what_does_not_go_with_snapstart_is_refused(node):
    with functions_on(node) as create:
        name = published(node, create, module())
        with pytest.raises(ClientError, match=r"InvalidParameterValueException.*SnapStart"):
            node.client.put_provisioned_concurrency_config(
                FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1
            )
        with pytest.raises(ClientError, match=r"InvalidParameterValueException.*SnapStart"):
            node.client.update_function_configuration(FunctionName=name, EphemeralStorage={"Size": 1024})
