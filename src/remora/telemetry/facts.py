"""
What happened in an environment, told as the platform events of the Telemetry API and the Logs API.

Pure. A fact holds everything that the newest schema knows, in the order of its keys; `events` writes it down
for each schema. What is known only when a reset is over, the report of a failed invocation, is held until
then.

Source: telemetry-api specification, sections 6 and 7; logs-api specification, section 3; snapstart
specification, section 9.3.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.lifecycle.messages import RUNTIME_PROCESS, Happened, Kind
from remora.telemetry.report import billed_ms_of, billed_restore_ms
from remora.telemetry.traces import trace_context

if TYPE_CHECKING:
    from collections.abc import Callable

SNAP_START: Final = "snap-start"
"""The type of an init that is made for a snapshot."""
TRACE_TYPE: Final = "X-Amzn-Trace-Id"
_WORDED_BY_PLATFORM: Final = (
    "Function.ResponseSizeTooLarge",
    "Runtime.TruncatedResponse",
    "Runtime.InvalidResponseModeHeader",
)
"""An error that the runtime did not report itself; what it reports itself counts as success."""


class Fact(NamedTuple):
    """
    One platform event.

    Args:
        type: Its name.
        time_ms: When, milliseconds since 1970.
        at_us: When, microseconds of the monotonic clock.
        record: Its record, for the newest schema.
    """

    type: str
    time_ms: int
    at_us: int
    record: dict[str, Any] | str


@dataclass(frozen=True, slots=True)
class Subject:
    """Whose events they are: one environment of one function version."""

    function_name: str
    function_version: str
    function_arn: str
    memory_mib: int
    instance_id: str
    """The name of its log stream."""
    runtime_version: str = ""
    runtime_version_arn: str = ""
    initialization_type: str = "on-demand"


def rfc3339(time_ms: int) -> str:
    """Write a time (milliseconds since 1970) as events do: UTC, three digits, Z."""
    seconds, milliseconds = divmod(time_ms, 1000)
    return f"{_second(seconds)}.{milliseconds:03d}Z"


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    """Write a time in whole seconds; events come many to a second."""
    days, of_day = divmod(seconds, 86_400)
    minutes, second = divmod(of_day, 60)
    hour, minute = divmod(minutes, 60)
    return f"{_date(days)}T{hour:02d}:{minute:02d}:{second:02d}"


def _date(days: int) -> str:
    """Write the date that is so many days after 1970-01-01 (days-to-civil of the Gregorian calendar)."""
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    shifted = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * shifted + 2) // 5 + 1
    month = shifted + 3 if shifted < 10 else shifted - 9
    return f"{year_of_era + era * 400 + (month <= 2):04d}-{month:02d}-{day:02d}"


def tracing(trace_id: str) -> dict[str, str] | None:
    """Return the trace context of a sampled trace header, None for any other."""
    context = trace_context(trace_id)
    if not context.is_sampled:
        return None
    span = {"spanId": context.parent} if context.parent else {}
    return {**span, "type": TRACE_TYPE, "value": trace_id}


def _ms(duration_us: int) -> float:
    return duration_us / 1000


def outcome(happened: Happened) -> dict[str, str]:
    """Return the members `status` and, if there is one, `errorType`."""
    status, error_type = happened.detail, happened.error_type
    if status == "failure" and error_type not in _WORDED_BY_PLATFORM:
        return {"status": "success"}
    if status in ("success", "timeout"):
        return {"status": status}
    status = "failure" if error_type.startswith("Sandbox.") else "error"
    return {"status": status, "errorType": error_type} if error_type else {"status": status}


class TellerState(msgspec.Struct, frozen=True):
    """What a teller knows of an init that is over, and what it holds back of it."""

    phase: str
    is_runtime_ready: bool
    held_init: tuple[Fact, ...]


class Teller:
    """
    Tells what happened in one environment, event by event.

    Args:
        subject: Whose.
        holds_back: True if the report of a failed invocation is told when the reset is over, not before, and
            the init before a snapshot when it is restored.
    """

    def __init__(self, subject: Subject, *, holds_back: bool = True) -> None:
        self.trace_id = ""
        """Trace header of the present invocation; empty if it has none."""
        self._subject = subject
        self._holds_failures = holds_back
        self._holds_init = holds_back and subject.initialization_type == SNAP_START
        self._tracing: dict[str, str] | None = None
        self._phase = ""
        self._is_runtime_started = self._is_runtime_ready = False
        self._is_runtime_busy = False
        """True from the start of an invocation that reached the runtime until it is told that it is done."""
        self._held: list[Fact] = []
        self._held_init: list[Fact] = []
        self._tellers: dict[Kind, Callable[[Happened, int], list[Fact]]] = {
            Kind.INIT_STARTED: self._init_started,
            Kind.PROCESS_STARTED: self._process_started,
            Kind.RUNTIME_READY: self._runtime_ready,
            Kind.EXTENSION_STATE: self._extension_state,
            Kind.INIT_ENDED: self._init_ended,
            Kind.RESTORE_STARTED: self._restore_started,
            Kind.RESTORE_ENDED: self._restore_ended,
            Kind.INVOKE_STARTED: self._invoke_started,
            Kind.RUNTIME_DONE: self._runtime_done,
            Kind.SHUTDOWN_ENDED: self._shutdown_ended,
        }

    def tell(self, happened: Happened, now_ms: int, memory_peak_mib: int = 0) -> list[Fact]:
        """
        Return the events that something causes, usually none.

        Args:
            happened: What happened, just now.
            now_ms: Wall time, milliseconds since 1970.
            memory_peak_mib: Highest memory use so far; read only when an invocation ends.
        """
        if happened.kind is Kind.INVOKE_ENDED:
            return self._invoke_ended(happened, now_ms, memory_peak_mib)
        tell = self._tellers.get(happened.kind)
        return tell(happened, now_ms) if tell is not None else []

    def moved(self, instance_id: str) -> None:
        """Whose events they are has got another log stream, by that name."""
        self._subject = replace(self._subject, instance_id=instance_id)

    def state(self) -> TellerState:
        """Return what it knows after an init."""
        return TellerState(self._phase, self._is_runtime_ready, tuple(self._held_init))

    def adopt(self, state: TellerState, now_us: int) -> None:
        """Know what another one knew; what that one held came about now, as far as this clock goes."""
        self._phase, self._is_runtime_ready = state.phase, state.is_runtime_ready
        self._is_runtime_started = True
        self._held_init = [fact._replace(at_us=now_us) for fact in state.held_init]

    # --- init ----------------------------------------------------------------------------------------------

    def _init_started(self, happened: Happened, now_ms: int) -> list[Fact]:
        self._phase = happened.phase
        self._is_runtime_started = self._is_runtime_ready = self._is_runtime_busy = False
        record = {**self._init_head(), **self._instance()}
        return self._of_init(Fact("platform.initStart", now_ms, happened.at_us, record))

    def _instance(self) -> dict[str, Any]:
        subject = self._subject
        record: dict[str, Any] = {}
        if subject.runtime_version:
            record["runtimeVersion"] = subject.runtime_version
            record["runtimeVersionArn"] = subject.runtime_version_arn
        record["functionName"] = subject.function_name
        record["functionVersion"] = subject.function_version
        record["instanceId"] = subject.instance_id
        record["instanceMaxMemory"] = subject.memory_mib * 1024 * 1024
        return record

    def _of_init(self, *facts: Fact) -> list[Fact]:
        """Return what is told of an init now; before a snapshot it waits for the restore."""
        if not self._holds_init:
            return [*facts]
        self._held_init += facts
        return []

    def _init_head(self) -> dict[str, Any]:
        return {"initializationType": self._subject.initialization_type, "phase": self._phase}

    def _process_started(self, happened: Happened, _: int) -> list[Fact]:
        if happened.name == RUNTIME_PROCESS:
            self._is_runtime_started = True
        return []

    def _runtime_ready(self, happened: Happened, now_ms: int) -> list[Fact]:
        self._is_runtime_ready = True
        record = {**self._init_head(), "status": "success"}
        return self._of_init(Fact("platform.initRuntimeDone", now_ms, happened.at_us, record))

    def _extension_state(self, happened: Happened, now_ms: int) -> list[Fact]:
        facts = []
        record: dict[str, Any] = {"name": happened.name, "state": happened.detail}
        record["events"] = sorted(happened.events)
        if happened.error_type:
            record["errorType"] = happened.error_type
        facts.append(Fact("platform.extension", now_ms, happened.at_us, record))
        return facts

    def _init_ended(self, happened: Happened, now_ms: int) -> list[Fact]:
        facts = []
        head, how = self._init_head(), outcome(happened)
        if self._is_runtime_started and not self._is_runtime_ready and how["status"] != "timeout":
            record = {**head, **how}
            facts.append(Fact("platform.initRuntimeDone", now_ms, happened.at_us, record))
        record = {**head, **how, "metrics": {"durationMs": _ms(happened.duration_us)}}
        facts.append(Fact("platform.initReport", now_ms, happened.at_us, record))
        self._is_runtime_ready = how["status"] == "success"
        return self._of_init(*facts)

    def _restore_started(self, happened: Happened, now_ms: int) -> list[Fact]:
        held, self._held_init = self._held_init, []
        return [*held, Fact("platform.restoreStart", now_ms, happened.at_us, self._instance())]

    def _restore_ended(self, happened: Happened, now_ms: int) -> list[Fact]:
        how = outcome(happened)
        report = {**how, "metrics": {"durationMs": _ms(happened.duration_us)}}
        return [
            Fact("platform.restoreRuntimeDone", now_ms, happened.at_us, {**how}),
            Fact("platform.restoreReport", now_ms, happened.at_us, report),
        ]

    # --- invoke --------------------------------------------------------------------------------------------

    def _invoke_started(self, happened: Happened, now_ms: int) -> list[Fact]:
        subject = self._subject
        self._is_runtime_busy = self._is_runtime_ready
        self._tracing = tracing(self.trace_id) if self.trace_id else None
        record = self._traced(
            {
                "requestId": happened.request_id,
                "functionArn": subject.function_arn,
                "version": subject.function_version,
            }
        )
        return [Fact("platform.start", now_ms, happened.at_us, record)]

    def _traced(self, record: dict[str, Any]) -> dict[str, Any]:
        if self._tracing is not None:
            record["tracing"] = self._tracing
        return record

    def _runtime_done(self, happened: Happened, now_ms: int) -> list[Fact]:
        self._is_runtime_busy = False
        record: dict[str, Any] = {"requestId": happened.request_id, **outcome(happened)}
        if happened.response_us >= 0:
            record["spans"] = _spans(happened, now_ms)
        produced = max(0, happened.produced_bytes)
        record["metrics"] = {"durationMs": _ms(happened.duration_us), "producedBytes": produced}
        return [Fact("platform.runtimeDone", now_ms, happened.at_us, self._traced(record))]

    def _invoke_ended(self, happened: Happened, now_ms: int, memory_peak_mib: int) -> list[Fact]:
        facts = []
        how = outcome(happened)
        if self._is_runtime_busy:
            self._is_runtime_busy = False
            metrics = {"durationMs": _ms(happened.duration_us), "producedBytes": 0}
            record = self._traced({"requestId": happened.request_id, **how, "metrics": metrics})
            facts.append(Fact("platform.runtimeDone", now_ms, happened.at_us, record))
        end = Fact("platform.end", now_ms, happened.at_us, {"requestId": happened.request_id})
        report = Fact(
            "platform.report", now_ms, happened.at_us, self._report(happened, how, now_ms, memory_peak_mib)
        )
        if happened.detail not in ("error", "timeout") or not self._holds_failures:
            return [*facts, end, report]
        fault = Fact("platform.fault", now_ms, happened.at_us, _fault(happened.request_id, how))
        self._held = [fault, end, report]
        return facts

    def _report(
        self, happened: Happened, how: dict[str, str], now_ms: int, memory_peak_mib: int
    ) -> dict[str, Any]:
        metrics: dict[str, Any] = {
            "durationMs": _ms(happened.duration_us),
            "billedDurationMs": billed_ms_of(happened),
            "memorySizeMB": self._subject.memory_mib,
            "maxMemoryUsedMB": memory_peak_mib,
        }
        if happened.init_us >= 0:
            metrics["initDurationMs"] = _ms(happened.init_us)
        if happened.restore_us >= 0:
            metrics["restoreDurationMs"] = _ms(happened.restore_us)
            metrics["billedRestoreDurationMs"] = billed_restore_ms(happened)
        record: dict[str, Any] = {"requestId": happened.request_id, "metrics": metrics}
        if happened.post_runtime_us >= 0:
            start_ms = now_ms - happened.post_runtime_us // 1000
            record["spans"] = [_span("extensionOverhead", start_ms, happened.post_runtime_us)]
        return self._traced({**record, **how})

    def _shutdown_ended(self, happened: Happened, now_ms: int) -> list[Fact]:
        held, self._held = self._held, []
        return [fact._replace(time_ms=now_ms, at_us=happened.at_us) for fact in held]


def _spans(happened: Happened, now_ms: int) -> list[dict[str, Any]]:
    """Return the parts of a runtime's work; together they are no longer than all of it."""
    latency, response = happened.latency_us, happened.response_us
    overhead = happened.duration_us - latency - response
    starts = (happened.duration_us, happened.duration_us - latency, overhead)
    parts = (("responseLatency", latency), ("responseDuration", response), ("runtimeOverhead", overhead))
    return [
        _span(name, now_ms - ago_us // 1000, duration_us)
        for (name, duration_us), ago_us in zip(parts, starts, strict=True)
    ]


def _span(name: str, start_ms: int, duration_us: int) -> dict[str, Any]:
    return {"name": name, "start": rfc3339(start_ms), "durationMs": _ms(duration_us)}


def _fault(request_id: str, how: dict[str, str]) -> str:
    if how["status"] == "timeout":
        return f"RequestId: {request_id}\tStatus: timeout\n"
    return f"RequestId: {request_id}\tStatus: {how['status']}\tErrorType: {how.get('errorType', '')}\n"
