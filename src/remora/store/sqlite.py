"""
The store on one disk: SQLite in WAL mode, written by one thread.

`synchronous=FULL` makes every commit wait for the disk, so what was acknowledged survives a power failure.
All statements run in one thread of their own, never in the event loop.
"""

from __future__ import annotations

import asyncio
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import remora
from remora.store.base import Document, StoreError
from remora.store.layouts import Layouts, open_database
from remora.store.lock import DirectoryLock
from remora.store.sqlite_errors import explained

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

# "RMRA"
LAYOUTS: Final = Layouts(
    0x524D5241,
    (
        (
            """
            CREATE TABLE record (
                kind TEXT NOT NULL,
                key TEXT NOT NULL,
                content BLOB NOT NULL,
                PRIMARY KEY (kind, key)
            ) WITHOUT ROWID
            """,
        ),
        # Which version of remora wrote the file, for whoever finds it.
        ("CREATE TABLE note (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",),
    ),
)
"""The first layout, and what each later one adds."""

_READ_ALL = "SELECT kind, key, content FROM record ORDER BY kind, key"
_PUT = """
    INSERT INTO record (kind, key, content) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET content = excluded.content
"""
_READ_WRITER = "SELECT value FROM note WHERE name = 'writer'"
_NOTE_WRITER = "INSERT OR REPLACE INTO note (name, value) VALUES ('writer', ?)"
_DELETE = "DELETE FROM record WHERE kind = ? AND key = ?"


class SqliteStore:
    """
    Keeps documents in `directory/remora.db`.

    Args:
        directory: Made if it does not exist; locked against other nodes while the store is open.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._path = directory / "remora.db"
        self._lock = DirectoryLock(directory)
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._connection: sqlite3.Connection | None = None
        self._commits = 0
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open" if self._connection else "new"
        return f"<SqliteStore {self._path} {state} commits={self._commits}>"

    async def load(self) -> list[Document]:
        """
        Open the store and read everything.

        Raises:
            StoreError: If another node uses the directory; if the file is damaged, or not of this version.
        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._load)

    async def commit(self, changes: Sequence[Document]) -> None:
        """
        Write all changes in one transaction.

        Raises:
            StoreError: If nothing was written.

        **Cancellation:** the transaction is finished all the same.
        """
        if changes:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._commit, tuple(changes))

    async def close(self) -> None:
        """
        Finish what was accepted, close the file, give the directory free. Repeated calls: no effect.

        **Cancellation:** the store is closed all the same.
        """
        if self._is_closed:
            return
        self._is_closed = True
        closing = asyncio.get_running_loop().run_in_executor(self._thread, self._close)
        self._thread.shutdown(wait=False)
        await asyncio.shield(closing)
        self._thread.shutdown(wait=True)  # it has nothing left to do: this only sees it out

    def _load(self) -> list[Document]:
        try:
            self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(
                f"cannot make the data directory {self._directory}: {error.strerror}; choose another one"
            ) from error
        self._lock.acquire()
        try:
            self._connection = self._open()
            return [Document(*row) for row in self._connection.execute(_READ_ALL)]
        except sqlite3.DatabaseError as error:
            self._close()
            raise explained(self._path, "cannot read", error) from error
        except StoreError:
            self._close()
            raise

    def _open(self) -> sqlite3.Connection:
        """Open or make the file, and note who writes it now."""
        connection = open_database(self._path, LAYOUTS, synchronous="FULL")
        self._connection = connection
        noted = connection.execute(_READ_WRITER).fetchone()
        if noted is None or noted[0] != remora.__version__:
            connection.execute(_NOTE_WRITER, (remora.__version__,))
        return connection

    def _commit(self, changes: tuple[Document, ...]) -> None:
        connection = self._connection
        assert connection is not None, "a store is loaded before it is written"
        try:
            connection.execute("BEGIN IMMEDIATE")
            for change in changes:
                if change.content is None:
                    connection.execute(_DELETE, (change.kind, change.key))
                else:
                    connection.execute(_PUT, change)
            connection.execute("COMMIT")
        except sqlite3.DatabaseError as error:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise explained(self._path, "cannot write", error) from error
        self._commits += 1

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
        self._lock.release()
