"""`Exchange` as the server offers it: the answering half of one request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.http.answers import LAST_CHUNK, block, has_no_body, head, length_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from remora.http.connection import Connection
    from remora.http.exchange import Header
    from remora.http.limits import Limits

OPEN, BEGUN, DONE = 0, 1, 2
"""How far the answer is; an exchange whose peer has left is DONE too."""

# Above this, copying a body behind its head costs more than handing over two buffers.
_JOINED_BYTES_MAX = 64 * 1024


class ServedExchange:
    """
    One request and its answer on a connection (see `Exchange`).

    Most attributes start as defaults of the class: an exchange is made for every request, so what does not
    differ from the default is not even assigned.
    """

    query: bytes = b""
    body: bytes = b""
    is_oversized: bool = False
    is_truncated: bool = False
    trailers: Sequence[Header] = ()
    slot: object = None
    state: int = OPEN
    keeps: bool = True
    """True if the connection is kept after the answer."""
    is_complete: bool = False
    """True once the whole body was received."""
    is_continued: bool = False
    """True if the peer was asked for the body that it held back."""
    is_chunked: bool = True
    """How an answer that was begun is framed."""
    is_bodiless: bool = False
    """True if no byte of body may be sent in the answer that was begun."""
    received_bytes: int = 0
    chunks: list[bytes] | None = None
    body_since: float = 0.0
    """When its body was first waited for, on the loop's clock."""
    held: list[int] | None = None
    """How much of a large body is counted; None of a small one."""
    is_waiting: bool = False
    """True while there is no room for more of its body."""
    is_crowded_out: bool = False
    take: Callable[[bytes], None] | None = None
    """Who gets each piece of the body instead of `chunks`."""

    def __init__(
        self, connection: Connection, method: bytes, path: bytes, headers: list[Header], body_bytes_max: int
    ) -> None:
        self.connection = connection
        self.method = method
        self.path = path
        self.headers = headers
        self.body_bytes_max = body_bytes_max
        self.application = connection.application

    def __repr__(self) -> str:
        """State method, path and how far the answer is."""
        state = ("open", "begun", "done")[self.state]
        return f"<ServedExchange {self.method.decode()} {self.path!r} {state}>"

    @property
    def is_open(self) -> bool:
        """True while the peer is there and no answer was finished."""
        return self.state != DONE

    @property
    def peer(self) -> str:
        """Address of the peer; empty if it has none, on a Unix socket for one."""
        address = self.connection.transport.get_extra_info("peername")
        return str(address[0]) if isinstance(address, tuple) else ""

    def header(self, name: bytes) -> bytes | None:
        """Return the first header called `name` (lower case), or None."""
        for key, value in self.headers:
            if key == name:
                return value
        return None

    def is_trickling(self, limits: Limits, now: float) -> bool:
        """Tell whether its body comes more slowly than anybody who means it would send it."""
        if not self.body_since:
            self.body_since = now
        lasted_s = now - self.body_since
        if (
            self.take is not None
            or limits.body_rate_min is None
            or lasted_s <= (limits.body_timeout_s or 0.0)
        ):
            return False
        return self.received_bytes < limits.body_rate_min * lasted_s

    def hand_over(self, take: Callable[[bytes], None]) -> None:
        """Give each piece of the body to `take`, beginning with what has come, instead of keeping it."""
        kept = self.chunks or ([self.body] if self.body else [])
        self.chunks, self.body, self.take = None, b"", take
        for chunk in kept:
            take(chunk)

    def pause(self) -> None:
        """Take no more of the body from the peer for now."""
        self.connection.hold(self)

    def resume(self) -> None:
        """Go on with it."""
        self.connection.release(self)

    def respond(self, status: int, headers: Iterable[Header] | bytes, body: bytes) -> None:
        """
        Answer with a whole body.

        Raises:
            ValueError: If a header contains a line break; nothing was sent then.
        """
        if self.state != OPEN:
            assert self.state == DONE, f"{self!r} was begun and cannot be answered as a whole"
            return
        connection = self.connection
        lines = head(status, headers)
        if not self.is_complete or not self.keeps or connection.is_http10:
            rest = self._closing(connection)
        else:
            rest = b"\r\n" if connection.date is None else connection.date.last_line()
        if status < 200 or status == 204 or status == 304:  # noqa: PLR1714 - a set would be slower
            answer = lines + rest
        elif self.method == b"HEAD":
            answer = lines + length_line(len(body)) + rest
        elif len(body) > _JOINED_BYTES_MAX:
            connection.transport.write(lines + length_line(len(body)) + rest)
            answer = body
        else:
            answer = b"".join((lines, length_line(len(body)), rest, body))
        self.state = DONE
        connection.transport.write(answer)
        connection.answered(self)

    def begin(self, status: int, headers: Iterable[Header], length: int | None = None) -> None:
        """
        Begin an answer; without a length it goes in chunks.

        Raises:
            ValueError: If a header contains a line break; nothing was sent then.
        """
        if self.state != OPEN:
            assert self.state == DONE, f"{self!r} was begun twice"
            return
        connection = self.connection
        self.is_bodiless = has_no_body(status) or self.method == b"HEAD"
        # RFC 9112, 6.1: no chunks to a peer of HTTP/1.0; there the connection's end is the answer's.
        self.is_chunked = length is None and not connection.is_http10
        if length is not None:
            framing = length_line(length)
        elif connection.is_http10:
            self.keeps = False
            framing = b""
        else:
            framing = b"" if has_no_body(status) else b"Transfer-Encoding: chunked\r\n"
        lines = head(status, headers)
        self.state = BEGUN
        connection.transport.write(lines + framing + self._closing(connection))

    def write(self, chunk: bytes) -> None:
        """Send one chunk of an answer that was begun."""
        if self.state != BEGUN:
            assert self.state == DONE, f"{self!r} was not begun"
            return
        if chunk and not self.is_bodiless:
            if self.is_chunked:
                chunk = b"%x\r\n%b\r\n" % (len(chunk), chunk)
            self.connection.transport.write(chunk)

    async def drain(self) -> None:
        """
        Wait until the peer has taken enough for more to be written.

        **Cancellation:** nothing changes.
        """
        if self.state == BEGUN:
            await self.connection.drained()

    def finish(self, trailers: Iterable[Header] = ()) -> None:
        """
        End an answer that was begun.

        Raises:
            ValueError: If a trailer contains a line break; the answer is still open then.
        """
        if self.state != BEGUN:
            assert self.state == DONE, f"{self!r} was not begun"
            return
        if self.is_chunked and not self.is_bodiless:
            lines = block(b"", trailers)
            self.connection.transport.write(b"0\r\n%b\r\n" % lines if lines else LAST_CHUNK)
        self.state = DONE
        self.connection.answered(self)

    def close(self) -> None:
        """Drop the connection; what was already answered is still sent."""
        self.state = DONE
        self.connection.dropped(self)

    def _closing(self, connection: Connection) -> bytes:
        """Return the header lines that the server itself adds, and the empty line."""
        if not self.is_complete and self.keeps and self.header(b"expect") is not None:
            # Whether the peer will send its body now is unknown, so what follows could not be told apart.
            self.keeps = False
        lines = connection.date.line() if connection.date else b""
        if not self.keeps:
            return lines + b"Connection: close\r\n\r\n"
        if connection.is_http10:
            return lines + b"Connection: keep-alive\r\n\r\n"
        return lines + b"\r\n"
