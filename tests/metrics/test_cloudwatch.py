"""CloudWatch's operations over metrics that are known: order, pages, dimensions, what is refused."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.control.services import cloudwatch as rules
from remora.control.services.cloudwatch import CloudWatch
from remora.control.services.neighbour import ServiceError
from remora.spec import rpc_api
from remora.spec.errors import ApiError
from remora.telemetry.metrics import Metrics

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
T0_S = 1_900_000_020
SPAN = {"StartTime": float(T0_S), "EndTime": float(T0_S + 600)}
OFFERED = ("ListMetrics", "GetMetricStatistics", "GetMetricData")
MODEL = rpc_api.load("cloudwatch", "2010-08-01", OFFERED)


class Noon:
    """A clock that stands still, ten minutes after the first minute."""

    def wall_ms(self):
        return (T0_S + 600) * 1000

    def monotonic_us(self):
        return 0


@pytest.fixture(scope="module")
def ask():
    """Ask for an operation, through the model both ways."""
    metrics = Metrics()
    for minute in range(10):
        for resource in ("f", "f:live"):
            at_ms = (T0_S + minute * 60) * 1000
            metrics.entered("f", ARN + resource, at_ms)
            metrics.ended(ARN + resource, at_ms, 1_000 * (minute + 1), 500, is_error=minute == 0)
            metrics.left("f")
    handlers = CloudWatch(metrics, Noon()).handlers()

    def call(name, **request):
        operation = MODEL.operations[name]
        reply = asyncio.run(handlers[name](MODEL.parse(operation, request)))
        return MODEL.plain(operation, reply)

    return call


def query(identifier="m", name="Duration", stat="Sum", period_s=60, **more):
    dimensions = more.pop("dimensions", [{"Name": "FunctionName", "Value": "f"}])
    metric = {"Namespace": "AWS/Lambda", "MetricName": name, "Dimensions": dimensions}
    return {"Id": identifier, "MetricStat": {"Metric": metric, "Period": period_s, "Stat": stat}, **more}


def test_data_come_newest_first_unless_told_otherwise(ask):
    queries = [query("newest"), query("hidden", ReturnData=False), query("named", Label="mine")]
    newest, named = ask("GetMetricData", MetricDataQueries=queries, **SPAN)["MetricDataResults"]
    assert newest["Timestamps"] == [T0_S + 60 * minute for minute in reversed(range(10))]
    assert newest["Values"] == [2.0 * (minute + 1) for minute in reversed(range(10))]
    assert (newest["Label"], named["Label"]) == ("Duration", "mine")
    oldest = ask("GetMetricData", MetricDataQueries=[query()], ScanBy="TimestampAscending", **SPAN)
    assert oldest["MetricDataResults"][0]["Values"] == newest["Values"][::-1]


def test_pages_of_data_have_all_of_it_once(ask):
    request = {"MetricDataQueries": [query("a"), query("b", "Errors"), query("c", "MadeUp")], **SPAN}
    whole = ask("GetMetricData", **request)
    assert [each["StatusCode"] for each in whole["MetricDataResults"]] == ["Complete"] * 3
    assert "NextToken" not in whole
    values = {each["Id"]: [] for each in whole["MetricDataResults"]}
    pages, token = 0, {}
    while True:
        page = ask("GetMetricData", MaxDatapoints=7, **request, **token)
        pages += 1
        for each in page["MetricDataResults"]:
            values[each["Id"]] += each["Values"]
        if "NextToken" not in page:
            break
        assert "PartialData" in [each["StatusCode"] for each in page["MetricDataResults"]]
        token = {"NextToken": page["NextToken"]}
    assert pages == 3
    assert values == {each["Id"]: each["Values"] for each in whole["MetricDataResults"]}


def test_a_subject_is_named_by_its_dimensions(ask):
    def total(*names, value="f"):
        dimensions = [
            {"Name": name, "Value": value if name == "FunctionName" else "f:live"} for name in names
        ]
        wanted = query(dimensions=dimensions, name="Invocations", period_s=600)
        (found,) = ask("GetMetricData", MetricDataQueries=[wanted], **SPAN)["MetricDataResults"]
        return sum(found["Values"])

    assert total() == total("FunctionName") == 20
    assert total("FunctionName", "Resource") == 10
    assert total("Resource") == total("FunctionName", value="g") == total("FunctionName", "Colour") == 0


def test_another_unit_or_namespace_has_nothing(ask):
    common = {"MetricName": "Duration", "Period": 600, "Statistics": ["Sum"], **SPAN}
    assert ask("GetMetricStatistics", Namespace="AWS/EC2", **common)["Datapoints"] == []
    assert ask("GetMetricStatistics", Namespace="AWS/Lambda", Unit="Bytes", **common)["Datapoints"] == []
    found = ask("GetMetricStatistics", Namespace="AWS/Lambda", Unit="Milliseconds", **common)
    assert found["Datapoints"] == [{"Timestamp": T0_S, "Unit": "Milliseconds", "Sum": 110.0}]


def test_counts_have_percentiles_too(ask):
    common = {"Namespace": "AWS/Lambda", "Period": 600, "ExtendedStatistics": ["p50", "p99.9"], **SPAN}
    (errors,) = ask("GetMetricStatistics", MetricName="Errors", **common)["Datapoints"]
    assert errors["ExtendedStatistics"] == {"p50": 0.0, "p99.9": 1.0}


def test_lists_have_pages_and_filters(ask, monkeypatch):
    monkeypatch.setattr(rules, "METRICS_PER_PAGE", 4)
    found, token = [], {}
    while True:
        page = ask("ListMetrics", Namespace="AWS/Lambda", **token)
        found += page["Metrics"]
        assert len(page["Metrics"]) <= 4
        if "NextToken" not in page:
            break
        token = {"NextToken": page["NextToken"]}
    assert len({repr(each) for each in found}) == len(found) == 8 + 6 + 5 + 5
    assert ask("ListMetrics", Namespace="AWS/EC2")["Metrics"] == []
    live = [{"Name": "Resource", "Value": "f:live"}]
    (one,) = ask("ListMetrics", MetricName="Errors", Dimensions=live)["Metrics"]
    assert one["Dimensions"] == [{"Name": "FunctionName", "Value": "f"}, *live]
    assert len(ask("ListMetrics", MetricName="Errors", Dimensions=[{"Name": "Resource"}])["Metrics"]) == 2


@pytest.mark.parametrize(
    "queries",
    [
        [{"Id": "e", "Expression": "m1/m2"}],
        [{"Id": "E", "MetricStat": query()["MetricStat"]}],
        [{"Id": "m"}],
        [query(), query()],
        [query(f"m{number}") for number in range(501)],
    ],
)
def test_queries_that_are_none_are_refused(ask, queries):
    with pytest.raises(ServiceError, match="ValidationException"):
        ask("GetMetricData", MetricDataQueries=queries, **SPAN)


@pytest.mark.parametrize("stat", ["p101", "p", "P50", "TM(1:2)", "", "p1e5", "p-1"])
def test_statistics_that_are_not_offered_are_refused(ask, stat):
    with pytest.raises(ServiceError, match="InvalidParameterValue"):
        ask("GetMetricData", MetricDataQueries=[query(stat=stat)], **SPAN)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
NAMES = ("Namespace", "MetricName", "Dimensions", "StartTime", "EndTime", "Period", "Statistics", "NextToken")


@given(st.sampled_from(OFFERED), st.data())
def test_garbage_is_refused_politely(ask, name, data):
    request = {
        "Namespace": "AWS/Lambda",
        "MetricName": "Duration",
        "Period": 60,
        "Statistics": ["Sum"],
        "MetricDataQueries": [query()],
        **SPAN,
    }
    for member in data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)):
        request[member] = data.draw(JSON)
    with suppress(ServiceError, ApiError):
        assert isinstance(ask(name, **request), dict)
