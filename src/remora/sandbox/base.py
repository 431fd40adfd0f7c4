"""
The door to sandboxes: what a driver must do, whatever it wraps.

A *sandbox* is pid 1 (`remora-init`) and everything below it. Its life:

1. `SandboxDriver.create` makes it. When it returns, pid 1 runs, the listener for the environment's APIs
   exists inside the sandbox and is held by this process, and no other process has been started.
2. `Sandbox.start` starts processes. It never waits: what became of a start arrives at the watcher.
3. `Sandbox.kill` and `Sandbox.kill_all` end them. Every process that was started is reported exactly once,
   as started and later exited, or as failed.
4. `Sandbox.close` ends everything and removes every trace: processes, cgroup, mounts, directory. It returns
   only when all of it is gone. Closing twice is allowed.

All methods but `create`, `close` and `sweep` are plain calls that return at once; watchers are called from
the event loop, never from within a call of the sandbox itself.
A sandbox whose pid 1 dies unasked is *lost*: the watcher hears `sandbox_lost` once, after the exits of all
its processes, and `close` must still be called.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, Protocol

if TYPE_CHECKING:
    import socket
    from collections.abc import Mapping
    from pathlib import Path

Network = Literal["none", "nat", "host"]


class SandboxError(Exception):
    """
    A sandbox could not be made or was lost.

    Args:
        message: What was attempted, on what, and what to do.
        retryable: True if another try may succeed (the machine was short of something for a moment).
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


@dataclass(frozen=True, slots=True)
class Mount:
    """One directory of the host that is seen, read-only, at `target` inside."""

    source: Path
    target: str


@dataclass(frozen=True, slots=True)
class Paths:
    """Where Lambda's directories are for the processes inside; not the defaults only without isolation."""

    task: str = "/var/task"
    opt: str = "/opt"
    runtime: str = "/var/runtime"
    lang: str = "/var/lang"
    tmp: str = "/tmp"  # noqa: S108 - the path that AWS documents

    def translate(self, text: str) -> str:
        """Rewrite Lambda's directory names in `text` (a path or a search path) to where they really are."""
        defaults = Paths()
        if self == defaults:
            return text
        pairs = (
            (defaults.task, self.task),
            (defaults.opt, self.opt),
            (defaults.runtime, self.runtime),
            (defaults.lang, self.lang),
            (defaults.tmp, self.tmp),
        )
        parts = text.split(":")
        for number, part in enumerate(parts):
            for inside, real in pairs:
                if part == inside or part.startswith(inside + "/"):
                    parts[number] = real + part[len(inside) :]
                    break
        return ":".join(parts)


@dataclass(frozen=True, slots=True)
class SandboxPlan:
    """
    Everything a driver needs to make one sandbox.

    Args:
        name: Unique on this machine, `[a-z0-9-]`, at most 40 characters; names cgroups and directories.
        directory: The sandbox's private directory; does not exist yet, its parent does; the driver makes and
            removes it.
        mounts: Read-only directories: /var/task, /opt, /var/runtime, /var/lang as far as there are any.
        memory_mib: The function's memory size, MiB; the limit of the whole sandbox.
        network: `none`: only loopback inside; `nat`: an address of its own, outwards through the host, and
            neither the host itself, other sandboxes nor link-local addresses; `host`: the host's network.
        ephemeral_mib: Size of /tmp, MiB.
    """

    name: str
    directory: Path
    mounts: tuple[Mount, ...]
    memory_mib: int
    network: Network = "none"
    ephemeral_mib: int = 512


@dataclass(frozen=True, slots=True)
class ProcessPlan:
    """
    One process to start inside, leader of its own process group, standard input at end of file.

    Args:
        name: Unique among the living processes of the sandbox.
        argv: The program's path (inside) and its arguments.
        env: The complete environment.
        cwd: The working directory (inside).
        output: A descriptor for standard output; the sandbox takes copies of this and the following before
            `start` returns, the caller keeps and closes its own.
        error: A descriptor for standard error; may be the same.
        passed: Descriptors that the process is to have as 3, 4, ...; at most 6.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    output: int
    error: int
    passed: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: `code` or `signal`, never both; and what it used."""

    code: int | None
    signal: int | None
    cpu_us: int = 0
    memory_peak_kib: int = 0
    is_out_of_memory: bool = False
    """True if it was killed because the sandbox had used up its memory; known only with a memory cgroup."""


class Watcher(Protocol):
    """Who is told what happens inside a sandbox."""

    def process_started(self, name: str, pid: int) -> None:
        """The program was executed; `pid` is its number inside the sandbox."""

    def process_failed(self, name: str, errno: int) -> None:
        """The program could not be executed, for the reason `errno`."""

    def process_exited(self, name: str, how: Exit) -> None:
        """The process ended and was reaped (its children may live on until `kill_all`)."""

    def emptied(self) -> None:
        """Answer to `kill_all`: nothing but pid 1 is left, and all exits have been reported."""

    def sandbox_lost(self, reason: str) -> None:
        """Pid 1 ended unasked; nothing runs any more."""


class Sandbox(Protocol):
    """One living sandbox."""

    @property
    def listener(self) -> socket.socket:
        """Listening TCP socket inside the sandbox's network, non-blocking; closed by `close`."""

    @property
    def api_address(self) -> str:
        """`host:port` of the listener as processes inside see it."""

    @property
    def paths(self) -> Paths:
        """Where Lambda's directories are inside."""

    def start(self, plan: ProcessPlan) -> None:
        """Start a process; the watcher hears `process_started` or `process_failed`."""

    def kill(self, name: str, signal: int) -> None:
        """Send `signal` to the process group of `name`; the dead are passed over in silence."""

    def kill_all(self) -> None:
        """Kill (SIGKILL) every process but pid 1, whatever group it moved to; the watcher hears `emptied`."""

    def freeze(self) -> None:
        """Take the CPU from every process inside, in a moment. Repeated calls: no effect."""

    def thaw(self) -> None:
        """Give it back; when this returns, processes can run. Repeated calls: no effect."""

    def memory_peak_bytes(self) -> int:
        """Highest memory use of all processes together since the sandbox was made, bytes."""

    async def make_socket(self) -> socket.socket:
        """
        Make a TCP socket of the sandbox's network, non-blocking and unconnected.

        With it, whoever listens on a port inside can be reached. Ask only while it is not frozen.

        Raises:
            OSError: If the sandbox has ended, or is short of something.

        **Cancellation:** the socket is closed.
        """

    async def close(self) -> None:
        """
        End everything and remove every trace.

        **Cancellation:** shielded; the sandbox is gone all the same. Repeated calls: no effect.
        """


class NetworkPower(Protocol):
    """What a driver can do besides: give sandboxes the network policy `nat`."""

    def network_problems(self) -> tuple[str, ...]:
        """Try it; costs tens of milliseconds. Returns why it cannot be had here; empty if it can."""


class SandboxMaker(Protocol):
    """Makes sandboxes."""

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """See `SandboxDriver.create`."""


class SandboxDriver(Protocol):
    """Makes sandboxes of one kind."""

    @property
    def name(self) -> str:
        """The word that chooses this driver: `bubblewrap`, `process`."""

    def check(self) -> tuple[str, ...]:
        """
        Look whether this machine can run it; costs milliseconds.

        Returns:
            What will be missing here, one plain sentence each (limits that cannot be enforced, …); empty if
            all is well.

        Raises:
            SandboxError: If it cannot work at all, with what to install or change.
        """

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """
        Make a sandbox.

        Raises:
            SandboxError: If it could not be made; nothing of it is left behind.

        **Cancellation:** nothing of it is left behind.
        """

    async def sweep(self) -> int:
        """
        Remove what a dead predecessor with the same data directory left: processes, cgroups, directories.

        Returns:
            How many sandboxes were found and removed.
        """
