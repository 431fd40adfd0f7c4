"""The server: a listening socket, its connections, and the one timer that watches them."""

from __future__ import annotations

import asyncio
import math
import socket
from contextlib import suppress
from typing import TYPE_CHECKING

from remora.http.answers import DateLine, plain
from remora.http.connection import Connection
from remora.http.limits import Limits
from remora.http.room import Room
from remora.kit.clock import SystemClock

if TYPE_CHECKING:
    from remora.http.exchange import Application
    from remora.http.known import KnownRequests
    from remora.kit.clock import Clock

_SWEEP_INTERVAL_S_MIN = 0.02
_BACKLOG = 1024


class Server:
    """
    Serves one application on one listening socket.

    A connection is one protocol object and no task. All time-outs of all connections share one timer, which
    exists only while something can expire: hundreds of idle servers cost nothing but their memory.

    Args:
        application: Who answers.
        listener: Bound TCP or Unix stream socket, in whichever network namespace it was made; the server
            closes it.
        limits: What is accepted.
        clock: Dates the answers, if they are dated.
        known: Requests that are recognised by their bytes; None if each is parsed.
    """

    def __init__(
        self,
        application: Application,
        listener: socket.socket,
        limits: Limits | None = None,
        *,
        clock: Clock | None = None,
        known: KnownRequests | None = None,
    ) -> None:
        self.application = application
        self.limits = limits or Limits()
        self.date = DateLine(clock or SystemClock()) if self.limits.send_date else None
        self.known = known
        self.connections: set[Connection] = set()
        self.room = Room(self.limits)
        self._listener = listener
        self._servers: list[asyncio.Server] = []
        self._timer: asyncio.TimerHandle | None = None
        self.sweep_at = math.inf
        """When the connections are looked after next, time of the loop."""
        self._emptied: asyncio.Future[None] | None = None
        self._is_finishing = False
        self._is_closed = False

    def __repr__(self) -> str:
        """State how many connections there are."""
        state = "closed" if self._is_closed else "serving" if self._servers else "new"
        return f"<Server {state}, {len(self.connections)} connections>"

    @property
    def port(self) -> int:
        """The TCP port that is listened on."""
        return int(self._listener.getsockname()[1])

    @property
    def has_room(self) -> bool:
        """True if it serves, and one connection more would not be too many."""
        return (
            bool(self._servers)
            and not self._is_finishing
            and len(self.connections) < self.limits.connections_max
        )

    async def start(self) -> None:
        """
        Accept connections from now on.

        **Cancellation:** the server may or may not accept; `close` is needed in either case.
        """
        assert not self._is_closed, "a closed server cannot be started"
        self.loop = asyncio.get_running_loop()
        if self._listener.family in {socket.AF_INET, socket.AF_INET6}:
            # Accepted sockets inherit it. (asyncio itself sets it only if the listener names its protocol.)
            self._listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # uvloop accepts one connection per turn from each server; several may share a listening socket.
        listeners = [self._listener, *(self._listener.dup() for _ in range(self.limits.accepts_at_once - 1))]
        for listener in listeners:
            made = await self.loop.create_server(self._made, sock=listener, backlog=_BACKLOG)
            self._servers.append(made)

    async def finish(self, within_s: float) -> None:
        """
        Stop accepting, and wait until what was asked for is answered; idle connections end at once.

        The server is to be closed all the same.

        Args:
            within_s: How long the answers are waited for, seconds.

        **Cancellation:** ends the waiting only. Repeated calls: wait again.
        """
        self._stop_accepting()
        for connection in tuple(self.connections):
            connection.finish()
        with suppress(TimeoutError):
            async with asyncio.timeout(within_s):
                await self._until_empty()

    async def close(self) -> None:
        """
        Stop accepting and drop every connection; applications hear `aborted` for what was not answered.

        Answers that were given are handed to the kernel first. Returns when the last connection is gone.

        **Cancellation:** the connections are dropped all the same. Repeated calls: wait as the first.
        """
        self._is_closed = True
        self.room.close()
        if not self._servers:
            self._listener.close()
            return
        self._stop_accepting()
        for connection in tuple(self.connections):
            connection.shut(is_lingering=False)
        try:
            await asyncio.sleep(0)  # one turn of the loop hands over what was written
        finally:
            for connection in tuple(self.connections):
                connection.transport.abort()
            if self._timer is not None:
                self._timer.cancel()
        await self._until_empty()

    def drop_connections(self) -> None:
        """Close every connection, those too that wait to be accepted; serve whoever comes from now on."""
        for connection in tuple(self.connections):
            connection.shut(is_lingering=False)
        with suppress(OSError):  # BlockingIOError: nobody waits any more
            while True:
                self._listener.accept()[0].close()

    def joined(self, connection: Connection) -> bool:
        """
        Take in a new connection; False if there are too many (it was told so) or the server is closing.

        One that was accepted just before the server was closed is dropped: nobody would wait for its peer,
        or time it, and the peer may be frozen.
        """
        self.connections.add(connection)
        if self._is_finishing:
            connection.transport.abort()
            return False
        if len(self.connections) > self.limits.connections_max:
            connection.transport.write(plain(503))
            return False
        return True

    def left(self, connection: Connection) -> None:
        """Forget a connection that is gone."""
        self.connections.discard(connection)
        if not self.connections and self._emptied is not None and not self._emptied.done():
            self._emptied.set_result(None)

    def watch(self, due: float) -> None:
        """Look after the connections at `due` (time of the loop) at the latest."""
        if due < self.sweep_at and not self._is_closed:
            if self._timer is not None:
                self._timer.cancel()
            self.sweep_at = due
            self._timer = self.loop.call_at(due, self._sweep)

    def _stop_accepting(self) -> None:
        self._is_finishing = True
        for server in self._servers:
            server.close()

    async def _until_empty(self) -> None:
        """Wait until the last connection is gone."""
        if self.connections:
            if self._emptied is None:
                self._emptied = self.loop.create_future()
            await asyncio.shield(self._emptied)

    def _made(self) -> Connection:
        return Connection(self)

    def _sweep(self) -> None:
        """End what has expired and come back when the next can expire."""
        self._timer = None
        self.sweep_at = math.inf
        now = self.loop.time()
        soonest = math.inf
        for connection in tuple(self.connections):
            soonest = min(soonest, connection.expire(now))
        if soonest < math.inf:
            self.watch(max(soonest, now + _SWEEP_INTERVAL_S_MIN))
