"""An event loop for tests whose time limits mean something on a machine that is away now and then."""

from __future__ import annotations

import asyncio
import selectors
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine

_T = TypeVar("_T")
_TURN_S: Final = 0.001
"""How much time may pass, for the loop, in one round of its callbacks."""


class PatientLoop(asyncio.SelectorEventLoop):
    """
    A loop on whose clock nothing takes long but waiting.

    Its time passes while it waits, no longer than it meant to wait; a round of callbacks takes what it takes,
    but a millisecond at most. Where everything happens in one loop, a limit of 50 ms is then met by whatever
    answers without waiting, though the machine may take the processor away for seconds at any line.
    """

    def __init__(self) -> None:
        self._shown_s = self._since_s = time.monotonic()
        self._most_s = _TURN_S
        super().__init__(_Selector(self))

    def time(self) -> float:
        """Return the loop's time, seconds."""
        return self._shown_s + min(time.monotonic() - self._since_s, self._most_s)

    def may_take(self, seconds: float) -> None:
        """From here on, let no more than so much time pass until the next call."""
        self._shown_s, self._since_s, self._most_s = self.time(), time.monotonic(), seconds


class _Selector(selectors.DefaultSelector):
    """Tells the loop when it waits, and for how long."""

    def __init__(self, loop: PatientLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        self._loop.may_take(float("inf") if timeout is None else max(0.0, timeout))
        try:
            return super().select(timeout)
        finally:
            self._loop.may_take(_TURN_S)


def run(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """Run to the end, as `asyncio.run` does, in a patient loop."""
    with asyncio.Runner(loop_factory=PatientLoop) as runner:
        return runner.run(coroutine)
