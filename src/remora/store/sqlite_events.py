"""
The log of asynchronous events on one disk: SQLite in WAL mode, written by one thread.

Whoever commits while the thread is at work waits for the next transaction, with all others that do: thousands
of events share one wait for the disk. What need not survive a power failure does not wait for the disk; the
write-ahead log keeps its order, so it is never lost while something later is kept.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections import deque
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

from remora.store.base import StoreError
from remora.store.event_log import Entry
from remora.store.layouts import Layouts, open_database
from remora.store.sqlite_errors import explained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# "RMEV"
LAYOUTS: Final = Layouts(
    0x524D4556,
    (
        (
            """
            CREATE TABLE entry (
                number INTEGER PRIMARY KEY,
                kind TEXT NOT NULL,
                head BLOB NOT NULL,
                progress BLOB NOT NULL,
                body BLOB NOT NULL
            )
            """,
        ),
    ),
)
# Bodies come last in the table: what is before them is read without them.
_READ_ALL: Final = "SELECT number, kind, head, progress FROM entry ORDER BY number"
_READ_BODY: Final = "SELECT body FROM entry WHERE number = ?"
_PUT: Final = "INSERT INTO entry (number, kind, head, progress, body) VALUES (?, ?, ?, ?, ?)"
_PROGRESS: Final = "UPDATE entry SET progress = ? WHERE number = ?"
_GONE: Final = "DELETE FROM entry WHERE number = ?"


class _Batch(NamedTuple):
    """Changes that belong together, and who waits for them."""

    entries: Sequence[Entry]
    is_durable: bool
    written: asyncio.Future[None]


class SqliteEventLog:
    """
    Keeps entries in `directory/events.db`.

    Args:
        directory: Exists, and is locked by whoever opened the records in it.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "events.db"
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="events")
        self._connection: sqlite3.Connection | None = None
        self._waiting: list[_Batch] = []
        self._apart: deque[_Batch] = deque()
        self._writing: asyncio.Future[None] | None = None
        self._is_durable = False
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._connection else "new"
        return f"<SqliteEventLog {self._path} {state}, {len(self._waiting)} waiting>"

    async def load(self) -> list[Entry]:
        """
        Open the log and return all entries without their bodies.

        Raises:
            StoreError: If the file cannot be opened, is damaged, or is not of this version.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def commit(self, entries: Sequence[Entry], *, is_durable: bool = False) -> None:
        """
        Make all changes, or none.

        Raises:
            StoreError: If nothing was written.

        **Cancellation:** the changes are made all the same, or none of them.
        """
        if self._is_closed:
            raise StoreError(f"cannot write {self._path}: it is closed")
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Batch(entries, is_durable, written))
        self._write_next()
        await asyncio.shield(written)

    async def body(self, number: int) -> bytes:
        """
        Return the body of an entry.

        Raises:
            StoreError: If it cannot be read, or there is none.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._body, number)

    async def close(self) -> None:
        """
        Finish what was accepted and close the file. Repeated calls: no effect.

        **Cancellation:** the log is closed all the same.
        """
        if self._is_closed:
            return
        self._is_closed = True
        while self._writing is not None:
            await asyncio.wait([self._writing])
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)

    # --- in the loop --------------------------------------------------------------------------------------

    def _write_next(self) -> None:
        """Begin a transaction with everything that waits, unless one is under way."""
        if self._writing is not None:
            return
        if self._apart:
            batches = [self._apart.popleft()]
        elif self._waiting:
            batches, self._waiting = self._waiting, []
        else:
            return
        writing = asyncio.get_running_loop().run_in_executor(self._thread, self._write, batches)
        writing.add_done_callback(partial(self._written, batches))
        self._writing = writing

    def _written(self, batches: list[_Batch], writing: asyncio.Future[None]) -> None:
        self._writing = None
        error = writing.exception()
        if error is not None and len(batches) > 1:
            self._apart.extend(batches)  # one of them may be at fault: each has a transaction of its own now
        else:
            for batch in batches:
                _settle(batch.written, error)
        self._write_next()

    # --- in the thread ------------------------------------------------------------------------------------

    def _load(self) -> list[Entry]:
        try:
            self._connection = self._open()
            rows = self._connection.execute(_READ_ALL)
            return [
                Entry("put", number, kind, head, progress=progress) for number, kind, head, progress in rows
            ]
        except sqlite3.DatabaseError as error:
            self._close()
            raise explained(self._path, "cannot read", error) from error
        except StoreError:
            self._close()
            raise

    def _open(self) -> sqlite3.Connection:
        """Open or make the file."""
        self._connection = open_database(self._path, LAYOUTS, synchronous="NORMAL")
        return self._connection

    def _write(self, batches: list[_Batch]) -> None:
        connection = self._connection
        assert connection is not None, "a log is loaded before it is written"
        is_durable = any(batch.is_durable for batch in batches)
        try:
            if is_durable is not self._is_durable:
                connection.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
                self._is_durable = is_durable
            connection.execute("BEGIN IMMEDIATE")
            for batch in batches:
                for entry in batch.entries:
                    _change(connection, entry)
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise explained(self._path, "cannot write", error) from error

    def _body(self, number: int) -> bytes:
        connection = self._connection
        assert connection is not None, "a log is loaded before it is read"
        try:
            row = connection.execute(_READ_BODY, (number,)).fetchone()
        except sqlite3.DatabaseError as error:
            raise explained(self._path, "cannot read", error) from error
        if row is None:
            raise StoreError(f"{self._path} has no entry {number}")
        body: bytes = row[0]
        return body

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _settle(future: asyncio.Future[None], error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(None)
    else:
        future.set_exception(error)


def _change(connection: sqlite3.Connection, entry: Entry) -> None:
    match entry.change:
        case "put":
            row = (entry.number, entry.kind, entry.head, entry.progress, entry.body)
            connection.execute(_PUT, row)
        case "progress":
            connection.execute(_PROGRESS, (entry.progress, entry.number))
        case "gone":
            connection.execute(_GONE, (entry.number,))
