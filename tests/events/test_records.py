"""What targets are told."""

import json

import pytest

from remora.events.base import Condition, Event, Policy, Progress
from remora.events.records import Outcome, deliveries, embedded, timestamp
from remora.pool.base import InvokeResult

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
QUALIFIED = f"{ARN}:$LATEST"
EVENT = Event("the-id", "f", None, ARN, 1_700_000_000_000, trace_id="Root=1")
FAILED = InvokeResult("the-id", b'{"errorMessage":"no","errorType":"E"}', "Unhandled", "$LATEST")


def owed(outcome, policy, payload=b'{"a":1}'):
    return deliveries(
        EVENT, payload, outcome, policy=policy, function_arn=QUALIFIED, now_ms=1_700_000_123_045
    )


def test_a_destination_gets_a_record():
    outcome = Outcome(Condition.RETRIES_EXHAUSTED, Progress(starts=3, errors=3), FAILED)
    (delivery,) = owed(outcome, Policy(on_failure="arn:aws:sqs:us-east-1:000000000000:q", on_success="other"))
    assert (delivery.kind, delivery.trace_id) == ("destination", "Root=1")
    assert json.loads(delivery.body) == {
        "version": "1.0",
        "timestamp": "2023-11-14T22:15:23.045Z",
        "requestContext": {
            "requestId": "the-id",
            "functionArn": QUALIFIED,
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"a": 1},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
        "responsePayload": {"errorMessage": "no", "errorType": "E"},
    }


def test_a_success_has_no_error_and_goes_elsewhere():
    outcome = Outcome(Condition.SUCCESS, Progress(starts=1), InvokeResult("the-id", b'"fine"', None, "7"))
    (delivery,) = owed(outcome, Policy(on_success="s", on_failure="f", dead_letter="d"))
    assert delivery.target == "s"
    record = json.loads(delivery.body)
    assert record["requestContext"]["condition"] == "Success"
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "7"}
    assert record["responsePayload"] == "fine"


def test_a_function_that_never_ran_has_no_response():
    outcome = Outcome(Condition.ZERO_RESERVED, Progress(), None)
    (delivery,) = owed(outcome, Policy(on_failure="f"))
    record = json.loads(delivery.body)
    assert record["requestContext"]["approximateInvokeCount"] == 0
    assert not {"responseContext", "responsePayload"} & set(record)


def test_a_dead_letter_is_the_event_with_attributes():
    outcome = Outcome(Condition.RETRIES_EXHAUSTED, Progress(starts=1, errors=1), FAILED)
    destination, letter = owed(outcome, Policy(on_failure="f", dead_letter="d"))
    assert (destination.target, letter.target, letter.kind) == ("f", "d", "dead-letter")
    assert letter.body == b'{"a":1}'
    assert letter.attributes == {"RequestID": "the-id", "ErrorCode": "200", "ErrorMessage": "no"}


def test_the_message_of_a_dead_letter_is_cut_between_characters():
    payload = json.dumps({"errorMessage": "é" * 1000}).encode()
    outcome = Outcome(Condition.RETRIES_EXHAUSTED, Progress(), InvokeResult("i", payload, "Unhandled", "1"))
    (letter,) = owed(outcome, Policy(dead_letter="d"))
    assert letter.attributes["ErrorMessage"] == "é" * 512


@pytest.mark.parametrize(
    ("payload", "expected"), [(b"", None), (b"not json", "not json"), (b"\xff", "\ufffd"), (b"[1]", [1])]
)
def test_any_payload_can_be_embedded(payload, expected):
    import msgspec

    assert json.loads(msgspec.json.encode(embedded(payload))) == expected


def test_times_have_three_digits_of_milliseconds():
    assert timestamp(7) == "1970-01-01T00:00:00.007Z"
