"""Timelines: what happened in an environment and when, for people to look at; bounded in memory."""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

import msgspec

from remora.lifecycle.messages import RUNTIME_PROCESS, Kind

if TYPE_CHECKING:
    from remora.lifecycle.messages import Happened

MARKS_MAX = 2_000
"""Marks kept per environment; the oldest go first."""
TIMELINES_MAX = 200
"""Timelines kept, those of ended environments included; the oldest go first."""

_SANDBOX_CREATED = "sandbox.created"
_NOT_MARKED = (Kind.EXTENSION_STATE,)


class Mark(msgspec.Struct, frozen=True):
    """One event: `at_us` counts microseconds from the start of the environment's creation."""

    at_us: int
    kind: str
    name: str | None = None
    request_id: str | None = None
    detail: str | None = None


class Timeline:
    """
    What happened in one environment.

    Args:
        environment: Its identifier.
        function: Its function's name.
        started_us: Monotonic time of the start of its creation, microseconds.
        started_ms: The same instant as wall time, epoch milliseconds.
    """

    def __init__(self, environment: str, function: str, started_us: int, started_ms: int) -> None:
        self.environment = environment
        self.function = function
        self.started_us = started_us
        self.started_ms = started_ms
        self.sandbox_us = -1
        """When the sandbox was there, monotonic, microseconds; -1 before that."""
        self._marks: deque[Happened | Mark] = deque(maxlen=MARKS_MAX)

    def add(self, happened: Happened) -> None:
        """Note what happened; cheap, it is on the warm path."""
        if happened.kind not in _NOT_MARKED:
            self._marks.append(happened)

    def mark(self, kind: str, at_us: int) -> None:
        """Note something that the lifecycle machine does not know of, at a monotonic time."""
        if kind == _SANDBOX_CREATED:
            self.sandbox_us = at_us
        self._marks.append(Mark(at_us - self.started_us, kind))

    def marks(self) -> list[Mark]:
        """Return the marks in order."""
        return [mark if isinstance(mark, Mark) else self._from_happened(mark) for mark in self._marks]

    def _from_happened(self, happened: Happened) -> Mark:
        detail = happened.phase if happened.kind is Kind.INIT_STARTED else happened.detail
        name = happened.name
        if name != RUNTIME_PROCESS:
            name = name.removeprefix("extension:")
        return Mark(
            happened.at_us - self.started_us,
            happened.kind.value,
            name or None,
            happened.request_id or None,
            detail or None,
        )

    def to_json(self) -> dict[str, object]:
        """Return the timeline as the node's API shows it."""
        return {
            "environment": self.environment,
            "function": self.function,
            "started_ms": self.started_ms,
            "events": self.marks(),
        }


class Timelines:
    """The timelines of a node, living and recently ended environments alike."""

    def __init__(self) -> None:
        self._timelines: OrderedDict[str, Timeline] = OrderedDict()

    def open(self, environment: str, function: str, started_us: int, started_ms: int) -> Timeline:
        """Begin a timeline; the oldest one is forgotten if there are too many."""
        timeline = Timeline(environment, function, started_us, started_ms)
        self._timelines[environment] = timeline
        if len(self._timelines) > TIMELINES_MAX:
            self._timelines.popitem(last=False)
        return timeline

    def get(self, environment: str) -> Timeline | None:
        """Return one environment's timeline, None if it is unknown or forgotten."""
        return self._timelines.get(environment)

    def all(self) -> list[Timeline]:
        """Return all timelines, oldest first."""
        return list(self._timelines.values())
