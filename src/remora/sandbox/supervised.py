"""One living sandbox whose pid 1 is remora-init: what both drivers have in common."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import select
import shutil
import socket
import stat
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.sandbox import messages
from remora.sandbox.base import Exit, Paths, SandboxPlan
from remora.sandbox.launch import Init, uncancelled
from remora.sandbox.memory import sum_of_peaks

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remora.sandbox.base import ProcessPlan, Watcher
    from remora.sandbox.cgroups import SandboxGroup

EMPTY_WAIT_S = 2.0
"""How long `close` waits for all exits to be reported before it kills pid 1."""
THAW_WAIT_MS = 1000
ORPHAN_WAIT_S = 5.0
KILLED = Exit(None, 9)

_log = logging.getLogger("remora.sandbox")


@dataclass(frozen=True, slots=True)
class Habitat:
    """
    How one sandbox differs from those of the other driver.

    Args:
        paths: Where Lambda's directories are.
        uid: The user inside, or `messages.UNCHANGED`.
        gid: The group inside, or `messages.UNCHANGED`.
        is_isolated: True if everything dies with pid 1 (a pid namespace).
    """

    paths: Paths
    uid: int
    gid: int
    is_isolated: bool


class SupervisedSandbox:
    """
    A sandbox as promised in `remora.sandbox.base.Sandbox`.

    Args:
        plan: What it was made from.
        watcher: Who is told.
        init: Its remora-init, owned from now on.
        group: Its cgroups, owned from now on.
        habitat: What the driver decided.
        forget: Called once when it is gone.
    """

    def __init__(
        self,
        plan: SandboxPlan,
        watcher: Watcher,
        init: Init,
        group: SandboxGroup,
        habitat: Habitat,
        forget: Callable[[], None],
    ) -> None:
        self._plan = plan
        self._watcher = watcher
        self._init = init
        self._group = group
        self._habitat = habitat
        self._forget = forget
        self._loop = asyncio.get_running_loop()
        self._last_number = 0
        self._waiting: dict[int, str] = {}
        """Ordered, not yet known to run."""
        self._running: dict[int, str] = {}
        self._pids: dict[int, int] = {}
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._backlog: deque[messages.Report] = deque()
        self._is_frozen = False
        self._is_ended = False
        self._empties: deque[asyncio.Future[None] | None] = deque()
        """Orders to kill everything that were not answered yet; a future where `close` waits for the answer."""
        self._sampled_bytes = 0
        self._closing: asyncio.Future[None] | None = None
        self._enter_groups()
        self._loop.add_reader(init.connection.fileno(), self._read)

    def __repr__(self) -> str:
        state = "ended" if self._is_ended else "frozen" if self._is_frozen else "running"
        return f"<Sandbox {self._plan.name} {state} processes={len(self._running)}>"

    @property
    def listener(self) -> socket.socket:
        """See `Sandbox.listener`."""
        return self._init.listener

    @property
    def api_address(self) -> str:
        """See `Sandbox.api_address`."""
        return f"127.0.0.1:{self._init.port}"

    @property
    def paths(self) -> Paths:
        """See `Sandbox.paths`."""
        return self._habitat.paths

    def _enter_groups(self) -> None:
        self._group.place(self._init.pid)
        descriptors, has_thaw = self._group.open_join_files()
        try:
            if descriptors:
                self._send(messages.join(has_thaw=has_thaw), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # ---- orders

    def start(self, plan: ProcessPlan) -> None:
        """See `Sandbox.start`."""
        self._last_number += 1
        number = self._last_number
        try:
            order = messages.start(
                number,
                argv=plan.argv,
                env=plan.env,
                cwd=plan.cwd,
                uid=self._habitat.uid,
                gid=self._habitat.gid,
            )
        except ValueError:
            self._loop.call_soon(self._watcher.process_failed, plan.name, errno.EINVAL)
            return
        if self._is_ended or self._closing is not None:
            self._loop.call_soon(self._watcher.process_failed, plan.name, errno.ECANCELED)
        elif len(order) > messages.MESSAGE_BYTES_MAX:
            self._loop.call_soon(self._watcher.process_failed, plan.name, errno.E2BIG)
        else:
            self._waiting[number] = plan.name
            self._send(order, [plan.output])

    def kill(self, name: str, signal: int) -> None:
        """See `Sandbox.kill`."""
        for names in (self._waiting, self._running):
            for number in [number for number, each in names.items() if each == name]:
                self._send(messages.kill(number, signal), [])

    def kill_all(self) -> None:
        """See `Sandbox.kill_all`; what is frozen is thawed, it could not die otherwise."""
        if self._is_ended or self._closing is not None:
            self._loop.call_soon(self._watcher.emptied)
            return
        self._empties.append(None)
        self._send(messages.KILL_ALL, [])
        self.thaw()

    def freeze(self) -> None:
        """See `Sandbox.freeze`."""
        if self._is_frozen or self._is_ended:
            return
        self._is_frozen = True
        if self._group.has_freezer:
            self._group.freeze()
        else:
            self._send(messages.FREEZE, [])

    def thaw(self) -> None:
        """See `Sandbox.thaw`."""
        if not self._is_frozen:
            return
        self._is_frozen = False
        if self._group.has_freezer:
            self._group.thaw()
        elif not self._is_ended:
            self._send(messages.THAW, [])
            self._await_thawed()

    def memory_peak_bytes(self) -> int:
        """See `Sandbox.memory_peak_bytes`; without a memory cgroup only the moments of these calls are seen."""
        if self._group.has_memory:
            return self._group.memory_peak_bytes()
        if not self._is_ended:
            self._sampled_bytes = max(self._sampled_bytes, sum_of_peaks(self._init.pid))
        return self._sampled_bytes

    # ---- sending

    def _send(self, message: bytes, descriptors: list[int]) -> None:
        """Send now, or in turn when remora-init is behind; then with copies of the descriptors."""
        if self._is_ended:
            return
        if self._outbox or not self._send_now(message, descriptors):
            if not self._outbox:
                self._loop.add_writer(self._init.connection.fileno(), self._send_waiting)
            self._outbox.append((message, [os.dup(descriptor) for descriptor in descriptors]))

    def _send_now(self, message: bytes, descriptors: list[int]) -> bool:
        """Return False if it has to wait; a broken connection is noticed when reading."""
        try:
            socket.send_fds(self._init.connection, [message], descriptors)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _send_waiting(self) -> None:
        while self._outbox:
            message, descriptors = self._outbox[0]
            if not self._send_now(message, descriptors):
                return
            self._outbox.popleft()
            for descriptor in descriptors:
                os.close(descriptor)
        self._loop.remove_writer(self._init.connection.fileno())

    def _drop_outbox(self) -> None:
        if self._outbox:
            self._loop.remove_writer(self._init.connection.fileno())
        for _, descriptors in self._outbox:
            for descriptor in descriptors:
                os.close(descriptor)
        self._outbox.clear()

    # ---- reports

    def _receive(self) -> messages.Report | None:
        """
        Read one report.

        Raises:
            BlockingIOError: If there is none now.
            EOFError: If remora-init has ended.
        """
        if self._backlog:
            return self._backlog.popleft()
        try:
            message = self._init.connection.recv(messages.REPORT_BYTES_MAX)
        except (ConnectionResetError, BrokenPipeError) as error:
            raise EOFError from error
        if not message:
            raise EOFError
        try:
            return messages.read(message)
        except ValueError:
            _log.exception("sandbox %s: a report was thrown away", self._plan.name)
            return None

    def _read(self) -> None:
        try:
            while not self._is_ended:
                report = self._receive()
                if report is not None:
                    self._hear(report)
        except BlockingIOError:
            return
        except EOFError:
            self._end()

    def _hear(self, report: messages.Report) -> None:
        match report:
            case messages.Started(number, pid):
                name = self._waiting.pop(number)
                self._running[number] = name
                self._pids[number] = pid
                self._watcher.process_started(name, pid)
            case messages.Failed(number, reason):
                self._watcher.process_failed(self._waiting.pop(number), reason)
            case messages.Exited(number, how):
                self._pids.pop(number)
                self._watcher.process_exited(self._running.pop(number), how)
            case messages.Emptied():
                self._emptied()
            case messages.Refused(first):
                _log.error("sandbox %s: remora-init refused the order %r", self._plan.name, bytes([first]))
            case messages.Thawed() | messages.Hello():
                pass

    def _emptied(self) -> None:
        asked = self._empties.popleft()
        if asked is None:
            self._watcher.emptied()
        elif not asked.done():
            asked.set_result(None)

    def _await_thawed(self) -> None:
        """Wait for the answer, some 50 µs: until then signals may not have arrived. Other reports wait."""
        poll = select.poll()
        poll.register(self._init.connection, select.POLLIN)
        while poll.poll(THAW_WAIT_MS):
            try:
                message = self._init.connection.recv(messages.REPORT_BYTES_MAX)
            except OSError:
                return
            if not message:
                return  # the end shows again when the event loop reads
            report = messages.read(message)
            if isinstance(report, messages.Thawed):
                break
            self._backlog.append(report)
        if self._backlog:
            self._loop.call_soon(self._read)

    # ---- the end

    def _end(self) -> None:
        """Remora-init has let go: it is dying, and so is everything in its pid namespace. Wait for that."""
        if self._is_ended:
            return
        self._is_ended = True
        self._loop.remove_reader(self._init.connection.fileno())
        self._drop_outbox()
        if self._group.has_freezer and self._is_frozen:
            self._is_frozen = False
            self._group.thaw()
        if self._closing is None:
            self._loop.add_reader(self._init.pid1, self._lost)
        else:
            self._answer_close()

    def _lost(self) -> None:
        self._loop.remove_reader(self._init.pid1)
        if self._closing is not None:
            return
        self._kill_orphans()
        self._report_rest()
        self._watcher.sandbox_lost(f"pid 1 of sandbox {self._plan.name} ended unasked")

    def _kill_orphans(self) -> None:
        """Without a pid namespace processes survive pid 1: kill those that can still be found."""
        if self._habitat.is_isolated:
            return
        for pid in self._pids.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, 9)
        for pid in self._group.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, 9)

    def _report_rest(self) -> None:
        """Nothing runs any more: say so of everything that was not reported yet."""
        waiting, running = dict(self._waiting), dict(self._running)
        self._waiting.clear()
        self._running.clear()
        self._pids.clear()
        for name in waiting.values():
            self._watcher.process_failed(name, errno.ECANCELED)
        for name in running.values():
            self._watcher.process_exited(name, KILLED)
        while self._empties:
            self._emptied()

    def _answer_close(self) -> None:
        for asked in self._empties:
            if asked is not None and not asked.done():
                asked.set_result(None)

    async def close(self) -> None:
        """See `Sandbox.close`."""
        if self._closing is None:
            self._closing = asyncio.ensure_future(self._close())
        await uncancelled(self._closing)

    async def _close(self) -> None:
        if not self._is_ended:
            await self._empty()
        self._is_ended = True
        for descriptor in (self._init.connection.fileno(), self._init.pid1):
            self._loop.remove_reader(descriptor)
        self._drop_outbox()
        self._kill_orphans()
        if not await self._init.stop():
            _log.error("sandbox %s: pid 1 (%d) does not end", self._plan.name, self._init.pid)
        await self._group.remove()
        self._report_rest()
        await asyncio.to_thread(remove_tree, self._plan.directory)
        self._forget()

    async def _empty(self) -> None:
        """Have everything killed by remora-init, so that every exit is reported as it was."""
        is_empty = self._loop.create_future()
        self._empties.append(is_empty)
        self._send(messages.KILL_ALL, [])
        self.thaw()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(EMPTY_WAIT_S):
                await is_empty


def remove_tree(directory: Path) -> None:
    """Remove a sandbox's directory, whatever its processes made of the permissions below it."""

    def open_up(function: object, path: str, _: object) -> None:
        del function
        with contextlib.suppress(OSError):
            parent = os.path.dirname(path)  # noqa: PTH120 - strings all along
            os.chmod(parent, stat.S_IRWXU)  # noqa: PTH101
            if os.path.isdir(path) and not os.path.islink(path):  # noqa: PTH112, PTH114
                os.chmod(path, stat.S_IRWXU)  # noqa: PTH101
                shutil.rmtree(path, ignore_errors=True)
            else:
                os.unlink(path)  # noqa: PTH108

    shutil.rmtree(directory, onerror=open_up)
    if directory.exists():
        shutil.rmtree(directory, ignore_errors=True)
