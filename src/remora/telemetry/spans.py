"""
An invocation as a trace: spans in time, made from what was recorded of it.

Pure. One root span, the invocation; below it the init that it waited for (sandbox, each extension, runtime),
the restore of a snapshot, the runtime (and in it the response), each extension, and what came after the
runtime. An init that no invocation waited for is a trace of its own.

Source: OpenTelemetry semantic conventions, "FaaS spans", for the names of attributes that exist there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from remora.lifecycle.messages import RUNTIME_PROCESS, Kind
from remora.telemetry.report import billed_ms_of
from remora.telemetry.traces import TraceIds, trace_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.lifecycle.messages import Happened
    from remora.telemetry.recording import Recorded

Value = str | int | float | bool

_EXTENSION: Final = "extension "


@dataclass(slots=True)
class Span:
    """
    A stretch of time with a name.

    Args:
        name: `init`, `extension tracer`; the root has the function's name.
        start_us: Microseconds of the monotonic clock.
        end_us: The same, not before `start_us`.
        span_id: 16 hex digits.
        parent_id: Those of the span above; empty for none.
        error: What went wrong, `Runtime.ExitError`; empty if nothing did.
        attributes: More about it.
        marks: Moments within it.
        is_root: True for the invocation, which serves a request.
    """

    name: str
    start_us: int
    end_us: int
    span_id: str
    parent_id: str = ""
    error: str = ""
    attributes: dict[str, Value] = field(default_factory=dict)
    marks: list[tuple[str, int]] = field(default_factory=list)
    is_root: bool = False


@dataclass(frozen=True, slots=True)
class Trace:
    """Spans of one trace, the root first; `trace_id` has 32 hex digits."""

    trace_id: str
    spans: list[Span]


def traces(recorded: Recorded, new_span_id: Callable[[], str]) -> list[Trace]:
    """
    Return what was recorded as traces: usually one.

    Args:
        recorded: An invocation, or an init.
        new_span_id: Returns 16 random hex digits.
    """
    ended = _last(recorded.happened, Kind.INVOKE_ENDED)
    ahead, during = _parted(recorded.happened)
    if ended is None:
        return [_init_alone(recorded, ahead, new_span_id)]
    made = []
    started = _first(ahead, Kind.INIT_STARTED)
    if started is not None and started.phase == "init" and ended.init_us < 0:
        made.append(_init_alone(recorded, ahead, new_span_id))
        ahead = [each for each in ahead if each.kind is Kind.RESTORE_ENDED]
    made.append(_Invocation(recorded, ended, ahead, during, new_span_id).trace())
    return made


def _parted(happened: Sequence[Happened]) -> tuple[list[Happened], list[Happened]]:
    """Return what was before the invocation began, and what came then."""
    for at, each in enumerate(happened):
        if each.kind is Kind.INVOKE_STARTED:
            return list(happened[:at]), list(happened[at:])
    return list(happened), []


def _init_alone(recorded: Recorded, happened: Sequence[Happened], new_span_id: Callable[[], str]) -> Trace:
    spans = _init_spans(recorded, happened, "", new_span_id)
    return Trace(recorded.environment, spans)


class _Invocation:
    """Lays one invocation out."""

    def __init__(
        self,
        recorded: Recorded,
        ended: Happened,
        ahead: Sequence[Happened],
        during: Sequence[Happened],
        new_span_id: Callable[[], str],
    ) -> None:
        self._recorded, self._ended = recorded, ended
        self._ahead, self._during = ahead, during
        self._new_span_id = new_span_id
        self._ids: TraceIds = trace_ids(recorded.trace_id, ended.request_id)
        started = _first(during, Kind.INVOKE_STARTED)
        self._started_us = started.at_us if started is not None else ended.at_us - ended.duration_us

    def trace(self) -> Trace:
        below = [
            *_init_spans(self._recorded, self._ahead, self._ids.span, self._new_span_id),
            *self._restore(),
            *self._runtime(),
            *self._extensions(),
            *self._post_runtime(),
        ]
        first_us = min([self._started_us, *(span.start_us for span in below)])
        return Trace(self._ids.trace, [self._root(first_us), *below])

    def _root(self, start_us: int) -> Span:
        recorded, ended = self._recorded, self._ended
        attributes: dict[str, Value] = {
            "faas.invocation_id": ended.request_id,
            "faas.coldstart": ended.init_us >= 0 or ended.restore_us >= 0,
            "cloud.resource_id": recorded.invoked_arn,
            "remora.status": ended.detail,
            "remora.duration_ms": ended.duration_us / 1000,
            "remora.billed_duration_ms": billed_ms_of(ended),
            "remora.max_memory_used": recorded.memory_peak_bytes,
        }
        if ended.init_us >= 0:
            attributes["remora.init_duration_ms"] = ended.init_us / 1000
        if ended.restore_us >= 0:
            attributes["remora.restore_duration_ms"] = ended.restore_us / 1000
        error = "" if ended.detail == "success" else ended.error_type or ended.detail
        ids = self._ids
        function = recorded.subject.function_name
        return Span(function, start_us, ended.at_us, ids.span, ids.parent, error, attributes, is_root=True)

    def _restore(self) -> list[Span]:
        ended = _last(self._ahead, Kind.RESTORE_ENDED)
        if ended is None or self._ended.restore_us < 0:
            return []
        span = self._child("restore", ended.at_us - ended.duration_us, ended.at_us)
        if ended.detail != "success":
            span.error = ended.error_type or ended.detail
        return [span]

    def _runtime(self) -> list[Span]:
        done = _last(self._during, Kind.RUNTIME_DONE)
        responded = _first(self._during, Kind.RUNTIME_RESPONDED)
        end_us = done.at_us if done is not None else self._ended.at_us
        start_us = self._started_us
        span = self._child("runtime", start_us, end_us)
        if responded is not None:
            span.marks.append(("responded", responded.at_us))
        if done is None:
            span.error = self._ended.error_type or self._ended.detail
            return [span]
        span.attributes["remora.produced_bytes"] = done.produced_bytes
        if done.detail != "success":
            span.error = done.error_type or done.detail
        if done.response_us < 0:
            return [span]
        began_us = start_us + done.latency_us
        response = self._child("response", began_us, began_us + done.response_us)
        response.parent_id = span.span_id
        return [span, response]

    def _extensions(self) -> list[Span]:
        return [
            self._child(_EXTENSION + each.name, self._started_us, each.at_us)
            for each in self._during
            if each.kind is Kind.EXTENSION_DONE
        ]

    def _post_runtime(self) -> list[Span]:
        if self._ended.post_runtime_us < 0:
            return []
        end_us = self._ended.at_us
        return [self._child("post-runtime", end_us - self._ended.post_runtime_us, end_us)]

    def _child(self, name: str, start_us: int, end_us: int) -> Span:
        return Span(name, start_us, max(start_us, end_us), self._new_span_id(), self._ids.span)


def _init_spans(
    recorded: Recorded, happened: Sequence[Happened], parent_id: str, new_span_id: Callable[[], str]
) -> list[Span]:
    """Return the span of an init, and those of everybody who took part; nothing if there was none."""
    started = _first(happened, Kind.INIT_STARTED)
    if started is None:
        return []
    ended = _first(happened, Kind.INIT_ENDED)
    end_us = ended.at_us if ended is not None else happened[-1].at_us
    is_first = started.phase == "init" and 0 <= recorded.sandbox_us <= started.at_us
    start_us = recorded.started_us if is_first else started.at_us
    init = Span("init", start_us, max(start_us, end_us), new_span_id(), parent_id)
    init.attributes["remora.phase"] = started.phase
    init.attributes["remora.initialization_type"] = recorded.subject.initialization_type
    if ended is not None and ended.detail != "success":
        init.error = ended.error_type or ended.detail
    spans = [init]
    if is_first:
        spans.append(Span("sandbox", start_us, recorded.sandbox_us, new_span_id(), init.span_id))
    for span in _parties(happened, end_us):
        span.span_id, span.parent_id = new_span_id(), init.span_id
        spans.append(span)
    return spans


def _parties(happened: Sequence[Happened], end_us: int) -> list[Span]:
    """Return a span for each process that an init started, and for each internal extension."""
    spans: dict[str, Span] = {}
    for each in happened:
        if each.at_us > end_us:
            break
        name = each.name if each.name == RUNTIME_PROCESS else each.name.removeprefix("extension:")
        span = spans.get(name)
        if each.kind is Kind.PROCESS_STARTED:
            spans[name] = Span(_titled(name), each.at_us, end_us, "")
        elif each.kind is Kind.EXTENSION_REGISTERED:
            span = spans.setdefault(name, Span(_titled(name), each.at_us, end_us, ""))
            span.marks.append(("registered", each.at_us))
        elif each.kind is Kind.EXTENSION_READY and span is not None:
            span.end_us = each.at_us
        elif each.kind is Kind.RUNTIME_READY and RUNTIME_PROCESS in spans:
            spans[RUNTIME_PROCESS].end_us = each.at_us
        elif each.kind is Kind.PROCESS_EXITED and span is not None:
            span.end_us, span.error = each.at_us, each.detail or "exited"
    return list(spans.values())


def _titled(name: str) -> str:
    return name if name == RUNTIME_PROCESS else _EXTENSION + name


def _first(happened: Sequence[Happened], kind: Kind) -> Happened | None:
    return next((each for each in happened if each.kind is kind), None)


def _last(happened: Sequence[Happened], kind: Kind) -> Happened | None:
    return next((each for each in reversed(happened) if each.kind is kind), None)
