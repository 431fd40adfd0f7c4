"""One copy of a sandbox being made: CRIU runs, and in the middle waits until its network has what is ours."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from remora.kit.threads import in_thread
from remora.sandbox import launch
from remora.sandbox.base import SandboxError
from remora.sandbox.criu import BEGIN, GO, LOG, MADE, complaint
from remora.sandbox.own_kernel import in_network
from remora.sandbox.repair import put_together, speak
from remora.sandbox.waiting import first_readable, kill_process, readable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence
    from pathlib import Path

    from remora.sandbox.base import SandboxPlan
    from remora.sandbox.keeper import Keeper
    from remora.sandbox.repair import TcpState

RESTORE_S: Final = 60.0
PIDFILE: Final = "pid"
_SIOCGIFFLAGS, _SIOCSIFFLAGS, _IFF_UP = 0x8913, 0x8914, 1
_FLAGS = struct.Struct("@16sh22x")


class SandboxImage(msgspec.Struct, frozen=True):
    """
    What must be known of a sandbox that was dumped, besides its files.

    Args:
        processes: Number, name, pid inside of each process that was started.
        mounts: Where inside something of the host is mounted.
    """

    processes: tuple[tuple[int, str, int], ...]
    mounts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Belongings:
    """
    What a copy gets of its own.

    Args:
        images: The files of the dump, in memory: a name that `dump` was given, or others were put below.
        pipes: An open file for each pipe that led outside, by the pipe's number.
        connections: The host's halves of the connections to its APIs.
    """

    images: str
    pipes: Mapping[int, int]
    connections: Sequence[TcpState]


class Restoration:
    """
    One copy being made.

    Args:
        plan: Of the copy.
        image: What is known of the original.
        own: What the copy gets of its own.
        keeper: Sees to it that the copy ends if this process does meanwhile.
        undo: Where what was opened is closed, unless all goes well.
    """

    def __init__(
        self,
        plan: SandboxPlan,
        image: SandboxImage,
        own: Belongings,
        *,
        keeper: Keeper,
        undo: contextlib.ExitStack,
    ) -> None:
        self.plan = plan
        self.image = image
        self.own = own
        self.connections: list[socket.socket] = []
        self._keeper = keeper
        self._undo = undo

    async def run(
        self, words: list[str], cgroup: Path | None, wire: Callable[[int], Awaitable[None]]
    ) -> launch.Child:
        """
        Run the command, furnish the network when it is there, wait; return pid 1 of the copy, our child.

        Raises:
            SandboxError: If the command fails.
        """
        directory = self.plan.directory
        with contextlib.ExitStack() as stack:
            begin, made, go = (_open_fifo(directory / name, stack) for name in (BEGIN, MADE, GO))
            said, write_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            stack.callback(os.close, said)
            ready = launch.ReadyPipe(said, "criu")
            try:
                stdio = (subprocess.DEVNULL, write_end)
                criu = launch.spawn(words, directory, stdio, cgroup, *self.own.pipes.values())
            finally:
                os.close(write_end)
            if cgroup is not None:
                criu = await launch.sibling_of(criu, ready)
            self._keeper.watch(-criu.pid)  # all of its group, before there is more than one process in it
            os.write(begin, b"\n")
            child: launch.Child | None = None
            try:
                if await first_readable(made, criu.pidfd, within_s=RESTORE_S) == made:
                    child = launch.watch(int(os.read(made, 32)))
                    self._keeper.watch(child.pid)
                    await in_thread(self._furnish, child.pid)
                    await wire(child.pid)
                    os.write(go, b"\n")
                    await readable(criu.pidfd, within_s=RESTORE_S)
                child = self._restored(child)
            except BaseException:
                if child is not None:
                    await self.end(child)
                raise
            finally:
                kill_process(criu.pidfd)
                await criu.reap()
                self._keeper.unwatch(-criu.pid)
        for connection in self.connections:
            speak(connection)
        return child

    def _restored(self, child: launch.Child | None) -> launch.Child:
        """Return pid 1 if CRIU says that all went well."""
        directory = self.plan.directory
        if child is None or not (directory / PIDFILE).exists():
            said = (directory / LOG).read_bytes() if (directory / LOG).exists() else b""
            raise SandboxError(f"CRIU could not restore the snapshot: {complaint(said)}")
        return child

    async def end(self, child: launch.Child) -> None:
        """End pid 1 of the copy, whatever has become of it."""
        kill_process(child.pidfd)
        await child.reap()
        self._keeper.unwatch(child.pid)

    def _furnish(self, pid: int) -> None:
        """Make what belongs into the network of the process `pid` before anybody runs there."""
        network = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.connections += in_network(network, self._make_connections)
        finally:
            os.close(network)

    def _make_connections(self) -> list[socket.socket]:
        _set_up_loopback()
        made = []
        for state in self.own.connections:
            made.append(put_together(state))
            self._undo.callback(made[-1].close)
        return made


def _open_fifo(path: Path, stack: contextlib.ExitStack) -> int:
    fifo = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    stack.callback(os.close, fifo)
    return fifo


def _set_up_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        found = fcntl.ioctl(asking, _SIOCGIFFLAGS, _FLAGS.pack(b"lo", 0))
        _, flags = _FLAGS.unpack(found)
        fcntl.ioctl(asking, _SIOCSIFFLAGS, _FLAGS.pack(b"lo", flags | _IFF_UP))
