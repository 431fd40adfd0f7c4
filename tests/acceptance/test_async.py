"""Asynchronous invocations of a real node, through boto3; other services are played by moto's server."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .conftest import functions_on, running
from .nodes import Node, eventually, total, unique
from .packages import RUNTIME, zip_of
from .services import client

pytestmark = pytest.mark.slow

PACE = 0.01
"""A minute takes 0.6 s."""
PROGRAM = """
import json
print("loaded")
def handler(event, context):
    told = len(event["long"]) if "long" in event else event
    print("RUN " + json.dumps([context.aws_request_id, told]))
    if "raise" in event:
        raise ValueError(event["raise"])
    return None if "requestContext" in event else {"saw": event}
"""
CODE = zip_of({"app.py": PROGRAM})
ACCOUNT = "123456789012"
"""The account that moto plays."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory, services: str) -> Iterator[Node]:
    data = tmp_path_factory.mktemp("node") / unique("data")
    with running(data, "--aws-endpoint", services, "--event-pace", str(PACE), "--account", ACCOUNT) as node:
        yield node


@pytest.fixture
def function(node: Node) -> Iterator[Any]:
    with functions_on(node) as create:
        yield lambda **settings: create(CODE, **settings)


def send(node: Node, name: str, event: Any, **members: Any) -> str:
    """Invoke and do not wait; return the request id."""
    got = node.client.invoke(
        FunctionName=name, InvocationType="Event", Payload=json.dumps(event).encode(), **members
    )
    assert got["StatusCode"] == 202
    assert got["Payload"].read() == b""
    assert "ExecutedVersion" not in got
    return got["ResponseMetadata"]["RequestId"]


def runs(node: Node, name: str, count: int) -> list[list[Any]]:
    """Wait for so many runs of a function; return request id and event of each."""
    found: list[list[Any]] = []
    with node.following(name) as lines:
        for line in lines:
            if line["message"].startswith("RUN "):
                found.append([line["timestamp_ms"], *json.loads(line["message"][4:])])
                if len(found) == count:
                    break
    return found


def configure(node: Node, name: str, **members: Any) -> None:
    targets = {how: {"Destination": members.pop(how)} for how in ("OnSuccess", "OnFailure") if how in members}
    node.client.put_function_event_invoke_config(FunctionName=name, DestinationConfig=targets, **members)


@pytest.mark.case("CP-79")
def test_accepted_and_checked_without_a_body(node, function):
    name = function()
    request_id = send(node, name, {"a": 1})
    assert runs(node, name, 1)[0][1:] == [request_id, {"a": 1}]
    dry = node.client.invoke(FunctionName=name, InvocationType="DryRun")
    assert (dry["StatusCode"], dry["Payload"].read()) == (204, b"")


@pytest.mark.case("CP-84")
def test_payloads_have_their_limits(node, function):
    name = function()
    for kind, limit in (("Event", 1_048_576), ("RequestResponse", 6_291_456)):
        payload = b'"' + b"x" * (limit - 1) + b'"'
        with pytest.raises(ClientError) as caught:
            node.client.invoke(FunctionName=name, InvocationType=kind, Payload=payload)
        response = caught.value.response
        assert response["ResponseMetadata"]["HTTPStatusCode"] == 413
        assert response["Error"]["Code"] == "RequestEntityTooLargeException"
        text = f"{limit + 1} byte payload is too large for the {kind} invocation type (limit {limit} bytes)"
        assert response["Error"]["Message"] == text
    payload = b'{"long":"' + b"x" * (1_048_576 - 11) + b'"}'
    assert len(payload) == 1_048_576
    got = node.client.invoke(FunctionName=name, InvocationType="Event", Payload=payload)
    assert got["StatusCode"] == 202
    assert runs(node, name, 1)[0][2] == 1_048_576 - 11


@pytest.mark.case("CP-91")
def test_nothing_reserved_fails_an_event_at_once(node, function, queue):
    name = function()
    configure(node, name, OnFailure=queue.arn)
    node.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    request_id = send(node, name, {"a": 1})
    record = queue.record()
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}:$LATEST",
        "condition": "ZeroReservedConcurrency",
        "approximateInvokeCount": 0,
    }
    assert record["requestPayload"] == {"a": 1}
    assert not {"responseContext", "responsePayload"} & set(record)


@pytest.mark.case("CP-101")
def test_a_failing_event_is_tried_three_times(node, function, queue):
    name = function()
    configure(node, name, OnFailure=queue.arn)
    request_id = send(node, name, {"raise": "no"})
    found = runs(node, name, 3)
    assert {run[1] for run in found} == {request_id}
    gaps = [later[0] - earlier[0] for earlier, later in pairwise(found)]
    assert gaps[0] >= 60_000 * PACE
    assert gaps[1] >= 120_000 * PACE
    record = queue.record()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", record.pop("timestamp"))
    response = record.pop("responsePayload")
    assert (response["errorMessage"], response["errorType"]) == ("no", "ValueError")
    assert record == {
        "version": "1.0",
        "requestContext": {
            "requestId": request_id,
            "functionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}:$LATEST",
            "condition": "RetriesExhausted",
            "approximateInvokeCount": 3,
        },
        "requestPayload": {"raise": "no"},
        "responseContext": {"statusCode": 200, "executedVersion": "$LATEST", "functionError": "Unhandled"},
    }


@pytest.mark.case("CP-102")
def test_an_event_whose_next_try_would_be_too_late_has_failed(node, function, queue):
    name = function()
    configure(node, name, OnFailure=queue.arn, MaximumEventAgeInSeconds=60, MaximumRetryAttempts=2)
    send(node, name, {"raise": "no"})
    context = queue.record()["requestContext"]
    assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 1)


@pytest.mark.case("CP-103")
def test_a_success_goes_to_another_function(node, function):
    first, second = function(), function()
    arn = node.client.get_function_configuration(FunctionName=second)["FunctionArn"]
    configure(node, first, OnSuccess=arn)
    request_id = send(node, first, {"a": 1})
    record = runs(node, second, 1)[0][2]
    assert record["version"] == "1.0"
    assert record["requestContext"] == {
        "requestId": request_id,
        "functionArn": f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{first}:$LATEST",
        "condition": "Success",
        "approximateInvokeCount": 1,
    }
    assert record["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
    assert (record["requestPayload"], record["responsePayload"]) == ({"a": 1}, {"saw": {"a": 1}})


@pytest.mark.case("CP-106")
def test_a_dead_letter_is_the_event_itself(node, function, queue):
    name = function(DeadLetterConfig={"TargetArn": queue.arn})
    node.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=0)
    request_id = send(node, name, {"raise": "no"})
    message = queue.message()
    assert json.loads(message["Body"]) == {"raise": "no"}
    attributes = message["MessageAttributes"]
    assert {key: (value["DataType"], value["StringValue"]) for key, value in attributes.items()} == {
        "RequestID": ("String", request_id),
        "ErrorCode": ("Number", "200"),
        "ErrorMessage": ("String", "no"),
    }


def test_a_topic_gets_the_record(node, function, services, queue):
    topic = client("sns", services).create_topic(Name=unique("topic"))["TopicArn"]
    client("sns", services).subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue.arn)
    name = function()
    configure(node, name, OnSuccess=topic)
    send(node, name, {"a": 1})
    message = json.loads(queue.record()["Message"])
    assert message["requestContext"]["condition"] == "Success"


def test_a_bus_gets_the_record_as_an_event(node, function, services, queue):
    events = client("events", services)
    bus = events.create_event_bus(Name=unique("bus"))["EventBusArn"]
    rule = unique("rule")
    pattern = json.dumps({"source": ["lambda"]})
    events.put_rule(Name=rule, EventBusName=bus.rpartition("/")[2], EventPattern=pattern)
    targets = [{"Id": "1", "Arn": queue.arn}]
    events.put_targets(Rule=rule, EventBusName=bus.rpartition("/")[2], Targets=targets)
    name = function()
    configure(node, name, OnFailure=bus, MaximumRetryAttempts=0)
    send(node, name, {"raise": "no"})
    event = queue.record()
    assert event["detail-type"] == "Lambda Function Invocation Result - Failure"
    assert event["resources"] == [bus, f"arn:aws:lambda:us-east-1:{ACCOUNT}:function:{name}:$LATEST"]
    assert event["detail"]["requestContext"]["condition"] == "RetriesExhausted"


def test_a_bucket_gets_failures_as_objects(node, function, services):
    s3 = client("s3", services)
    bucket = unique("bucket")
    s3.create_bucket(Bucket=bucket)
    name = function()
    configure(node, name, OnFailure=f"arn:aws:s3:::{bucket}", MaximumRetryAttempts=0)
    send(node, name, {"raise": "no"})
    (found,) = eventually(lambda: s3.list_objects_v2(Bucket=bucket).get("Contents"))
    pattern = rf"aws/lambda/async/{name}/\d{{4}}/\d\d/\d\d/\d{{4}}-\d\d-\d\dT\d\d\.\d\d\.\d\d-[0-9a-f-]{{36}}"
    assert re.fullmatch(pattern, found["Key"])
    record = json.loads(s3.get_object(Bucket=bucket, Key=found["Key"])["Body"].read())
    assert record["requestPayload"] == {"raise": "no"}


def test_what_cannot_be_delivered_is_counted(node, function):
    name = function()
    missing = f"arn:aws:sqs:us-east-1:{ACCOUNT}:there-is-none"
    configure(node, name, OnFailure=missing, MaximumRetryAttempts=0)
    node.client.update_function_configuration(FunctionName=name, DeadLetterConfig={"TargetArn": missing})
    node.wait("function_updated_v2", name)
    send(node, name, {"raise": "no"})
    metrics = client("cloudwatch", node.endpoint)

    eventually(lambda: total(metrics, "DestinationDeliveryFailures", name) == 1)
    eventually(lambda: total(metrics, "DeadLetterErrors", name) == 1)
    assert total(metrics, "AsyncEventsReceived", name) == 1
    assert total(metrics, "AsyncEventsDropped", name) == 2


def test_an_alias_has_its_own_configuration(node, function, queue):
    name = function()
    node.client.publish_version(FunctionName=name)
    node.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    node.client.put_function_event_invoke_config(
        FunctionName=name, Qualifier="live", DestinationConfig={"OnSuccess": {"Destination": queue.arn}}
    )
    send(node, name, {"not": "seen"})
    send(node, name, {"a": 1}, Qualifier="live")
    record = queue.record()
    assert record["requestContext"]["functionArn"].endswith(f":function:{name}:live")
    assert record["requestPayload"] == {"a": 1}
    assert record["responseContext"]["executedVersion"] == "1"


def test_a_throttled_event_waits_until_there_is_room(node, function, queue):
    name = function()
    node.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    configure(node, name, OnFailure=queue.arn)
    sent = {send(node, name, {"number": number}) for number in range(30)}
    assert {run[1] for run in runs(node, name, 30)} == sent


def test_the_old_way_of_invoking(node, function):
    name = function()
    got = node.client.invoke_async(FunctionName=name, InvokeArgs=b'{"a":2}')
    assert got["Status"] == 202
    assert runs(node, name, 1)[0][2] == {"a": 2}


def test_an_event_of_a_function_that_is_gone_is_dropped(node, function):
    name = function()
    node.client.put_function_event_invoke_config(FunctionName=name, MaximumRetryAttempts=1)
    send(node, name, {"raise": "no"})
    runs(node, name, 1)
    node.client.delete_function(FunctionName=name)
    node.create(CODE, FunctionName=name, Runtime=RUNTIME, Handler="app.handler")
    other = function()
    send(node, other, {"a": 1})
    assert runs(node, other, 1)


def test_functions_that_send_to_each_other_end(node, function, queue):
    first, second = function(DeadLetterConfig={"TargetArn": queue.arn}), function()
    arns = [
        node.client.get_function_configuration(FunctionName=each)["FunctionArn"] for each in (first, second)
    ]
    configure(node, first, OnSuccess=arns[1])
    configure(node, second, OnSuccess=arns[0])
    send(node, first, {})
    message = queue.message()
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"] == "RecursiveInvocation"


def test_the_log_and_the_tail_know_the_request(node, function):
    name = function()
    request_id = send(node, name, {"a": 1}, LogType="Tail", ClientContext=base64.b64encode(b"{}").decode())
    assert any(request_id in line for line in node.log_until(name, "REPORT"))
