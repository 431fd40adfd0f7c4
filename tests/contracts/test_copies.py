"""Sandboxes that are copied with what runs inside: by CRIU, with everything that isolates."""

import asyncio
import json
import os
from contextlib import asynccontextmanager

import pytest
import uvloop
from tests.chosen import CRIU_PREFIX, criu_problem

from remora.sandbox.base import Mount, ProcessPlan, SandboxPlan
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.cgroups import group_name
from remora.sandbox.criu import find_criu
from remora.sandbox.hierarchies import find_hierarchies
from remora.sandbox.repair import take_apart, unsent_bytes
from remora.sandbox.restoration import Belongings
from remora.testing.contracts.sandbox import CHECKS, Bench, Recorder

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(criu_problem()), reason=criu_problem() or "it works")]

# Asks again and again what to do, on one connection, and does it.
WORKER = """
import json, os, socket, time
asking = socket.create_connection(("127.0.0.1", 9001))
state = {"made": time.monotonic()}
open("/tmp/made", "w").write("in the original")
while True:
    asking.sendall(b"next\\n")
    order = asking.recv(65536)
    if not order:
        break
    answer = eval(order)
    print(json.dumps(answer), flush=True)
"""


class Originals:
    """A driver whose sandboxes are all made to be copied."""

    def __init__(self, driver):
        self.copies = driver.copies(find_criu(CRIU_PREFIX))
        self.check = driver.check
        self.sweep = driver.sweep
        self.name = driver.name

    async def create(self, plan, watcher):
        return await self.copies.create(plan, watcher)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_an_original_keeps_the_promises_of_a_sandbox(check, tmp_path):
    environments, task = tmp_path / "environments", tmp_path / "task"
    environments.mkdir()
    task.mkdir()
    driver = Originals(BubblewrapDriver(environments, "copies"))
    uvloop.run(check(Bench(driver, environments, task)))
    driver.copies.close()


class Stage:
    """One original that works, and copies of it."""

    def __init__(self, directory, network):
        self.task, self.environments = directory / "task", directory / "environments"
        self.task.mkdir()
        (self.task / "worker.py").write_text(WORKER)
        self.environments.mkdir(mode=0o700)
        self.network = network
        self.driver = BubblewrapDriver(self.environments, "copies")
        self.copies = self.driver.copies(find_criu(CRIU_PREFIX))
        (self.copies.directory / "one").mkdir()

    def plan(self, name):
        mounts = (Mount(self.task, "/var/task"),)
        return SandboxPlan(name, self.environments / name, mounts, 256, self.network)

    async def original(self):
        """Make one, in which a worker asks what to do."""
        self.watcher = Recorder()
        self.sandbox = await self.copies.create(self.plan("original"), self.watcher)
        self.reader, writer = os.pipe()
        argv = ("/usr/bin/env", "python3", "/var/task/worker.py")
        self.sandbox.start(ProcessPlan("worker", argv, {"PATH": "/usr/bin"}, "/", writer, writer))
        os.close(writer)
        loop = asyncio.get_running_loop()
        self.connection, _ = await loop.sock_accept(self.sandbox.listener)
        self.connection.setblocking(False)
        assert await loop.sock_recv(self.connection, 100) == b"next\n"

    async def dump(self):
        self.sandbox.freeze()
        for _ in range(100):
            if unsent_bytes(self.connection.fileno()):
                await asyncio.sleep(0.01)
        self.state = take_apart(self.connection)
        self.connection.close()
        self.image = await self.copies.dump(self.sandbox, "one")
        await self.sandbox.close()

    @asynccontextmanager
    async def copy(self, name):
        """Make a copy; yield what tells its worker to do something, and returns what that prints."""
        reader, writer = os.pipe()
        own = Belongings("one", {os.fstat(self.reader).st_ino: writer}, [self.state])
        watcher = Recorder()
        copy = await self.copies.copy(self.plan(name), watcher, self.image, own)
        os.close(writer)
        loop = asyncio.get_running_loop()

        async def do(order):
            await loop.sock_sendall(copy.connections[0], order.encode())
            line = b""
            while not line.endswith(b"\n"):
                assert await loop.sock_recv(copy.connections[0], 100) == b"next\n"
                line += await asyncio.to_thread(os.read, reader, 65536)
            return json.loads(line)

        try:
            yield copy.sandbox, do, watcher
        finally:
            copy.connections[0].close()
            await copy.sandbox.close()
            os.close(reader)

    async def original_does(self, order):
        loop = asyncio.get_running_loop()
        await loop.sock_sendall(self.connection, order.encode())
        line = await asyncio.to_thread(os.read, self.reader, 65536)
        assert await loop.sock_recv(self.connection, 100) == b"next\n"
        return json.loads(line)


@pytest.fixture(params=["none"])
def stage(request, tmp_path):
    made = Stage(tmp_path, request.param)
    yield made
    assert list(made.environments.iterdir()) == []
    made.copies.close()
    bases = {base for hierarchy in find_hierarchies() for base in (hierarchy.root, hierarchy.own)}
    assert not [base for base in bases if (base / group_name(made.environments, "copies")).exists()]


def test_a_copy_goes_on_where_the_original_was(stage):
    async def scene():
        await stage.original()
        await stage.original_does("state.update(memory='kept') or os.getpid()")
        await stage.dump()
        async with stage.copy("first") as (_, first, _), stage.copy("second") as (_, second, _):
            assert await first("[state['memory'], os.getpid(), open('/tmp/made').read()]") == [
                "kept", 2, "in the original",
            ]  # fmt: skip
            await first("open('/tmp/made', 'w').write('changed')")
            assert await second("open('/tmp/made').read()") == "in the original"
            assert await first("time.monotonic() >= state['made']")
        async with stage.copy("third") as (_, third, _):
            assert await third("open('/tmp/made').read()") == "in the original"

    uvloop.run(scene())


def test_a_copy_is_as_isolated_as_every_sandbox(stage):
    facts = (
        "{l.split(':')[0]: l.split()[1] for l in open('/proc/self/status')"
        " if l[:6] in ('CapEff', 'CapPrm', 'CapBnd', 'CapInh', 'CapAmb', 'Seccom', 'NoNewP')}"
        " | {'uid': os.getuid(), 'mounts': sorted(l.split()[4] + ' ' + l.split()[5]"
        " for l in open('/proc/self/mountinfo'))}"
    )

    async def scene():
        await stage.original()
        before = await stage.original_does(facts)
        await stage.dump()
        async with stage.copy("copy") as (_, do, _):
            after = await do(facts)
            assert (
                await do("[os.access(p, os.W_OK) for p in ('/', '/usr', '/var/task', '/dev')]") == [False] * 4
            )
        assert set(after.pop("mounts")) == set(before.pop("mounts"))
        assert after == before
        assert {after[name] for name in ("CapEff", "CapPrm", "CapBnd", "CapInh", "CapAmb")} == {"0" * 16}
        assert (after["Seccomp"], after["NoNewPrivs"], after["uid"]) == ("2", "1", 993)

    uvloop.run(scene())


def test_a_copy_can_be_frozen_and_has_a_limit_of_its_own(stage):
    async def scene():
        await stage.original()
        await stage.dump()
        async with stage.copy("copy") as (sandbox, do, watcher):
            sandbox.freeze()
            doing = asyncio.create_task(do("1"))
            await asyncio.sleep(0.1)
            assert not doing.done()
            sandbox.thaw()
            assert await doing == 1
            assert 1 << 20 < sandbox.memory_peak_bytes() < 256 << 20
            greedy = asyncio.create_task(do("len(bytearray(512 << 20))"))
            assert (await watcher.until("exited", "worker"))[2].is_out_of_memory
            greedy.cancel()

    uvloop.run(scene())


def test_a_copy_starts_and_ends_processes(stage):
    async def scene():
        await stage.original()
        await stage.dump()
        async with stage.copy("copy") as (sandbox, _, watcher):
            reader, writer = os.pipe()
            argv = ("/bin/sh", "-c", "echo here; exit 3")
            sandbox.start(ProcessPlan("another", argv, {}, "/", writer, writer))
            os.close(writer)
            assert await asyncio.to_thread(os.read, reader, 100) == b"here\n"
            assert (await watcher.until("exited", "another"))[2].code == 3
            sandbox.kill("worker", 9)
            assert (await watcher.until("exited", "worker"))[2].signal == 9

    uvloop.run(scene())
