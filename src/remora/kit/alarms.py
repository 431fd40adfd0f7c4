"""Deadlines that move: cheap to set and to take back, a hundred thousand times a minute."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_TICK_S: Final = 0.001
"""The event loop's clock and its timers are no finer than this."""


class Alarm:
    """
    Calls `ring` when the time has come that was set last.

    The loop's timer is left alone when the alarm is set for later or taken back: when it goes off it looks
    whether it was meant. Most alarms never ring, and a timer costs more to make and to cancel than that look.

    Args:
        loop: Where it rings.
        ring: What is called.
    """

    __slots__ = ("_due_s", "_loop", "_ring", "_timer", "_timer_s")

    def __init__(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], object]) -> None:
        self._loop = loop
        self._ring = ring
        self._timer: asyncio.Handle | None = None
        self._timer_s = 0.0  # when it goes off; uvloop's does not always know
        self._due_s: float | None = None

    def __repr__(self) -> str:
        """State whether it is set."""
        return f"<Alarm {'off' if self._due_s is None else f'due at {self._due_s:.3f}'}>"

    def set_in(self, seconds: float) -> None:
        """Ring in so many seconds (at once if negative), and not at the time set before."""
        due_s = self._due_s = self._loop.time() + max(0.0, seconds)
        if self._timer is None or due_s < self._timer_s:
            self._start(due_s)

    def cancel(self) -> None:
        """Do not ring. Repeated calls: no effect."""
        self._due_s = None

    def close(self) -> None:
        """Do not ring, and let go of the loop's timer. Repeated calls: no effect."""
        self._due_s = None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _start(self, due_s: float) -> None:
        """Look at `due_s`, and not before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer_s = due_s
        self._timer = self._loop.call_at(due_s, self._look)

    def _look(self) -> None:
        self._timer = None
        due_s = self._due_s
        if due_s is None:
            return
        if self._loop.time() + _TICK_S < due_s:
            self._start(due_s)
        else:
            self._due_s = None
            self._ring()
