"""What is read from OpenTelemetry's variables, and how lines and answers are cut and read."""

from __future__ import annotations

import asyncio
import socket
import sys
import time

import pytest

from remora.kit.clock import SystemClock
from remora.node.drivers import exporter
from remora.node.otlp import exporter as rules
from remora.node.otlp.destination import Destination, Sender, destinations, pairs
from remora.node.otlp.exporter import Exporter, _cut
from remora.node.otlp.messages import Lines, level_of, rejected
from remora.node.settings import NodeError
from remora.telemetry.log_files import LogLine
from remora.telemetry.meter import Meters


def test_each_signal_has_its_place():
    found = destinations(
        {
            "OTEL_EXPORTER_OTLP_ENDPOINT": "http://one:4318/",
            "OTEL_EXPORTER_OTLP_LOGS_ENDPOINT": "https://two/own/path",
            "OTEL_EXPORTER_OTLP_TIMEOUT": "2500",
            "OTEL_EXPORTER_OTLP_LOGS_COMPRESSION": "gzip",
            "OTEL_EXPORTER_OTLP_CERTIFICATE": "/ca.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE": "/c.pem",
            "OTEL_EXPORTER_OTLP_CLIENT_KEY": "/k.pem",
            "OTEL_METRICS_EXPORTER": "none",
        }
    )
    common = {"headers": {}, "timeout_s": 2.5, "verify": "/ca.pem", "client": ("/c.pem", "/k.pem")}
    assert found == {
        "traces": Destination("http://one:4318/v1/traces", **common),
        "logs": Destination("https://two/own/path", is_compressed=True, **common),
    }


def test_headers_are_percent_encoded():
    assert pairs(" a = b%2Cc , d=e=f,broken") == {"a": "b,c", "d": "e=f"}


@pytest.mark.parametrize(
    ("message", "level"),
    [
        ('{"level":"warn","message":"m"}', "WARN"),
        ('{"level":7}', ""),
        ('{"level":"loud"}', ""),
        ("{ no json", ""),
        ("[ERROR]\t2031-02-03T10:00:00.650Z\tid\tm", "ERROR"),
        ("[ERROR] KeyError: 'x'", "ERROR"),
        ("[INFOS] x", ""),
        ("plain", ""),
    ],
)
def test_levels(message, level):
    assert level_of(message) == level


def test_lines_are_cut_by_count_and_size():
    lines = Lines("g", "s", [LogLine(0, text) for text in ("aaaa", "bbbb", "cccc")], None)
    messages = lambda cut: [line.message for line in cut.lines] if cut else None
    for count, size, first, rest in (
        (9, 99, ["aaaa", "bbbb", "cccc"], None),
        (2, 99, ["aaaa", "bbbb"], ["cccc"]),
        (9, 8, ["aaaa", "bbbb"], ["cccc"]),
        (9, 1, ["aaaa"], ["bbbb", "cccc"]),
    ):
        taken, left = _cut(lines, count, size)
        assert (messages(taken), messages(left)) == (first, rest)


def test_garbage_for_an_answer_rejects_nothing():
    assert rejected("logs", b"<html>") == (0, "")
    assert rejected("traces", b"") == (0, "")


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"OTEL_EXPORTER_OTLP_TIMEOUT": "5"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
    ],
)
def test_nothing_is_exported_unless_an_endpoint_is_named(variables):
    assert exporter(variables, Meters(SystemClock()), SystemClock()) is None


def test_without_the_extra_it_is_said_what_to_install(monkeypatch):
    for name in [name for name in sys.modules if name.startswith("remora.node.otlp")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "requests", None)
    with pytest.raises(NodeError) as caught:
        exporter({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, Meters(SystemClock()), SystemClock())
    assert "needs the module requests" in str(caught.value)
    assert "remora[otlp]" in caught.value.hint


def test_what_waits_for_export_is_bounded_and_leaves_in_batches(monkeypatch):
    monkeypatch.setattr(rules, "LINES_MAX", 10)
    monkeypatch.setattr(rules, "BATCH_LINES", 4)

    async def scenario():
        export = Exporter({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}, Meters(SystemClock()), SystemClock())
        for first in range(0, 14, 2):
            export.logged({("g", "s"): [LogLine(0, str(first)), LogLine(0, str(first + 1))]})
        batches = []
        while taken := export._take_lines():
            batches.append([line.message for each in taken for line in each.lines])
        counts = export.counts()
        await export.close()
        return batches, counts["logs"], repr(export)

    batches, counts, text = asyncio.run(scenario())
    assert batches == [["0", "1", "2", "3"], ["4", "5", "6", "7"], ["8", "9"]]
    assert counts == (0, 4)
    assert "lines=0" in text


@pytest.mark.slow
def test_a_message_takes_no_longer_than_it_may_repetitions_included():
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sender = Sender(Destination(f"http://127.0.0.1:{silent.getsockname()[1]}/v1/logs", {}, timeout_s=1.2))
        began = time.monotonic()
        sent = sender.send(b"")
        took = time.monotonic() - began
        sender.close()
    assert "ReadTimeout" in sent.problem
    assert 1 < took < 6


def test_nobody_waits_when_the_node_ends():
    sender = Sender(Destination("http://127.0.0.1:9/v1/logs", {}, timeout_s=60))
    sender.end()
    assert "ConnectionError" in sender.send(b"").problem
    sender.close()
