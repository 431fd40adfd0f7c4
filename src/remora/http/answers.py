"""The bytes of answers: status lines, headers, the `Date` of this second."""

from __future__ import annotations

from email.utils import formatdate
from http import HTTPStatus
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remora.http.exchange import Header
    from remora.kit.clock import Clock

STATUS_LINES: dict[int, bytes] = {
    status.value: f"HTTP/1.1 {status.value} {status.phrase}\r\n".encode() for status in HTTPStatus
}
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LAST_CHUNK = b"0\r\n\r\n"

_HEADS_MAX = 256
_heads: dict[tuple[int, tuple[Header, ...]], bytes] = {}
_LENGTH_LINES = tuple(b"Content-Length: %d\r\n" % length for length in range(512))


def has_no_body(status: int) -> bool:
    """Tell whether an answer with this status never has a body (RFC 9110, 6.4.1)."""
    return status < 200 or status in {204, 304}


def block(first: bytes, headers: Iterable[Header]) -> bytes:
    """
    Join a first line (with its line break, or empty) and headers; the empty line at the end is not added.

    Raises:
        ValueError: If a name or value contains a line break: it would let its author write headers.
    """
    lines = [b"%b: %b\r\n" % header for header in headers]
    joined = first + b"".join(lines)
    breaks = len(lines) + (1 if first else 0)
    if joined.count(b"\n") != breaks or joined.count(b"\r") != breaks:
        raise ValueError(f"a header of an answer contains a line break: {joined!r}")
    return joined


def status_line(status: int) -> bytes:
    """Return the first line of an answer, with its line break."""
    return STATUS_LINES.get(status) or b"HTTP/1.1 %d \r\n" % status


def head(status: int, headers: Iterable[Header] | bytes) -> bytes:
    """
    Return status line and headers.

    A head is remembered if its headers are a tuple: who answers with constant headers keeps them in one.
    Headers that are bytes are lines already, each with its line break; they are not looked at.

    Raises:
        ValueError: If a header contains a line break.
    """
    if type(headers) is bytes:
        return (STATUS_LINES.get(status) or status_line(status)) + headers
    if type(headers) is not tuple:
        return block(status_line(status), headers)  # type: ignore[arg-type] # not bytes
    known = _heads.get((status, headers))
    if known is None:
        if len(_heads) >= _HEADS_MAX:
            _heads.clear()
        known = _heads[status, headers] = block(status_line(status), headers)
    return known


def length_line(length: int) -> bytes:
    """Return `Content-Length: …` with its line break."""
    if length < len(_LENGTH_LINES):
        return _LENGTH_LINES[length]
    return b"Content-Length: %d\r\n" % length


def plain(status: int) -> bytes:
    """Return a complete answer without a body that ends the connection."""
    return status_line(status) + b"Content-Length: 0\r\nConnection: close\r\n\r\n"


class DateLine:
    """
    The `Date` header line, made once a second.

    Args:
        clock: Its wall time is shown.
    """

    __slots__ = ("_clock", "_last_line", "_line", "_second")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._second = -1
        self._line = b""
        self._last_line = b""

    def line(self) -> bytes:
        """Return `Date: …` with its line break."""
        second = self._clock.wall_ms() // 1000
        if second != self._second:
            self._second = second
            self._line = b"Date: %b\r\n" % formatdate(second, usegmt=True).encode()
            self._last_line = self._line + b"\r\n"
        return self._line

    def last_line(self) -> bytes:
        """Return the same and the empty line that ends a head."""
        second = self._clock.wall_ms() // 1000
        return self._last_line if second == self._second else self.line() + b"\r\n"
