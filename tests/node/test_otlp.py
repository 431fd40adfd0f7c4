"""What is read from OpenTelemetry's variables, and how lines and answers are cut and read."""

from __future__ import annotations

import pytest

from remora.node.otlp.destination import Destination, destinations, pairs
from remora.node.otlp.exporter import _cut
from remora.node.otlp.messages import Lines, level_of, rejected
from remora.telemetry.log_files import LogLine


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
    messages = lambda cut: [line.message for line in cut.lines] if cut else None  # noqa: E731
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
