"""The queue of one subscriber: batches, bounds, losses, retries."""

import random

import pytest

from remora.telemetry.queue import RETRY_US, RETRY_US_MAX, Entry, Queue
from remora.telemetry.subscriptions import Buffering

MS = 1000


def queue(items=1000, payload_bytes=262_144, timeout_ms=100):
    return Queue(Buffering(items, payload_bytes, timeout_ms), lambda records, _: b"lost %d" % records)


def entries(count, first=0, *, size_bytes=2, at_us=0):
    return [Entry(b"%d" % number, size_bytes, at_us) for number in range(first, first + count)]


def test_nothing_is_due_when_there_is_nothing():
    empty = queue()
    assert empty.due_us() is None
    empty.flush()
    assert empty.take(10**12) is None, "an empty batch is never delivered"


def test_the_timer_counts_from_the_oldest():
    some = queue(timeout_ms=100)
    some.put(entries(1, at_us=5 * MS))
    some.put(entries(1, 1, at_us=90 * MS))
    assert some.due_us() == 105 * MS
    assert some.take(104 * MS) is None
    assert some.take(105 * MS) == [b"0", b"1"]


def test_a_batch_is_full_by_items():
    some = queue()
    some.put(entries(1500))
    assert len(some.take(0)) == 1000
    assert some.take(10**9) is None, "one batch at a time"
    some.delivered()
    assert some.take(99 * MS) is None
    assert len(some.take(100 * MS)) == 500


def test_a_batch_is_full_by_bytes_with_the_event_that_crosses_the_limit():
    some = queue(payload_bytes=262_144)
    some.put(entries(4, size_bytes=100_000))
    assert len(some.take(0)) == 3


def test_what_is_over_is_dropped_and_told_once_at_the_head():
    some = queue()
    some.put(entries(1000))
    assert len(some.take(0)) == 1000
    some.put(entries(2500, 1000))
    some.put(entries(10, 3500))
    some.delivered()
    batch = some.take(0)
    assert batch[0] == b"lost 510"
    assert len(batch) == 1000
    some.put(entries(1200, 4000))
    some.delivered()
    assert some.take(0)[0] == b"lost 711", "cumulative"
    some.delivered()
    some.flush()
    assert b"lost" not in some.take(0)[0]


def test_an_event_longer_than_everything_is_let_in_alone():
    some = queue()
    some.put(entries(1, size_bytes=10_000_000))
    some.put(entries(1, 1))
    assert some.take(0) == [b"lost 1", b"0"]
    some.delivered()
    assert some.take(0) is None


def test_what_failed_is_tried_again_later_and_later():
    some = queue()
    some.put(entries(1))
    some.flush()
    now, waits = 0, []
    for _ in range(8):
        assert some.take(now) == [b"0"]
        some.failed(now)
        assert some.take(some.due_us() - 1) is None
        waits.append(some.due_us() - now)
        now = some.due_us()
    assert waits == [min(RETRY_US * 2**n, RETRY_US_MAX) for n in range(8)]
    assert some.take(now) == [b"0"]
    some.retry()
    assert some.take(now) is None, "it is being tried"
    some.failed(now)
    some.retry()
    assert some.take(now) == [b"0"]
    some.delivered()
    assert not some.is_failing


def test_a_flush_is_of_what_was_there():
    some = queue()
    some.put(entries(3))
    some.flush()
    some.put(entries(3, 3))
    assert not some.is_flushed
    assert some.take(0) == [b"0", b"1", b"2"]
    some.delivered()
    assert some.is_flushed
    assert some.take(0) is None


@pytest.mark.parametrize("seed", range(8))
def test_whatever_happens_order_stays_and_losses_are_counted(seed):
    rng = random.Random(seed)
    told = []
    some = Queue(Buffering(1000, 262_144, 50), lambda records, _: told.append(records) or b"lost")
    sent, got, now, number, is_out = 0, [], 0, 0, False
    for _ in range(150):
        now += rng.randrange(20 * MS)
        for _ in range(rng.randrange(3)):
            count = rng.randrange(1, 900)
            some.put(entries(count, number, size_bytes=rng.randrange(1, 600), at_us=now))
            number += count
            sent += count
        if rng.random() < 0.1:
            some.flush()
        if not is_out and (batch := some.take(now)) is not None:
            assert 0 < len(batch) <= 1000
            assert b"lost" not in batch[1:]
            is_out = True
        elif is_out:
            is_out = False
            if rng.random() < 0.3:
                some.failed(now)
            else:
                got += [int(each) for each in batch if each != b"lost"]
                some.delivered()
    while True:
        if is_out:
            got += [int(each) for each in batch if each != b"lost"]
            some.delivered()
        some.flush()
        now += 10**7
        batch = some.take(now)
        if batch is None:
            break
        is_out = True
    assert got == sorted(set(got))
    assert len(got) + (told[-1] if told else 0) == sent
    assert told == sorted(told)
