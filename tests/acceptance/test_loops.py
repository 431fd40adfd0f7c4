"""Functions that invoke each other in circles with boto3, on a real node."""

from __future__ import annotations

import importlib.metadata
import json
from pathlib import Path

import pytest

from remora.resources import lineage

from .conftest import functions_on, running
from .nodes import eventually, total, unique
from .packages import RUNTIME, zip_of
from .services import client

pytestmark = pytest.mark.slow

ACCOUNT = "123456789012"
"""The account that moto plays."""
ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793"
RUNS = 16
"""How often a function runs in one chain of requests."""
PACKAGES = ("boto3", "botocore", "s3transfer", "jmespath", "python-dateutil", "six", "urllib3")
DATA = ("lambda", "endpoints.json", "partitions.json", "sdk-default-configuration.json", "_retry.json")
"""What a client for Lambda needs of botocore's data."""
CODE = """
import json
import boto3

clients = {}

def handler(event, context):
    print("hop", event["hop"])
    client = clients.setdefault("it", boto3.client("lambda", endpoint_url=event["endpoint"]))
    to, *others = event["to"]
    following = {**event, "hop": event["hop"] + 1, "to": [*others, to]}
    try:
        reply = client.invoke(FunctionName=to, InvocationType=event["type"], Payload=json.dumps(following))
    except client.exceptions.RecursiveInvocationException as error:
        status = error.response["ResponseMetadata"]["HTTPStatusCode"]
        return {"hop": event["hop"], "status": status, "text": error.response["Error"]["Message"]}
    return json.loads(reply["Payload"].read() or "null")
"""


def sdk() -> bytes:
    """Return a layer with boto3."""
    files = {}
    for package in PACKAGES:
        for path in importlib.metadata.files(package) or ():
            parts = path.parts
            is_wanted = not parts[0].endswith((".dist-info", "..")) and "__pycache__" not in parts
            if parts[:2] == ("botocore", "data"):
                is_wanted = parts[2] in DATA
            if is_wanted and parts[0] != "..":
                files[f"python/{path}"] = Path(path.locate()).read_bytes()
    return zip_of(files)


@pytest.fixture(scope="module")
def node(tmp_path_factory, services):
    """A node whose functions reach it."""
    data = tmp_path_factory.mktemp("node") / unique("data")
    with running(data, "--network", "host", "--account", ACCOUNT, "--aws-endpoint", services) as node:
        yield node


@pytest.fixture
def function(node):
    with functions_on(node) as create:
        layer = sdk()

        common = {"Timeout": 240, "MemorySize": 1769}

        def caller(**settings):
            return create(
                zip_of({"app.py": CODE}),
                layers=[layer],
                Runtime=RUNTIME,
                Handler="app.handler",
                **common,
                **settings,
            )

        yield caller


def hops(node, name):
    """Return which hops a function's log tells of, when nothing of it is left to come."""
    found = []
    with node.following(name) as lines:
        for line in lines:
            message = line["message"]
            if message.startswith("hop "):
                found.append(int(message.split()[1]))
            if message.startswith("REPORT") and len(found) == RUNS:
                break
    return sorted(found)


def dropped(node, name):
    """Return how often an invocation of a function was refused as part of a loop."""
    return total(client("cloudwatch", node.endpoint), "RecursiveInvocationsDropped", name)


def event(node, kind, *ring):
    return {"endpoint": node.endpoint, "type": kind, "to": ring, "hop": 1}


def test_a_function_that_invokes_itself_is_refused_in_the_end(node, function):
    name = function()
    arn = node.client.get_function_configuration(FunctionName=name)["FunctionArn"]
    header, before = ROOT, RUNS - 3  # each further run needs an environment of its own
    for _ in range(before):
        header = lineage.follow(header, arn)

    def add_trace(params, **_):
        params["headers"]["X-Amzn-Trace-Id"] = header

    node.client.meta.events.register("before-call.lambda.Invoke", add_trace)
    try:
        answer = node.invoke(name, event(node, "RequestResponse", name))
    finally:
        node.client.meta.events.unregister("before-call.lambda.Invoke", add_trace)
    assert answer.error is None, answer.payload
    assert (before + answer.payload["hop"], answer.payload["status"]) == (RUNS, 400)
    assert "PutFunctionRecursionConfig" in answer.payload["text"]
    assert dropped(node, name) == 1
    assert node.invoke(name, event(node, "DryRun", name)).error is None


def test_events_that_go_round_end_as_dead_letters(node, function, queue):
    first = function()
    second = function(DeadLetterConfig={"TargetArn": queue.arn})
    third = function()
    # The chain begins outside of the circle of the other two.
    node.invoke(third, event(node, "Event", second, first), InvocationType="Event")
    message = queue.message()
    assert json.loads(message["Body"])["hop"] == 2 * RUNS + 2
    assert message["MessageAttributes"]["ErrorMessage"]["StringValue"] == "RecursiveInvocation"
    assert hops(node, second) == list(range(2, 2 * RUNS + 2, 2))
    assert hops(node, first) == list(range(3, 2 * RUNS + 3, 2))
    assert (dropped(node, first), dropped(node, second)) == (0, 1)


def test_a_function_that_may_goes_on(node, function):
    name = function()
    node.client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Allow")
    node.invoke(name, event(node, "Event", name), InvocationType="Event")
    node.log_until(name, f"hop {RUNS + 5}")
    node.client.put_function_recursion_config(FunctionName=name, RecursiveLoop="Terminate")
    eventually(lambda: dropped(node, name) == 1)
