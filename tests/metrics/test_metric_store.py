"""Metrics on disk: what survives a restart, how old minutes are folded, and what a bad file costs."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

from remora.telemetry.metric_store import MetricFile, MetricStore, decode, encode
from remora.telemetry.metrics import COARSE_S, KEPT_S, MINUTES_KEPT_S, Bucket, Metrics, Subject

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f:live"
T0_S = 1_900_000_200
F = Subject("f")


class Clock:
    """A clock that the test sets."""

    def __init__(self, now_s=T0_S):
        self.now_s = now_s

    def wall_ms(self):
        return self.now_s * 1000

    def monotonic_us(self):
        return self.now_s * 1_000_000


def invoke(metrics, at_s, *, duration_us=1_000, post_us=-1, arn=ARN):
    metrics.entered("f", arn, at_s * 1000)
    metrics.ended(arn, at_s * 1000, duration_us, post_us, is_error=False)
    metrics.left("f")


def total(metrics, name, start_s=0, end_s=2**40):
    return sum(summary.total for _, summary in metrics.read(name, F, start_s, end_s, 60))


async def lived(path, clock, work):
    """One life of a node: open, count, close; returns its metrics."""
    metrics = Metrics()
    store = MetricStore(path, metrics, clock)
    await store.open()
    await work(metrics, store)
    await store.close()
    await store.close()
    return metrics


async def nothing(_metrics, _store):
    """Count nothing."""


def rows(path):
    with sqlite3.connect(path) as connection:
        return connection.execute("SELECT resource, width_s, start_s FROM bucket ORDER BY start_s").fetchall()


def test_a_bucket_is_the_same_after_it_was_written():
    bucket = Bucket()
    bucket.invocations, bucket.errors, bucket.throttles = 5, 2, 1
    for number in (1, 20, 300_000):
        bucket.duration.add(number)
        bucket.concurrency.add(1)
    bucket.add("ProvisionedConcurrencyInvocations", 1)
    read = decode(encode(bucket))
    assert (read.invocations, read.errors, read.throttles, read.stamp) == (5, 2, 1, bucket.stamp)
    assert encode(read) == encode(bucket)
    assert read.duration.percentile(50) == bucket.duration.percentile(50)
    assert len(encode(bucket)) < 200


def test_the_next_life_counts_on(tmp_path):
    path, clock = tmp_path / "metrics.db", Clock()

    async def work(metrics, store):
        invoke(metrics, T0_S, duration_us=2_000)
        await store.save()
        invoke(metrics, T0_S + 1, duration_us=3_000, post_us=500)
        invoke(metrics, T0_S + 60)

    async def scenario():
        await lived(path, clock, work)
        clock.now_s += 30
        return await lived(path, clock, lambda metrics, _: asyncio.sleep(0, invoke(metrics, T0_S + 2)))

    metrics = asyncio.run(scenario())
    found = metrics.read("Invocations", F, T0_S, T0_S + 120, 60)
    assert [(at_s - T0_S, summary.total) for at_s, summary in found] == [(0, 3), (60, 1)]
    assert total(metrics, "Duration") == 200 + 300 + 100 + 100
    assert total(metrics, "PostRuntimeExtensionsDuration") == 50
    assert "ConcurrentExecutions" in metrics.names(F)
    assert list(metrics.subjects()) == [Subject(), F, Subject("f", "f:live")]


def test_only_what_has_changed_is_written(tmp_path):
    written = []

    async def work(metrics, store):
        put = store._file.put
        store._file.put = lambda rows: (written.append([row.start_s for row in rows]), put(rows))
        invoke(metrics, T0_S - 60)
        invoke(metrics, T0_S)
        await store.save()
        await store.save()
        invoke(metrics, T0_S)
        await store.save()

    asyncio.run(lived(tmp_path / "metrics.db", Clock(), work))
    assert [sorted(each) for each in written] == [[T0_S - 60, T0_S], [T0_S]]


def test_old_minutes_are_folded_and_what_is_too_old_is_forgotten(tmp_path):
    path, clock = tmp_path / "metrics.db", Clock(T0_S - T0_S % COARSE_S)

    async def work(metrics, _store):
        for minute in range(5):
            invoke(metrics, clock.now_s + 60 * minute)

    async def scenario():
        await lived(path, clock, work)
        began_s = clock.now_s
        assert len(rows(path)) == 5
        clock.now_s += MINUTES_KEPT_S + 299
        await lived(path, clock, nothing)
        first = rows(path)
        clock.now_s += 2
        metrics = await lived(path, clock, nothing)
        folded = rows(path), total(metrics, "Invocations")
        clock.now_s += KEPT_S
        gone = await lived(path, clock, nothing)
        return began_s, first, folded, total(gone, "Invocations")

    began_s, first, folded, gone = asyncio.run(scenario())
    # a part of a bucket of five minutes may be folded before the rest of it
    assert {(width_s, start_s - began_s) for _, width_s, start_s in first} == {(300, 0)}
    assert folded == ([(ARN, 300, began_s)], 5)
    assert gone == 0
    assert rows(path) == []


def test_a_bucket_of_five_minutes_is_folded_in_parts(tmp_path):
    file = MetricFile(tmp_path / "metrics.db")
    began_s = T0_S - T0_S % COARSE_S
    metrics = Metrics()
    for minute in range(5):
        invoke(metrics, began_s + 60 * minute)
    file.open(began_s)
    file.put([(arn, 60, at_s, encode(bucket)) for arn, at_s, bucket in metrics.recent(0)])
    for seconds in (61, 200, 299 + 60):
        file.compact(began_s + MINUTES_KEPT_S + seconds)
    (row,) = file.open(began_s + MINUTES_KEPT_S)
    assert (row.width_s, row.start_s, decode(row.content).invocations) == (300, began_s, 5)
    file.close()


def test_no_more_is_kept_than_a_node_remembers(tmp_path, monkeypatch):
    from remora.telemetry import metric_store

    monkeypatch.setattr(metric_store, "BUCKETS_MAX", 3)

    async def work(metrics, _store):
        for minute in range(6):
            invoke(metrics, T0_S + 60 * minute)

    async def scenario():
        await lived(tmp_path / "metrics.db", Clock(), work)
        return await lived(tmp_path / "metrics.db", Clock(), nothing)

    assert total(asyncio.run(scenario()), "Invocations") == 3


@pytest.mark.parametrize("content", [b"garbage " * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_is_put_aside(tmp_path, caplog, content):
    path = tmp_path / "metrics.db"
    path.write_bytes(content)

    async def work(metrics, _store):
        invoke(metrics, T0_S)

    asyncio.run(lived(path, Clock(), work))
    assert "begin anew" in caplog.text
    assert (tmp_path / "metrics.db.damaged").read_bytes() == content
    assert len(rows(path)) == 1


def test_a_row_that_cannot_be_read_is_passed_over(tmp_path):
    file = MetricFile(tmp_path / "metrics.db")
    file.open(T0_S)
    file.put([(ARN, 60, T0_S, b"\xc1"), (ARN, 60, T0_S + 60, b"\x95\x01")])
    file.close()

    async def work(metrics, _store):
        invoke(metrics, T0_S)

    assert total(asyncio.run(lived(tmp_path / "metrics.db", Clock(), work)), "Invocations") == 1


def test_a_disk_that_fails_is_told_once_and_costs_nothing_else(tmp_path, caplog):
    async def work(metrics, store):
        def fail(_rows):
            raise sqlite3.OperationalError("disk full")

        put, store._file.put = store._file.put, fail
        for _ in range(3):
            invoke(metrics, T0_S)
            await store.save()
        store._file.put = put

    async def scenario():
        await lived(tmp_path / "metrics.db", Clock(), work)
        return await lived(tmp_path / "metrics.db", Clock(), nothing)

    assert total(asyncio.run(scenario()), "Invocations") == 3
    assert caplog.text.count("disk full") == 1


def test_where_no_file_can_be_the_node_counts_all_the_same(tmp_path, caplog):
    async def work(metrics, _store):
        invoke(metrics, T0_S)

    metrics = asyncio.run(lived(tmp_path / "missing" / "metrics.db", Clock(), work))
    assert total(metrics, "Invocations") == 1
    assert "are not kept" in caplog.text
