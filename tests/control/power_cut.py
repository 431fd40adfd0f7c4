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
import io
import itertools
import os
import signal
import sqlite3
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from remora.control.context import ControlSettings
from remora.control.opening import open_control
from remora.control.operations.call import Call
from remora.control.operations.offered import HANDLERS
from remora.control.services.iam import Iam
from remora.control.services.s3 import S3
from remora.resources.names import Place
from remora.resources.view import _TABLES
from remora.runtimes.layout import RuntimeLayout
from remora.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from remora.control.context import Control
    from remora.resources.view import View

Dump = tuple[str, ...]

ROLE = "arn:aws:iam::000000000000:role/r"


def package(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("h.py"), text)
    return buffer.getvalue()


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


class Request:
    """As much of an exchange as S3 needs."""

    is_oversized, trailers, is_open = False, (), True

    def __init__(self, method: bytes, path: bytes, body: bytes = b"", query: bytes = b"") -> None:
        self.method, self.path, self.body, self.query, self.headers = method, path, body, query, []
        self.answer = (0, b"")

    def header(self, name: bytes) -> None: ...

    def respond(self, status: int, headers: object, body: bytes) -> None:
        self.answer = (status, body)


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
        )

    async def settle(self) -> None:
        while self._tasks:
            await asyncio.gather(*self._tasks)


# --- what is done -------------------------------------------------------------------------------------------


def scenario(control: Control) -> list[Callable[[], Awaitable[object]]]:
    def call(name: str, **request: Any) -> Callable[[], Awaitable[object]]:
        return lambda: HANDLERS[name](control, Call(request, "http://x"))

    s3, iam = S3(control), Iam(control)

    def send(*parts: bytes) -> Callable[[], Awaitable[object]]:
        async def run() -> object:
            request = Request(*parts)
            await s3.answer(request)
            assert request.answer[0] < 300, request.answer
            return request.answer

        return run

    f = {"FunctionName": "f"}
    create = {"Runtime": "python3.12", "Handler": "h.h", "Role": ROLE}
    trust = '{"Statement":[]}'
    layer = "arn:aws:lambda:us-east-1:000000000000:layer:l:1"
    return [
        lambda: iam.create_role({"RoleName": "r", "AssumeRolePolicyDocument": trust}, None),
        call("PublishLayerVersion", LayerName="l", Content={"ZipFile": package("layer")}),
        call("CreateFunction", **f, **create, Code={"ZipFile": package("one")}, Layers=[layer], Publish=True),
        call("CreateAlias", **f, Name="live", FunctionVersion="1"),
        call("AddPermission", **f, Qualifier="live", StatementId="s", Action="lambda:*", Principal="*"),
        call("UpdateFunctionCode", **f, ZipFile=package("two")),
        call("PublishVersion", **f),
        call("UpdateAlias", **f, Name="live", FunctionVersion="2"),
        call("DeleteFunction", **f, Qualifier="1"),
        call("PutFunctionEventInvokeConfig", **f, MaximumRetryAttempts=0),
        send(b"PUT", b"/bucket"),
        send(b"PUT", b"/bucket/a", package("three")),
        send(b"PUT", b"/bucket/b", b"other"),
        call("CreateFunction", FunctionName="g", **create, Code={"S3Bucket": "bucket", "S3Key": "a"}),
        send(b"PUT", b"/bucket/a", b"replaced"),
        call("UpdateFunctionConfiguration", **f, Layers=[]),
        call("DeleteLayerVersion", LayerName="l", VersionNumber=1),
        send(b"DELETE", b"/bucket/b"),
        call("DeleteFunction", **f),
    ]


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
