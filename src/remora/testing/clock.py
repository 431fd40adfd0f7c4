"""Clocks for tests: one that moves only when told, one that goes with the event loop."""

from __future__ import annotations

import asyncio

from remora.kit.clock import SystemClock


class LoopClock(SystemClock):
    """A clock whose deadlines and durations are those of the running loop."""

    __slots__ = ("_loop",)

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def monotonic_us(self) -> int:
        """Read the loop's time, microseconds."""
        return int(self._loop.time() * 1e6)


class ManualClock:
    """
    A `remora.kit.clock.Clock` for tests.

    Args:
        wall_ms: What the wall clock shows at the start, milliseconds since 1970.
    """

    def __init__(self, wall_ms: int = 1_700_000_000_000) -> None:
        self._wall_start_ms = wall_ms
        self._elapsed_us = 0

    def __repr__(self) -> str:
        return f"<ManualClock {self._elapsed_us} us>"

    def monotonic_us(self) -> int:
        """Microseconds that the clock was moved since it was made."""
        return self._elapsed_us

    def wall_ms(self) -> int:
        """The wall time at the start plus what the clock was moved, milliseconds."""
        return self._wall_start_ms + self._elapsed_us // 1_000

    def advance_us(self, microseconds: int) -> None:
        """Move both readings forward by `microseconds`, >= 0."""
        assert microseconds >= 0, "time does not go back"
        self._elapsed_us += microseconds
