"""Metrics: what is counted, for whom, how long it is kept, and what it costs to count."""

from __future__ import annotations

from remora.telemetry import metrics as rules
from remora.telemetry.metrics import Metrics, Subject, metric_of

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
T0_MS = 1_900_000_020_000
T0_S = T0_MS // 1000
F = Subject("f")


def invoke(metrics, resource="f", at_ms=T0_MS, duration_us=1000, post_us=-1, *, is_error=False):
    name = resource.partition(":")[0]
    metrics.entered(name, ARN + resource, at_ms)
    metrics.ended(ARN + resource, at_ms, duration_us, post_us, is_error=is_error)
    metrics.left(name)


def read(metrics, name, subject=F, *, start_s=T0_S, end_s=T0_S + 60, period_s=60):
    found = metrics.read(name, subject, start_s, end_s, period_s)
    return [(at_s, it.count, it.total, it.least, it.greatest) for at_s, it in found]


def test_counts_are_samples_of_nought_or_one():
    metrics = Metrics()
    for number in range(6):
        invoke(metrics, is_error=number % 3 == 0)
    assert read(metrics, "Invocations") == [(T0_S, 6, 6, 1, 1)]
    assert read(metrics, "Errors") == [(T0_S, 6, 2, 0, 1)]
    assert read(metrics, "Throttles") == [(T0_S, 6, 0, 0, 0)]


def test_durations_are_summed_as_the_log_shows_them():
    metrics = Metrics()
    for duration_us in (1_005, 3_014, 10_415_199):
        invoke(metrics, duration_us=duration_us)
    assert read(metrics, "Duration") == [(T0_S, 3, 101 + 301 + 1_041_520, 101, 1_041_520)]


def test_whoever_was_only_throttled_was_not_invoked():
    metrics = Metrics()
    metrics.throttled(ARN + "f", T0_MS)
    assert read(metrics, "Throttles") == [(T0_S, 1, 1, 1, 1)]
    assert read(metrics, "Invocations") == read(metrics, "Errors") == []


def test_fewer_dimensions_add_up_more():
    metrics = Metrics()
    for resource in ("f", "f:1", "f:live", "g"):
        invoke(metrics, resource)

    def invocations(*subject):
        return sum(each[2] for each in read(metrics, "Invocations", Subject(*subject)))

    assert [invocations("f", "f"), invocations("f", "f:1"), invocations("f"), invocations("g")] == [
        1,
        1,
        3,
        1,
    ]
    assert invocations() == 4
    assert invocations("nobody") == invocations("g", "f:1") == 0


def test_concurrency_is_that_of_the_moment_of_each_arrival():
    metrics = Metrics()
    for name in ("f", "f", "g"):
        metrics.entered(name, ARN + name, T0_MS)
    metrics.left("f")
    metrics.entered("f", ARN + "f", T0_MS)

    assert [each[4] for each in read(metrics, "ConcurrentExecutions")] == [2]
    assert [each[4] for each in read(metrics, "ConcurrentExecutions", Subject())] == [3]
    assert [each[4] for each in read(metrics, "UnreservedConcurrentExecutions", Subject())] == [3]
    assert read(metrics, "UnreservedConcurrentExecutions") == []
    assert metrics.in_flight() == {"f": 2, "g": 1}
    for name in ("f", "f", "g"):
        metrics.left(name)
    assert metrics.in_flight() == {}


def test_without_extensions_there_is_no_post_runtime():
    metrics = Metrics()
    invoke(metrics)
    assert "PostRuntimeExtensionsDuration" not in metrics.names(Subject("f"))
    invoke(metrics, post_us=20)
    assert read(metrics, "PostRuntimeExtensionsDuration") == [(T0_S, 1, 2, 2, 2)]


def test_periods_begin_where_the_question_begins():
    metrics = Metrics()
    for minute in range(10):
        invoke(metrics, at_ms=T0_MS + minute * 60_000 + 59_999)
    found = read(metrics, "Invocations", start_s=T0_S - 60, end_s=T0_S + 540, period_s=300)
    assert [(at_s - T0_S, count) for at_s, count, *_ in found] == [(-60, 4), (240, 5)]


def test_old_minutes_become_five_and_then_nothing():
    metrics = Metrics()
    for minute in range(10):
        invoke(metrics, at_ms=T0_MS + minute * 60_000)
    day = 24 * 3600
    invoke(metrics, at_ms=T0_MS + day * 1000)
    kept = read(metrics, "Invocations", start_s=T0_S - 300, end_s=T0_S + 900)
    assert sum(count for _, count, *_ in kept) == 10
    assert all(at_s % 300 == 0 for at_s, *_ in kept)
    assert repr(metrics) == f"<Metrics series=1 buckets={len(kept) + 1} in_flight=0>"

    invoke(metrics, at_ms=T0_MS + 16 * day * 1000)
    assert read(metrics, "Invocations", start_s=T0_S - 300, end_s=T0_S + 900) == []


def test_memory_is_bounded(monkeypatch):
    monkeypatch.setattr(rules, "BUCKETS_MAX", 10)
    metrics = Metrics()
    for number in range(50):
        invoke(metrics, f"f{number}", at_ms=T0_MS + number * 60_000)
    assert repr(metrics) == "<Metrics series=10 buckets=10 in_flight=0>"
    assert Subject("f49") in list(metrics.subjects())
    assert Subject("f0") not in list(metrics.subjects())


def test_subjects_and_names_are_what_there_are_numbers_of():
    metrics = Metrics()
    assert list(metrics.subjects()) == []
    invoke(metrics, "f:1")
    assert list(metrics.subjects()) == [Subject(), Subject("f"), Subject("f", "f:1")]
    assert metrics.names(Subject("f", "f:1")) == ["Invocations", "Errors", "Throttles", "Duration"]
    assert metrics.names(Subject("f"), T0_S + 60) == []
    assert metric_of("MadeUp", Subject()) is None
