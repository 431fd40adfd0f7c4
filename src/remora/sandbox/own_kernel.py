"""
Sandboxes with a kernel of their own (gVisor's): what cannot be handed out of them is made outside.

Remora-init can take descriptors of the host there, but give none away. So it is the platform that listens for
remora-init; and the listener of the environment's APIs and the sockets that reach inside are made by a thread
that enters the sandbox's network for a moment. What processes inside open are sockets of that same network
(`runsc --network=host`, in a network namespace of its own), where both meet.

To the host such a sandbox is a few processes: the runtime, which is our child; the kernel, without which
nothing is left; and one that opens files for it.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from remora.sandbox.base import SandboxError
from remora.sandbox.launch import LISTEN_BACKLOG, START_WAIT_S, Init, bind, receive_hello
from remora.sandbox.messages import MESSAGE_BYTES_MAX
from remora.sandbox.waiting import open_process, readable

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.sandbox.base import Network
    from remora.sandbox.cgroups import SandboxGroup
    from remora.sandbox.launch import Child

OPTIONS = ("--network=host", "--host-uds=open", "--ignore-cgroups")
"""Of `runsc`: sockets are those of the network that it is in, and the control socket can be connected to."""
_CLONE_NEWNET = 0x40000000
_KERNEL = b"boot"
"""The argument that tells gVisor's kernel from its other processes."""

Made = TypeVar("Made")


def has_own_kernel(program: str) -> bool:
    """Tell whether an OCI runtime, a program's path, is gVisor's."""
    return Path(program).name.startswith("runsc")


def surrounded(command: Sequence[str], launcher: Path, group: SandboxGroup, network: Network) -> list[str]:
    """
    Return the command by which the runtime finds itself where other sandboxes' processes go one by one.

    Args:
        command: The runtime's, in the network `nat` already if it is to have that.
        launcher: Remora-init.
        group: The sandbox's cgroups; its kernel has to join those of version 1.
        network: The sandbox's.
    """
    words = [str(launcher), "--leash", "--"]
    for directory in sorted(group.joined - {group.freezer_of_v1}):
        words += [str(launcher), "--enter", str(directory), "--"]
    if network == "none":
        words += [str(launcher), "--alone", "--"]
    return [*words, *command]


class Meeting:
    """
    Where the platform waits for a remora-init that cannot be connected to.

    Args:
        port: Where the APIs are to be inside; 0: at any free port.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self._door: socket.socket | None = None

    def open(self, control: Path) -> None:
        """
        Listen in `control`, a directory whose path may be of any length.

        Raises:
            OSError: If there can be no socket.
        """
        self._door = bind(control)
        self._door.setblocking(False)  # noqa: FBT003 - the library's own
        self._door.listen(1)

    def close(self) -> None:
        """Wait for nobody any more. Repeated calls: no effect."""
        if self._door is not None:
            self._door.close()

    async def greet(self, child: Child, _control: Path) -> Init:
        """
        Meet the remora-init below `child`; see `remora.sandbox.launch.launch`.

        Raises:
            SandboxError: If it did not come.
        """
        assert self._door is not None, "it is opened before anybody is started who comes"
        with contextlib.ExitStack() as undo:
            if not await readable(self._door.fileno(), within_s=START_WAIT_S):
                raise SandboxError("remora-init did not connect", retryable=True)
            connection, _ = self._door.accept()
            undo.callback(connection.close)
            connection.setblocking(False)  # noqa: FBT003 - the library's own
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE_BYTES_MAX)
            pid = _kernel_of(child.pid)
            pid1 = None if pid is None else open_process(pid)
            if pid is None or pid1 is None:
                raise SandboxError("the sandbox's kernel ended as soon as it had started", retryable=True)
            undo.callback(os.close, pid1)
            await receive_hello(connection)
            network = os.open(f"/proc/{child.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
            undo.callback(os.close, network)
            listener = in_network(network, self._listen)
            undo.pop_all()
            self.close()
            port: int = listener.getsockname()[1]
            return Init(child, pid1, pid, connection, listener, port, network)

    def _listen(self) -> socket.socket:
        listener = new_socket()
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(("127.0.0.1", self._port))
            listener.listen(LISTEN_BACKLOG)
        except BaseException:
            listener.close()
            raise
        return listener


def new_socket() -> socket.socket:
    """Make a TCP socket, non-blocking."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)


def in_network(network: int, make: Callable[[], Made]) -> Made:
    """
    Call `make`, which does not wait, in the network namespace `network`; takes a tenth of a millisecond.

    The thread that enters the namespace ends with that: no other code ever runs in it.

    Raises:
        OSError: If it cannot be entered, `make` failed so, or the machine has no thread to give.
    """
    made: list[Made] = []
    failed: list[OSError] = []

    def enter() -> None:
        try:
            if ctypes.CDLL(None, use_errno=True).setns(network, _CLONE_NEWNET) != 0:
                number = ctypes.get_errno()
                raise OSError(number, os.strerror(number))  # noqa: TRY301 - the one place for both
            made.append(make())
        except OSError as error:
            failed.append(error)

    thread = threading.Thread(target=enter, name="in the network of a sandbox")
    try:
        thread.start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    thread.join()
    if failed:
        raise failed[0]
    return made[0]


def _kernel_of(pid: int) -> int | None:
    """Return the process that is the kernel of the sandbox whose runtime is `pid`."""
    for task in Path(f"/proc/{pid}/task").iterdir():
        with contextlib.suppress(OSError):
            for number in (task / "children").read_text().split():
                if _KERNEL in Path(f"/proc/{number}/cmdline").read_bytes().split(b"\0"):
                    return int(number)
    return None
