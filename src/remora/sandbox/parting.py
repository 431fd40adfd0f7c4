"""
Connections that lead out of a sandbox: broken off before its snapshot, for its copies could not share them.

Another process's socket is the same one here. Taken off its peer it has no address either, which would be
that of the original, where no copy ever is. Its owner's next use fails; a new connection works.

Source: pidfd_getfd(2); connect(2), "AF_UNSPEC".
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PIDFD_GETFD: Final = 438
_NOWHERE: Final = bytes(16)
"""A `struct sockaddr` of the family AF_UNSPEC."""
_INTERNET: Final = (socket.AF_INET, socket.AF_INET6)


def break_off(pid: int) -> None:
    """
    Break all connections off that lead out of a sandbox; nobody may run there meanwhile.

    Args:
        pid: Of its pid 1, as this process sees it.

    Raises:
        SandboxError: If something is bound to an address that no copy will have.
        OSError: If processes cannot be looked into; that takes root.
    """
    for each in _family(pid):
        for connection in _sockets_of(each):
            with connection:
                if connection.family in _INTERNET and _leads_out(connection):
                    _take_off(connection)


def _family(pid: int) -> Iterator[int]:
    """Go through a process and all its descendants."""
    yield pid
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in (thread / "children").read_text().split():
            yield from _family(int(child))


def _sockets_of(pid: int) -> Iterator[socket.socket]:
    pidfd = os.pidfd_open(pid)
    try:
        for entry in Path(f"/proc/{pid}/fd").iterdir():
            if str(entry.readlink()).startswith("socket:"):
                yield socket.socket(fileno=_shared(pidfd, int(entry.name)))
    finally:
        os.close(pidfd)


def _shared(pidfd: int, number: int) -> int:
    """Return a descriptor of what another process has open."""
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_GETFD, pidfd, number, 0)
    return _checked(descriptor)


def _leads_out(connection: socket.socket) -> bool:
    """Tell whether a socket has an address of the network's, rather than none or one of the loopback."""
    host = ipaddress.ip_address(connection.getsockname()[0])
    host = getattr(host, "ipv4_mapped", None) or host
    return not (host.is_loopback or host.is_unspecified)


def _take_off(connection: socket.socket) -> None:
    if not connection.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        library = ctypes.CDLL(None, use_errno=True)
        _checked(library.connect(connection.fileno(), _NOWHERE, len(_NOWHERE)))
    if _leads_out(connection):
        host, port = connection.getsockname()[:2]
        raise SandboxError(f"a socket is bound to {host}, port {port}, an address that no copy has")


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno() or errno.EPERM
        raise OSError(number, os.strerror(number))
    return result
