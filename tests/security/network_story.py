"""
Lives in a world of its own, which it makes: a machine, an internet beyond it, environments on the machine.

Run by `test_networks.py` in new network and mount namespaces; prints as JSON what each could reach.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import uvloop

from remora.sandbox.base import SandboxPlan
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.testing.contracts.sandbox import Bench, Living, Recorder, read_some

INTERNET, MACHINE, METADATA = "198.51.100.1", "198.51.100.2", "169.254.169.254"
CLONE_NEWNET = 0x40000000
_REACH = """
import json, socket, sys
told = {}
for name, host, port in json.loads(sys.argv[1]):
    try:
        with socket.create_connection((host, port), 2) as peer:
            told[name] = peer.recv(100).decode()
    except OSError as error:
        is_named = isinstance(error, (TimeoutError, socket.gaierror))
        told[name] = type(error).__name__ if is_named else error.errno
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
    try:
        probe.connect(("198.51.100.1", 9))
        told["own"] = probe.getsockname()[0]
    except OSError:
        told["own"] = ""
print(json.dumps(told))
"""
_SERVE = """
import os, socket, time
for port in (8080, 2772, 4243):
    server = socket.create_server(("0.0.0.0", port))
os.write(1, b"up")
time.sleep(1000)
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def serve_names(server: socket.socket) -> None:
    """Answer every question with the internet's address."""
    while True:
        question, peer = server.recvfrom(512)
        head = question[:2] + b"\x81\x80\0\1\0\1\0\0\0\0"
        body = question[12 : question.index(b"\0", 12) + 5]
        is_v4 = body[-4:-2] == b"\0\1"
        answer = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(INTERNET)
        if not is_v4:
            head = head[:6] + b"\0\0" + head[8:]
        server.sendto(head + body + (answer if is_v4 else b""), peer)


def greet(server: socket.socket) -> None:
    """Tell everybody who connects from where they come."""
    while True:
        peer, (host, _) = server.accept()
        with peer:
            peer.sendall(host.encode())


def internet(ready: threading.Event, go: threading.Event, place: list[int]) -> None:
    """Live in a network namespace of this thread's own."""
    assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
    place.append(threading.get_native_id())
    ready.set()
    go.wait()
    names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    names.bind(("0.0.0.0", 53))
    threading.Thread(target=serve_names, args=(names,), daemon=True).start()
    for port in (80, 443):
        server = socket.create_server(("0.0.0.0", port))
        threading.Thread(target=greet, args=(server,), daemon=True).start()
    place.append(0)
    ready.set()
    threading.Event().wait()


def make_world(directory: Path) -> None:
    """Connect this namespace, which plays the machine, with one that plays the internet."""
    ready, go, place = threading.Event(), threading.Event(), []
    threading.Thread(target=internet, args=(ready, go, place), daemon=True).start()
    ready.wait()
    ready.clear()
    inside = f"--net=/proc/{os.getpid()}/task/{place[0]}/ns/net"
    ip("link", "set", "lo", "up")
    netns = os.open(f"/proc/{os.getpid()}/task/{place[0]}/ns/net", os.O_RDONLY)
    os.set_inheritable(netns, True)
    ip("link", "add", "up0", "type", "veth", "peer", "name", "wan")
    holder = subprocess.Popen(["nsenter", inside, "sleep", "60"])
    while not Path(f"/proc/{holder.pid}/ns/net").samefile(f"/proc/self/task/{place[0]}/ns/net"):
        time.sleep(0.01)
    ip("link", "set", "wan", "netns", str(holder.pid))
    for words in (
        ("addr", "add", f"{INTERNET}/24", "dev", "wan"),
        ("addr", "add", f"{METADATA}/32", "dev", "wan"),
        ("link", "set", "wan", "up"),
        ("link", "set", "lo", "up"),
    ):
        subprocess.run(["nsenter", inside, "ip", *words], check=True)
    ip("addr", "add", f"{MACHINE}/24", "dev", "up0")
    ip("link", "set", "up0", "up")
    ip("route", "add", "default", "via", INTERNET)
    holder.kill()
    holder.wait()
    go.set()
    ready.wait()
    names = directory / "resolv.conf"
    names.write_text(f"nameserver {INTERNET}\n")
    subprocess.run(["mount", "--bind", names, Path("/etc/resolv.conf").resolve()], check=True)
    for host in ("127.0.0.1", MACHINE):
        server = socket.create_server((host, 9000))
        threading.Thread(target=greet, args=(server,), daemon=True).start()


async def tell(directory: Path) -> dict[str, object]:
    driver = BubblewrapDriver(directory / "environments", "story")
    (directory / "environments").mkdir()
    (directory / "task").mkdir()
    bench = Bench(driver, directory / "environments", directory / "task")
    living: list[Living] = []
    told: dict[str, object] = {"problems": driver.network_problems()}

    async def start(network: str) -> Living:
        watcher, plan = Recorder(), bench.plan()
        plan = SandboxPlan(plan.name, plan.directory, plan.mounts, plan.memory_mib, network)
        living.append(Living(await driver.create(plan, watcher), watcher))
        return living[-1]

    async def reach(who: Living, neighbour: str) -> object:
        places = [
            ("internet", INTERNET, 80),
            ("name", "example.com", 443),
            ("metadata", METADATA, 80),
            ("machine", MACHINE, 9000),
            ("loopback", "127.0.0.1", 9000),
            ("gateway", "169.254.1.1", 9000),
            ("neighbour", neighbour, 8080),
            ("neighbours_api", neighbour, 9001),
        ]
        return await who.ask(_REACH, json.dumps(places))

    try:
        first, second = await start("nat"), await start("nat")
        for each in (first, second):
            output = each.begin("server", each.python(_SERVE))
            assert await read_some(output) == b"up", "fixed ports are free in every environment"
            os.close(output)
        address = (await reach(second, "192.0.2.99"))["own"]
        told["nat"] = await reach(first, address)
        told["second"] = address
        told["none"] = await reach(await start("none"), address)
        told["rules"] = tables()
        told["from_machine"] = reached_from_here(address)
    finally:
        for each in living:
            await each.sandbox.close()
    told["rules_after"] = tables()
    told["devices_after"] = await asyncio.to_thread(devices_left)
    return told


def devices_left() -> list[str]:
    """Return what is left of devices; the kernel removes them after the last process, and tells nobody."""
    end = time.monotonic() + 10
    while True:
        left = [name for _, name in socket.if_nameindex() if name.startswith("rmr")]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


def reached_from_here(address: str) -> object:
    try:
        with socket.create_connection((address, 8080), 1):
            return "reached"
    except OSError as error:
        return type(error).__name__


if __name__ == "__main__":
    make_world(Path(sys.argv[1]))
    sys.stdout.write(json.dumps(uvloop.run(asyncio.wait_for(tell(Path(sys.argv[1])), 60))))
