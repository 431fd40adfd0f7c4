"""
Room for large bodies: what all that are kept may have together, whoever sends them.

A body that is not small asks once, for all that its length says; one in chunks asks for each piece. Where
there is no room its connection is not read until there is, first come, first served: so those that have room
come to an end, and nobody is refused half-way. Who has waited for too long is refused after all. Bodies of
the size of invocations go before those that wait, if they fit.
"""

from __future__ import annotations

import weakref
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    import asyncio

    from remora.http.limits import Limits
    from remora.http.served import ServedExchange

_OVERTAKING_PART: Final = 64
"""A body that needs at most this part of everything does not wait behind larger ones."""


class _Waiting(NamedTuple):
    """A body without room; `until` is the loop's time."""

    exchange: ServedExchange
    needed_bytes: int
    until: float


class Room:
    """
    Counts the large bodies of one server.

    Args:
        limits: How much there may be, and how long one waits.
    """

    def __init__(self, limits: Limits) -> None:
        self.held_bytes = 0
        """What all large bodies have, or will have, that are kept."""
        self._bytes_max = limits.held_bytes_max
        self._wait_s = limits.held_wait_s
        self._waiting: deque[_Waiting] = deque()
        self._alarm: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    def __repr__(self) -> str:
        return f"<Room {self.held_bytes} of {self._bytes_max} bytes, {len(self._waiting)} waiting>"

    def take(self, exchange: ServedExchange, loop: asyncio.AbstractEventLoop) -> bool:
        """
        Count what has come of a large body; False if it has to wait, until its connection hears of it.

        What is counted is given back when the exchange is gone.
        """
        self._loop = loop
        if exchange.is_waiting:
            return True
        if exchange.held is None:
            exchange.held = [0]
            weakref.finalize(exchange, self._freed, exchange.held).atexit = False
        declared = exchange.header(b"content-length")
        length = int(declared) if declared else exchange.received_bytes
        needed_bytes = min(length, exchange.body_bytes_max, self._bytes_max) - exchange.held[0]
        if needed_bytes <= 0:
            return True
        is_first = not self._waiting or needed_bytes * _OVERTAKING_PART <= self._bytes_max
        if is_first and self.held_bytes + needed_bytes <= self._bytes_max:
            self._count(exchange.held, needed_bytes)
            return True
        exchange.is_waiting = True
        self._waiting.append(_Waiting(exchange, needed_bytes, loop.time() + self._wait_s))
        if self._alarm is None:
            self._alarm = loop.call_later(self._wait_s, self._expire)
        return False

    def give_back(self, exchange: ServedExchange) -> None:
        """Count a body no more that is not kept after all. Repeated calls: no effect."""
        if exchange.held is not None:
            self._let_go(exchange.held)

    def close(self) -> None:
        """Let nobody wait any more."""
        self._waiting.clear()
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None

    def _count(self, held: list[int], count: int) -> None:
        held[0] += count
        self.held_bytes += count

    def _freed(self, held: list[int]) -> None:
        """Take back what a body had that is no more; called at any point of the program, in any thread."""
        if held[0]:
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._let_go, held)

    def _let_go(self, held: list[int]) -> None:
        self.held_bytes -= held[0]
        held[0] = 0
        if self._waiting:
            self._loop.call_soon(self._serve)

    def _serve(self) -> None:
        """Let those go on for whom there is room now."""
        while self._waiting:
            exchange, needed_bytes, _ = self._waiting[0]
            is_wanted = exchange.is_open and not exchange.is_complete
            if is_wanted and self.held_bytes + needed_bytes > self._bytes_max:
                return
            self._waiting.popleft()
            exchange.is_waiting = False
            if is_wanted and exchange.held is not None:
                self._count(exchange.held, needed_bytes)
                exchange.connection.release(exchange)

    def _expire(self) -> None:
        """Refuse those who have waited for too long."""
        self._alarm = None
        now = self._loop.time()
        while self._waiting and self._waiting[0].until <= now:
            exchange = self._waiting.popleft().exchange
            exchange.is_waiting = False
            if exchange.is_open and not exchange.is_complete:
                exchange.connection.crowd_out(exchange)
        if self._waiting:
            self._alarm = self._loop.call_at(self._waiting[0].until, self._expire)
        self._serve()
