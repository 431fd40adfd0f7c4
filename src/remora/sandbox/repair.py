"""
The host's half of a TCP connection, taken apart for a snapshot of the other half, and made anew for a copy.

Both ends of a connection to an environment's APIs are in the environment's own network; that of the processes
is CRIU's to keep, the other is this process's. A socket in repair mode says nothing to its peer, whatever is
done with it: it can be closed without a word, and another one be given the same sequence numbers.

Source: Linux, Documentation/networking/tcp_repair (criu.org, "TCP connection"); include/uapi/linux/tcp.h.
"""

from __future__ import annotations

import fcntl
import socket
import struct
import termios
from typing import Final

import msgspec

from remora.sandbox.base import SandboxError

_REPAIR: Final = 19
_REPAIR_QUEUE: Final = 20
_QUEUE_SEQ: Final = 21
_REPAIR_OPTIONS: Final = 22
_TIMESTAMP: Final = 24
_REPAIR_WINDOW: Final = 29
_NO_QUEUE, _RECV_QUEUE, _SEND_QUEUE = 0, 1, 2
_OPTION_MSS, _OPTION_WINDOW, _OPTION_SACK, _OPTION_TIMESTAMP = 2, 3, 4, 8
_HAS_TIMESTAMP, _HAS_SACK, _HAS_WINDOW_SCALE = 1, 2, 4
_WINDOW_BYTES: Final = 20
_INFO_BYTES: Final = 8
_SIOCOUTQ: Final = termios.TIOCOUTQ
_WORD = struct.Struct("@I")
_PAIR = struct.Struct("@II")


class TcpState(msgspec.Struct, frozen=True):
    """What makes a socket this one: its addresses, its place in both streams, what was agreed on."""

    own: tuple[str, int]
    peer: tuple[str, int]
    received: int
    sent: int
    options: int
    window_scales: tuple[int, int]
    """The peer's and our own."""
    segment_bytes_max: int
    window: bytes
    timestamp: int


def take_apart(connection: socket.socket) -> TcpState:
    """
    Return what makes `connection` what it is; from now on it says nothing, and can be closed in silence.

    Raises:
        SandboxError: If something is under way on it: what was read or written could be lost.
        OSError: If repair mode is refused; it takes the capability CAP_NET_ADMIN.
    """
    # What came is acknowledged now: sent again to nobody, it would break the peer's half.
    _set(connection, socket.TCP_QUICKACK, 1)
    _set(connection, _REPAIR, 1)
    unread = _WORD.unpack(fcntl.ioctl(connection, termios.FIONREAD, bytes(_WORD.size)))[0]
    if unread or unsent_bytes(connection.fileno()):
        _set(connection, _REPAIR, 0)
        raise SandboxError("something is under way on a connection to the environment", retryable=True)
    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO_BYTES)
    return TcpState(
        connection.getsockname(),
        connection.getpeername(),
        received=_sequence(connection, _RECV_QUEUE),
        sent=_sequence(connection, _SEND_QUEUE),
        options=info[5],
        window_scales=(info[6] & 15, info[6] >> 4),
        segment_bytes_max=connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG),
        window=connection.getsockopt(socket.IPPROTO_TCP, _REPAIR_WINDOW, _WINDOW_BYTES),
        timestamp=_WORD.unpack(connection.getsockopt(socket.IPPROTO_TCP, _TIMESTAMP, _WORD.size))[0],
    )


def unsent_bytes(descriptor: int) -> int:
    """Return how much of what was written to a connection its peer has not acknowledged."""
    number: int = _WORD.unpack(fcntl.ioctl(descriptor, _SIOCOUTQ, bytes(_WORD.size)))[0]
    return number


def put_together(state: TcpState) -> socket.socket:
    """
    Make the socket again, in the network of the calling thread; it stays silent until `speak`.

    Raises:
        OSError: If repair mode is refused, or the addresses do not exist here.
    """
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        _set(made, _REPAIR, 1)
        for queue, number in ((_RECV_QUEUE, state.received), (_SEND_QUEUE, state.sent)):
            _set(made, _REPAIR_QUEUE, queue)
            made.setsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, _WORD.pack(number))
        made.bind(state.own)
        made.connect(state.peer)
        _set(made, _REPAIR_QUEUE, _NO_QUEUE)
        made.setsockopt(socket.IPPROTO_TCP, _REPAIR_OPTIONS, _agreed(state))
        if state.options & _HAS_TIMESTAMP:
            made.setsockopt(socket.IPPROTO_TCP, _TIMESTAMP, _WORD.pack(state.timestamp))
        made.setsockopt(socket.IPPROTO_TCP, _REPAIR_WINDOW, state.window)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except BaseException:
        made.close()
        raise
    return made


def speak(connection: socket.socket) -> None:
    """Let a socket that was put together be an ordinary one; its peer must be there by now."""
    _set(connection, _REPAIR, 0)


def _agreed(state: TcpState) -> bytes:
    agreed = _PAIR.pack(_OPTION_MSS, state.segment_bytes_max)
    if state.options & _HAS_WINDOW_SCALE:
        theirs, ours = state.window_scales
        agreed += _PAIR.pack(_OPTION_WINDOW, theirs | ours << 16)
    if state.options & _HAS_SACK:
        agreed += _PAIR.pack(_OPTION_SACK, 0)
    if state.options & _HAS_TIMESTAMP:
        agreed += _PAIR.pack(_OPTION_TIMESTAMP, 0)
    return agreed


def _set(connection: socket.socket, option: int, value: int) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, option, value)


def _sequence(connection: socket.socket, queue: int) -> int:
    _set(connection, _REPAIR_QUEUE, queue)
    number: int = _WORD.unpack(connection.getsockopt(socket.IPPROTO_TCP, _QUEUE_SEQ, _WORD.size))[0]
    return number
