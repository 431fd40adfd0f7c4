"""Metrics, reports and the page for Prometheus of a real node, asked with real clients."""

from __future__ import annotations

import http.client
import json
import os
import subprocess
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError
from prometheus_client.parser import text_string_to_metric_families

from .nodes import REMORA, aws_2, eventually
from .packages import PROBE, RUNTIME, zip_directory

pytestmark = pytest.mark.slow

KEYS = {"AWS_ACCESS_KEY_ID": "any", "AWS_SECRET_ACCESS_KEY": "any", "AWS_DEFAULT_REGION": "us-east-1"}


def metrics_of(node):
    return boto3.client(
        "cloudwatch",
        "us-east-1",
        endpoint_url=node.endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}),
    )


@pytest.fixture
def cloudwatch(node):
    with closing(metrics_of(node)) as client:
        yield client


@pytest.fixture
def used(node, function):
    """A function that was invoked three times, failed once, and has an extension."""
    name = function(does={"tracer": {"after_invoke_s": 0.05}}, MemorySize=256)
    for event in ({}, {}, {"raise": "no"}):
        node.invoke(name, event, tail=True)
    return name


def span():
    now = datetime.now(UTC)
    return {"StartTime": now - timedelta(hours=1), "EndTime": now + timedelta(minutes=1)}


def of(name):
    return [{"Name": "FunctionName", "Value": name}]


def page(node):
    connection = http.client.HTTPConnection(node.address, timeout=240)
    try:
        connection.request("GET", "/metrics")
        response = connection.getresponse()
        assert response.status == 200
        assert response.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        return response.read().decode()
    finally:
        connection.close()


def test_boto3_reads_metrics(node, cloudwatch, used):
    # When statistics are asked for
    common = {"Namespace": "AWS/Lambda", "Dimensions": of(used), "Period": 7200, **span()}
    invocations = cloudwatch.get_metric_statistics(
        MetricName="Invocations", Statistics=["Sum", "SampleCount"], **common
    )
    duration = cloudwatch.get_metric_statistics(
        MetricName="Duration",
        Statistics=["Average", "Minimum", "Maximum"],
        ExtendedStatistics=["p50", "p99"],
        **common,
    )
    # Then they are those of the invocations
    (point,) = invocations["Datapoints"]
    assert (point["Sum"], point["SampleCount"], point["Unit"]) == (3.0, 3.0, "Count")
    assert invocations["Label"] == "Invocations"
    (point,) = duration["Datapoints"]
    assert 50 <= point["Minimum"] <= point["ExtendedStatistics"]["p50"] <= point["Maximum"]
    assert point["Minimum"] <= point["Average"] <= point["Maximum"]
    assert point["Unit"] == "Milliseconds"
    # and so are data, and lists
    queries = [
        {
            "Id": name.lower(),
            "MetricStat": {
                "Metric": {"Namespace": "AWS/Lambda", "MetricName": name, "Dimensions": of(used)},
                "Period": 7200,
                "Stat": "Sum",
            },
        }
        for name in ("Errors", "PostRuntimeExtensionsDuration", "MadeUp")
    ]
    errors, post, made_up = cloudwatch.get_metric_data(MetricDataQueries=queries, **span())[
        "MetricDataResults"
    ]
    assert (errors["Values"], errors["StatusCode"], errors["Label"]) == ([1.0], "Complete", "Errors")
    assert 100 <= post["Values"][0] < duration["Datapoints"][0]["Average"] * 3
    assert made_up["Values"] == made_up["Timestamps"] == []

    listed = [
        each
        for answer in cloudwatch.get_paginator("list_metrics").paginate(
            Namespace="AWS/Lambda", Dimensions=of(used), RecentlyActive="PT3H"
        )
        for each in answer["Metrics"]
    ]
    assert {each["MetricName"] for each in listed} == {
        "Invocations",
        "Errors",
        "Throttles",
        "Duration",
        "PostRuntimeExtensionsDuration",
        "ConcurrentExecutions",
    }
    resource = {"Name": "Resource", "Value": used}
    assert {tuple(len(each["Dimensions"]) for each in listed)} == {(1,) * 6 + (2,) * 5}
    assert all(resource in each["Dimensions"] for each in listed if len(each["Dimensions"]) == 2)


def test_metrics_outlive_the_node(start, data):
    # Given a node that counted, and ended
    first = start(data)
    name = first.create(zip_directory(PROBE), Runtime=RUNTIME, Handler="app.handler")
    for event in ({}, {"raise": "no"}):
        first.invoke(name, event, tail=True)
    assert first.terminate() == 0
    # When another one goes on
    second = start(data)
    second.invoke(name, tail=True)
    with closing(metrics_of(second)) as client:
        common = {"Namespace": "AWS/Lambda", "Dimensions": of(name), "Period": 7200, **span()}
        sums = {
            metric: client.get_metric_statistics(MetricName=metric, Statistics=["Sum"], **common)
            for metric in ("Invocations", "Errors")
        }
    # Then both are told of
    assert [sums[each]["Datapoints"][0]["Sum"] for each in ("Invocations", "Errors")] == [3.0, 1.0]


def test_boto3_hears_what_is_wrong(cloudwatch):
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Errors"}
    common = {**metric, "Period": 60, "Statistics": ["Sum"], **span()}

    def refused(call, **arguments):
        with pytest.raises(ClientError) as caught:
            call(**arguments)
        return caught.value.response["Error"]["Code"]

    statistics = cloudwatch.get_metric_statistics
    assert refused(statistics, **{**common, "Period": 90}) == "InvalidParameterValue"
    assert refused(statistics, **{**common, "EndTime": datetime(2020, 1, 1, tzinfo=UTC)}) == (
        "InvalidParameterCombination"
    )
    assert refused(statistics, **{**common, "StartTime": datetime(2020, 1, 1, tzinfo=UTC)}) == (
        "InvalidParameterCombination"
    )
    assert refused(statistics, **metric, **span(), Period=60) == "MissingParameter"
    assert refused(statistics, **{**common, "Statistics": ["Most"]}) == "ValidationError"
    del common["Statistics"]
    assert refused(statistics, **common, ExtendedStatistics=["tm99"]) == "InvalidParameterValue"

    expression = [{"Id": "e", "Expression": "SUM(METRICS())"}]
    assert refused(cloudwatch.get_metric_data, MetricDataQueries=expression, **span()) == "ValidationError"
    assert refused(cloudwatch.list_metrics, NextToken="x") == "InvalidNextToken"
    assert refused(cloudwatch.put_metric_data, Namespace="N", MetricData=[]) == "UnknownOperationException"


@pytest.mark.parametrize("program", [Path(sys.executable).with_name("aws"), aws_2()], ids=["now", "2.9"])
def test_the_aws_command_reads_metrics(node, used, program):
    """A client of 2022 sends forms and reads XML; today's sends JSON or CBOR."""
    if program is None:
        pytest.skip("there is no AWS CLI 2 on this machine")

    def aws(*arguments, code=0):
        command = [program, "--endpoint-url", node.endpoint, "cloudwatch", *arguments, "--output", "json"]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, env={**os.environ, **KEYS}, timeout=120
        )
        assert (done.returncode != 0) == (code != 0), done.stderr
        return done.stderr if code else json.loads(done.stdout)

    times = span()
    begin, end = (times[name].isoformat() for name in ("StartTime", "EndTime"))
    common = ("--namespace", "AWS/Lambda", "--metric-name", "Invocations")
    whose = ("--dimensions", f"Name=FunctionName,Value={used}")
    listed = aws("list-metrics", *common, *whose)
    assert [len(each["Dimensions"]) for each in listed["Metrics"]] == [1, 2]
    asked = ("get-metric-statistics", *common, *whose, "--start-time", begin, "--end-time", end)
    answer = aws(*asked, "--statistics", "Sum", "--extended-statistics", "p50", "--period", "7200")
    assert [each["Sum"] for each in answer["Datapoints"]] == [3.0]
    assert [each["ExtendedStatistics"] for each in answer["Datapoints"]] == [{"p50": 1.0}]
    dimensions = [{"Name": "FunctionName", "Value": used}]
    metric = {"Namespace": "AWS/Lambda", "MetricName": "Duration", "Dimensions": dimensions}
    query = {"Id": "d", "MetricStat": {"Metric": metric, "Period": 7200, "Stat": "Average"}}
    queries = ("--metric-data-queries", json.dumps([query]), "--start-time", begin, "--end-time", end)
    (data,) = aws("get-metric-data", *queries)["MetricDataResults"]
    assert (data["Id"], data["StatusCode"], len(data["Values"])) == ("d", "Complete", 1)
    assert len(data["Timestamps"]) == 1
    assert "InvalidParameterValue" in aws(*asked, "--statistics", "Sum", "--period", "90", code=1)
    assert "MissingParameter" in aws(*asked, "--period", "60", code=1)


def test_prometheus_reads_the_page(node, used):
    families = {family.name: family for family in text_string_to_metric_families(page(node))}

    def samples(name, sample=""):
        return [
            each
            for each in families[name].samples
            if each.labels.get("function") == used and each.name == f"{name}{sample}"
        ]

    assert [each.value for each in samples("remora_function_invocations", "_total")] == [3.0]
    assert [each.value for each in samples("remora_function_errors", "_total")] == [1.0]
    assert families["remora_function_duration_seconds"].type == "histogram"
    assert [each.value for each in samples("remora_function_duration_seconds", "_count")] == [3.0]
    bounds = [each.value for each in samples("remora_function_duration_seconds", "_bucket")]
    assert bounds == sorted(bounds)
    assert bounds[-1] == 3.0
    assert [each.value for each in samples("remora_function_init_duration_seconds", "_count")] == [1.0]
    (extension,) = samples("remora_extension_post_runtime_seconds", "_sum")
    assert extension.labels["extension"] == "tracer"
    assert extension.value >= 0.1
    assert samples("remora_function_memory_peak_bytes")[0].value > 1_000_000
    assert [each.labels["version"] for each in samples("remora_environments")] == ["$LATEST"]


def test_a_report_tells_what_a_function_and_its_extensions_cost(node, used):
    told = node.get(f"report?function={quote(used)}")
    assert (told["invocations"], told["errors"], told["cold_starts"]) == (3, 1, 1)
    assert told["memory_mib"] == [256]
    assert told["gb_seconds"] == pytest.approx(told["billed_ms"] / 4000)
    assert told["usd"] > 0
    assert told["extensions"][0]["post_runtime_ms"]["count"] == 3

    # When the environment has ended, then it is known how much CPU and memory each process used
    node.client.update_function_configuration(FunctionName=used, Description="another")

    def extension():
        (only,) = node.get(f"report?function={quote(used)}")["extensions"]
        return only if only["processes_ended"] else None

    ended = eventually(extension)
    assert ended["cpu_ms"] > 0
    assert ended["memory_peak_bytes"] > 1_000_000


def test_the_command_reports(node, used):
    def remora(*arguments):
        command = [str(REMORA), "report", "--endpoint", node.endpoint, *arguments]
        return subprocess.run(command, check=False, capture_output=True, text=True, timeout=120)

    shown = remora(used)
    assert shown.returncode == 0, shown.stderr
    assert "3 invocations" in shown.stdout
    assert "tracer" in shown.stdout
    assert json.loads(remora(used, "--json").stdout)["invocations"] == 3
    assert remora(f"{used}:7").returncode == 1
