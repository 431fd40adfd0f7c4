"""
Traces, log lines and metrics as messages of OTLP.

Built from the protocol's own message types, not through OpenTelemetry's SDK: that is made for programs that
observe themselves, and takes ten times as long for a log line (ADR-0009).

Source: OpenTelemetry Protocol 1.x; semantic conventions for resources, FaaS and AWS Lambda.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import (
    ExportLogsServiceRequest,
    ExportLogsServiceResponse,
)
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceResponse,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span as Message
from opentelemetry.proto.trace.v1.trace_pb2 import Status

import remora
from remora.kit.ids import random_hex
from remora.telemetry.spans import traces
from remora.telemetry.traces import trace_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from typing import Any

    from remora.telemetry.facts import Subject
    from remora.telemetry.log_files import LogLine
    from remora.telemetry.recording import Recorded
    from remora.telemetry.spans import Span, Trace

_SAMPLED: Final = 1
_HAS_IS_REMOTE, _IS_REMOTE = 0x100, 0x200
_TEXT_LEVEL: Final = re.compile(r"\[([A-Z]{4,8})\][ \t]")
_SEVERITIES: Final = {
    "TRACE": 1,
    "DEBUG": 5,
    "INFO": 9,
    "WARN": 13,
    "WARNING": 13,
    "ERROR": 17,
    "FATAL": 21,
    "CRITICAL": 21,
}


class Lines(NamedTuple):
    """Log lines of one stream; `subject` is None if it belongs to no environment that is known."""

    group: str
    stream: str
    lines: Sequence[LogLine]
    subject: Subject | None


class _Level(msgspec.Struct):
    """The one member of a JSON line that is of interest."""

    level: str = ""


_decode_level = msgspec.json.Decoder(_Level).decode


def describe(resource: Any, subject: Subject, extra: Mapping[str, str]) -> None:
    """Write into a resource whose telemetry follows: `extra` first, the function's own attributes after."""
    named = {
        **extra,
        "service.name": subject.function_name,
        "service.version": subject.function_version,
        "faas.name": subject.function_name,
        "faas.version": subject.function_version,
        "cloud.resource_id": subject.function_arn,
    }
    if subject.instance_id:
        named["faas.instance"] = subject.instance_id
        named["service.instance.id"] = subject.instance_id
    put(resource.attributes, named)
    if subject.memory_mib:
        put(resource.attributes, {"faas.max_memory": subject.memory_mib * 1024 * 1024})


def put(attributes: Any, values: Mapping[str, str | int | float | bool]) -> None:
    """Write attributes."""
    for key, value in values.items():
        attribute = attributes.add(key=key).value
        if isinstance(value, bool):
            attribute.bool_value = value
        elif isinstance(value, int):
            attribute.int_value = value
        elif isinstance(value, float):
            attribute.double_value = value
        else:
            attribute.string_value = value


def scoped(scopes: Any) -> Any:
    """Begin what a resource tells, naming who tells it."""
    scope = scopes.add()
    scope.scope.name, scope.scope.version = "remora", remora.__version__
    return scope


# --- traces -----------------------------------------------------------------------------------------------


def trace_message(recorded: Iterable[Recorded], extra: Mapping[str, str]) -> bytes:
    """Return the traces of invocations as a request."""
    request = ExportTraceServiceRequest()
    scopes: dict[str, Any] = {}
    for each in recorded:
        spans = scopes.get(each.environment)
        if spans is None:
            resource = request.resource_spans.add()
            describe(resource.resource, each.subject, extra)
            spans = scopes[each.environment] = scoped(resource.scope_spans).spans
        offset_us = each.started_ms * 1000 - each.started_us
        for trace in traces(each, lambda: random_hex(16)):
            for span in trace.spans:
                _write_span(spans.add(), trace, span, offset_us)
    return bytes(request.SerializeToString())


def _write_span(message: Message, trace: Trace, span: Span, offset_us: int) -> None:
    message.trace_id = bytes.fromhex(trace.trace_id)
    message.span_id = bytes.fromhex(span.span_id)
    message.flags = _SAMPLED | _HAS_IS_REMOTE
    if span.parent_id:
        message.parent_span_id = bytes.fromhex(span.parent_id)
        message.flags |= _IS_REMOTE if span.is_root else 0
    message.name = span.name
    message.kind = Message.SPAN_KIND_SERVER if span.is_root else Message.SPAN_KIND_INTERNAL
    message.start_time_unix_nano = (span.start_us + offset_us) * 1000
    message.end_time_unix_nano = (span.end_us + offset_us) * 1000
    put(message.attributes, span.attributes)
    for name, at_us in span.marks:
        message.events.add(name=name, time_unix_nano=(at_us + offset_us) * 1000)
    if span.error:
        put(message.attributes, {"error.type": span.error})
        message.status.code = Status.STATUS_CODE_ERROR
        message.status.message = span.error


# --- logs -------------------------------------------------------------------------------------------------


def log_message(
    lines: Iterable[Lines], trace_id_of: Callable[[str], str], now_ms: int, extra: Mapping[str, str]
) -> bytes:
    """
    Return log lines as a request.

    Args:
        lines: By stream.
        trace_id_of: Returns the trace header of an invocation.
        now_ms: Wall time, milliseconds since 1970.
        extra: Attributes of every resource.
    """
    request = ExportLogsServiceRequest()
    for each in lines:
        resource = request.resource_logs.add()
        if each.subject is not None:
            describe(resource.resource, each.subject, extra)
        else:
            put(resource.resource.attributes, extra)
        for name, value in (("aws.log.group.names", each.group), ("aws.log.stream.names", each.stream)):
            resource.resource.attributes.add(key=name).value.array_value.values.add(string_value=value)
        records = scoped(resource.scope_logs).log_records
        for line in each.lines:
            record = records.add(
                time_unix_nano=line.timestamp_ms * 1_000_000, observed_time_unix_nano=now_ms * 1_000_000
            )
            record.body.string_value = line.message
            level = level_of(line.message)
            if level:
                record.severity_text, record.severity_number = level, _SEVERITIES[level]
            if line.request_id:
                record.attributes.add(key="faas.invocation_id").value.string_value = line.request_id
                ids = trace_ids(trace_id_of(line.request_id), line.request_id)
                record.trace_id, record.span_id = bytes.fromhex(ids.trace), bytes.fromhex(ids.span)
                record.flags = _SAMPLED
    return bytes(request.SerializeToString())


def level_of(message: str) -> str:
    """Return the level that a line names, as JSON or as Python's logging has it; empty if it names none."""
    level = ""
    if message.startswith("{"):
        try:
            level = _decode_level(message).level.upper()
        except msgspec.DecodeError:
            return ""
    elif (match := _TEXT_LEVEL.match(message)) is not None:
        level = match[1]
    return level if level in _SEVERITIES else ""


# --- answers ----------------------------------------------------------------------------------------------

_ANSWERS: Final[Mapping[str, tuple[Callable[[], Any], str]]] = {
    "traces": (ExportTraceServiceResponse, "rejected_spans"),
    "logs": (ExportLogsServiceResponse, "rejected_log_records"),
    "metrics": (ExportMetricsServiceResponse, "rejected_data_points"),
}


def rejected(signal: str, answer: bytes) -> tuple[int, str]:
    """Return how many items a receiver did not take of a message that it took, and what it says about it."""
    make, member = _ANSWERS[signal]
    response = make()
    try:
        response.ParseFromString(answer)
    except Exception:  # noqa: BLE001 - protobuf's DecodeError; a receiver may answer anything
        return 0, ""
    return getattr(response.partial_success, member), response.partial_success.error_message
