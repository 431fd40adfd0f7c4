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

PhaseName = Literal["init", "restore", "invoke", "shutdown"]
SpanKind = Literal["start", "work", "beside", "tail"]

_OF_EXTENSIONS = frozenset(
    ("process.started", "process.exited", "extension.registered", "extension.done", "extension.notified")
)
_STARTS: dict[str, PhaseName] = {
    "init.started": "init",
    "restore.started": "restore",
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
        return max((span.end_us for span in self.spans), default=0) - min(
            (span.start_us for span in self.spans), default=0
        )


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
    init: tuple[Event, ...] = ()
    """Of an invocation: the events of the init within it, which are not among its own."""

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
    events = sorted(timeline.events, key=lambda event: event.at_us)
    phases = list(_phases(events))
    names = _names(phases)
    subscribed = frozenset(event.name for event in events if event.kind == "extension.done" and event.name)
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
            shown.extend(_gap(events, previous.end_us, phase.start_us))
        shown.append(_section(phase, count, names, subscribed))
        if previous is None or phase.end_us > previous.end_us:
            previous = phase
    if omitted:
        shown.append(_omission(omitted))
    if phases and _is_frozen_at_last(events):
        shown.append(Gap("frozen", None))
    return shown


def costs(timeline: Timeline) -> list[Cost]:
    """Sum up what each extension cost in init, after the responses, and in shutdown."""
    phases = list(_phases(sorted(timeline.events, key=lambda event: event.at_us)))
    result = []
    for name in _names(phases):
        inits = [phase for phase in phases if phase.name == "init" and name in phase.participants()]
        shutdowns = [phase for phase in phases if phase.name == "shutdown"]
        tails = [_tail_us(phase, name) for phase in phases if phase.name == "invoke"]
        result.append(
            Cost(
                name=name,
                registered_us=_registered_us(inits[0], name) if inits else None,
                ready_us=_ready_us(inits[0], name) if inits else None,
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
        first = 0 if is_first and phase in {"init", "restore"} else number
        is_first = False
        last = next((i for i in range(number, len(events)) if events[i].kind == f"{phase}.ended"), None)
        stop = len(events) if last is None else last + 1
        ended = None if last is None else events[last]
        own, init = _without_init(events[first:stop]) if phase == "invoke" else (events[first:stop], ())
        yield _Phase(phase, tuple(own), events[stop - 1].at_us, ended, tuple(init))


def _without_init(events: Sequence[Event]) -> tuple[Sequence[Event], Sequence[Event]]:
    """Take the init out of an invocation's events, if there is one in it."""
    start = next((i for i, event in enumerate(events) if event.kind == "init.started"), None)
    if start is None:
        return events, ()
    stop = next((i + 1 for i in range(start, len(events)) if events[i].kind == "init.ended"), len(events))
    return (*events[:start], *events[stop:]), events[start:stop]


def _names(phases: Sequence[_Phase]) -> list[str]:
    """Return every extension, in order of appearance: the order of rows in all sections."""
    return list(dict.fromkeys(name for phase in phases for name in phase.participants()))


def _section(phase: _Phase, count: int, names: Sequence[str], subscribed: frozenset[str]) -> Section:
    note = _status(phase.ended)
    if phase.name == "init":
        started = phase.first("init.started")
        within = started is not None and started.detail == "invoke"
        title = "init within the invocation" if within else "init"
        rows = _init_rows(phase, names)
    elif phase.name == "restore":
        title = "restore"
        rows = _restore_rows(phase)
    elif phase.name == "invoke":
        title = f"invoke {count}"
        request_id = phase.events[0].request_id
        note = "  ".join(text for text in (request_id, note) if text)
        rows = _invoke_rows(phase, [n for n in names if n in subscribed or phase.first("process.exited", n)])
    else:
        title = "shutdown"
        note = "  ".join(text for text in (phase.events[0].detail, note) if text)
        rows = _shutdown_rows(phase, names)
    start_us = 0 if phase.events[0].kind == "sandbox.created" else phase.start_us
    return Section(phase.name, title, start_us, phase.end_us, tuple(rows), note)


def _status(ended: Event | None) -> str:
    """Return what is worth saying about the end of a phase: nothing if it went well."""
    if ended is None or not ended.kind.endswith(".ended"):
        return "not ended yet"
    return "" if ended.detail == "success" else ended.detail or ""


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
        yield Row(RUNTIME, (_span(start_us, end_us, "work"),), note or "with function")
    for name in names:
        if name not in own_process and phase.first("extension.registered", name):
            yield _extension_init_row(phase, name)


def _extension_init_row(phase: _Phase, name: str) -> Row:
    started_us = _started_us(phase, name)
    registered_us = phase.at("extension.registered", name)
    end_us, note = _end(phase, phase.at("extension.ready", name), name)
    spans = []
    if started_us is not None:
        spans.append(_span(started_us, end_us if registered_us is None else registered_us, "start"))
    if registered_us is not None:
        spans.append(_span(registered_us, end_us, "work"))
        if not note and started_us is not None:
            note = f"registered {ms(registered_us - started_us)}"
    return Row(name, tuple(spans), note or ("internal" if started_us is None else ""), registered_us)


def _restore_rows(phase: _Phase) -> Iterator[Row]:
    created_us, start_us = phase.at("sandbox.created"), phase.at("restore.started") or phase.start_us
    if created_us is not None:
        yield Row("snapshot", (Span(0, created_us, "work"),))
    is_done = phase.ended is not None and phase.ended.detail == "success"
    end_us, fate = _end(phase, phase.end_us if is_done else None, RUNTIME)
    yield Row(RUNTIME, (_span(start_us, end_us, "work"),), fate or "with its hooks")


def _invoke_rows(phase: _Phase, names: Sequence[str]) -> Iterator[Row]:
    start_us = phase.start_us
    if phase.init:
        ended = phase.init[-1]
        start_us = ended.at_us
        yield Row("init", (_span(phase.init[0].at_us, ended.at_us, "start"),), _status(ended))
        if _status(ended):
            return
    responded_us = phase.at("runtime.responded")
    end_us, note = _end(phase, phase.at("runtime.done"), RUNTIME)
    spans = [_span(start_us, end_us if responded_us is None else responded_us, "work")]
    if responded_us is not None:
        spans.append(_span(responded_us, end_us, "tail"))
        note = note or f"answered {ms(max(0, responded_us - start_us))}"
    yield Row(RUNTIME, tuple(spans), note, responded_us)
    for name in names:
        yield _extension_invoke_row(phase, name, start_us)


def _extension_invoke_row(phase: _Phase, name: str, start_us: int) -> Row:
    end_us, note = _end(phase, phase.at("extension.done", name), name)
    turn_us = _response_us(phase)
    if turn_us is None or turn_us >= end_us:
        return Row(name, (_span(start_us, end_us, "beside"),), note)
    spans = (_span(start_us, turn_us, "beside"), _span(turn_us, end_us, "tail"))
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
    return Row(name, (_span(start_us, end_us, "work"),), note)


def _span(start_us: int, end_us: int, kind: SpanKind) -> Span:
    """Make a span that does not end before it starts, whatever the events say."""
    return Span(start_us, max(start_us, end_us), kind)


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


def _started_us(phase: _Phase, name: str) -> int | None:
    """
    Return when an extension of an init started; None without a process of its own.

    The platform may hear of the start after the extension has registered: then all that is known is that it
    was not before the order to start, which is given when init begins.
    """
    heard_us, registered_us = phase.at("process.started", name), phase.at("extension.registered", name)
    if heard_us is None or registered_us is None or heard_us <= registered_us:
        return heard_us
    return phase.at("init.started")


def _registered_us(phase: _Phase, name: str) -> int | None:
    """Return how long an extension delayed the runtime's start; None without a process of its own."""
    return _between(_started_us(phase, name), phase.at("extension.registered", name))


def _ready_us(phase: _Phase, name: str) -> int | None:
    """Return how long an extension took from its start (internal: its registration) until it was ready."""
    started_us = _started_us(phase, name)
    if started_us is None:
        started_us = phase.at("extension.registered", name)
    return _between(started_us, phase.at("extension.ready", name))


def _shutdown_us(phase: _Phase, name: str) -> int | None:
    return _between(phase.at("extension.notified", name), phase.at("process.exited", name))


def _between(start_us: int | None, end_us: int | None) -> int | None:
    return None if start_us is None or end_us is None else max(0, end_us - start_us)


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
