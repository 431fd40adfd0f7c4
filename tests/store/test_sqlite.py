"""The store on one disk: whole transactions, kills, damage, other nodes, full disks."""

from __future__ import annotations

import asyncio
import signal
import sqlite3
import subprocess
import sys

import pytest

from remora.store.base import Document, StoreError
from remora.store.sqlite import SqliteStore


def run(directory, work):
    async def main():
        store = SqliteStore(directory)
        try:
            documents = await store.load()
            return await work(store, documents)
        finally:
            await store.close()

    return asyncio.run(main())


async def show(store, documents):
    return documents


def test_what_was_committed_is_found_again(tmp_path):
    async def write(store, documents):
        assert documents == []
        await store.commit([Document("function", "a", b"1"), Document("function", "b", b"2")])
        await store.commit([Document("function", "a", b"3"), Document("layer", "a", b"4")])
        await store.commit([Document("function", "b", None), Document("function", "missing", None)])
        await store.commit([])

    run(tmp_path / "new/data", write)
    assert run(tmp_path / "new/data", show) == [("function", "a", b"3"), ("layer", "a", b"4")]


def test_many_tasks_commit_at_once(tmp_path):
    async def write(store, documents):
        async with asyncio.TaskGroup() as group:
            for number in range(100):
                group.create_task(store.commit([Document("k", f"{number:03}", b"{}")]))

    run(tmp_path, write)
    assert len(run(tmp_path, show)) == 100


def test_a_commit_that_is_cancelled_is_whole(tmp_path):
    async def write(store, documents):
        task = asyncio.ensure_future(
            store.commit([Document("k", str(number), b"x") for number in range(1000)])
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(tmp_path, write)
    assert len(run(tmp_path, show)) in {0, 1000}


def test_a_transaction_that_fails_changes_nothing(tmp_path):
    async def write(store, documents):
        await store.commit([Document("k", "kept", b"1")])
        with pytest.raises((StoreError, sqlite3.Error)):
            await store.commit([Document("k", "new", b"1"), Document("k", None, b"2")])
        await store.commit([Document("k", "later", b"1")])

    run(tmp_path, write)
    assert [document.key for document in run(tmp_path, show)] == ["kept", "later"]


def test_another_node_is_kept_out(tmp_path):
    async def work(store, documents):
        other = SqliteStore(tmp_path)
        with pytest.raises(StoreError, match="is used by another node") as caught:
            await other.load()
        assert not caught.value.retryable
        await other.close()
        await store.commit([Document("k", "a", b"1")])

    run(tmp_path, work)
    assert len(run(tmp_path, show)) == 1


@pytest.mark.parametrize("damage", ["garbage", "middle", "cut"])
def test_damage_is_told(tmp_path, damage):
    async def write(store, documents):
        await store.commit([Document("k", f"{number:04}", b"x" * 500) for number in range(500)])

    run(tmp_path, write)
    path = tmp_path / "remora.db"
    content = bytearray(path.read_bytes())
    if damage == "garbage":
        content[:100] = b"\xff" * 100
    elif damage == "middle":
        content[8192 : len(content) - 4096] = b"\xff" * (len(content) - 12288)
    else:
        del content[len(content) // 2 :]
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"remora\.db.*damaged.*backup"):
        run(tmp_path, show)
    assert path.read_bytes() == content  # nothing was made worse


@pytest.mark.parametrize(
    "statements",
    [["CREATE TABLE t (x)"], ["PRAGMA application_id = 0x524D5241", "PRAGMA user_version = 99"]],
)
def test_a_file_of_another_program_or_version_is_left_alone(tmp_path, statements):
    with sqlite3.connect(tmp_path / "remora.db") as connection:
        for statement in statements:
            connection.execute(statement)
    connection.close()
    with pytest.raises(StoreError, match="not written by this version"):
        run(tmp_path, show)


def test_a_directory_that_cannot_be_used_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot make the data directory"):
        run(tmp_path / "file/data", show)


def test_closing_twice_and_closing_unopened(tmp_path):
    async def main():
        store = SqliteStore(tmp_path)
        await store.load()
        await store.close()
        await store.close()
        assert "closed" in repr(store)
        await SqliteStore(tmp_path).close()

    asyncio.run(main())


def test_a_full_disk_is_told_and_room_is_used_again(tmp_path):
    async def work(store, documents):
        await store.commit([Document("k", "before", b"1")])
        pages = store._connection.execute("PRAGMA page_count").fetchone()[0]
        store._connection.execute(f"PRAGMA max_page_count = {pages + 2}")
        with pytest.raises(StoreError, match="the disk is full") as caught:
            await store.commit([Document("k", "small", b"1"), Document("k", "big", b"x" * 100_000)])
        assert caught.value.retryable
        store._connection.execute("PRAGMA max_page_count = 100000")
        await store.commit([Document("k", "after", b"1")])

    run(tmp_path, work)
    assert [document.key for document in run(tmp_path, show)] == ["after", "before"]


_WRITER = """
import asyncio, sys
from pathlib import Path
from remora.store.base import Document
from remora.store.sqlite import SqliteStore
async def main():
    store = SqliteStore(Path(sys.argv[1]))
    await store.load()
    number = 0
    while True:
        pair = [Document("k", f"{number}-{half}", b"x" * (number % 5000)) for half in "ab"]
        await store.commit(pair)
        sys.stdout.write(f"{number}\\n")
        sys.stdout.flush()
        number += 1
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("lines", [1, 7, 40, 150])
def test_a_kill_loses_no_acknowledged_commit_and_leaves_none_half(tmp_path, lines):
    writer = subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None
    with writer.stdout as output:
        acknowledged = [int(next(output)) for _ in range(lines)]
        writer.send_signal(signal.SIGKILL)
        acknowledged += [int(line) for line in output if line.endswith("\n")]
    writer.wait()
    keys = {document.key for document in run(tmp_path, show)}
    assert {f"{number}-{half}" for number in acknowledged for half in "ab"} <= keys
    assert {key.partition("-")[0] for key in keys if key.endswith("a")} == {
        key.partition("-")[0] for key in keys if key.endswith("b")
    }
