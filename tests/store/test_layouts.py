"""Files of older layouts are brought up to date, at once or not at all."""

from __future__ import annotations

import asyncio
import sqlite3

import pytest

import remora
from remora.store.base import Document, StoreError
from remora.store.layouts import Layouts, open_database
from remora.store.sqlite import LAYOUTS, SqliteStore

FIRST = """
    CREATE TABLE record (
        kind TEXT NOT NULL, key TEXT NOT NULL, content BLOB NOT NULL, PRIMARY KEY (kind, key)
    ) WITHOUT ROWID
"""
"""The first layout as it was written, so that no change of the code changes this."""


@pytest.fixture
def old(tmp_path):
    """A directory with a file of the first layout."""
    connection = sqlite3.connect(tmp_path / "remora.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA application_id = 0x524D5241")
    connection.execute("PRAGMA user_version = 1")
    connection.execute(FIRST)
    connection.execute("INSERT INTO record VALUES ('function', 'f', X'7B7D')")
    connection.close()
    return tmp_path


def load(directory):
    async def main():
        store = SqliteStore(directory)
        try:
            return await store.load()
        finally:
            await store.close()

    return asyncio.run(main())


def layout(directory):
    connection = sqlite3.connect(directory / "remora.db")
    try:
        tables = {name for (name,) in connection.execute("SELECT name FROM sqlite_schema")}
        return connection.execute("PRAGMA user_version").fetchone()[0], tables & {"record", "note"}
    finally:
        connection.close()


def test_the_first_layout_is_brought_up_to_date(old):
    assert layout(old) == (1, {"record"})
    assert load(old) == [Document("function", "f", b"{}")]
    assert layout(old) == (len(LAYOUTS.steps), {"record", "note"})
    assert load(old) == [Document("function", "f", b"{}")]
    connection = sqlite3.connect(old / "remora.db")
    assert connection.execute("SELECT name, value FROM note").fetchall() == [("writer", remora.__version__)]
    connection.close()


def test_a_step_that_fails_leaves_the_former_layout(old):
    broken = Layouts(LAYOUTS.application_id, (*LAYOUTS.steps, ("CREATE TABLE more (x)", "NONSENSE")))
    with pytest.raises(sqlite3.OperationalError):
        open_database(old / "remora.db", broken, synchronous="FULL")
    assert layout(old) == (1, {"record"})
    assert load(old) == [Document("function", "f", b"{}")]


def test_several_steps_are_taken_at_once(tmp_path):
    steps = tuple((f"CREATE TABLE t{number} (x)",) for number in range(5))
    for known in range(1, 6):
        layouts = Layouts(7, steps[:known])
        open_database(tmp_path / "x.db", layouts, synchronous="FULL").close()
    open_database(tmp_path / "y.db", Layouts(7, steps), synchronous="FULL").close()
    for name in ("x.db", "y.db"):
        connection = sqlite3.connect(tmp_path / name)
        assert connection.execute("PRAGMA user_version").fetchone()[0] == 5
        assert connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 5
        connection.close()


def test_a_newer_layout_is_left_alone(old):
    with sqlite3.connect(old / "remora.db") as connection:
        connection.execute(f"PRAGMA user_version = {len(LAYOUTS.steps) + 1}")
    connection.close()
    before = (old / "remora.db").read_bytes()
    with pytest.raises(StoreError, match="use a newer remora"):
        load(old)
    assert (old / "remora.db").read_bytes() == before
