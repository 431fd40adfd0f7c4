"""Starts remora-init, inside bubblewrap, by an OCI runtime or bare, and shakes hands with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import struct
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

from remora.sandbox import messages
from remora.sandbox.base import SandboxError
from remora.sandbox.binary import init_program
from remora.sandbox.waiting import kill_process, open_process, readable

Greeting: TypeAlias = "Callable[[Child, Path], Awaitable[Init]]"

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from remora.kit.tasks import TaskSet

START_WAIT_S = 60.0
"""How long remora-init may take until it listens; also how long it waits for us."""
END_WAIT_S = 30.0
COMPLAINT_BYTES_MAX = 4096
CONTROL_SOCKET = "control.sock"
LISTEN_BACKLOG = 256
"""Connections that may wait for the environment's APIs; remora-init's own has the same."""
_ON_THE_WAY = (b"/bwrap", b"/remora-init", b"/runsc", b"runsc-sandbox", b"runsc-gofer")
_DESCRIPTOR = struct.Struct("i")
_CREDENTIALS = struct.Struct("iII")


@dataclass(frozen=True, slots=True)
class Child:
    """Our child process: bubblewrap's monitor, or remora-init itself; `pidfd` is owned by it."""

    pid: int
    pidfd: int

    async def reap(self) -> bool:
        """Wait until it has ended, killing it if that takes long, and collect it; False if it never does."""
        if not await readable(self.pidfd, within_s=END_WAIT_S):
            kill_process(self.pidfd)
            if not await readable(self.pidfd, within_s=END_WAIT_S):
                return False
        _collect(self.pid)
        os.close(self.pidfd)
        return True


@dataclass(frozen=True, slots=True)
class Init:
    """
    A running remora-init and what belongs to it; `stop` ends it.

    Args:
        child: Our child, above it or itself.
        pid1: pidfd of remora-init.
        pid: Number of remora-init as this process sees it.
        connection: The control connection, non-blocking.
        listener: The listening socket of the environment's APIs, non-blocking.
        port: Its port.
        network: Its network namespace if it has a kernel of its own, and sockets are made outside; else -1.
    """

    child: Child
    pid1: int
    pid: int
    connection: socket.socket
    listener: socket.socket
    port: int
    network: int = -1

    async def stop(self) -> bool:
        """
        End remora-init, and with it (in a pid namespace) all it started; wait, and reap.

        Returns:
            False if it would not end.
        """
        kill_process(self.pid1)
        is_gone = await readable(self.pid1, within_s=END_WAIT_S) and await self.child.reap()
        self.connection.close()
        self.listener.close()
        os.close(self.pid1)
        if self.network >= 0:
            os.close(self.network)
        return is_gone


def _collect(pid: int) -> None:
    """Take the exit status of a child that has ended, so that nothing of it is left; does not wait."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


async def shake_hands(child: Child, control: Path) -> Init:
    """
    Connect to the remora-init that listens in `control`.

    Raises:
        SandboxError: If it does not, or ends.
    """
    try:
        connection = connect(control)
    except OSError as error:
        raise SandboxError(f"remora-init does not listen: {error}", retryable=True) from error
    pid = peer_of(connection)[0]
    try:
        pid1 = open_process(pid)
    except OSError:
        connection.close()
        raise
    if pid1 is None:
        connection.close()
        raise SandboxError("remora-init ended as soon as it had started", retryable=True)
    try:
        report, listener = await receive_hello(connection)
    except BaseException:
        connection.close()
        os.close(pid1)
        raise
    if listener is None:
        connection.close()
        os.close(pid1)
        raise SandboxError("no listener came from remora-init: are all descriptors used up?", retryable=True)
    return Init(child, pid1, pid, connection, listener, report.port)


async def launch(
    argv: Sequence[str],
    control: Path,
    tasks: TaskSet,
    cgroup: Path | None = None,
    *,
    greet: Greeting = shake_hands,
    given: socket.socket | None = None,
) -> Init:
    """
    Start `argv`, wait until remora-init listens, connect.

    Args:
        argv: The command; its standard error is the pipe on which remora-init gets ready or complains.
        control: The directory (here) in which its control socket will appear; also its working directory.
        tasks: Where it is cleaned up after a failure, so that nobody's cancellation stops that.
        cgroup: The group of version 2 in which it is to be born; None: where this process is.
        greet: How platform and remora-init find each other.
        given: The control socket, if it is to be handed over as standard input; stays the caller's.

    Raises:
        SandboxError: If it did not come up; nothing of it runs any more.

    **Cancellation:** as for an error.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)
    ready = ReadyPipe(read_end, Path(argv[0]).name)
    child: Child | None = None
    try:
        try:
            stdio = (given.fileno() if given else subprocess.DEVNULL, write_end)
            child = spawn(argv, control, stdio, cgroup)
        finally:
            os.close(write_end)
        if cgroup is not None:
            launcher, child = child, None
            child = await sibling_of(launcher, ready)
        await ready.until(b"\0")
        return await greet(child, control)
    except BaseException:
        if child is not None:
            await uncancelled(tasks.spawn(_abandon(child, ready, control), f"abandon {argv[0]}"))
        raise
    finally:
        os.close(read_end)


async def _abandon(child: Child, ready: ReadyPipe, control: Path) -> None:
    """Leave nothing of a start that failed, at whatever point it was."""
    kill_process(child.pidfd)
    await child.reap()
    kill_stragglers(control.parent)
    # Whoever is on the way to become pid 1 holds the other end of the pipe; pid 1 itself listens.
    await ready.until_closed()
    await finish_leftover(control)


class ReadyPipe:
    """What bubblewrap and remora-init say before there is a connection; `descriptor` stays the caller's."""

    def __init__(self, descriptor: int, program: str) -> None:
        self._descriptor = descriptor
        self._program = program
        self._said = b""

    async def until(self, end: bytes) -> bytes:
        """
        Return what is said up to the byte `end`.

        Raises:
            SandboxError: If something else is said last, or nothing for too long.
        """
        while end not in self._said:
            if not await readable(self._descriptor, within_s=START_WAIT_S):
                raise SandboxError(
                    f"{self._program} was not ready within {START_WAIT_S:.0f} s", retryable=True
                )
            try:
                part = os.read(self._descriptor, COMPLAINT_BYTES_MAX)
            except BlockingIOError:
                continue
            self._said += part
            if not part or len(self._said) > COMPLAINT_BYTES_MAX:
                reason = self._said.decode(errors="replace").strip() or "it ended without a word"
                raise SandboxError(f"{self._program} could not make the sandbox: {reason}", retryable=True)
        before, _, self._said = self._said.partition(end)
        return before

    async def until_closed(self) -> None:
        """Wait until nobody is left who could say anything, but not for ever."""
        while await readable(self._descriptor, within_s=END_WAIT_S):
            with contextlib.suppress(BlockingIOError):
                if not os.read(self._descriptor, COMPLAINT_BYTES_MAX):
                    return


def bind(control: Path) -> socket.socket:
    """
    Make the control socket in `control`, for a remora-init that is handed it and listens.

    Raises:
        OSError: If it cannot be made.
    """
    made = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_CLOEXEC)
    try:
        with _short_name(control) as directory:
            made.bind(f"{directory}/{CONTROL_SOCKET}")
    except BaseException:
        made.close()
        raise
    return made


@contextlib.contextmanager
def _short_name(path: Path) -> Iterator[str]:
    """Give a directory a short name: the path of a unix socket has room for little."""
    directory = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}"
    finally:
        os.close(directory)


def _popen(
    argv: Sequence[str], control: Path, stdio: tuple[int, int], *passed: int
) -> subprocess.Popen[bytes]:
    """Start a command with these as standard input and error."""
    try:
        return subprocess.Popen(
            argv,
            stdin=stdio[0],
            stdout=subprocess.DEVNULL,
            stderr=stdio[1],
            cwd=control,
            env={},
            pass_fds=passed,
            # A Ctrl-C on the terminal is for the platform, which then ends every environment in order.
            start_new_session=True,
        )
    except OSError as error:
        raise SandboxError(f"cannot start {argv[0]}: {error}", retryable=True) from error


def _own(process: subprocess.Popen[bytes]) -> Child:
    # From now on it is collected through the child; the library must not wonder why it was forgotten.
    process.returncode = 0
    return watch(process.pid)


def watch(pid: int) -> Child:
    """Hold a child of this process; one that cannot be held is ended."""
    try:
        return Child(pid, os.pidfd_open(pid))
    except OSError as error:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        raise SandboxError(f"cannot watch a process: {error}", retryable=True) from error


def spawn(
    argv: Sequence[str], directory: Path, stdio: tuple[int, int], cgroup: Path | None, *passed: int
) -> Child:
    """
    Start a command.

    Args:
        argv: The command.
        directory: Where it works.
        stdio: Its standard input and error.
        cgroup: The group of version 2 in which it is to be born: a launcher is started, see `sibling_of`.
        passed: Descriptors that it is to have under the same numbers.

    Raises:
        SandboxError: If it cannot be started.
    """
    if cgroup is None:
        return _own(_popen(argv, directory, stdio, *passed))
    group = os.open(cgroup, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        words = [str(init_program()), "--into", str(group), "--", *argv]
        return _own(_popen(words, directory, stdio, group, *passed))
    finally:
        os.close(group)


async def sibling_of(launcher: Child, ready: ReadyPipe) -> Child:
    """
    Return the child that the launcher has made for us; the launcher ends at once.

    Raises:
        SandboxError: If there is none.
    """
    try:
        said = await ready.until(b"\n")
    finally:
        await launcher.reap()
    word, _, number = said.partition(b" ")
    if word != b"pid":
        raise SandboxError(
            f"cannot start a process in its cgroup: {said.decode(errors='replace')}", retryable=True
        )
    return watch(int(number))


async def receive_hello(connection: socket.socket) -> tuple[messages.Hello, socket.socket | None]:
    """
    Return remora-init's first report, and the listener that came with it, non-blocking.

    Raises:
        SandboxError: If it said something else, or nothing.
    """
    if not await readable(connection.fileno(), within_s=START_WAIT_S):
        raise SandboxError("remora-init was silent after it had started", retryable=True)
    descriptors: list[int] = []
    try:
        # Not socket.recv_fds: it forgets its flags, and whatever we start would inherit the listener.
        said, extras, _, _ = connection.recvmsg(
            messages.REPORT_BYTES_MAX, socket.CMSG_LEN(_DESCRIPTOR.size), socket.MSG_CMSG_CLOEXEC
        )
        descriptors += [_DESCRIPTOR.unpack(data)[0] for _, _, data in extras]
        report = messages.read(said)
    except (OSError, ValueError) as error:
        for descriptor in descriptors:
            os.close(descriptor)
        raise SandboxError(f"remora-init did not introduce itself: {error}", retryable=True) from error
    listener = socket.socket(fileno=descriptors[0]) if descriptors else None
    if listener is not None:
        listener.setblocking(False)  # noqa: FBT003 - the library's own
    if not isinstance(report, messages.Hello):
        if listener is not None:
            listener.close()
        raise SandboxError(f"remora-init began with {report!r}: install anew")
    return report, listener


def connect(control: Path) -> socket.socket:
    """
    Connect to the remora-init whose control socket is in `control`; the path may be of any length.

    Raises:
        OSError: If nobody listens there.
    """
    connection = socket.socket(
        socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    )
    try:
        with _short_name(control) as directory:
            connection.connect(f"{directory}/{CONTROL_SOCKET}")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, messages.MESSAGE_BYTES_MAX)
    except BaseException:
        connection.close()
        raise
    return connection


def peer_of(connection: socket.socket) -> tuple[int, int, int]:
    """Return pid, uid and gid (as seen from here) of whoever listened for `connection`."""
    packed = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, uid, gid = _CREDENTIALS.unpack(packed)
    return pid, uid, gid


async def finish_leftover(control: Path) -> bool:
    """
    End the remora-init of a dead node that still listens in `control`, if there is one.

    Returns:
        True if none is left.
    """
    try:
        connection = connect(control)
    except OSError:
        return True
    with contextlib.closing(connection):
        pid = peer_of(connection)[0]
        # Where a sandbox has a kernel of its own, it is we who listen.
        pid1 = None if pid == os.getpid() else open_process(pid)
    if pid1 is None:
        return True
    try:
        # Closing our connection makes it leave, killing everything below it.
        if not await readable(pid1, within_s=END_WAIT_S):
            kill_process(pid1)
        return await readable(pid1, within_s=END_WAIT_S)
    finally:
        os.close(pid1)


def kill_stragglers(directory: Path) -> None:
    """
    Kill what was on the way to become the pid 1 of the sandbox in `directory`.

    Bubblewrap's child waits for its parent before it does anything; if the parent is killed in that moment,
    before the child has asked to die with it, the child waits for ever. It is known by its command line.
    """
    marker = os.fsencode(directory) + b"/"
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with contextlib.suppress(OSError):
                program, _, rest = (entry / "cmdline").read_bytes().partition(b"\0")
                if program.endswith(_ON_THE_WAY) and marker in rest:
                    os.kill(int(entry.name), signal.SIGKILL)


async def uncancelled(work: asyncio.Future[Any]) -> None:
    """Await `work` to its end even if this task is cancelled; the cancellation is raised afterwards."""
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.shield(work)
        except asyncio.CancelledError as error:
            if work.cancelled():
                raise
            cancelled = error
    if cancelled is not None:
        raise cancelled
    work.result()
