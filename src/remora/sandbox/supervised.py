"""One living sandbox whose pid 1 is remora-init: what all drivers have in common."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import logging
import os
import signal as signals
import socket
from collections import deque
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remora.kit.threads import in_thread
from remora.sandbox import messages
from remora.sandbox.base import Exit
from remora.sandbox.channel import Channel
from remora.sandbox.directory import remove_tree
from remora.sandbox.launch import uncancelled
from remora.sandbox.limits import process_limits
from remora.sandbox.own_kernel import in_network, new_socket

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remora.kit.tasks import TaskSet
    from remora.sandbox.base import Paths, ProcessPlan, SandboxPlan, Watcher
    from remora.sandbox.cgroups import SandboxGroup
    from remora.sandbox.launch import Init

EMPTY_WAIT_S = 2.0
"""How long `close` waits for all exits to be reported before it kills pid 1."""
KILLED = Exit(None, signals.SIGKILL)

_log = logging.getLogger("remora.sandbox")


@dataclass(frozen=True, slots=True)
class Habitat:
    """
    How the sandboxes of one driver differ from those of others.

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


@dataclass(frozen=True, slots=True)
class Estate:
    """
    What a sandbox owns and gives back when it is closed.

    Args:
        init: Its remora-init.
        group: Its cgroups.
        tasks: Where `close` runs, so that nobody's cancellation stops it.
        turn: Held while its pid 1 and its cgroups are waited for.
        forget: Called once when it is gone.
    """

    init: Init
    group: SandboxGroup
    tasks: TaskSet
    turn: asyncio.Semaphore
    forget: Callable[[], Awaitable[None]]


class SupervisedSandbox:
    """
    A sandbox as promised in `remora.sandbox.base.Sandbox`.

    Args:
        plan: What it was made from.
        watcher: Who is told.
        habitat: What the driver decided.
        estate: What it owns from now on.
        processes: Number, name and pid of what runs already.
    """

    def __init__(
        self,
        plan: SandboxPlan,
        watcher: Watcher,
        habitat: Habitat,
        estate: Estate,
        processes: tuple[tuple[int, str, int], ...] = (),
    ) -> None:
        self._plan = plan
        self._watcher = watcher
        self._habitat = habitat
        self._estate = estate
        self._init, self._group = estate.init, estate.group
        self._limits = process_limits(
            plan.memory_mib,
            has_memory=self._group.has_memory,
            has_pids=self._group.has_pids,
            is_isolated=habitat.is_isolated,
        )
        self._loop = asyncio.get_running_loop()
        self._last_number = max((number for number, _, _ in processes), default=0)
        self._waiting: dict[int, str] = {}
        """Ordered, not yet known to run."""
        self._running = {number: (name, pid) for number, name, pid in processes}
        """Name and pid of what runs."""
        self._empties: deque[asyncio.Future[None] | None] = deque()
        """Orders to kill everything that were not answered; a future where `close` waits for the answer."""
        self._sockets: deque[asyncio.Future[socket.socket]] = deque()
        """Sockets that were asked for."""
        self._let_go: asyncio.Future[None] | None = None
        """Done when pid 1 has let go, after it was told to."""
        self._is_frozen = False
        self._is_ended = False
        self._sampled_bytes = 0
        self._memory_kills = 0
        """Processes that were killed for the memory of all, and reported."""
        self._closing: asyncio.Task[None] | None = None
        self._channel = Channel(plan.name, self._init.connection, hear=self._hear, ended=self._end)
        try:
            self._enter_groups()
        except BaseException:
            self._channel.close()
            raise

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

    @property
    def _has_own_kernel(self) -> bool:
        """True if its processes are none of this machine's, and sockets are made outside."""
        return self._init.network >= 0

    @property
    def _has_freezer(self) -> bool:
        """True if it is frozen by cgroup; a kernel of its own is not by one that would keep it from dying."""
        return self._group.has_freezer and not (self._has_own_kernel and self._group.freezer_of_v1)

    def _enter_groups(self) -> None:
        if self._has_own_kernel:
            return
        descriptors, has_thaw = self._group.open_join_files()
        try:
            if descriptors:
                self._channel.send(messages.join(has_thaw=has_thaw), descriptors)
        finally:
            for descriptor in descriptors:
                os.close(descriptor)

    # ---- orders

    def start(self, plan: ProcessPlan) -> None:
        """See `Sandbox.start`."""
        self._last_number += 1
        number = self._last_number
        if self._is_ended or self._closing is not None:
            self._loop.call_soon(self._watcher.process_failed, plan.name, errno.ECANCELED)
            return
        try:
            order = messages.start(
                number,
                argv=plan.argv,
                env=plan.env,
                cwd=plan.cwd,
                limits=self._limits,
                uid=self._habitat.uid,
                gid=self._habitat.gid,
            )
            self._channel.send(order, [plan.output, plan.error, *plan.passed])
        except OSError as error:
            self._loop.call_soon(self._watcher.process_failed, plan.name, error.errno or errno.EIO)
        else:
            self._waiting[number] = plan.name

    def kill(self, name: str, signal: int) -> None:
        """See `Sandbox.kill`; what is frozen gets it when it is thawed."""
        numbers = [number for number, each in self._waiting.items() if each == name]
        numbers += [number for number, (each, _) in self._running.items() if each == name]
        for number in numbers:
            self._channel.send(messages.kill(number, signal))

    def kill_all(self) -> None:
        """See `Sandbox.kill_all`; what is frozen is thawed, or it might not die."""
        if self._is_ended or self._closing is not None:
            self._loop.call_soon(self._watcher.emptied)
            return
        self._empties.append(None)
        self._channel.send(messages.KILL_ALL)
        self.thaw()

    def freeze(self) -> None:
        """See `Sandbox.freeze`."""
        if self._is_frozen or self._is_ended:
            return
        self._is_frozen = True
        if self._has_freezer:
            self._group.freeze()
        else:
            self._channel.send(messages.FREEZE)

    def thaw(self) -> None:
        """See `Sandbox.thaw`."""
        if not self._is_frozen:
            return
        self._is_frozen = False
        if self._has_freezer:
            self._group.thaw()
        elif not self._is_ended:
            # Signals have arrived when the answer is there, not before.
            self._channel.ask(messages.THAW, messages.Thawed)

    def memory_peak_bytes(self) -> int:
        """See `Sandbox.memory_peak_bytes`; without a memory cgroup only the moments of the calls are seen."""
        if self._group.has_memory:
            peak_bytes = self._group.memory_peak_bytes()
            # What a kernel of its own needs besides is none of the function's.
            return min(peak_bytes, self._plan.memory_mib << 20) if self._has_own_kernel else peak_bytes
        # Born in the group, remora-init is frozen with it and cannot answer.
        is_able = not self._is_ended and not (self._is_frozen and self._group.birthplace)
        measured = self._channel.ask(messages.MEASURE, messages.Measured) if is_able else None
        if measured is not None:
            self._sampled_bytes = max(self._sampled_bytes, measured.memory_kib * 1024)
        return self._sampled_bytes

    async def make_socket(self) -> socket.socket:
        """See `Sandbox.make_socket`."""
        if self._is_ended or self._closing is not None:
            raise ConnectionResetError(f"sandbox {self._plan.name} has ended")
        if self._has_own_kernel:
            await asyncio.sleep(0)  # who is cancelled gets none
            return in_network(self._init.network, new_socket)
        made: asyncio.Future[socket.socket] = self._loop.create_future()
        self._sockets.append(made)
        self._channel.send(messages.MAKE_SOCKET)
        try:
            return await made
        except asyncio.CancelledError:
            if made.done() and not made.cancelled() and made.exception() is None:
                made.result().close()
            raise

    # ---- reports

    def _hear(self, report: messages.Report) -> None:
        match report:
            case messages.Started(number, pid):
                name = self._waiting.pop(number)
                self._running[number] = (name, pid)
                self._watcher.process_started(name, pid)
            case messages.Failed(number, reason):
                self._watcher.process_failed(self._waiting.pop(number), reason)
            case messages.Exited(number, how):
                name, _ = self._running.pop(number)
                self._watcher.process_exited(name, self._with_cause(how))
            case messages.Emptied():
                self._answer_empty(self._empties.popleft())
            case messages.SocketMade(reason, descriptor):
                self._answer_socket(reason, descriptor)
            case messages.Refused(first):
                _log.error("sandbox %s: remora-init refused an order %r", self._plan.name, bytes([first]))
            case messages.Thawed() | messages.Measured() | messages.Hello():
                pass

    def _with_cause(self, how: Exit) -> Exit:
        """Tell a process that was killed for the memory of all from others that were killed."""
        if how.signal != signals.SIGKILL:
            return how
        kills, self._memory_kills = self._memory_kills, self._group.memory_kills()
        return replace(how, is_out_of_memory=self._memory_kills > kills)

    def _answer_empty(self, asked: asyncio.Future[None] | None) -> None:
        if asked is None:
            self._watcher.emptied()
        elif not asked.done():
            asked.set_result(None)

    def _answer_socket(self, reason: int, descriptor: int) -> None:
        asked = self._sockets.popleft()
        if reason:
            if not asked.done():
                asked.set_exception(OSError(reason, "remora-init could not make a socket"))
            return
        made = socket.socket(fileno=descriptor)
        made.setblocking(False)  # noqa: FBT003 - the library's own
        if asked.done():
            made.close()  # whoever asked was cancelled
        else:
            asked.set_result(made)

    # ---- the end

    @property
    def plan(self) -> SandboxPlan:
        """What it was made from."""
        return self._plan

    @property
    def pid(self) -> int:
        """Number of its pid 1 as this process sees it."""
        return self._init.pid

    async def let_go(self) -> tuple[tuple[int, str, int], ...]:
        """
        Have pid 1 go on alone, thawed and without anything of this process's; only `close` may follow.

        Returns:
            Number, name and pid of what runs.

        Raises:
            ConnectionResetError: If it has ended.

        **Cancellation:** it goes on alone all the same.
        """
        if self._is_ended or self._closing is not None:
            raise ConnectionResetError(f"sandbox {self._plan.name} has ended")
        self._let_go = self._loop.create_future()
        self.thaw()
        self._channel.send(messages.LET_GO)
        await self._let_go
        return tuple((number, name, pid) for number, (name, pid) in self._running.items())

    def _end(self) -> None:
        """Remora-init has let go: it is dying, and with it everything in its pid namespace. Wait for that."""
        self._is_ended = True
        self._refuse_sockets()
        if self._is_frozen and self._has_freezer:
            self._is_frozen = False
            self._group.thaw()
        if self._let_go is not None and not self._let_go.done():
            self._let_go.set_result(None)
        elif self._closing is None:
            self._loop.add_reader(self._init.pid1, self._lost)
        else:
            self._answer_rest()

    def _refuse_sockets(self) -> None:
        while self._sockets:
            asked = self._sockets.popleft()
            if not asked.done():
                asked.set_exception(ConnectionResetError(f"sandbox {self._plan.name} has ended"))

    def _lost(self) -> None:
        self._loop.remove_reader(self._init.pid1)
        self._kill_orphans()
        self._report_rest()
        self._watcher.sandbox_lost(f"pid 1 of sandbox {self._plan.name} ended unasked")

    def _kill_orphans(self) -> None:
        """Without a pid namespace processes can survive pid 1: kill those that can still be found."""
        if self._habitat.is_isolated:
            return
        for _, pid in self._running.values():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, signals.SIGKILL)
        for pid in self._group.pids():
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signals.SIGKILL)

    def _report_rest(self) -> None:
        """Nothing runs any more: say so of everything that was not reported yet."""
        waiting, running = list(self._waiting.values()), list(self._running.values())
        self._waiting.clear()
        self._running.clear()
        for name in waiting:
            self._watcher.process_failed(name, errno.ECANCELED)
        how = self._with_cause(KILLED) if running else KILLED
        for name, _ in running:
            self._watcher.process_exited(name, how)
        self._answer_rest()

    def _answer_rest(self) -> None:
        while self._empties:
            self._answer_empty(self._empties.popleft())

    async def close(self) -> None:
        """See `Sandbox.close`."""
        if self._closing is None:
            self._closing = self._estate.tasks.spawn(self._close(), f"close sandbox {self._plan.name}")
        await uncancelled(self._closing)

    async def _close(self) -> None:
        is_empty = None if self._is_ended else self._order_empty()
        async with self._estate.turn:
            await self._end_all(is_empty)
        self._report_rest()
        await in_thread(remove_tree, self._plan.directory)
        await self._estate.forget()

    async def _end_all(self, is_empty: asyncio.Future[None] | None) -> None:
        """Wait until all is dead and the cgroups are gone; how long that may take counts from now."""
        if is_empty is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(EMPTY_WAIT_S):
                    await is_empty
        self._is_ended = True
        self._channel.close()
        self._refuse_sockets()
        self._loop.remove_reader(self._init.pid1)
        self._kill_orphans()
        if not await self._init.stop():
            _log.error("sandbox %s: pid 1 (%d) does not end", self._plan.name, self._init.pid)
        if not await self._group.remove():
            _log.error("sandbox %s: its cgroups could not be removed", self._plan.name)

    def _order_empty(self) -> asyncio.Future[None]:
        """Have everything killed by remora-init, so that every exit is reported as it was."""
        is_empty = self._loop.create_future()
        self._empties.append(is_empty)
        self._channel.send(messages.KILL_ALL)
        self.thaw()
        return is_empty
