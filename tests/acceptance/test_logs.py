"""Logs of a real node: boto3, the AWS command line, `remora logs`; formats of a real runtime; kills."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from .nodes import aws_2, eventually
from .packages import RUNTIME, zip_of

AWS = Path(sys.executable).with_name("aws")
REMORA = Path(sys.executable).with_name("remora")
HANDLER = """
import logging, os, sys
log = logging.getLogger()
def handler(event, context):
    if event == "flood":
        for number in range(20000):
            print(f"line {number}")
        sys.stdout.flush()
        os.kill(os.getpid(), 9)
    log.warning("warned of %s", event)
    print("printed", event)
    return event
"""
ZIP = {"app.py": HANDLER}
CREDENTIALS = {"aws_access_key_id": "test", "aws_secret_access_key": "test"}


def logs_client(node):
    config = Config(retries={"total_max_attempts": 1})
    return boto3.client(
        "logs", endpoint_url=node.endpoint, region_name="us-east-1", config=config, **CREDENTIALS
    )


def environment(node):
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": node.endpoint,
        "REMORA_ENDPOINT": node.endpoint,
    }


def asked(node, *command):
    done = subprocess.run(
        [str(part) for part in command], env=environment(node), capture_output=True, text=True, check=True
    )
    return done.stdout


def messages(client, group, **members):
    pages = client.get_paginator("filter_log_events").paginate(logGroupName=group, **members)
    return [event["message"].rstrip("\n") for page in pages for event in page["events"]]


@pytest.mark.slow
@pytest.mark.case("MB-23")
@pytest.mark.case("MB-20")
def test_clients_see_what_a_function_wrote(node, function):
    name = function(zip_of(ZIP), Handler="app.handler")
    request_id = node.invoke(name, b'"one"', tail=True).request_id
    node.invoke(name, b'"two"', tail=True)
    client, group = logs_client(node), f"/aws/lambda/{name}"

    said = messages(client, group)
    logged = [line for line in said if "warned of one" in line]
    time_of = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"
    assert re.fullmatch(rf"\[WARNING\]\t{time_of}\t{request_id}\twarned of one", logged[0])
    assert messages(client, group, filterPattern='"printed one"') == ["printed one"]
    (described,) = client.describe_log_groups(logGroupNamePrefix=group)["logGroups"]
    assert described["logGroupName"] == group
    (stream,) = client.describe_log_streams(logGroupName=group)["logStreams"]
    where = {"logGroupName": group, "logStreamName": stream["logStreamName"]}
    assert [event["message"].rstrip("\n") for event in client.get_log_events(**where)["events"]] == said

    shown = asked(node, REMORA, "logs", name, "--filter", "?warned ?printed", "--request-id", request_id)
    assert shown.splitlines() == [logged[0], "printed one"]
    client.close()


@pytest.mark.slow
def test_the_aws_command_line(node, function):
    name = function(zip_of(ZIP), Handler="app.handler")
    node.invoke(name, b'"one"', tail=True)
    group = ("--log-group-name", f"/aws/lambda/{name}")

    def aws(operation, *more):
        said = asked(node, AWS, "logs", operation, *group, *more)
        return json.loads(said) if said else None

    aws("put-retention-policy", "--retention-in-days", "30")
    prefix = ("--log-group-name-prefix", group[1])
    groups = json.loads(asked(node, AWS, "logs", "describe-log-groups", *prefix))["logGroups"]
    assert [each["retentionInDays"] for each in groups] == [30]
    (stream,) = aws("describe-log-streams")["logStreams"]
    events = aws("get-log-events", "--log-stream-name", stream["logStreamName"])["events"]
    assert "printed one\n" in [event["message"] for event in events]
    found = aws("filter-log-events", "--filter-pattern", "printed")["events"]
    assert [event["message"] for event in found] == ["printed one\n"]
    aws("delete-log-group")
    assert json.loads(asked(node, AWS, "logs", "describe-log-groups", *prefix))["logGroups"] == []


@pytest.mark.slow
def test_a_client_that_polls_sees_every_line_once(node, function):
    """As `aws logs tail --follow` does: from the newest time on, events known by their ids left out."""
    name = function(zip_of(ZIP), Handler="app.handler")
    client, group = logs_client(node), f"/aws/lambda/{name}"
    seen, newest = {}, 0

    def poll():
        nonlocal newest
        pages = client.get_paginator("filter_log_events").paginate(
            logGroupName=group, startTime=newest, interleaved=True, filterPattern="printed"
        )
        for page in pages:
            for event in page["events"]:
                assert event["timestamp"] >= newest
                seen[event["eventId"]] = event["message"]
        newest = max((event["timestamp"] for event in page["events"]), default=newest)

    for number in range(5):
        node.invoke(name, json.dumps(number).encode(), tail=True)
        poll()
        poll()
    assert list(seen.values()) == [f"printed {number}\n" for number in range(5)]
    client.close()


@pytest.mark.slow
@pytest.mark.skipif(aws_2() is None, reason="there is no AWS CLI 2 on this machine")
def test_the_aws_command_tails(node, function):
    # Given somebody who follows the log
    name = function(zip_of(ZIP), Handler="app.handler")
    node.invoke(name, b'"before"', tail=True)
    command = [aws_2(), "--endpoint-url", node.endpoint, "logs", "tail", f"/aws/lambda/{name}"]
    follow = [*command, "--follow", "--format", "short", "--since", "1h"]
    variables = {**environment(node), "PYTHONUNBUFFERED": "1"}
    lines = []
    with subprocess.Popen(follow, stdout=subprocess.PIPE, text=True, env=variables) as following:

        def read_until(text):
            while not lines or text not in lines[-1]:
                line = following.stdout.readline()
                assert line, lines
                lines.append(line)

        read_until("REPORT RequestId")
        # When there are further invocations
        for event in ("one", "two"):
            node.invoke(name, json.dumps(event).encode(), tail=True)
        read_until("printed two")
        following.terminate()

    # Then it has seen every line once, in order
    said = [line.split(" ", 1)[1].strip() for line in lines]
    assert [text for text in said if text.startswith("printed")] == [
        "printed before",
        "printed one",
        "printed two",
    ]
    # and without following, a filter
    found = asked(node, *command, "--filter-pattern", '"printed one"', "--since", "1h", "--format", "json")
    assert "printed one" in found
    assert "printed two" not in found


@pytest.mark.slow
@pytest.mark.case("MB-14")
@pytest.mark.case("MB-35")
def test_a_function_that_logs_json(node, function):
    config = {"LogFormat": "JSON", "ApplicationLogLevel": "WARN", "LogGroup": "/json/all"}
    name = function(zip_of(ZIP), Handler="app.handler", LoggingConfig=config)
    answer = node.invoke(name, b'"one"', tail=True)
    client = logs_client(node)
    records = [json.loads(line) for line in messages(client, "/json/all", filterPattern="?warned ?printed")]
    (warning,) = records  # what was printed is INFO
    assert warning["message"] == "warned of one"
    assert (warning["level"], warning["requestId"]) == ("WARNING", answer.request_id)
    assert {"timestamp", "logger"} <= set(warning)
    found = messages(client, "/json/all", filterPattern='{ $.type = "platform.report" }')
    assert [json.loads(line)["record"]["requestId"] for line in found] == [answer.request_id]
    assert (
        f"/{name}[$LATEST]"
        in client.describe_log_streams(logGroupName="/json/all")["logStreams"][0]["logStreamName"]
    )
    assert "warned of one" in asked(node, REMORA, "logs", name)
    with pytest.raises(ClientError) as caught:
        node.client.update_function_configuration(
            FunctionName=name, LoggingConfig={"LogFormat": "Text", "ApplicationLogLevel": "WARN"}
        )
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    client.close()


@pytest.mark.slow
def test_a_crash_loses_nothing_that_was_printed(node, function):
    name = function(zip_of(ZIP), Handler="app.handler")
    assert node.invoke(name, b'"flood"', tail=True).error == "Unhandled"
    client = logs_client(node)
    lines = [line for line in messages(client, f"/aws/lambda/{name}") if line.startswith("line ")]
    assert lines == [f"line {number}" for number in range(20000)]
    client.close()


@pytest.mark.slow
def test_a_killed_node_loses_only_what_was_not_written(start, data):
    first = start(data)
    first.client.create_function(
        FunctionName="f",
        Runtime=RUNTIME,
        Role="arn:aws:iam::000000000000:role/r",
        Handler="app.handler",
        Code={"ZipFile": zip_of(ZIP)},
    )
    first.client.get_waiter("function_active_v2").wait(FunctionName="f", WaiterConfig={"Delay": 1})
    first.invoke("f", b'"kept"', tail=True)
    client = logs_client(first)
    client.put_retention_policy(logGroupName="/aws/lambda/f", retentionInDays=7)
    client.close()
    segments = data / "logs"
    eventually(lambda: any(b"REPORT" in path.read_bytes() for path in segments.glob("*/*.jsonl")))
    first.kill()

    second = start(data)
    client = logs_client(second)
    assert "printed kept" in messages(client, "/aws/lambda/f")
    second.invoke("f", b'"again"', tail=True)
    assert [line for line in messages(client, "/aws/lambda/f") if "printed" in line] == [
        "printed kept",
        "printed again",
    ]
    assert client.describe_log_groups()["logGroups"][0]["retentionInDays"] == 7
    assert len(client.describe_log_streams(logGroupName="/aws/lambda/f")["logStreams"]) == 2
    client.close()
