"""Functions and machines that mean harm or have run out of something: the node goes on, and so do others."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from tests.chosen import monitor

from .leftovers import command_of, processes_of, processes_of_environment
from .nodes import eventually
from .packages import PROBE, RUNTIME, zip_directory, zip_of

pytestmark = pytest.mark.slow
SETTINGS = {"Runtime": RUNTIME, "Handler": "app.handler"}


def python(body: str) -> bytes:
    """Return a package whose handler has this body."""
    lines = "\n    ".join(body.strip().splitlines())
    return zip_of(
        {"app.py": f"import os, sys, time, socket, json\ndef handler(event, context):\n    {lines}\n"}
    )


def test_a_flood_of_output_stops_nobody(node, function):
    # Given a function that writes 20 MB, in lines of every length, some without end, some no text at all
    flood = """
for number in range(200_000):
    sys.stdout.write(f"{number} " + "x" * 80 + "\\n")
os.write(1, b"y" * 1_000_000 + b"\\n")
os.write(2, bytes(range(256)) * 1000)
return "done"
"""
    name, other = function(python(flood), MemorySize=512), function()
    node.invoke(other)

    # When it runs, then others are served meanwhile, and its log is complete
    with ThreadPoolExecutor(1) as threads:
        flooding = threads.submit(node.invoke, name, tail=True)
        served = 0
        while not flooding.done():
            assert node.invoke(other, {"echo": 1}).payload["echo"] == 1
            served += 1
        answer = flooding.result()
    assert answer.payload == "done"
    assert served > 0
    assert answer.log.splitlines()[-1].startswith(f"REPORT RequestId: {answer.request_id}")
    log = node.log_until(name, f"REPORT RequestId: {answer.request_id}")
    numbers = [int(line.split()[0]) for line in log if line.endswith("x" * 80)]
    assert numbers == list(range(200_000))


def test_a_fork_bomb_hits_its_own_environment_only(node, function):
    if any("number of processes is not limited" in missing for missing in node.info["missing"]):
        bomb = "children = [os.spawnlp(os.P_NOWAIT, 'sleep', 'sleep', '600') for _ in range(200)]\nreturn 200"
    else:
        bomb = """
children = 0
try:
    while children < 5000:
        if os.fork() == 0:
            time.sleep(600)
        children += 1
except OSError:
    return children
return -1
"""
    name, other = function(python(bomb), MemorySize=1024), function()
    answer = node.invoke(name)
    assert answer.error is not None or 100 <= answer.payload <= 1024
    assert node.invoke(other, {"echo": 1}).payload["echo"] == 1
    node.client.update_function_configuration(FunctionName=name, Timeout=9)
    eventually(lambda: not node.environments(name))


def test_requests_that_are_not_its_own_gain_an_extension_nothing(node, function):
    # The function speaks nonsense to its own API: other ids, garbage, a thousand connections.
    body = """
host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
def send(raw):
    with socket.create_connection((host, int(port)), 5) as peer:
        peer.sendall(raw)
        peer.shutdown(socket.SHUT_WR)
        got = b""
        while part := peer.recv(65536):
            got += part
        return got[:12].decode()
base = "/2018-06-01/runtime/invocation/00000000-0000-4000-8000-000000000000"
told = {
    "other": send(f"POST {base}/response HTTP/1.1\\r\\nHost: x\\r\\nContent-Length: 0\\r\\n\\r\\n".encode()),
    "garbage": send(os.urandom(500)),
    "empty": send(b""),
    "node": send(b"GET /_remora/environments HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"),
    "functions": send(b"GET /2015-03-31/functions HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n"),
}
held = []
try:
    for _ in range(900):
        held.append(socket.create_connection((host, int(port)), 5))
except OSError:
    pass
told["held"] = len(held)
return told
"""
    name = function(python(body))
    told = node.invoke(name).payload
    assert told["other"] == "HTTP/1.1 400"
    assert told["garbage"] in ("HTTP/1.1 400", "")
    assert told["empty"] == ""
    assert told["node"] == told["functions"] == "HTTP/1.1 404"
    assert told["held"] >= 100
    assert node.invoke(name).payload["other"] == "HTTP/1.1 400"


@pytest.mark.parametrize("word", [monitor(), "remora/init", "bootstrap.py"])
def test_whatever_is_killed_from_outside_is_one_environments_trouble(node, function, word):
    # Given an idle environment, of which the monitor, pid 1 or the runtime is killed from outside
    name, other = function(does={"watcher": {}}), function()
    told = node.invoke(name, tail=True).payload
    node.invoke(other)
    ours = processes_of_environment(node.data, told["environment"])
    victim = next(pid for pid in ours if word in command_of(pid))
    runtime = next(pid for pid in ours if "bootstrap.py" in command_of(pid))
    os.kill(victim, signal.SIGKILL)
    if victim != runtime:  # which, frozen, dies when it is thawed; else its end takes longer than a call
        eventually(lambda: runtime not in processes_of(node.data))

    # Then invocations are served all the same, perhaps after one error, and the processes are new
    answers = [node.invoke(name, {"echo": number}) for number in range(3)]
    assert [answer.error for answer in answers[1:]] == [None, None]
    assert answers[2].payload["generation"] != told["generation"]
    assert node.invoke(other, {"echo": 1}).payload["calls"] == 2
    if word != "bootstrap.py":
        eventually(lambda: not set(ours) & set(processes_of(node.data)))


def on_small_disk(data: Path, megabytes: int) -> tuple[str, ...]:
    """Return what runs a command that has a disk of its own at `data`; needs no rights."""
    text = f'mount -t tmpfs -o size={megabytes}m none "{data}" && exec "$@"'
    as_root = () if os.geteuid() == 0 else ("--user", "--map-root-user")
    return ("unshare", *as_root, "--mount", "--propagation", "private", "sh", "-c", text, "small")


def test_a_full_disk_is_an_error_and_not_the_end(start, data):
    # Given a node with a disk of 8 MB, and a function
    data.mkdir(parents=True)
    node = start(data, "--driver", "process", prefix=on_small_disk(data, 8))
    name = node.create(zip_directory(PROBE), **SETTINGS)
    assert node.invoke(name, {"echo": 1}).payload["echo"] == 1

    # When more is deployed than there is room for
    noise = os.urandom(3 << 20)
    refused = []
    for _ in range(6):
        try:
            node.create(
                zip_of({"app.py": "handler = lambda e, c: 1", "noise": noise + os.urandom(9)}), **SETTINGS
            )
        except ClientError as error:
            refused.append(error.response["Error"]["Code"])

    # Then that is refused, what was there works, and so does what makes room
    assert set(refused) == {"ServiceException"}, refused
    answers = [node.invoke(name, {"echo": number, "print": "x" * 1000}) for number in range(20)]
    assert [answer.payload["echo"] for answer in answers] == list(range(20))
    assert node.get("health")["status"] == "ok"
    listed = {each["FunctionName"] for each in node.client.list_functions()["Functions"]}
    assert name in listed
    for each in listed - {name}:
        node.client.delete_function(FunctionName=each)
    assert node.invoke(name, {"echo": 1}).payload["echo"] == 1
    assert node.terminate() == 0
