"""Export to an OpenTelemetry receiver, decoded with the protocol's own messages, by a real node."""

from __future__ import annotations

import http.client
import time
from collections import Counter

import pytest
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from prometheus_client.parser import text_string_to_metric_families

from .conftest import functions_on, running
from .nodes import Node
from .receiver import attributes, receiving

pytestmark = pytest.mark.slow

TRACE = "5759e988bd862e3fe1be46a994272793"
HEADER = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


@pytest.fixture(autouse=True)
def quickly(monkeypatch):
    """Export soon, and not to where the tests' own surroundings say."""
    for name in ("OTEL_BSP_SCHEDULE_DELAY", "OTEL_BLRP_SCHEDULE_DELAY"):
        monkeypatch.setenv(name, "20")
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "200")
    monkeypatch.delenv("OTEL_EXPORTER_OTLP_ENDPOINT", raising=False)


def counts(node):
    connection = http.client.HTTPConnection(node.address, timeout=240)
    try:
        connection.request("GET", "/metrics")
        families = text_string_to_metric_families(connection.getresponse().read().decode())
        return {
            (sample.name.removeprefix("remora_otlp_"), sample.labels["signal"]): sample.value
            for family in families
            for sample in family.samples
            if sample.name in ("remora_otlp_exported_total", "remora_otlp_dropped_total")
        }
    finally:
        connection.close()


def test_traces_logs_and_metrics_reach_a_receiver(data, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-key=a%20secret,x-other=1")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    with receiving() as receiver, running(data, "--otlp-endpoint", receiver.url) as node:
        with functions_on(node) as create:
            # Given a function with an extension that takes its time, When it is cold, traced and failing
            name = create(does={"tracer": {"after_invoke_s": 0.05}}, MemorySize=256)
            cold = node.invoke(name, {"print": "hello"}, tail=True)
            failed = node.invoke(name, {"raise": "no"}, tail=True)
            roots = receiver.wait(
                lambda: (
                    found
                    if len(found := [it for it in receiver.spans() if it[1].name == name]) == 2
                    else None
                )
            )

            # Then each invocation is a trace
            by_id = {attributes(span)["faas.invocation_id"]: (of, span) for of, span in roots}
            resource, root = by_id[cold.request_id]
            assert resource["service.name"] == resource["faas.name"] == name
            assert resource["faas.max_memory"] == 256 * 1024 * 1024
            assert resource["deployment.environment.name"] == "test"
            assert resource["faas.instance"] == node.environments(name)[0]["log_stream"]
            assert root.kind == Span.SPAN_KIND_SERVER
            assert root.status.code == Status.STATUS_CODE_UNSET
            assert attributes(root)["faas.coldstart"] is True
            assert by_id[failed.request_id][1].status.code == Status.STATUS_CODE_ERROR
            assert attributes(by_id[failed.request_id][1])["faas.coldstart"] is False

            # whose parts lie within it, in order
            spans = [span for _, span in receiver.spans() if span.trace_id == root.trace_id]
            names = {span.span_id: span.name for span in spans}
            parents = Counter((span.name, names.get(span.parent_span_id, "")) for span in spans)
            assert parents == {
                (name, ""): 1,
                ("init", name): 1,
                ("sandbox", "init"): 1,
                ("extension tracer", "init"): 1,
                ("runtime", "init"): 1,
                ("runtime", name): 1,
                ("response", "runtime"): 1,
                ("extension tracer", name): 1,
                ("post-runtime", name): 1,
            }
            for span in spans:
                assert root.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
                assert span.end_time_unix_nano <= root.end_time_unix_nano
            below = {span.name: span for span in spans if span.parent_span_id == root.span_id}
            extension, after = below["extension tracer"], below["post-runtime"]
            assert extension.end_time_unix_nano - extension.start_time_unix_nano >= 50_000_000
            assert after.start_time_unix_nano == below["runtime"].end_time_unix_nano
            assert after.end_time_unix_nano == root.end_time_unix_nano
            assert abs(root.end_time_unix_nano - time.time_ns()) < 60e9

            # and its lines belong to it
            lines = receiver.wait(
                lambda: [it for it in receiver.logs() if "hello" in it[1].body.string_value] or None
            )
            of, line = lines[0]
            assert (of["service.name"], line.trace_id, line.span_id) == (name, root.trace_id, root.span_id)
            assert of["aws.log.group.names"] == [f"/aws/lambda/{name}"]
            assert attributes(line)["faas.invocation_id"] == cold.request_id
            assert receiver.wait(lambda: [r for _, r in receiver.logs() if r.severity_text == "ERROR"])

            # and metrics count what happened
            sums = receiver.wait(
                lambda: it if (it := receiver.metrics()) and point(it["faas.errors"]).as_int == 1 else None
            )
            assert point(sums["faas.invocations"]).as_int == 1
            assert point(sums["faas.coldstarts"]).as_int == 1
            duration = sums["faas.invoke_duration"].histogram.data_points[0]
            assert (duration.count, sum(duration.bucket_counts)) == (2, 2)
            assert duration.sum >= 0.06
            extension = sums["remora.extension.post_runtime_duration"].histogram.data_points[0]
            assert attributes(extension) == {"extension": "tracer"}
            assert point(sums["remora.cost"]).as_double > 0
        assert all((each["x-key"], each["x-other"]) == ("a secret", "1") for each in receiver.headers)


def point(metric):
    (only,) = metric.sum.data_points
    return only


def test_a_callers_trace_goes_on(data, monkeypatch):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", "gzip")
    monkeypatch.setenv("OTEL_METRICS_EXPORTER", "none")
    with receiving() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url)
        with running(data) as node, functions_on(node) as create:
            name = create()
            connection = http.client.HTTPConnection(node.address, timeout=240)
            connection.request(
                "POST", f"/2015-03-31/functions/{name}/invocations", b"{}", {"X-Amzn-Trace-Id": HEADER}
            )
            assert connection.getresponse().status == 200
            connection.close()
        # The end of the node sends what there is
        (root,) = [span for _, span in receiver.spans() if span.name == name]
        assert (root.trace_id.hex(), root.parent_span_id.hex()) == (TRACE, "53995c3f42cd8ad8")
        assert {each["Content-Encoding"] for each in receiver.headers} == {"gzip"}
        assert receiver.metrics() == {}


def test_a_busy_receiver_is_asked_again_and_one_that_refuses_is_not(data):
    partial = ExportLogsServiceResponse()
    partial.partial_success.rejected_log_records = 0
    with (
        receiving(503, 429, 400, answer=partial.SerializeToString()) as receiver,
        running(data, "--otlp-endpoint", receiver.url) as node,
        functions_on(node) as create,
    ):
        name = create()
        receiver.wait(lambda: node.invoke(name).status == 200 and receiver.refused == 3)
        receiver.wait(lambda: node.invoke(name).status == 200 and receiver.spans() and receiver.logs())
        assert "faas.invoke_duration" in receiver.wait(receiver.metrics)
        assert node.errors.read_text().count("are not exported") == 1


def test_a_receiver_that_never_answers_costs_nobody_anything(data):
    with receiving() as receiver, running(data, "--otlp-endpoint", receiver.url) as node:
        receiver.let_go.clear()
        with functions_on(node) as create:
            name = create()
            answers = [node.invoke(name) for _ in range(20)]
            assert {answer.status for answer in answers} == {200}
        began = time.monotonic()
        assert node.terminate() == 0
        assert time.monotonic() - began < 30
        assert receiver.spans() == []


def test_nobody_listens(data):
    with running(data, "--otlp-endpoint", "http://127.0.0.1:9") as node:
        with functions_on(node) as create:
            assert node.invoke(create()).status == 200
        assert node.terminate() == 0
        assert "cannot be reached" in node.errors.read_text()


@pytest.mark.parametrize(
    ("variable", "value", "text"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317", "no URL"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc", "'grpc' is not offered"),
        ("OTEL_EXPORTER_OTLP_LOGS_COMPRESSION", "zstd", "'zstd' is not offered"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon", "give milliseconds"),
        ("OTEL_METRIC_EXPORT_INTERVAL", "-1", "give milliseconds"),
    ],
)
def test_what_cannot_be_done_is_said_at_the_start(data, monkeypatch, variable, value, text):
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv(variable, value)
    with pytest.raises(AssertionError, match=text):
        Node(data)
