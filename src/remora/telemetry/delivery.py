"""
Delivery of batches to one subscriber, over HTTP or TCP, from the event loop.

A delivery never waits for a subscriber: what it answers, or that it does not answer, arrives as an event.
A subscriber that is not there, or answers nonsense, or nothing, gets the same batch again.

Source: telemetry-api specification, sections 5.2 to 5.4.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import socket
from typing import TYPE_CHECKING, Final, Protocol, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.telemetry.queue import Queue
    from remora.telemetry.subscriptions import Destination

ATTEMPT_S: Final = 5.0
"""How long a subscriber may take for one batch over HTTP, and to be connected to."""
ANSWER_BYTES_MAX: Final = 65_536
"""Longer answers are not read to their end."""
TCP_HELD_BYTES: Final = 65_536
"""A batch over TCP counts as delivered when no more of it than this waits for the kernel."""
LOOPBACK: Final = "127.0.0.1"
HOST: Final = "169.254.100.6"
"""The address that AWS names in the Host header; the connection goes to this environment's loopback."""


class Connection(Protocol):
    """A connection to a subscriber; it is an `asyncio.Protocol` too."""

    is_patient: bool
    """True if a reader that is slow is waited for."""

    def send(self, batch: list[bytes]) -> None:
        """Send a batch; the delivery hears what became of it."""

    def abort(self) -> None:
        """Drop the connection."""


class Delivery:
    """
    Delivers one subscriber's queue.

    Args:
        queue: What to deliver.
        destination: Where to.
        make_socket: Returns an unconnected, non-blocking TCP socket of the environment's network.
        clock: The node's clock.
        tasks: Owner of the tasks that connect.
    """

    def __init__(
        self,
        queue: Queue,
        destination: Destination,
        *,
        make_socket: Callable[[], Awaitable[socket.socket]],
        clock: Clock,
        tasks: TaskSet,
    ) -> None:
        self.queue = queue
        self._destination = destination
        self._make_socket = make_socket
        self._clock = clock
        self._tasks = tasks
        self._loop = asyncio.get_running_loop()
        self._connection: Connection | None = None
        self._is_connecting = False
        self._batch: list[bytes] | None = None
        """The batch that is being tried."""
        self._timer: asyncio.TimerHandle | None = None
        self._timer_us = 0
        self._attempt_timer: asyncio.TimerHandle | None = None
        self._is_paused = False
        self._is_closed = False
        self._waiters: list[Callable[[], None]] = []
        self._leaving: asyncio.Event | None = None
        """Set when there is no connection any more; None unless somebody waits for that."""

    def __repr__(self) -> str:
        """State destination and queue."""
        return f"<Delivery to {self._destination} of {self.queue!r}>"

    def step(self) -> None:
        """Deliver what is due, and look again when something will be."""
        if self._is_paused or self._is_closed or self._batch is not None:
            return
        now_us = self._clock.monotonic_us()
        batch = self.queue.take(now_us)
        if batch is not None:
            self._attempt(batch)
            return
        due_us = self.queue.due_us()
        if due_us is not None and (self._timer is None or due_us < self._timer_us):
            if self._timer is not None:
                self._timer.cancel()
            self._timer_us = due_us
            self._timer = self._loop.call_later((due_us - now_us) / 1e6, self._due)

    def _due(self) -> None:
        self._timer = None
        self.step()

    def pause(self) -> None:
        """Begin nothing, and let no time pass: the environment is frozen, or nobody is in it."""
        self._is_paused = True
        for timer in (self._timer, self._attempt_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._attempt_timer = None

    def resume(self) -> None:
        """Go on: what waited is delivered at once."""
        if not self._is_paused:
            return
        self._is_paused = False
        if self._batch is not None:
            self._attempt_timer = self._loop.call_later(ATTEMPT_S, self._out_of_time)
        self.queue.flush()
        self.step()

    def when_flushed(self, call: Callable[[], None]) -> None:
        """Deliver at once what waits or has failed, and call when it has arrived, or as soon as it fails."""
        self.queue.flush()
        if self.queue.is_failing:
            self.queue.retry()
        self.step()
        self._waiters.append(call)
        self._tell_flushed()

    def _tell_flushed(self) -> None:
        if self._waiters and (self.queue.is_flushed or self.queue.is_failing):
            waiters, self._waiters = self._waiters, []
            for call in waiters:
                call()

    def retry(self) -> None:
        """Try again at once what failed: somebody says that there is a listener."""
        self.queue.retry()
        self.step()

    def disconnect(self) -> None:
        """Let go of the connection: whoever listened has ended. What was out will be tried again."""
        if self._connection is not None:
            self._connection.abort()

    async def release(self) -> None:
        """
        Begin nothing until `resume`, and return when there is no connection; what was out is tried again.

        **Cancellation:** the connection is dropped all the same.
        """
        self.pause()
        self.disconnect()
        self._leaving = asyncio.Event()
        self._tell_gone()
        try:
            await self._leaving.wait()
        finally:
            self._leaving = None

    def _tell_gone(self) -> None:
        if self._leaving is not None and self._connection is None and not self._is_connecting:
            self._leaving.set()

    def close(self) -> None:
        """Deliver nothing any more. Repeated calls: no effect."""
        self.pause()
        self._is_closed = True
        self._batch = None
        self._waiters.clear()
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    # --- one attempt ----------------------------------------------------------------------------------------

    def _attempt(self, batch: list[bytes]) -> None:
        self._batch = batch
        self._attempt_timer = self._loop.call_later(ATTEMPT_S, self._out_of_time)
        if self._connection is not None:
            self._connection.send(batch)
        elif not self._is_connecting:
            self._is_connecting = True
            self._tasks.spawn(self._open(), f"connect to a subscriber at port {self._destination.port}")

    async def _open(self) -> None:
        try:
            connection = await self._connected()
        except OSError:
            self._is_connecting = False
            self._tell_gone()
            if not self._is_closed:
                self.failed()
            return
        self._is_connecting = False
        if self._is_closed:
            connection.abort()
            return
        self._connection = connection
        if self._leaving is not None:
            self.failed()
            connection.abort()
        elif self._batch is not None:
            connection.send(self._batch)

    async def _connected(self) -> Connection:
        """
        Connect.

        Raises:
            OSError: If nobody listens.
        """
        made = await self._make_socket()
        try:
            async with asyncio.timeout(ATTEMPT_S):
                await self._loop.sock_connect(made, (LOOPBACK, self._destination.port))
            made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._destination.method:
                connection: Connection = HttpConnection(self, self._destination)
            else:
                connection = TcpConnection(self)
            await self._loop.create_connection(lambda: cast("asyncio.Protocol", connection), sock=made)
        except BaseException:
            made.close()
            raise
        return connection

    def _out_of_time(self) -> None:
        self._attempt_timer = None
        if self._connection is not None:
            if self._connection.is_patient:
                return
            self._connection.abort()
            self._connection = None
        self.failed()

    def delivered(self) -> None:
        """The batch has arrived."""
        if self._end_attempt():
            self.queue.delivered()
            self.step()
            self._tell_flushed()

    def failed(self) -> None:
        """The batch has not arrived."""
        if self._end_attempt():
            self.queue.failed(self._clock.monotonic_us())
            self.step()
            self._tell_flushed()

    def _end_attempt(self) -> bool:
        """Return False if there is none."""
        if self._attempt_timer is not None:
            self._attempt_timer.cancel()
            self._attempt_timer = None
        if self._batch is None:
            return False
        self._batch = None
        return True

    def lost(self, connection: Connection) -> None:
        """A connection has ended, whoever ended it."""
        if self._connection is connection:
            self._connection = None
            self._tell_gone()


class HttpConnection:
    """One connection to a subscriber that is an HTTP server; an `asyncio.Protocol`."""

    is_patient = False

    def __init__(self, delivery: Delivery, destination: Destination) -> None:
        self._delivery = delivery
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer_bytes = 0
        self._is_waiting = False
        self._is_acknowledged = False
        self._head = (
            f"{destination.method} {destination.target} HTTP/1.1\r\n"
            f"Host: {HOST}:{destination.port}\r\n"
            "User-Agent: awslambda-worker/1.0\r\n"
            "Content-Type: application/json\r\n"
            "Connection: keep-alive\r\n"
        )

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)

    def send(self, batch: list[bytes]) -> None:
        """Send a batch; the delivery hears what became of it."""
        assert self._transport is not None, "a connection was used before it was made"
        body = b"[" + b",".join(batch) + b"]"
        sequence = base64.b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
        head = f"{self._head}Content-Length: {len(body)}\r\nSequence-Id: {sequence}\r\n\r\n"
        self._is_waiting, self._is_acknowledged, self._answer_bytes = True, False, 0
        self._transport.write(head.encode() + body)

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        if not self._is_waiting:
            self.abort()  # an answer to nothing
            return
        self._answer_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            return
        if self._answer_bytes > ANSWER_BYTES_MAX:
            self.abort()

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        return False

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """See `asyncio.Protocol`; an answer may end with its connection."""
        self._delivery.lost(self)
        self._conclude()

    def on_headers_complete(self) -> None:
        """See `httptools.HttpResponseParser`: 2xx acknowledges the batch, whatever the body says."""
        self._is_acknowledged = 200 <= self._parser.get_status_code() < 300

    def on_message_complete(self) -> None:
        """See `httptools.HttpResponseParser`."""
        if self._parser.get_status_code() < 200:
            return  # 100: go on
        if not self._parser.should_keep_alive():
            self._delivery.lost(self)
            self.abort()
        self._conclude()

    def _conclude(self) -> None:
        if not self._is_waiting:
            return
        self._is_waiting = False
        if self._is_acknowledged:
            self._delivery.delivered()
        else:
            self._delivery.failed()


class TcpConnection:
    """One connection to a subscriber that takes lines of JSON; an `asyncio.Protocol`."""

    is_patient = True
    """A reader that is slow is waited for: to send the batch again would repeat what it has read."""

    def __init__(self, delivery: Delivery) -> None:
        self._delivery = delivery
        self._transport: asyncio.Transport | None = None
        self._is_writing = False
        self._is_full = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See `asyncio.Protocol`."""
        self._transport = cast("asyncio.Transport", transport)
        self._transport.set_write_buffer_limits(high=TCP_HELD_BYTES)

    def send(self, batch: list[bytes]) -> None:
        """Send a batch; the delivery hears what became of it."""
        assert self._transport is not None, "a connection was used before it was made"
        self._is_writing = True
        self._transport.write(b"\n".join(batch) + b"\n")
        if not self._is_full:
            self._conclude()

    def abort(self) -> None:
        """Drop the connection."""
        if self._transport is not None:
            self._transport.abort()

    def pause_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_full = True

    def resume_writing(self) -> None:
        """See `asyncio.Protocol`."""
        self._is_full = False
        self._conclude()

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`; what a subscriber says over TCP means nothing."""

    def eof_received(self) -> bool:
        """See `asyncio.Protocol`."""
        return False

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """See `asyncio.Protocol`."""
        self._delivery.lost(self)
        if self._is_writing:
            self._is_writing = False
            self._delivery.failed()

    def _conclude(self) -> None:
        if self._is_writing:
            self._is_writing = False
            self._delivery.delivered()
