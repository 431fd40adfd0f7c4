"""
What targets are told of an event: the record for destinations, the attributes of a dead letter. Pure.

Source: control-plane specification, B.10; AWS Lambda Developer Guide, "Capturing records of Lambda
asynchronous invocations".
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.events.base import Condition, Delivery
from remora.spec.limits import DEAD_LETTER_MESSAGE_BYTES_MAX

if TYPE_CHECKING:
    from remora.events.base import Event, Policy, Progress
    from remora.pool.base import InvokeResult

VERSION: Final = "1.0"
OK: Final = 200

_encode: Final = msgspec.json.Encoder().encode


class Outcome(msgspec.Struct, frozen=True):
    """
    How an event ended.

    Args:
        condition: In the words of records.
        progress: How often it was tried.
        result: The last answer of the function; None if it never ran.
    """

    condition: Condition
    progress: Progress
    result: InvokeResult | None


def deliveries(
    event: Event, payload: bytes, outcome: Outcome, *, policy: Policy, function_arn: str, now_ms: int
) -> list[Delivery]:
    """
    Return the messages that are owed after the end of an event.

    Args:
        event: The event.
        payload: Its payload, JSON.
        outcome: How it ended.
        policy: Where its outcome goes.
        function_arn: Qualified ARN, `$LATEST` if it was invoked without a qualifier.
        now_ms: The time, milliseconds since 1970.
    """
    is_success = outcome.condition is Condition.SUCCESS
    destination = policy.on_success if is_success else policy.on_failure
    owed = []
    if destination is not None:
        body = record(event, payload, outcome, function_arn=function_arn, now_ms=now_ms)
        owed.append(_delivery(event, outcome, destination, function_arn, body))
    if policy.dead_letter is not None and not is_success:
        letter = _delivery(event, outcome, policy.dead_letter, function_arn, payload)
        attributes = _attributes(event, outcome)
        owed.append(msgspec.structs.replace(letter, kind="dead-letter", attributes=attributes))
    return owed


def record(event: Event, payload: bytes, outcome: Outcome, *, function_arn: str, now_ms: int) -> bytes:
    """Return the record that a destination gets, JSON; arguments as for `deliveries`."""
    members: dict[str, Any] = {
        "version": VERSION,
        "timestamp": timestamp(now_ms),
        "requestContext": {
            "requestId": event.request_id,
            "functionArn": function_arn,
            "condition": outcome.condition.value,
            "approximateInvokeCount": outcome.progress.starts,
        },
        "requestPayload": embedded(payload),
    }
    result = outcome.result
    if result is not None:
        context: dict[str, Any] = {"statusCode": OK, "executedVersion": result.executed_version}
        if result.function_error is not None:
            context["functionError"] = result.function_error
        members["responseContext"] = context
        members["responsePayload"] = embedded(result.payload)
    return _encode(members)


def timestamp(now_ms: int) -> str:
    """Return a time as records have it, `2026-01-31T23:59:59.123Z`."""
    at = datetime.fromtimestamp(now_ms / 1000, UTC)
    return f"{at:%Y-%m-%dT%H:%M:%S}.{now_ms % 1000:03d}Z"


def embedded(payload: bytes) -> Any:
    """Return a payload as it stands within a record: JSON as it is, anything else as a text."""
    if not payload:
        return None
    try:
        msgspec.json.decode(payload, type=msgspec.Raw)
        payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return payload.decode(errors="replace")
    return msgspec.Raw(payload)


def _delivery(event: Event, outcome: Outcome, target: str, function_arn: str, body: bytes) -> Delivery:
    return Delivery(
        kind="destination",
        target=target,
        function=event.function,
        invoked_arn=event.invoked_arn,
        function_arn=function_arn,
        body=body,
        condition=outcome.condition.value,
        trace_id=event.trace_id,
    )


def _attributes(event: Event, outcome: Outcome) -> dict[str, str]:
    return {
        "RequestID": event.request_id,
        "ErrorCode": str(OK if outcome.result is not None else 429),
        "ErrorMessage": _error_message(outcome),
    }


def _error_message(outcome: Outcome) -> str:
    """Return what the function said went wrong, as long as an attribute may be."""
    text = outcome.condition.value
    if outcome.result is not None:
        try:
            document = json.loads(outcome.result.payload)
        except (ValueError, RecursionError):
            document = None
        if isinstance(document, dict) and isinstance(document.get("errorMessage"), str):
            text = document["errorMessage"] or text
    return text.encode()[:DEAD_LETTER_MESSAGE_BYTES_MAX].decode(errors="ignore")
