"""
A program that cuts its own power: run with every write to the disk in turn as the last one.

A scenario of operations runs in a child process that kills itself before its n-th write (of a file, a name or
the database). Then the directory must hold one of the states between commits that an undisturbed run goes
through, and no older one than what had been acknowledged; every file that records refer to must be whole, and
nothing else may be left once the node has tidied up.

usage: power_cut.py DIRECTORY FIRST STRIDE
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import os
import signal
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from tests.control.changes import scenario

from remora.control.context import ControlSettings
from remora.control.opening import open_control
from remora.pool.base import ProvisionedStatus
from remora.resources.names import Place
from remora.resources.view import _TABLES
from remora.runtimes.layout import RuntimeLayout
from remora.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from remora.control.context import Control
    from remora.resources.view import View

Dump = tuple[str, ...]


def dump(view: View) -> Dump:
    found = []
    for kind, table in _TABLES.items():
        for key, record in getattr(view, table).items():
            inner = record.items() if isinstance(record, dict) else [("", record)]
            found += [f"{kind} {key}:{name} {msgspec.json.encode(each).decode()}" for name, each in inner]
    return tuple(sorted(found))


# --- a node without a server, a pool and chance -------------------------------------------------------------


class Clock:
    def __init__(self) -> None:
        self._now = itertools.count(1_790_000_000_000)

    def wall_ms(self) -> int:
        return next(self._now)

    def monotonic_us(self) -> int:
        return next(self._now)


class Runtimes:
    def names(self) -> tuple[str, ...]:
        return ("python3.12",)

    async def prepare(self, name: str) -> RuntimeLayout:
        return RuntimeLayout(name=name, mounts=(), bootstraps=("/b",), version_arn="arn:aws:lambda:x")


class Pool:
    def retire(self, function_arn: str, version: str | None = None) -> None: ...


class Provisioning:
    def status(self, function: str, qualifier: str) -> ProvisionedStatus:
        return ProvisionedStatus("READY", 1, 1)

    def subscribe(self, listener: Callable[[], object]) -> None: ...


class Node:
    """A control plane whose background work is awaited when asked."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._tasks: set[asyncio.Task[Any]] = set()
        self._numbers = itertools.count(1)
        self.store = SqliteStore(directory)

    def _spawn(self, work: Coroutine[Any, Any, Any], _: str) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def open(self) -> Control:
        return await open_control(
            self._directory,
            store=self.store,
            runtimes=Runtimes(),
            pool=Pool(),
            settings=ControlSettings(Place("us-east-1", "000000000000"), "http://x", b"k", 1000),
            clock=Clock(),
            new_id=lambda: f"00000000-0000-4000-8000-{next(self._numbers):012d}",
            spawn=self._spawn,
            provisioning=Provisioning(),
        )

    async def settle(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)


# --- what is done -------------------------------------------------------------------------------------------


async def live(directory: Path, acknowledge: Callable[[], None], seen: Callable[[Dump], None]) -> None:
    node = Node(directory)
    control = await node.open()
    control.state.subscribe(lambda: seen(dump(control.state.view)))
    for step in scenario(control):
        await step()
        acknowledge()
        await node.settle()
    await node.store.close()


# --- power --------------------------------------------------------------------------------------------------


class Power:
    """Counts writes, and kills the process before the one it is told."""

    def __init__(self) -> None:
        self.writes = 0
        self.last = 0

    def spend(self) -> None:
        self.writes += 1
        if self.writes == self.last:
            os.kill(os.getpid(), signal.SIGKILL)


power = Power()


class Connection(sqlite3.Connection):
    def execute(self, *arguments: Any) -> Any:
        power.spend()
        return super().execute(*arguments)


def wire() -> None:
    """Let every write spend power."""
    for name in ("fsync", "rename", "unlink", "mkdir", "rmdir", "symlink", "chmod", "link"):
        act = getattr(os, name)

        def spending(*arguments: Any, act: Any = act, **options: Any) -> Any:
            power.spend()
            return act(*arguments, **options)

        setattr(os, name, spending)
    connect = sqlite3.connect
    sqlite3.connect = lambda *arguments, **options: connect(*arguments, **options, factory=Connection)


def undisturbed(directory: Path) -> list[tuple[int, Dump]]:
    """Return every state between commits, with how many steps had been acknowledged before."""
    count, states = [0], [(0, ())]

    def acknowledge() -> None:
        count[0] += 1

    asyncio.run(live(directory, acknowledge, lambda state: states.append((count[0], state))))
    made = {line.split()[0] for _, state in states for line in state}
    assert made == set(_TABLES), f"the scenario makes no {set(_TABLES) - made}"
    left = {line.split()[0] for line in states[-1][1]}
    remembered = {"function", "layer", "session", "stack", "stack-event", "stack-resource", "template"}
    assert left == remembered, f"the scenario leaves {left}"  # f, r, p … are deleted
    return states


def cut(directory: Path, last: int) -> tuple[bool, int]:
    """Run until the power is cut; return whether it was, and how many steps were acknowledged."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        power.writes, power.last = 0, last
        asyncio.run(live(directory, lambda: os.write(writer, b"."), lambda _: None))
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        acknowledged = len(pipe.read())
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0, "the scenario failed"
        return False, acknowledged
    return True, acknowledged


async def look(directory: Path, acknowledged: int, states: list[tuple[int, Dump]]) -> None:
    node = Node(directory)
    control = await node.open()
    found = dump(control.state.view)
    possible = [before for before, state in states if state == found]
    assert possible, f"no state between commits: {found}"
    # What is acknowledged is in the first state that was seen after it.
    newest = max(possible)
    due = [state for before, state in states if before <= acknowledged - 1]
    assert newest >= acknowledged or found == due[-1], f"{acknowledged} were acknowledged"
    await node.settle()
    view = control.state.view
    for function in view.functions.values():
        assert function.latest.state == "Active", function.latest
        await control.deployments.make(function.latest)
    await control.artifacts.collect(control.cleaning._live)
    blobs = {path.name: path for path in (directory / "blobs").iterdir()}
    assert blobs.keys() == view.digests() | view.object_digests()
    for digest, path in blobs.items():
        assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    await node.store.close()


def main() -> None:
    base, first, stride = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    states = undisturbed(base / "undisturbed")
    wire()
    last = first
    for last in itertools.count(first, stride):
        directory = base / f"cut-{last}"
        was_cut, acknowledged = cut(directory, last)
        try:
            asyncio.run(look(directory, acknowledged, states))
            assert [path for path in directory.rglob("*") if path.name.startswith(".")] == []
        except BaseException:
            sys.stdout.write(f"power was cut before write {last}, in {directory}\n")
            raise
        if not was_cut:
            break
    sys.stdout.write(f"{last} writes\n")


if __name__ == "__main__":
    main()
