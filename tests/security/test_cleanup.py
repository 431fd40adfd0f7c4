"""Whatever dies, and however: afterwards there is as much of everything on the machine as before."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from tests.acceptance.conftest import running, start  # noqa: F401 - a fixture
from tests.acceptance.leftovers import command_of, leftovers, private_namespaces, processes_in, processes_of
from tests.acceptance.nodes import Node, eventually, unique
from tests.acceptance.packages import RUNTIME, zip_of
from tests.chosen import monitor

from remora.sandbox.cgroups import digest_of

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent
SETTINGS = {"Runtime": RUNTIME, "Handler": "app.handler", "Timeout": 60, "MemorySize": 256}
APP = b"""
import os, subprocess, time

def handler(event, context):
    if "fill" in event:
        try:
            with open("/tmp/filler", "wb", buffering=0) as file:
                while True:
                    file.write(bytes(1 << 20))
        except OSError as error:
            return error.errno
    if "hold" in event:
        # A file that stays open and a program whose working directory is there: what makes a mount busy.
        os.makedirs("/tmp/held", exist_ok=True)
        subprocess.Popen(["/bin/sh", "-c", "cd /tmp/held; exec 3>busy; echo $$ >&3; sleep 600"])
    if "sleep" in event:
        print("sleeping", flush=True)
        time.sleep(event["sleep"])
    return "fine"
"""


def devices_of(data: Path) -> list[str]:
    """Return what of a node's is among the machine's devices and rules."""
    digest = digest_of(data / "environments")
    found = [
        f"network device {name}" for _, name in socket.if_nameindex() if name.startswith(f"rmr{digest[:4]}")
    ]
    for file in Path("/sys/block").glob("loop*/loop/backing_file"):
        try:
            found += [f"loop device {file}"] if data.name in file.read_text() else []
        except OSError:
            continue
    if os.geteuid() == 0:
        nft = ["nft", "list", "tables"]
        path = os.environ | {"PATH": f"{os.environ['PATH']}:/usr/sbin"}
        said = subprocess.run(nft, capture_output=True, text=True, check=False, env=path).stdout
        found += [line for line in said.splitlines() if digest in line]
    return found


def descriptors_of(node: Node) -> int:
    """Return how many descriptors the node has open, besides connections of those who ask it."""
    place = Path(f"/proc/{node.info['pid']}/fd")
    return sum(
        not str(entry.readlink()).startswith("socket:") for entry in place.iterdir() if entry.is_symlink()
    )


def test_after_a_killed_node_nothing_is_left_of_devices_and_at_the_next_start_nothing_at_all(
    start: Callable[..., Node],  # noqa: F811 - the fixture
    tmp_path: Path,
) -> None:
    # Given environments with a full /tmp, with a busy one, and in the middle of their work
    data = tmp_path / unique("data")
    node = start(data)
    names = [node.create(zip_of({"app.py": APP}), **SETTINGS) for _ in range(3)]
    assert node.invoke(names[0], {"fill": 1}).payload == 28
    assert node.invoke(names[1], {"hold": 1}).payload == "fine"
    with ThreadPoolExecutor(1) as threads:
        asking = threads.submit(node.invoke, names[2], {"sleep": 50})
        assert node.log_until(names[2], "sleeping")
        assert devices_of(data) or os.geteuid() != 0, "there was something to be left"
        inhabitants = [pid for pid in processes_of(data) if pid != node.info["pid"]]
        with private_namespaces(inhabitants) as namespaces:
            # When the node is killed
            node.kill()
            assert asking.exception() is not None

            # Then everybody inside ends by itself
            eventually(lambda: processes_in(namespaces) == [])

    # And the kernel takes back devices and rules, the next node the rest
    eventually(lambda: not devices_of(data))
    with running(data) as after:
        assert leftovers(data) == [f"process {after.info['pid']}: {command_of(after.info['pid'])}"]
    assert devices_of(data) == []


def test_while_a_node_lives_nothing_piles_up(tmp_path: Path) -> None:
    # Given a node without spare sandboxes that has had an environment already
    data = tmp_path / unique("data")
    with running(data, "--warm", "0") as node:
        name = node.create(zip_of({"app.py": APP}), **SETTINGS)
        node.invoke(name)
        remove_environments(node, name)
        before = descriptors_of(node)

        # When environments end in every way: pid 1 or its monitor killed, /tmp full or busy, or just so
        for how in ("fill", "hold", "remora/init", monitor(), "nothing"):
            node.invoke(name, {how: 1})
            for pid in processes_of(data) if how in ("remora/init", monitor()) else ():
                if how in command_of(pid) and pid != node.info["pid"]:
                    os.kill(pid, signal.SIGKILL)
            remove_environments(node, name)

        # Then all that is left is the node
        eventually(lambda: processes_of(data) == [node.info["pid"]])
        assert not list((data / "environments").iterdir())
        assert devices_of(data) == []
        eventually(lambda: descriptors_of(node) <= before)


def remove_environments(node: Node, name: str) -> None:
    """Change the function, so that its environments are shut down; wait until they are."""
    node.client.update_function_configuration(FunctionName=name, Description=unique("change"))
    node.wait("function_updated_v2", name)
    eventually(lambda: not node.environments(name))
    eventually(lambda: not list((node.data / "environments").iterdir()))
