"""The log of events on one disk."""

import asyncio
import sqlite3

import pytest

from remora.store.base import StoreError
from remora.store.event_log import Entry
from remora.store.sqlite_events import SqliteEventLog


def put(number, **members):
    return Entry("put", number, "event", b"head", b"body", b"0")._replace(**members)


def reopened(tmp_path):
    async def read():
        log = SqliteEventLog(tmp_path)
        entries = await log.load()
        await log.close()
        return entries

    return asyncio.run(read())


def test_what_was_committed_is_there_again(tmp_path, run):
    async def scenario():
        log = SqliteEventLog(tmp_path)
        assert await log.load() == []
        await log.commit([put(1), put(2)], is_durable=True)
        await log.commit([Entry("progress", 1, progress=b"7"), Entry("gone", 2), put(3, kind="delivery")])
        assert await log.body(1) == b"body"
        with pytest.raises(StoreError, match="no entry 2"):
            await log.body(2)
        await log.close()
        await log.close()
        with pytest.raises(StoreError, match="closed"):
            await log.commit([put(4)])

    run(scenario())
    assert reopened(tmp_path) == [
        put(1, body=b"", progress=b"7"),
        put(3, body=b"", kind="delivery"),
    ]


def test_many_commits_share_a_transaction_and_one_that_is_wrong_does_not_spoil_the_others(tmp_path, run):
    async def scenario():
        log = SqliteEventLog(tmp_path)
        await log.load()
        await log.commit([put(1)])
        outcomes = await asyncio.gather(
            *(log.commit([put(number)], is_durable=number % 2 == 0) for number in (2, 3, 1, 4, 5)),
            return_exceptions=True,
        )
        assert [type(outcome) for outcome in outcomes] == [type(None)] * 2 + [StoreError] + [type(None)] * 2
        await log.close()

    run(scenario())
    assert [entry.number for entry in reopened(tmp_path)] == [1, 2, 3, 4, 5]


def test_all_changes_of_a_commit_or_none(tmp_path, run):
    async def scenario():
        log = SqliteEventLog(tmp_path)
        await log.load()
        await log.commit([put(1)])
        with pytest.raises(StoreError):
            await log.commit([Entry("gone", 1), put(2), put(2)])
        await log.close()

    run(scenario())
    assert [entry.number for entry in reopened(tmp_path)] == [1]


def test_a_full_disk_is_told_and_passes(tmp_path, run):
    async def scenario():
        log = SqliteEventLog(tmp_path)
        await log.load()
        pages = log._connection.execute("PRAGMA page_count").fetchone()[0]
        log._connection.execute(f"PRAGMA max_page_count = {pages + 1}")
        with pytest.raises(StoreError, match="the disk is full") as caught:
            await log.commit([put(1, body=b"x" * 100_000)])
        assert caught.value.retryable
        log._connection.execute("PRAGMA max_page_count = 1000000")
        await log.commit([put(1, body=b"x" * 100_000)])
        await log.close()

    run(scenario())
    assert [entry.number for entry in reopened(tmp_path)] == [1]


@pytest.mark.parametrize("content", [b"no database at all" * 100, b""])
def test_a_file_that_is_not_ours(tmp_path, run, content):
    path = tmp_path / "events.db"
    path.write_bytes(content)
    if not content:
        with sqlite3.connect(path) as connection:
            connection.execute("CREATE TABLE other (x)")
        connection.close()

    async def scenario():
        with pytest.raises(StoreError, match=r"events\.db"):
            await SqliteEventLog(tmp_path).load()

    run(scenario())
