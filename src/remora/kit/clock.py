"""Time, as something that is handed over: one place reads the machine's clocks."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where time comes from. Deadlines and durations use the first reading, records the second."""

    def monotonic_us(self) -> int:
        """Microseconds since some moment in the past; never goes back."""

    def wall_ms(self) -> int:
        """Milliseconds since 1970-01-01T00:00:00Z; may jump when the machine's clock is set."""


class SystemClock:
    """The machine's clocks."""

    __slots__ = ()

    def monotonic_us(self) -> int:
        """Read CLOCK_MONOTONIC, microseconds."""
        return time.monotonic_ns() // 1_000

    def wall_ms(self) -> int:
        """Read CLOCK_REALTIME, milliseconds."""
        return time.time_ns() // 1_000_000
