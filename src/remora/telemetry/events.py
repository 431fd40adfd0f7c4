"""
Platform events and log lines as subscribers get them: JSON, in the schema that each of them chose.

Pure. Source: telemetry-api specification, sections 5.1, 6.14 and 6.15; logs-api specification, section 3.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.spec.telemetry import DROPPED, LOGS_V1, V1, V2, V3
from remora.telemetry.facts import Fact, rfc3339
from remora.telemetry.queue import Entry

if TYPE_CHECKING:
    from collections.abc import Iterable

_TELEMETRY: Final = (V1, V2, V3)
_OBJECT_VERSIONS: Final = (V2, V3)
"""Schemas in which a JSON line of a function that logs JSON is an object."""

_NOT_TELEMETRY: Final = frozenset({"platform.end", "platform.fault", "platform.logsSubscription"})
_WITHOUT: Final[dict[str, dict[str, frozenset[str]]]] = {
    V1: {
        "platform.initStart": frozenset(
            {"functionName", "functionVersion", "instanceId", "instanceMaxMemory", "tracing"}
        ),
        "platform.initRuntimeDone": frozenset({"tracing"}),
        "platform.initReport": frozenset({"status", "errorType", "tracing"}),
        "platform.restoreStart": frozenset(
            {"functionName", "functionVersion", "instanceId", "instanceMaxMemory", "tracing"}
        ),
        "platform.restoreRuntimeDone": frozenset({"tracing"}),
        "platform.restoreReport": frozenset({"status", "errorType", "tracing"}),
        "platform.extension": frozenset({"errorType"}),
        "platform.start": frozenset({"functionArn"}),
    },
    V2: {"platform.start": frozenset({"functionArn"})},
    V3: {},
}
"""What the older schemas of the Telemetry API do not know."""

_LOGS: Final[dict[str, frozenset[str]]] = {
    "platform.start": frozenset({"requestId", "version"}),
    "platform.end": frozenset({"requestId"}),
    "platform.report": frozenset({"requestId", "metrics", "tracing"}),
    "platform.runtimeDone": frozenset({"requestId", "status"}),
    "platform.extension": frozenset({"name", "state", "events"}),
    "platform.logsSubscription": frozenset({"name", "state", "types"}),
}
"""What the Logs API knows, apart from faults, which are text."""
_LOGS_OF_INITS: Final[dict[str, frozenset[str]]] = {
    "platform.initRuntimeDone": frozenset({"initializationType", "status"}),
    "platform.initReport": frozenset({"initializationType", "metrics"}),
    "platform.restoreStart": frozenset(),
    "platform.restoreReport": frozenset({"metrics"}),
}
"""What its newer schema knows of an init that is not made on demand, and of a restore."""

_encode = msgspec.json.Encoder().encode


def write_fact(fact: Fact, version: str) -> Entry | None:
    """Write a platform event in one schema; None if that schema does not have it."""
    record = _telemetry_record(fact, version) if version in _TELEMETRY else _logs_record(fact, version)
    if record is None:
        return None
    written = _encode(record)
    json = b'{"time":"%b","type":"%b","record":%b}' % (
        rfc3339(fact.time_ms).encode(),
        fact.type.encode(),
        written,
    )
    return Entry(json, len(written), fact.at_us)


def _telemetry_record(fact: Fact, version: str) -> dict[str, Any] | str | None:
    if fact.type in _NOT_TELEMETRY:
        return None
    without = _WITHOUT[version].get(fact.type)
    if isinstance(fact.record, str):
        return fact.record
    if version == V1 and fact.type == "platform.report":
        return _without_metrics(fact.record, "billedRestoreDurationMs")
    if without is None:
        return fact.record
    return {name: value for name, value in fact.record.items() if name not in without}


def _without_metrics(record: dict[str, Any], *names: str) -> dict[str, Any]:
    """Return a report without some of its metrics; itself if it has none of them."""
    metrics = record["metrics"]
    if not any(name in metrics for name in names):
        return record
    return {**record, "metrics": {name: value for name, value in metrics.items() if name not in names}}


def _logs_record(fact: Fact, version: str) -> dict[str, Any] | str | None:
    if isinstance(fact.record, str):
        return fact.record
    kept = _LOGS.get(fact.type)
    if version == LOGS_V1:
        kept = None if fact.type == "platform.runtimeDone" else kept
    elif kept is None and fact.record.get("initializationType") != "on-demand":
        kept = _LOGS_OF_INITS.get(fact.type)
    if kept is None:
        return None
    record = {name: value for name, value in fact.record.items() if name in kept}
    if record.get("status") == "error":
        record["status"] = "failure"
    if fact.type == "platform.report":
        record = _without_metrics(record, "restoreDurationMs", "billedRestoreDurationMs")
    if fact.type in ("platform.initReport", "platform.restoreReport"):
        duration_ms = record["metrics"]["durationMs"]
        record["metrics"] = {"durationMs": duration_ms, "billedDurationMs": math.ceil(duration_ms)}
    if "tracing" in record:
        record["tracing"] = {name: value for name, value in record["tracing"].items() if name != "spanId"}
    return record


def write_lines(category: str, texts: Iterable[str], time_ms: int, at_us: int) -> list[Entry]:
    """Write log lines (with their newlines) as events of `category`, `function` or `extension`."""
    head = b'{"time":"%b","type":"%b","record":' % (rfc3339(time_ms).encode(), category.encode())
    entries = []
    for text in texts:
        written = _encode(text)
        size_bytes = len(text) if text.isascii() else len(text.encode())
        entries.append(Entry(b"%b%b}" % (head, written), size_bytes, at_us))
    return entries


def write_objects(category: str, texts: Iterable[str], time_ms: int, at_us: int, version: str) -> list[Entry]:
    """Write log lines of a function that logs JSON: what is an object becomes one, in the newer schemas."""
    if version not in _OBJECT_VERSIONS:
        return write_lines(category, texts, time_ms, at_us)
    head = b'{"time":"%b","type":"%b","record":' % (rfc3339(time_ms).encode(), category.encode())
    entries = []
    for text in texts:
        written = _object(text) or _encode(text)
        entries.append(Entry(b"%b%b}" % (head, written), len(written), at_us))
    return entries


def _object(text: str) -> bytes | None:
    """Return a JSON object without white space around its parts; None if `text` is none."""
    if not text.startswith("{"):
        return None
    try:
        msgspec.json.decode(text, type=dict)
        return msgspec.json.format(text.encode(), indent=-1)
    except (msgspec.DecodeError, RecursionError):
        return None


def write_dropped(records: int, size_bytes: int, time_ms: int) -> bytes:
    """Write the event that says how much was dropped so far."""
    record = {"reason": DROPPED, "droppedRecords": records, "droppedBytes": size_bytes}
    return b'{"time":"%b","type":"platform.logsDropped","record":%b}' % (
        rfc3339(time_ms).encode(),
        _encode(record),
    )
