"""A node's own life: ended well, killed at the worst moment, started again, started twice."""

import base64
import http.client
import json
import random
import signal
import stat
import subprocess
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from .conftest import running
from .leftovers import leftovers, private_namespaces, processes_in, processes_of
from .nodes import PATIENCE_S, REMORA, ROLE, eventually, unique
from .packages import PROBE, RUNTIME, actors, zip_directory, zip_of

SETTINGS = {"Runtime": RUNTIME, "Handler": "app.handler"}


def outcome(answer):
    """Return `answered`, `refused` (with an error of the API) or `lost` (the connection broke)."""
    try:
        return "answered" if answer.result(PATIENCE_S).error is None else "failed"
    except ClientError as error:
        return "refused" if error.response["Error"]["Code"] == "ServiceException" else "wrong"
    except BotoCoreError:
        return "lost"


@pytest.mark.slow
def test_a_restart_finds_functions_layers_and_logs(data):
    with running(data) as node:
        name = node.create(zip_directory(PROBE), layers=[actors("watcher")], **SETTINGS)
        request_id = node.invoke(name, tail=True).request_id
        before = node.client.get_function(FunctionName=name)["Configuration"]
        layers = node.client.list_layers()["Layers"]
    with running(data) as node:
        after = node.client.get_function(FunctionName=name)["Configuration"]
        assert after == before
        assert node.client.list_layers()["Layers"] == layers
        answer = node.invoke(name, {"echo": 1}, tail=True)
        assert answer.payload["echo"] == 1
        assert 'watcher: {"eventType": "INVOKE"' in answer.log
        messages = node.log_until(name, f"REPORT RequestId: {answer.request_id}")
        assert any(f"REPORT RequestId: {request_id}" in message for message in messages)


@pytest.mark.slow
def test_a_request_that_has_begun_is_answered_before_a_node_ends(start, data):
    # Given a function that is being uploaded, and a client that has nothing to ask for just now
    node = start(data)
    code = {"ZipFile": base64.b64encode(zip_directory(PROBE)).decode()}
    body = json.dumps({"FunctionName": "late", "Role": ROLE, "Code": code, **SETTINGS}).encode()
    with (
        closing(http.client.HTTPConnection(node.address, timeout=PATIENCE_S)) as upload,
        closing(http.client.HTTPConnection(node.address, timeout=PATIENCE_S)) as idle,
    ):
        idle.request("GET", "/health")
        idle.getresponse().read()
        upload.putrequest("POST", "/2015-03-31/functions")
        upload.putheader("Content-Length", str(len(body)))
        upload.endheaders(body[:100])
        # When the node is to end
        node.process.send_signal(signal.SIGTERM)
        assert idle.sock.recv(1) == b""
        # Then it waits for the rest and answers,
        upload.send(body[100:])
        answer = upload.getresponse()
        assert (answer.status, answer.headers["Connection"]) == (201, "close")
        assert json.load(answer)["FunctionName"] == "late"
    assert node.ended() == 0
    # and the next node knows the function.
    with running(data) as node:
        node.client.get_waiter("function_active_v2").wait(FunctionName="late")
        assert node.invoke("late", {"echo": 1}).payload["echo"] == 1


@pytest.mark.slow
def test_what_a_node_keeps_and_what_is_made_from_its_backup_is_its_owners_alone(data, tmp_path):
    def run(*arguments):
        subprocess.run([REMORA, *map(str, arguments)], check=True, capture_output=True)

    def modes(directory):
        files = [*directory.glob("*.db*"), *directory.glob("*lock"), *directory.glob("*.key*")]
        return {path.name: stat.S_IMODE(path.stat().st_mode) for path in [*files, directory / "keys.json"]}

    run("keys", "create", "k", "--data", data)
    with running(data):
        run("backup", tmp_path / "backup", "--data", data)
        live = modes(data)
        assert {"lock", "keys.lock", "metrics.db", "metrics.db-wal", "metrics.db-shm"} <= live.keys()
    run("restore", tmp_path / "backup", "--data", tmp_path / "again")
    restored = modes(tmp_path / "again")
    assert {"remora.db", "events.db", "metrics.db"} <= restored.keys() & live.keys()
    assert {*live.values(), *restored.values()} == {0o600}
    assert {stat.S_IMODE(path.stat().st_mode) for path in (data, tmp_path / "again")} == {0o700}


@pytest.mark.slow
def test_after_kill_9_nothing_is_left_but_what_was_kept(start, data):
    # Given twenty invocations in environments with an extension
    node = start(data)
    with ExitStack() as stack:
        threads = stack.enter_context(ThreadPoolExecutor(20))
        busy = node.create(
            zip_directory(PROBE),
            layers=[actors("watcher")],
            variables={"ACTORS": json.dumps({"watcher": {"ignore_shutdown": True}})},
            Timeout=120,
            **SETTINGS,
        )
        others = [
            node.create(zip_of({"app.py": f"handler = lambda e, c: {n}"}), **SETTINGS) for n in range(3)
        ]
        idle = node.invoke(others[0])
        assert idle.payload == 0
        answers = [threads.submit(node.invoke, busy, {"sleep_s": 100, "spawn": 1000}) for _ in range(20)]
        eventually(lambda: sum(each["state"] == "busy" for each in node.environments(busy)) >= 15)
        node.settle(others[0])
        namespaces = stack.enter_context(private_namespaces(processes_of(data)))
        assert len(namespaces) >= 5 * 16

        # When the node is killed
        node.kill()
        outcomes = Counter(outcome(answer) for answer in answers)
        assert set(outcomes) <= {"lost", "refused"}  # a slow machine may not give a place to all twenty
        assert outcomes["lost"] >= 15

        # Then a new one with the same data leaves nothing of it
        with running(data) as node:
            assert processes_of(data) == [node.info["pid"]]
            assert processes_in(namespaces) == []
            assert [line for line in leftovers(data) if not line.startswith("process")] == []
            # And has all functions, which work
            listed = {each["FunctionName"] for each in node.client.list_functions()["Functions"]}
            assert listed == {busy, *others}
            assert [node.invoke(name).payload for name in others] == [0, 1, 2]
            assert node.invoke(busy, {"echo": 1}).payload["echo"] == 1


@pytest.mark.slow
def test_what_was_acknowledged_survives_kill_9_at_any_moment(start, data):
    acknowledged: set[str] = set()
    chance = random.Random(2)
    for _ in range(3):
        node = start(data)
        assert {each["FunctionName"] for each in node.client.list_functions()["Functions"]} >= acknowledged
        enough = len(acknowledged) + chance.randrange(2, 6)
        reached = threading.Event()

        def deploy(node=node, enough=enough, reached=reached):
            while True:
                name = unique("kept")
                try:
                    node.client.create_function(
                        FunctionName=name,
                        Role="arn:aws:iam::000000000000:role/r",
                        Code={"ZipFile": zip_of({"app.py": f"handler = lambda e, c: {name!r}"})},
                        Environment={"Variables": {"NAME": name}},
                        **SETTINGS,
                    )
                except (BotoCoreError, ClientError):
                    return
                acknowledged.add(name)
                if len(acknowledged) >= enough:
                    reached.set()

        with ThreadPoolExecutor(2) as threads:
            deployers = [threads.submit(deploy) for _ in range(2)]
            assert reached.wait(PATIENCE_S)
            node.kill()
            for deployer in deployers:
                deployer.result()
    with running(data) as node:
        for name in acknowledged:
            node.wait("function_active_v2", name)
            assert node.invoke(name).payload == name


@pytest.mark.slow
@pytest.mark.case("LC-48")
def test_sigterm_lets_invocations_finish_and_tells_extensions(start, data):
    # Given twenty invocations, some of them just starting
    node = start(data)
    name = node.create(zip_directory(PROBE), layers=[actors("watcher")], **SETTINGS)
    with ThreadPoolExecutor(21) as threads:
        answers = [threads.submit(node.invoke, name, {"sleep_s": 1}) for _ in range(20)]
        eventually(lambda: any(each["state"] == "busy" for each in node.environments(name)))

        # When the node is asked to end, while somebody follows the log
        with node.following(name) as lines:
            first = next(lines)
            node.process.terminate()
            logged = [first, *lines]
        outcomes = [outcome(answer) for answer in answers]

    # Then it ends well, and all were answered or refused
    assert node.ended() == 0
    assert set(outcomes) <= {"answered", "refused"}
    assert "answered" in outcomes
    # And every extension whose environment served heard of the end
    streams = {line["stream"] for line in logged if line["message"].startswith("START ")}
    said = [line for line in logged if line["message"].startswith("watcher: {")]
    told = {line["stream"]: line["message"] for line in said if "SHUTDOWN" in line["message"]}
    assert streams <= told.keys()
    assert all('"shutdownReason": "spindown"' in told[stream] for stream in streams)
    assert leftovers(data) == []


@pytest.mark.slow
def test_sigterm_breaks_off_what_takes_too_long(start, data):
    node = start(data)
    name = node.create(zip_directory(PROBE), layers=[actors("watcher")], Timeout=600, **SETTINGS)
    with ThreadPoolExecutor(3) as threads:
        answers = [threads.submit(node.invoke, name, {"sleep_s": 500}) for _ in range(3)]
        eventually(lambda: [each["state"] for each in node.environments(name)] == ["busy"] * 3)
        assert node.terminate() == 0
        assert {outcome(answer) for answer in answers} <= {"failed", "refused"}
    assert leftovers(data) == []


@pytest.mark.slow
@pytest.mark.case("EXT-37")
def test_an_idle_environment_is_shut_down_in_time(data):
    with running(data, "--idle-seconds", "0.3") as node:
        name = node.create(zip_directory(PROBE), layers=[actors("watcher")], **SETTINGS)
        first = node.invoke(name, tail=True)
        lines = node.log_until(name, '"shutdownReason"')
        assert '"shutdownReason": "spindown"' in lines[-1]
        eventually(lambda: node.environments(name) == [])
        second = node.invoke(name)
        assert second.payload["environment"] != first.payload["environment"]


@pytest.mark.slow
def test_a_second_node_on_the_same_data_is_refused(node):
    command = [REMORA, "up", "--port", "0", "--data", str(node.data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert str(node.data) in done.stderr
    assert len(done.stderr.splitlines()) <= 2
    assert node.get("health")["status"] == "ok"


def test_a_second_node_on_the_same_port_is_refused(node, data):
    port = node.address.rpartition(":")[2]
    command = [REMORA, "up", "--port", port, "--data", str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert done.returncode == 3
    assert done.stdout == ""
    assert port in done.stderr
    assert "hint: " in done.stderr
    assert leftovers(data) == []


@pytest.mark.slow
def test_ctrl_c_ends_a_node_as_well(start, data):
    node = start(data)
    name = node.create(zip_directory(PROBE), **SETTINGS)
    assert node.invoke(name, {"echo": 1}).payload["echo"] == 1
    node.process.send_signal(signal.SIGINT)
    assert node.ended() == 0
    assert leftovers(data) == []


@pytest.mark.slow
def test_a_node_that_ends_says_so(start, data):
    node = start(data)
    name = node.create(zip_directory(PROBE), **SETTINGS)

    def health() -> int:
        connection = http.client.HTTPConnection(node.address, timeout=240)
        try:
            connection.request("GET", "/health")
            answer = connection.getresponse()
            assert json.loads(answer.read())["status"] == ("ok" if answer.status == 200 else "ending")
            return answer.status
        finally:
            connection.close()

    assert health() == 200
    node.invoke(name)  # so that what runs when it ends is not late for having been started
    with ThreadPoolExecutor(1) as threads:
        answer = threads.submit(node.invoke, name, {"sleep_s": 3})
        eventually(lambda: [each["state"] for each in node.environments(name)] == ["busy"])
        node.process.terminate()
        eventually(lambda: health() == 503)
        assert answer.result().error is None
    assert node.ended() == 0
