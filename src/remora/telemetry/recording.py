"""
What is recorded for export: each invocation with everything that happened in it.

Nothing is computed while invocations run: what happened is put on a list, and the list is handed over when
the invocation ends. Whoever exports takes the lists later, and makes traces of them. What nobody takes in
time is dropped and counted.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from remora.lifecycle.messages import Happened, Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.telemetry.facts import Subject
    from remora.telemetry.timeline import Timeline

WAITING_MAX: Final = 4_096
"""Recorded invocations that wait for export; of more, the oldest are dropped."""
HAPPENED_MAX: Final = 1_000
"""Of one invocation. With ten extensions and two inits about 150 things happen."""
TRACES_MAX: Final = 16_384
"""Invocations whose trace header is remembered, for their log lines."""

SUBJECTS_MAX: Final = 4_096
"""Environments that are remembered, for their log lines."""


class Recorded(NamedTuple):
    """
    What happened in one invocation, or in an init that no invocation waited for.

    Args:
        subject: In whose environment.
        environment: The environment's identifier.
        started_us: When its creation began, microseconds of the monotonic clock.
        started_ms: The same instant, milliseconds since 1970.
        sandbox_us: When its sandbox was there, monotonic; -1 if that is not known.
        invoked_arn: The function as it was invoked; empty if there was no invocation.
        trace_id: The trace header; empty if there was none.
        happened: Everything, in order.
        memory_peak_bytes: Highest memory use of the environment so far.
    """

    subject: Subject
    environment: str
    started_us: int
    started_ms: int
    sandbox_us: int
    invoked_arn: str
    trace_id: str
    happened: list[Happened]
    memory_peak_bytes: int


class Recorder:
    """
    What waits for export in a node.

    Args:
        wake: Called when something begins to wait.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        self.dropped = 0
        """Invocations that nobody took in time."""
        self._wake = wake
        self._waiting: deque[Recorded] = deque()
        self._traces: OrderedDict[str, str] = OrderedDict()
        self._subjects: OrderedDict[str, Subject] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Recorder waiting={len(self._waiting)} dropped={self.dropped}>"

    @property
    def waiting(self) -> int:
        """How many invocations wait for export."""
        return len(self._waiting)

    def open(self, subject: Subject, timeline: Timeline) -> Recording:
        """Begin to record an environment."""
        self.know(subject)
        return Recording(self, subject, timeline)

    def know(self, subject: Subject) -> None:
        """Remember whose a log stream is."""
        self._subjects[subject.instance_id] = subject
        if len(self._subjects) > SUBJECTS_MAX:
            self._subjects.popitem(last=False)

    def take(self, count: int) -> list[Recorded]:
        """Return what has waited for longest, `count` at most."""
        return [self._waiting.popleft() for _ in range(min(count, len(self._waiting)))]

    def subject(self, stream: str) -> Subject | None:
        """Return whose log stream that is; None if it belongs to no environment, or to one of long ago."""
        return self._subjects.get(stream)

    def trace_id(self, request_id: str) -> str:
        """Return the trace header of an invocation; empty if it had none, or was long ago."""
        return self._traces.get(request_id, "")

    def put(self, recorded: Recorded) -> None:
        """Let something wait for export."""
        if len(self._waiting) >= WAITING_MAX:
            self._waiting.popleft()
            self.dropped += 1
        self._waiting.append(recorded)
        self._wake()

    def note(self, request_id: str, trace_id: str) -> None:
        """Remember the trace header of an invocation."""
        self._traces[request_id] = trace_id
        if len(self._traces) > TRACES_MAX:
            self._traces.popitem(last=False)


class Recording:
    """
    What happened in one environment since its last invocation ended.

    Args:
        recorder: The node's.
        subject: Whose it is.
        timeline: Its timeline, which knows when it was made.
    """

    def __init__(self, recorder: Recorder, subject: Subject, timeline: Timeline) -> None:
        self._recorder = recorder
        self._subject = subject
        self._timeline = timeline
        self._happened: list[Happened] = []
        self._invoked_arn = self._trace_id = ""
        self._is_working = False
        self._memory_peak_bytes = 0

    def invoked(self, invoked_arn: str, trace_id: str) -> None:
        """An invocation follows, of the function called by that ARN, with this trace header, or none."""
        self._invoked_arn, self._trace_id = invoked_arn, trace_id

    def moved(self, instance_id: str) -> None:
        """Whose it is has got another log stream, by that name."""
        self._subject = replace(self._subject, instance_id=instance_id)
        self._recorder.know(self._subject)

    def happened(self, happened: Happened, memory_peak_bytes: int = 0) -> None:
        """Something happened; the peak is known when an invocation ends."""
        kind = happened.kind
        if kind is Kind.INVOKE_STARTED:
            self._is_working = True
            self._recorder.note(happened.request_id, self._trace_id)
        if len(self._happened) < HAPPENED_MAX or kind is Kind.INVOKE_ENDED:
            self._happened.append(happened)
        if kind is Kind.INVOKE_ENDED:
            self._memory_peak_bytes = memory_peak_bytes
            self._hand_over()
        elif kind is Kind.SHUTDOWN_ENDED:
            self._shut_down()

    def _shut_down(self) -> None:
        """Hand over an init that no invocation followed; forget everything else, it ended with the reset."""
        if any(each.kind is Kind.INIT_STARTED for each in self._happened) and not self._is_working:
            self._invoked_arn = self._trace_id = ""
            self._hand_over()
        elif not self._is_working:
            self._happened = []

    def _hand_over(self) -> None:
        happened, self._happened = self._happened, []
        self._is_working = False
        self._recorder.put(
            Recorded(
                self._subject,
                self._timeline.environment,
                self._timeline.started_us,
                self._timeline.started_ms,
                self._timeline.sandbox_us,
                self._invoked_arn,
                self._trace_id,
                happened,
                self._memory_peak_bytes,
            )
        )
