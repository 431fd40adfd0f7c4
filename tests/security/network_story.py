"""
Lives in a world of its own, which it makes: a machine, an internet beyond it, environments on the machine.

Run by `test_networks.py` in new network and mount namespaces; prints as JSON what each could reach. The
machine has IPv6 (unless its world is `v4-only`), and forwards nothing (unless that is `forwards`).
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
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import uvloop

from remora.sandbox.base import SandboxPlan
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.switches import PLACE, Switches
from remora.testing.contracts.sandbox import Bench, Living, Recorder, read_some

INTERNET, MACHINE, METADATA = "198.51.100.1", "198.51.100.2", "169.254.169.254"
INTERNET_6, MACHINE_6, METADATA_6 = "2001:db8::1", "2001:db8::2", "fd00:ec2::254"
OFFICE, MACHINE_AT_OFFICE = "203.0.113.2", "203.0.113.1"
"""A network that the machine reaches, and nobody through it unless it forwards anyway."""
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
for name, family, host in ("own", socket.AF_INET, "198.51.100.1"), ("own_6", socket.AF_INET6, "2001:db8::1"):
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect((host, 9))
            told[name] = probe.getsockname()[0]
        except OSError:
            told[name] = ""
print(json.dumps(told))
"""
_SERVE = """
import os, socket, time
for port in (8080, 2772, 4243):
    server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
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
        peer, address = server.accept()
        with peer:
            peer.sendall(address[0].removeprefix("::ffff:").encode())


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
        server = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
        threading.Thread(target=greet, args=(server,), daemon=True).start()
    place.append(0)
    ready.set()
    threading.Event().wait()


def make_world(directory: Path, world: str) -> int:
    """
    Connect this namespace, which plays the machine, with one that plays the internet.

    Returns:
        The thread that lives there.
    """
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
        ("addr", "add", f"{INTERNET_6}/64", "dev", "wan", "nodad"),
        ("addr", "add", f"{METADATA_6}/128", "dev", "wan", "nodad"),
        ("link", "set", "wan", "up"),
        ("link", "set", "lo", "up"),
    ):
        subprocess.run(["nsenter", inside, "ip", *words], check=True)
    ip("addr", "add", f"{MACHINE}/24", "dev", "up0")
    ip("link", "set", "up0", "up")
    ip("route", "add", "default", "via", INTERNET)
    if world != "v4-only":
        ip("addr", "add", f"{MACHINE_6}/64", "dev", "up0", "nodad")
        ip("-6", "route", "add", "default", "via", INTERNET_6)
    for family in ("ipv4", "ipv6"):  # what a new namespace does is what the host does
        Path(f"/proc/sys/net/{family}/conf/all/forwarding").write_text(str(int(world == "forwards")))
    subprocess.run(["nsenter", inside, "ip", "route", "add", "203.0.113.0/24", "via", MACHINE], check=True)
    holder.kill()
    holder.wait()
    go.set()
    ready.wait()
    names = directory / "resolv.conf"
    names.write_text(f"nameserver {INTERNET}\n")
    subprocess.run(["mount", "--bind", names, Path("/etc/resolv.conf").resolve()], check=True)
    server = socket.create_server(("", 9000), family=socket.AF_INET6, dualstack_ipv6=True)
    threading.Thread(target=greet, args=(server,), daemon=True).start()
    return place[0]


@contextmanager
def office() -> Iterator[None]:
    """Have a network on the other side of the machine, with somebody who serves."""
    serve = "import socket, time; s = socket.create_server(('', 80)); print(1, flush=True); time.sleep(600)"
    with subprocess.Popen(["unshare", "--net", sys.executable, "-c", serve], stdout=subprocess.PIPE) as there:
        try:
            assert there.stdout is not None
            assert there.stdout.readline() == b"1\n"
            ip("link", "add", "office", "type", "veth", "peer", "name", "eth0", "netns", str(there.pid))
            inside = ["nsenter", f"--net=/proc/{there.pid}/ns/net", "ip"]
            for words in (
                ("addr", "add", f"{OFFICE}/24", "dev", "eth0"),
                ("link", "set", "eth0", "up"),
                ("route", "add", "default", "via", MACHINE_AT_OFFICE),
            ):
                subprocess.run([*inside, *words], check=True)
            ip("addr", "add", f"{MACHINE_AT_OFFICE}/24", "dev", "office")
            ip("link", "set", "office", "up")
            Path("/proc/sys/net/ipv4/conf/office/forwarding").write_text("1")
            yield
        finally:
            there.kill()


def reached_through_machine(thread: int) -> str:
    """Tell whether the internet gets to the office."""
    code = f"import socket; socket.create_connection(({OFFICE!r}, 80), 1); print('reached')"
    words = ["nsenter", f"--net=/proc/{os.getpid()}/task/{thread}/ns/net", sys.executable, "-c", code]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip()


def forwarding() -> dict[str, str]:
    """Return which switches of the uplink are on."""
    found = {}
    for switch in ("ipv4/conf/up0/forwarding", "ipv6/conf/up0/forwarding", "ipv6/conf/up0/force_forwarding"):
        path = Path("/proc/sys/net", switch)
        if path.exists():
            found[switch] = path.read_text().strip()
    return found


async def tell(directory: Path, thread: int) -> dict[str, object]:
    before = forwarding()
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

    async def reach(who: Living, neighbour: str, neighbour_6: str) -> object:
        places = [
            ("internet", INTERNET, 80),
            ("name", "example.com", 443),
            ("metadata", METADATA, 80),
            ("machine", MACHINE, 9000),
            ("loopback", "127.0.0.1", 9000),
            ("gateway", "169.254.1.1", 9000),
            ("neighbour", neighbour, 8080),
            ("neighbours_api", neighbour, 9001),
            ("internet_6", INTERNET_6, 80),
            ("metadata_6", METADATA_6, 80),
            ("machine_6", MACHINE_6, 9000),
            ("loopback_6", "::1", 9000),
            ("gateway_6", "fe80::1%eth0", 9000),
            ("neighbour_6", neighbour_6, 8080),
        ]
        return await who.ask(_REACH, json.dumps(places))

    try:
        first, second = await start("nat"), await start("nat")
        for each in (first, second):
            output = each.begin("server", each.python(_SERVE))
            assert await read_some(output) == b"up", "fixed ports are free in every environment"
            os.close(output)
        found = await reach(second, "192.0.2.99", "2001:db8::99")
        addresses = found["own"], found["own_6"] or "fd00::99"
        told["nat"] = await reach(first, *addresses)
        told["none"] = await reach(await start("none"), *addresses)
        told["rules"] = tables()
        told["from_machine"] = reached(addresses[0], 8080)
        told["forwarding"] = forwarding()
        told["through_machine"] = await asyncio.to_thread(reached_through_machine, thread)
    finally:
        for each in living:
            await each.sandbox.close()
    told |= {"forwarding_before": before, "forwarding_after": forwarding()}
    told["forwarding_after_death"] = await asyncio.to_thread(die_and_start_again, directory)
    told["switches_left"] = await asyncio.to_thread(switches_left)
    told["rules_after"] = tables()
    told["devices_after"] = await asyncio.to_thread(devices_left)
    return told


def die_and_start_again(directory: Path) -> dict[str, str]:
    """Have a process die that had switches on; return what they say once the next node has begun."""
    code = "import sys, time; from pathlib import Path; from remora.sandbox.switches import Switches\n"
    code += "held = Switches(); [held.turn_on(Path(each)) for each in sys.argv[1:]]; print(1, flush=True)\n"
    switches = [f"/proc/sys/net/{each}" for each in forwarding() if each != "ipv6/conf/up0/forwarding"]
    words = [sys.executable, "-c", f"{code}time.sleep(600)", *switches]
    with subprocess.Popen(words, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        # While it lives nobody else puts them back, nor does one who needed them, too
        driver = BubblewrapDriver(directory / "environments", "next")
        other = Switches()
        for each in switches:
            other.turn_on(Path(each))
        other.close()
        uvloop.run(driver.sweep())
        assert {Path(each).read_text().strip() for each in switches} == {"1"}
        process.kill()
        process.wait()
    uvloop.run(driver.sweep())
    return forwarding()


def switches_left() -> list[str]:
    """Return what is kept of switches, of whose former state nobody needs to know any more."""
    namespace = Path("/proc/self/ns/net").stat().st_ino
    return [path.name for path in PLACE.glob(f"{namespace}:*")]


def devices_left() -> list[str]:
    """Return what is left of devices; the kernel removes them after the last process, and tells nobody."""
    end = time.monotonic() + 60
    while True:
        left = [name for _, name in socket.if_nameindex() if name.startswith("rmr")]
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.05)


def tables() -> str:
    return subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout


def reached(address: str, port: int) -> object:
    try:
        with socket.create_connection((address, port), 1):
            return "reached"
    except OSError as error:
        return type(error).__name__


if __name__ == "__main__":
    place, world = Path(sys.argv[1]), sys.argv[2]
    thread = make_world(place, world)
    with office():
        sys.stdout.write(json.dumps(uvloop.run(asyncio.wait_for(tell(place, thread), 60))))
