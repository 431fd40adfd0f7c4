"""
The lifecycle waterfall: from a timeline to sections of rows, in time; pure, drawn by `remora.cli.drawing`.

A timeline is what a node tells about one environment (`GET /_remora/timelines/{environment}`): events in
order, each `at_us` microseconds after the environment's creation began. It becomes *phases* (init, invoke,
shutdown), one section each, with a row for everyone who took part, and *gaps* between them (frozen or idle).
Each section has a scale of its own: an invocation of microseconds can be seen beside an init of a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

RUNTIME = "runtime"
SECTIONS_MAX = 5
"""So many invocations are drawn at most; of more, the first three and the last two, the rest is summed up."""
IDLE_US_MIN = 1_000
"""Shorter pauses between phases are not worth a line."""

PhaseName = Literal["init", "invoke", "shutdown"]
SpanKind = Literal["start", "work", "beside", "tail"]

_OF_EXTENSIONS = frozenset(
    ("process.started", "process.exited", "extension.registered", "extension.done", "extension.notified")
)
_STARTS: dict[str, PhaseName] = {
    "init.started": "init",
    "invoke.started": "invoke",
    "shutdown.started": "shutdown",
}


class Event(msgspec.Struct, frozen=True):
    """Something that happened in an environment."""

    at_us: int
    kind: str
    name: str | None = None
    request_id: str | None = None
    detail: str | None = None


class Timeline(msgspec.Struct, frozen=True):
    """What happened in one environment, in order."""

    environment: str
    function: str
    started_ms: int
    events: list[Event]


@dataclass(frozen=True, slots=True)
class Span:
    """
    A stretch of a row, microseconds since the environment's creation began.

    Kinds: `start` (a process starts: until it registered), `work` (what others wait for), `beside` (an
    extension while the runtime works), `tail` (after the response was sent).
    """

    start_us: int
    end_us: int
    kind: SpanKind


@dataclass(frozen=True, slots=True)
class Row:
    """One party in one phase; `mark_us` is where it answered, registered or was told to end."""

    label: str
    spans: tuple[Span, ...]
    note: str = ""
    mark_us: int | None = None

    @property
    def duration_us(self) -> int:
        """From the first to the last moment of the row, microseconds."""
        return self.spans[-1].end_us - self.spans[0].start_us if self.spans else 0


@dataclass(frozen=True, slots=True)
class Section:
    """One phase: its title, when it was, and who took part."""

    phase: PhaseName
    title: str
    start_us: int
    end_us: int
    rows: tuple[Row, ...]
    note: str = ""


@dataclass(frozen=True, slots=True)
class Gap:
    """Time between two phases; `duration_us` is None if it has not ended yet."""

    kind: Literal["frozen", "idle"]
    duration_us: int | None


@dataclass(frozen=True, slots=True)
class Omission:
    """Invocations that are not drawn: how many, and how long they took."""

    count: int
    median_us: int
    longest_us: int


Part = Section | Gap | Omission


@dataclass(frozen=True, slots=True)
class Cost:
    """What one extension cost; microseconds, None where it did not come to that."""

    name: str
    registered_us: int | None
    ready_us: int | None
    tails_us: tuple[int, ...]
    shutdown_us: int | None


@dataclass(frozen=True, slots=True)
class _Phase:
    """The events of one phase, its first and its last one included."""

    name: PhaseName
    events: tuple[Event, ...]
    end_us: int
    ended: Event | None

    @property
    def start_us(self) -> int:
        return self.events[0].at_us

    def first(self, kind: str, name: str | None = None) -> Event | None:
        return next((e for e in self.events if e.kind == kind and (name is None or e.name == name)), None)

    def at(self, kind: str, name: str | None = None) -> int | None:
        event = self.first(kind, name)
        return event.at_us if event else None

    def participants(self, kinds: frozenset[str] = _OF_EXTENSIONS) -> list[str]:
        """Return the extensions that had events of these kinds, in order of their first one."""
        found = (e.name for e in self.events if e.kind in kinds and e.name and e.name != RUNTIME)
        return list(dict.fromkeys(found))


def parts(timeline: Timeline) -> list[Part]:
    """Lay out a timeline: what to draw, from top to bottom."""
    phases = list(_phases(timeline.events))
    names = _names(phases)
    shown: list[Part] = []
    count = 0
    omitted: list[_Phase] = []
    invocations = sum(phase.name == "invoke" for phase in phases)
    previous: _Phase | None = None
    for phase in phases:
        if phase.name == "invoke":
            count += 1
            if invocations > SECTIONS_MAX and SECTIONS_MAX - 2 < count <= invocations - 2:
                omitted.append(phase)
                previous = phase
                continue
        if omitted:
            shown.append(_omission(omitted))
            omitted = []
        if previous is not None:
            shown.extend(_gap(timeline.events, previous.end_us, phase.start_us))
        shown.append(_section(phase, count, names))
        if previous is None or phase.end_us > previous.end_us:
            previous = phase
    if omitted:
        shown.append(_omission(omitted))
    if phases and _is_frozen_at_last(timeline.events):
        shown.append(Gap("frozen", None))
    return shown


def costs(timeline: Timeline) -> list[Cost]:
    """Sum up what each extension cost in init, after the responses, and in shutdown."""
    phases = list(_phases(timeline.events))
    result = []
    for name in _names(phases):
        inits = [phase for phase in phases if phase.name == "init" and name in phase.participants()]
        shutdowns = [phase for phase in phases if phase.name == "shutdown"]
        tails = [_tail_us(phase, name) for phase in phases if phase.name == "invoke"]
        result.append(
            Cost(
                name=name,
                registered_us=_since_start(inits[0], "extension.registered", name) if inits else None,
                ready_us=_since_start(inits[0], "extension.ready", name) if inits else None,
                tails_us=tuple(tail for tail in tails if tail is not None),
                shutdown_us=_shutdown_us(shutdowns[-1], name) if shutdowns else None,
            )
        )
    return result


def _phases(events: Sequence[Event]) -> Iterator[_Phase]:
    """Cut the events into phases, in order of their starts; an init may lie within an invocation."""
    is_first = True
    for number, event in enumerate(events):
        phase = _STARTS.get(event.kind)
        if phase is None:
            continue
        first = 0 if is_first and phase == "init" else number
        is_first = False
        last = next((i for i in range(number, len(events)) if events[i].kind == f"{phase}.ended"), None)
        stop = len(events) if last is None else last + 1
        ended = None if last is None else events[last]
        yield _Phase(phase, tuple(events[first:stop]), events[stop - 1].at_us, ended)


def _names(phases: Sequence[_Phase]) -> list[str]:
    """Return every extension, in order of appearance: the order of rows in all sections."""
    return list(dict.fromkeys(name for phase in phases for name in phase.participants()))


def _section(phase: _Phase, count: int, names: Sequence[str]) -> Section:
    detail = (phase.ended.detail or "") if phase.ended else "not ended yet"
    note = "" if detail == "success" else detail
    if phase.name == "init":
        started = phase.first("init.started")
        within = started is not None and started.detail == "invoke"
        title = "init within the invocation" if within else "init"
        rows = _init_rows(phase, names)
    elif phase.name == "invoke":
        title = f"invoke {count}"
        request_id = phase.events[0].request_id
        note = "  ".join(text for text in (request_id, note) if text)
        rows = _invoke_rows(phase, names)
    else:
        title = "shutdown"
        note = "  ".join(text for text in (phase.events[0].detail, "" if phase.ended else detail) if text)
        rows = _shutdown_rows(phase, names)
    start_us = 0 if phase.events[0].kind == "sandbox.created" else phase.start_us
    return Section(phase.name, title, start_us, phase.end_us, tuple(rows), note)


def _init_rows(phase: _Phase, names: Sequence[str]) -> Iterator[Row]:
    created_us = phase.at("sandbox.created")
    if created_us is not None:
        yield Row("sandbox", (Span(0, created_us, "work"),))
    own_process = [name for name in names if phase.first("process.started", name)]
    for name in own_process:
        yield _extension_init_row(phase, name)
    if phase.first("process.started", RUNTIME):
        start_us = phase.at("process.started", RUNTIME) or 0
        end_us, note = _end(phase, phase.at("runtime.ready"), RUNTIME)
        yield Row(RUNTIME, (Span(start_us, end_us, "work"),), note or "with function")
    for name in names:
        if name not in own_process and phase.first("extension.registered", name):
            yield _extension_init_row(phase, name)


def _extension_init_row(phase: _Phase, name: str) -> Row:
    started_us = phase.at("process.started", name)
    registered_us = phase.at("extension.registered", name)
    end_us, note = _end(phase, phase.at("extension.ready", name), name)
    spans = []
    if started_us is not None:
        spans.append(Span(started_us, registered_us if registered_us is not None else end_us, "start"))
    if registered_us is not None:
        spans.append(Span(registered_us, end_us, "work"))
        if not note and started_us is not None:
            note = f"registered {ms(registered_us - started_us)}"
    return Row(name, tuple(spans), note or ("internal" if started_us is None else ""), registered_us)


def _invoke_rows(phase: _Phase, names: Sequence[str]) -> Iterator[Row]:
    init_ended_us = phase.at("init.ended")
    start_us = phase.start_us if init_ended_us is None else init_ended_us
    responded_us = phase.at("runtime.responded")
    end_us, note = _end(phase, phase.at("runtime.done"), RUNTIME)
    spans = [Span(start_us, end_us if responded_us is None else responded_us, "work")]
    if responded_us is not None:
        spans.append(Span(responded_us, end_us, "tail"))
        note = note or f"answered {ms(responded_us - start_us)}"
    yield Row(RUNTIME, tuple(spans), note, responded_us)
    for name in names:
        if phase.first("extension.done", name) or phase.first("process.exited", name):
            yield _extension_invoke_row(phase, name, start_us)


def _extension_invoke_row(phase: _Phase, name: str, start_us: int) -> Row:
    end_us, note = _end(phase, phase.at("extension.done", name), name)
    turn_us = _response_us(phase)
    if turn_us is None or turn_us >= end_us:
        return Row(name, (Span(start_us, end_us, "beside"),), note)
    spans = (Span(start_us, turn_us, "beside"), Span(turn_us, end_us, "tail"))
    return Row(name, spans, note or f"tail {ms(end_us - turn_us)}")


def _shutdown_rows(phase: _Phase, names: Sequence[str]) -> Iterator[Row]:
    if phase.first("process.exited", RUNTIME) or phase.first("runtime.terminated"):
        start_us = phase.at("runtime.terminated")
        yield _exit_row(phase, RUNTIME, phase.start_us if start_us is None else start_us)
    for name in names:
        notified_us = phase.at("extension.notified", name)
        if notified_us is not None or phase.first("process.exited", name):
            yield _exit_row(phase, name, phase.start_us if notified_us is None else notified_us)


def _exit_row(phase: _Phase, name: str, start_us: int) -> Row:
    end_us, note = _end(phase, None, name)
    return Row(name, (Span(min(start_us, end_us), end_us, "work"),), note)


def _end(phase: _Phase, done_us: int | None, name: str) -> tuple[int, str]:
    """Return when a party was done in a phase and, if it was not, what became of it."""
    exited = phase.first("process.exited", name)
    fate = (exited.detail or "exited") if exited else ""
    if done_us is not None:
        return done_us, fate
    if exited is not None:
        return exited.at_us, fate
    return phase.end_us, "not done" if phase.ended else "running"


def _response_us(phase: _Phase) -> int | None:
    """Return when the client had its answer: after that, extensions keep nobody waiting."""
    responded_us = phase.at("runtime.responded")
    return phase.at("runtime.done") if responded_us is None else responded_us


def _tail_us(phase: _Phase, name: str) -> int | None:
    done_us = phase.at("extension.done", name)
    if done_us is None:
        return None
    response_us = _response_us(phase)
    return 0 if response_us is None else max(0, done_us - response_us)


def _since_start(phase: _Phase, kind: str, name: str) -> int | None:
    """Return the time from an extension's start (its registration, if it has no process) to an event."""
    started_us = phase.at("process.started", name)
    if started_us is None:
        started_us = phase.at("extension.registered", name)
    at_us = phase.at(kind, name)
    return None if started_us is None or at_us is None else at_us - started_us


def _shutdown_us(phase: _Phase, name: str) -> int | None:
    notified_us = phase.at("extension.notified", name)
    exited_us = phase.at("process.exited", name)
    return None if notified_us is None or exited_us is None else exited_us - notified_us


def _gap(events: Sequence[Event], start_us: int, end_us: int) -> Iterator[Gap]:
    """Tell what lies between two phases."""
    frozen_us = 0
    since_us: int | None = None
    for event in events:
        if not start_us <= event.at_us <= end_us:
            continue
        if event.kind == "environment.frozen":
            since_us = event.at_us
        elif event.kind == "environment.thawed" and since_us is not None:
            frozen_us += event.at_us - since_us
            since_us = None
    if since_us is not None:
        frozen_us += end_us - since_us
    if frozen_us:
        yield Gap("frozen", frozen_us)
    elif end_us - start_us >= IDLE_US_MIN:
        yield Gap("idle", end_us - start_us)


def _is_frozen_at_last(events: Sequence[Event]) -> bool:
    last = next((e.kind for e in reversed(events) if not e.kind.startswith("extension.")), "")
    return last == "environment.frozen"


def _omission(phases: Sequence[_Phase]) -> Omission:
    durations = sorted(phase.end_us - phase.start_us for phase in phases)
    return Omission(len(durations), durations[len(durations) // 2], durations[-1])


def ms(duration_us: int) -> str:
    """Write a duration in milliseconds, one decimal: `1,203.5 ms`."""
    return f"{duration_us / 1_000:,.1f} ms"
