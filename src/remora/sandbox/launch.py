"""Starts remora-init, inside bubblewrap or bare, and shakes hands with it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.sandbox import messages
from remora.sandbox.base import SandboxError
from remora.sandbox.waiting import kill_process, open_process, readable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

START_WAIT_S = 10.0
"""How long remora-init may take until it listens; also how long it waits for us."""
END_WAIT_S = 5.0
COMPLAINT_BYTES_MAX = 4096
CONTROL_SOCKET = "control.sock"
_CREDENTIALS = struct.Struct("iII")


@dataclass(slots=True)
class Init:
    """
    A running remora-init and what belongs to it; `stop` ends it.

    Args:
        process: Our child: bubblewrap's monitor, or remora-init itself.
        child: pidfd of `process`.
        pid1: pidfd of remora-init.
        pid: Number of remora-init as this process sees it.
        connection: The control connection, non-blocking.
        listener: The listening socket of the environment's APIs, non-blocking.
        port: Its port.
    """

    process: subprocess.Popen[bytes]
    child: int
    pid1: int
    pid: int
    connection: socket.socket
    listener: socket.socket
    port: int

    async def stop(self) -> bool:
        """
        End remora-init, and with it (in a pid namespace) all it started; wait, and reap.

        Returns:
            False if it would not end.
        """
        kill_process(self.pid1)
        is_gone = await readable(self.pid1, within_s=END_WAIT_S) and await reap(self.process, self.child)
        self.connection.close()
        self.listener.close()
        os.close(self.pid1)
        os.close(self.child)
        return is_gone


async def reap(process: subprocess.Popen[bytes], child: int) -> bool:
    """Wait until our child has ended, killing it if that takes long, and collect it; False if it never does."""
    if not await readable(child, within_s=END_WAIT_S):
        process.kill()
        if not await readable(child, within_s=END_WAIT_S):
            return False
    process.wait()
    return True


async def launch(argv: Sequence[str], control: Path) -> Init:
    """
    Start `argv`, wait until remora-init listens, connect.

    Args:
        argv: The command; standard error becomes the pipe on which it gets ready or complains.
        control: The directory (here) in which its control socket will appear; also its working directory.

    Raises:
        SandboxError: If it did not come up; nothing of it runs any more.

    **Cancellation:** as for an error.
    """
    read_end, write_end = os.pipe2(os.O_CLOEXEC)
    os.set_blocking(read_end, False)  # noqa: FBT003 - the library's own
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=write_end,
            cwd=control,
            env={},
            # A Ctrl-C on the terminal is for the platform, which then ends every environment in order.
            start_new_session=True,
        )
    except OSError as error:
        os.close(read_end)
        raise SandboxError(f"cannot start {argv[0]}: {error}", retryable=True) from error
    finally:
        os.close(write_end)
    child = os.pidfd_open(process.pid)
    try:
        await _until_ready(read_end, argv[0])
        return await _shake_hands(process, child, control)
    except BaseException:
        process.kill()
        await reap(process, child)
        os.close(child)
        raise
    finally:
        os.close(read_end)


async def _until_ready(read_end: int, program: str) -> None:
    """Read the pipe until the NUL that says all is well; anything else is a complaint."""
    said = b""
    while len(said) < COMPLAINT_BYTES_MAX:
        if not await readable(read_end, within_s=START_WAIT_S):
            raise SandboxError(f"{program} was not ready within {START_WAIT_S:.0f} s", retryable=True)
        try:
            part = os.read(read_end, COMPLAINT_BYTES_MAX)
        except BlockingIOError:
            continue
        said += part
        if said.endswith(b"\0"):
            return
        if not part:
            break
    reason = said.decode(errors="replace").strip() or "it ended without a word"
    raise SandboxError(f"{program} could not make the sandbox: {reason}", retryable=True)


async def _shake_hands(process: subprocess.Popen[bytes], child: int, control: Path) -> Init:
    connection = connect(control)
    pid1 = None
    try:
        pid, _, _ = peer_of(connection)
        pid1 = open_process(pid)
        if pid1 is None or not await readable(connection.fileno(), within_s=START_WAIT_S):
            raise SandboxError("remora-init ended or was silent after it had started", retryable=True)
        hello, descriptors, _, _ = socket.recv_fds(connection, messages.REPORT_BYTES_MAX, 1)
        listener = socket.socket(fileno=descriptors[0]) if descriptors else None
        report = messages.read(hello)
        if not isinstance(report, messages.Hello) or listener is None:
            raise SandboxError(f"remora-init began with {report!r} and no listener: install anew")
        listener.setblocking(False)
        return Init(process, child, pid1, pid, connection, listener, report.port)
    except BaseException as error:
        connection.close()
        if pid1 is not None:
            kill_process(pid1)
            os.close(pid1)
        if isinstance(error, OSError | ValueError):
            raise SandboxError(f"remora-init did not introduce itself: {error}", retryable=True) from error
        raise


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
        directory = os.open(control, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            connection.connect(f"/proc/self/fd/{directory}/{CONTROL_SOCKET}")
        finally:
            os.close(directory)
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
        pid1 = open_process(peer_of(connection)[0])
    if pid1 is None:
        return True
    try:
        # Closing our connection makes it leave, killing everything below it.
        if not await readable(pid1, within_s=END_WAIT_S):
            kill_process(pid1)
        return await readable(pid1, within_s=END_WAIT_S)
    finally:
        os.close(pid1)


async def uncancelled(work: asyncio.Future[None]) -> None:
    """Await `work` to its end even if this task is cancelled meanwhile; the cancellation is raised afterwards."""
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
