"""
One connection: bytes in, events for the application out, in the order the requests came.

Requests are heard one at a time. What arrives behind an unanswered request is parsed as far as it was read,
waits in `_waiting`, and reading stops until its turn comes, so at most one read's worth of it is held.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from typing import TYPE_CHECKING, cast

import httptools

from remora.http.answers import CONTINUE, plain
from remora.http.heads import path_of, size_of, without_upgrade
from remora.http.known import BYTES_MAX as KNOWN_BYTES_MAX
from remora.http.served import BEGUN, DONE, OPEN, ServedExchange

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.http.exchange import Exchange, Header
    from remora.http.known import Known
    from remora.http.server import Server

_log = logging.getLogger(__name__)

_SLASH = 0x2F
_SMALL_BODY_BYTES = 64 * 1024  # bodies up to this are not counted
_READ_BYTES_MAX = 256 * 1024  # what uvloop and asyncio read at once


class _StopParsingError(Exception):
    """Raised inside a parser's callback: nothing of what follows is wanted."""


class Connection(asyncio.Protocol):
    """
    The protocol of one accepted connection.

    Args:
        server: Knows application and limits, and is told when the connection comes and goes.
    """

    def __init__(self, server: Server) -> None:
        self.server = server
        self.application = server.application
        self.limits = server.limits
        self._idle_s = server.limits.idle_timeout_s
        self.date = server.date
        self.is_http10 = False
        self.transport: asyncio.Transport
        self._has_version = False
        self._known = server.known
        self._latest: ServedExchange | None = None  # that might be remembered
        self._begun = 0  # requests whose first byte came with the present read
        self._parser: httptools.HttpRequestParser | None = None
        self._headers: list[Header] | None = None  # of the request whose headers are being read
        self._url = b""
        self._head_bytes = 0  # read since the request, or the last piece of its body, began; never too low
        self._upgraded: bytes | None = None
        self._reading: ServedExchange | None = None  # whose body is being read
        self._current: ServedExchange | None = None  # who is being answered
        self._waiting: deque[ServedExchange] | None = None  # whose turn comes later
        self._failure = 0  # status to send, and then end, when all before it are answered
        self._is_advancing = False
        self._is_ending = False  # no further request will be taken
        self._is_over = False  # everything was said; what still comes is thrown away
        self._is_eof = False  # the peer sends no more
        self._is_reading_paused = False
        self._is_held = False  # no more of the present body is wanted for now
        self._is_write_paused = False
        self._waiters: list[asyncio.Future[None]] | None = None
        self._due_since = 0.0  # when the present state began, for time-outs
        self._unsent_bytes = 0

    # What the event loop says.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Start reading."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's are no subclasses
        if not self.server.joined(self):
            self.shut(is_lingering=True)
            return
        self._parser = httptools.HttpRequestParser(self)
        self._await(self.limits.idle_timeout_s)

    def data_received(self, data: bytes) -> None:
        """Parse what was read; the callbacks below do the rest."""
        if self._parser is None or self._is_ending:
            return
        is_between, size_bytes = self._headers is None and self._reading is None, len(data)
        if is_between:
            if self._known is not None and size_bytes <= KNOWN_BYTES_MAX and self._has_version:
                known = self._known.get(data)
                if known is not None:
                    self._hear_again(known)
                    return
            self._head_bytes = size_bytes
        else:
            self._head_bytes += size_bytes
        self._begun, self._latest = 0, None
        complaint: Exception | None = None
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            complaint = error
        if complaint is not None:  # seen to out here, for it may feed again: each complaint has its own cause
            self._see_to(complaint, data)
        if self._headers is not None or self._reading is not None:
            self._stay_incomplete()
        elif is_between and self._begun == 1 and self._latest is not None:
            self._remember(data, self._latest)

    def eof_received(self) -> bool:
        """
        Take note that the peer sends no more.

        Returns:
            True if an answer is still owed: the peer may have closed only its half.
        """
        self._is_eof = True
        if self._is_over:
            return False
        if self._reading is not None or self._headers is not None:
            self._fail(400)
            return True
        self._is_ending = True
        return self._current is not None

    def pause_writing(self) -> None:
        """Let nobody write more for now: the peer does not keep up."""
        self._is_write_paused = True
        self._unsent_bytes = self.transport.get_write_buffer_size()
        self._await(self.limits.write_timeout_s)

    def resume_writing(self) -> None:
        """Let them go on."""
        self._is_write_paused = False
        self._wake()
        self._advance()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Tell the application if something was not answered."""
        self.server.left(self)
        self._parser = None
        self._headers = None
        self._is_ending = self._is_over = True
        self._waiting = None
        self._failure = 0
        reading, self._reading = self._reading, None
        current, self._current = self._current, None
        self._wake()
        if current is not None and current.state != DONE:
            current.state = DONE
            current.is_truncated = current is reading
            self._tell(current.application.aborted, current)

    # What the parser says.

    def on_message_begin(self) -> None:
        """Begin a request: this is its first byte."""
        self._begun += 1
        self._headers = []
        self._url = b""
        self._due_since = 0.0

    def on_url(self, url: bytes) -> None:
        """Take a piece of its target, most often all of it."""
        self._url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header or trailer."""
        if self._headers is not None:
            self._headers.append((name.lower(), value))
        elif self._reading is not None and len(self._reading.trailers) < self.limits.headers_max:
            self._reading.trailers = (*self._reading.trailers, (name.lower(), value))

    def on_headers_complete(self) -> None:
        """Make the exchange and let the application hear of it, if it is its turn."""
        parser, headers, url = self._parser, self._headers, self._url
        if parser is None or self._is_ending:
            raise _StopParsingError
        assert headers is not None, "a request has begun before its headers end"
        limits = self.limits
        if self._head_bytes > limits.header_bytes_max or len(headers) > limits.headers_max:
            self._check_head(headers)
        method = parser.get_method()
        if parser.should_upgrade():
            self._refuse_upgrade(method, headers)
            return
        self._headers = None
        self._reading = exchange = ServedExchange(self, method, url, headers, limits.body_bytes_max)
        if b"?" in url:
            exchange.path, _, exchange.query = url.partition(b"?")
        if url[0] != _SLASH:
            exchange.path = path_of(exchange.path)
        keeps = parser.should_keep_alive()
        if not keeps or not self._has_version:  # a connection that is kept does not change its version
            exchange.keeps = keeps
            self._has_version = True
            self.is_http10 = parser.get_http_version() == "1.0"
        if self._current is None and not self._is_write_paused and not self._waiting:
            self._current = exchange
            try:
                self.application.began(exchange)
            except Exception:  # noqa: BLE001 - the boundary of requests
                self._application_failed(exchange)
        else:
            self._wait_in_line(exchange)

    def on_body(self, chunk: bytes) -> None:
        """Keep a piece of body, as far as it is wanted."""
        exchange = self._reading
        if exchange is None or self._parser is None:
            raise _StopParsingError
        self._head_bytes = 0
        exchange.received_bytes += len(chunk)
        if exchange.received_bytes <= exchange.body_bytes_max and exchange.state != DONE:
            if exchange.take is not None:
                self._give(exchange, exchange.take, chunk)
                return
            if exchange.chunks is None:
                exchange.chunks = [chunk]
            else:
                exchange.chunks.append(chunk)
            if exchange.received_bytes > _SMALL_BODY_BYTES and exchange is self._current:
                self._make_room(exchange)
            return
        exchange.chunks = None
        self.server.room.give_back(exchange)
        exchange.is_oversized = exchange.state != DONE
        if exchange.received_bytes > max(self.limits.body_bytes_read_max, exchange.body_bytes_max):
            self._fail(413)
            raise _StopParsingError

    def on_message_complete(self) -> None:
        """Hand over the complete request."""
        exchange = self._reading
        if exchange is None:
            if self._upgraded is None:
                raise _StopParsingError
            return
        self._reading = None
        if self._known is not None and not exchange.received_bytes:
            self._latest = exchange
        self._head_bytes = _READ_BYTES_MAX  # unknown, how much of the read is left for the next request
        exchange.is_complete = True
        if self._is_held:
            self._let_go()
        chunks = exchange.chunks
        if chunks is not None:
            exchange.body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
            exchange.chunks = None
        if not exchange.keeps:
            self._is_ending = True
        if exchange is not self._current:
            return
        if exchange.state == DONE:
            self.answered(exchange)
            return
        try:
            exchange.application.ended(exchange)
        except Exception:  # noqa: BLE001 - the boundary of requests
            self._application_failed(exchange)

    def _remember(self, data: bytes, latest: ServedExchange) -> None:
        """Remember the one request that the present read brought."""
        if self._known is not None and len(data) <= KNOWN_BYTES_MAX:
            self._known.remember(data, latest)

    def _hear_again(self, known: Known) -> None:
        """Take a request that came before, byte for byte, without the parser."""
        exchange = ServedExchange(self, known.method, known.path, known.headers, self.limits.body_bytes_max)
        if known.query:
            exchange.query = known.query
        exchange.is_complete = True
        if self._current is not None or self._is_write_paused or self._waiting:
            self._wait_in_line(exchange)
            return
        self._current = exchange
        try:
            self.application.began(exchange)
            if exchange.state != DONE:
                exchange.application.ended(exchange)
        except Exception:  # noqa: BLE001 - the boundary of requests
            self._application_failed(exchange)

    # What exchanges say.

    def answered(self, exchange: ServedExchange) -> None:
        """Go on after an answer was finished."""
        if exchange is not self._current:
            return
        if not exchange.keeps:
            self._current = None
            self.shut(is_lingering=not exchange.is_complete)
        elif exchange.is_complete:  # else the rest of its body comes first
            self._current = None
            if self._waiting or self._is_ending:
                self._advance()
            elif self._idle_s is not None:
                self._due_since = now = self.server.loop.time()
                if now + self._idle_s < self.server.sweep_at:
                    self.server.watch(now + self._idle_s)
        elif self._is_held:
            self._let_go()

    def hold(self, exchange: ServedExchange) -> None:
        """Read no further within the body of an exchange."""
        if exchange is self._reading and exchange is self._current and exchange.state != DONE:
            self._is_held = True
            self._pause_reading()

    def release(self, exchange: ServedExchange) -> None:
        """Read on within the body of an exchange."""
        if self._is_held and exchange is self._current:
            self._let_go()

    def crowd_out(self, exchange: ServedExchange) -> None:
        """Refuse an exchange for whose body there has been no room for too long."""
        if exchange is self._reading:
            exchange.is_crowded_out = True
            self._is_held = False
            self._fail(503)

    def dropped(self, exchange: ServedExchange) -> None:
        """End the connection at the wish of an exchange, unless others are already served on it."""
        if exchange is self._current or self._current is None:
            self._current = None
            self.shut(is_lingering=False)

    async def drained(self) -> None:
        """Wait until the peer has taken most of what was written, or has left."""
        if self._is_write_paused and not self.transport.is_closing():
            waiter = self.server.loop.create_future()
            if self._waiters is None:
                self._waiters = []
            self._waiters.append(waiter)
            await waiter

    # What it is asked when it changes its server (see `moving`).

    @property
    def waits_for(self) -> ServedExchange | None:
        """Who is being answered."""
        return self._current

    @property
    def is_between(self) -> bool:
        """True if nothing is half read, half written or in line: at most one whole request is unanswered."""
        current = self._current
        is_whole = current is None or (
            current.state == OPEN and current.is_complete and current.keeps and not current.received_bytes
        )
        is_busy = self._headers is not None or self._reading is not None or bool(self._waiting)
        is_ending = self._is_ending or self._is_over or self._is_eof or self.transport.is_closing()
        has_unsent = self._is_write_paused or self.transport.get_write_buffer_size() > 0
        return is_whole and not (is_busy or is_ending or has_unsent or self.is_http10)

    def forget(self) -> None:
        """Let go of the transport; nobody hears of it, and nothing is sent."""
        self._parser = self._current = None
        self._is_ending = self._is_over = True
        self.transport.abort()

    # What the server says.

    def finish(self) -> None:
        """Answer the requests whose headers have come, and end."""
        last = self._waiting[-1] if self._waiting else self._current
        if last is None:
            self.shut(is_lingering=False)
        else:
            last.keeps = False

    def shut(self, *, is_lingering: bool) -> None:
        """Close after what was written is sent; if lingering, swallow what still comes for a moment."""
        if self._is_over:
            return
        self._parser = None
        self._headers = None
        self._is_ending = self._is_over = True
        self._is_held = False
        if self.transport.is_closing():
            return
        if is_lingering and not self._is_eof and self.transport.can_write_eof():
            try:
                self.transport.write_eof()
            except OSError:  # what was just written has met with a reset: the peer is gone
                self.transport.abort()
                return
            self._resume_reading()
            self._await(self.limits.linger_s)
        else:
            self.transport.close()
            self._await(self.limits.write_timeout_s)

    def expire(self, now: float) -> float:
        """
        End the connection, or its request, if its time is up.

        Returns:
            When to look again (time of the loop); infinity if there is nothing to wait for.
        """
        allowed = self._allowed_s()
        if allowed is None:
            return math.inf
        if self._due_since == 0.0:
            self._due_since = now
        due = self._due_since + allowed
        if now < due:
            return due
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes and unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self._due_since = now
            return now + allowed
        if not self._is_over and (self._headers is not None or self._reading is not None):
            self._fail(408)
            return now + self.limits.linger_s
        if self._is_over or self._is_write_paused:
            self.transport.abort()
        else:
            self.shut(is_lingering=False)
        return math.inf

    # How it is done.

    def _see_to(self, error: Exception, data: bytes) -> None:
        """Decide what the parser's complaint means."""
        if isinstance(error, httptools.HttpParserUpgrade):
            if self._upgraded is not None:
                head, self._upgraded = self._upgraded, None
                self._headers = None
                self._parser = httptools.HttpRequestParser(self)
                self.data_received(head + data[error.args[0] :])
        elif isinstance(error, httptools.HttpParserCallbackError):
            if not isinstance(error.__context__, _StopParsingError):
                raise error
        elif not self._is_ending:
            self._fail(400)

    def _refuse_upgrade(self, method: bytes, headers: list[Header]) -> None:
        """
        Treat a request to change the protocol as an ordinary one (RFC 9110, 7.8: a server may ignore it).

        The parser skips the body of such a request, hence it gets the request once more without the wish.
        """
        if method == b"CONNECT":
            self._fail(400)
            raise _StopParsingError
        self._upgraded = without_upgrade(method, self._url, headers)

    def _check_head(self, headers: list[Header]) -> None:
        """Refuse a head that is really too large (the count may include a body)."""
        limits = self.limits
        if size_of(self._url, headers) > limits.header_bytes_max or len(headers) > limits.headers_max:
            self._fail(431)
            raise _StopParsingError

    def _stay_incomplete(self) -> None:
        """See to a request of which not all has arrived."""
        headers, reading, limits = self._headers, self._reading, self.limits
        if self._head_bytes > limits.header_bytes_max + _READ_BYTES_MAX:
            self._fail(431)  # an endless header, or an endless trailer
            return
        if headers is not None:
            if len(headers) > limits.headers_max:
                self._fail(431)
            elif self._due_since == 0.0:
                self._await(limits.header_timeout_s)
            return
        assert reading is not None, "something is incomplete"
        if reading is self._current and reading.received_bytes == 0 and not reading.is_continued:
            expected = reading.header(b"expect")
            if expected is not None and expected.lower() == b"100-continue" and not self.is_http10:
                self._continue(reading)
        self._await(limits.body_timeout_s)
        if limits.body_rate_min is not None and reading.is_trickling(limits, self.server.loop.time()):
            self._fail(408)

    def _continue(self, exchange: ServedExchange) -> None:
        """Ask for the body that the peer holds back, or refuse it at once."""
        declared = exchange.header(b"content-length") or b"0"
        if int(declared) > max(self.limits.body_bytes_read_max, exchange.body_bytes_max):
            exchange.is_oversized = True
            self._fail(413)
        elif exchange.state == OPEN:
            exchange.is_continued = True
            self.transport.write(CONTINUE)

    def _wait_in_line(self, exchange: ServedExchange) -> None:
        """Keep a request for later and read no further."""
        exchange.body_bytes_max = (
            self.limits.body_bytes_read_max
        )  # the application is asked when its turn comes
        if self._waiting is None:
            self._waiting = deque()
        self._waiting.append(exchange)
        self._pause_reading()

    def _advance(self) -> None:
        """Let the application hear the requests that waited, as far as it answers them."""
        if self._is_advancing or self._is_over:
            return
        self._is_advancing = True
        while self._waiting and self._current is None and not self._is_write_paused and not self._is_over:
            self._current = exchange = self._waiting.popleft()
            self._hear(exchange)
        self._is_advancing = False
        if self._waiting or self._is_over:
            return
        if self._current is not None:
            if not self._failure:
                self._resume_reading()
        elif self._failure:
            self.transport.write(plain(self._failure))
            self.shut(is_lingering=True)
        elif self._is_ending:
            self.shut(is_lingering=False)
        else:
            self._resume_reading()
            self._await(self.limits.idle_timeout_s)

    def _hear(self, exchange: ServedExchange) -> None:
        """Let the application hear of a request that waited."""
        exchange.body_bytes_max = self.limits.body_bytes_max
        self._tell(self.application.began, exchange)
        if exchange.state == DONE:
            return
        if exchange.received_bytes > exchange.body_bytes_max:
            exchange.is_oversized = True
            exchange.body = b""
            exchange.chunks = None
        if exchange.is_complete:
            self._tell(exchange.application.ended, exchange)

    def _make_room(self, exchange: ServedExchange) -> None:
        """Have a large body counted; read no further while there is no room for it."""
        if not self.server.room.take(exchange, self.server.loop):
            self.hold(exchange)

    def _give(self, exchange: ServedExchange, take: Callable[[bytes], None], chunk: bytes) -> None:
        """Hand a piece of body over."""
        try:
            take(chunk)
        except Exception:  # noqa: BLE001 - the boundary of requests
            self._application_failed(exchange)

    def _tell(self, callback: Callable[[Exchange], None], exchange: ServedExchange) -> None:
        """Call the application."""
        try:
            callback(exchange)
        except Exception:  # noqa: BLE001 - the boundary of requests
            self._application_failed(exchange)

    def _application_failed(self, exchange: ServedExchange) -> None:
        """Answer 500 if that is still possible; end the connection (called while the error is handled)."""
        _log.exception("%r could not be served; its connection is closed", exchange)
        exchange.keeps = False
        if exchange.state == OPEN:
            exchange.respond(500, (), b"")
        elif exchange.state == BEGUN:
            self.transport.abort()
        else:
            self.shut(is_lingering=False)

    def _fail(self, status: int) -> None:
        """Give up on what the peer is sending; answer `status` when its turn comes, and end."""
        self._parser = None
        self._headers = None
        self._is_ending = True
        reading, self._reading = self._reading, None
        if reading is not None and reading.held is not None:
            reading.chunks = None
            self.server.room.give_back(reading)
        if reading is None or reading is not self._current:
            if reading is not None and self._waiting:
                self._waiting.pop()  # the application has never heard of it
            self._failure = status
            self._pause_reading()
            if self._current is None:
                self._advance()
            return
        reading.keeps = False
        if reading.state == DONE:
            self.answered(reading)
            return
        reading.is_truncated = not reading.is_oversized
        self._tell(reading.application.aborted, reading)
        if reading.state == OPEN:
            reading.respond(status, (), b"")
        elif reading.state == BEGUN:
            self.transport.abort()

    def _allowed_s(self) -> float | None:
        """Return how long the present state may last, seconds."""
        limits = self.limits
        if self._is_over:
            return limits.write_timeout_s if self.transport.is_closing() else limits.linger_s
        if self._is_write_paused:
            return limits.write_timeout_s
        if self._headers is not None:
            return limits.header_timeout_s
        if self._reading is not None and not self._is_reading_paused:
            return limits.body_timeout_s
        return limits.idle_timeout_s if self._current is None else None

    def _await(self, allowed_s: float | None) -> None:
        """Begin a state that may last `allowed_s` seconds."""
        if allowed_s is not None:
            self._due_since = self.server.loop.time()
            self.server.watch(self._due_since + allowed_s)

    def _wake(self) -> None:
        """Let those who wait in `drained` go on."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    def _let_go(self) -> None:
        """Read on after a body was held."""
        self._is_held = False
        self._resume_reading()

    def _pause_reading(self) -> None:
        if not self._is_reading_paused and not self._is_eof and not self.transport.is_closing():
            self._is_reading_paused = True
            self.transport.pause_reading()

    def _resume_reading(self) -> None:
        if self._is_reading_paused and not self._is_held and not self.transport.is_closing():
            self._is_reading_paused = False
            self.transport.resume_reading()
            if self._reading is not None:
                self._await(self.limits.body_timeout_s)
