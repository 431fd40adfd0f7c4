"""
Opens SQLite files of the node: looks whether they are whole and ours, and brings older layouts up to date.

A file says by `application_id` what it is, and by `user_version` which layout it has. All steps to the newest
layout are one transaction, so a file has its former layout or the newest one, never half of both.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, NamedTuple

from remora.kit.files import make_private
from remora.store.base import StoreError

if TYPE_CHECKING:
    from pathlib import Path


class Layouts(NamedTuple):
    """
    What a kind of file looks like.

    Args:
        application_id: Marks the file.
        steps: Statements that bring layout 0 (an empty file) to 1, layout 1 to 2, and so on.
    """

    application_id: int
    steps: tuple[tuple[str, ...], ...]


def open_database(path: Path, layouts: Layouts, *, synchronous: str) -> sqlite3.Connection:
    """
    Open a file, or make it; only its owner may read it: it holds secrets.

    Args:
        path: Where it is.
        layouts: What it is to look like.
        synchronous: SQLite's setting of that name, `FULL` or `NORMAL`.

    Raises:
        StoreError: If it is of another program, or was written by a newer version.
        OSError: If it cannot be made.
        sqlite3.DatabaseError: If it is damaged, or cannot be read or written; nothing was made worse.
    """
    make_private(path)  # SQLite gives the files beside it the same mode
    connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(connection, path, layouts, synchronous)
    except BaseException:
        connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path, layouts: Layouts, synchronous: str) -> None:
    application, layout = (
        connection.execute(f"PRAGMA {name}").fetchone()[0] for name in ("application_id", "user_version")
    )
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if (tables and application != layouts.application_id) or layout > len(layouts.steps):
        raise StoreError(
            f"{path} was not written by this version of remora (application {application}, "
            f"layout {layout}); use a newer remora or another data directory"
        )
    check(connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute(f"PRAGMA synchronous = {synchronous}")
    if layout < len(layouts.steps):
        _migrate(connection, layouts, layout)


def check(connection: sqlite3.Connection) -> None:
    """
    Look whether a file is whole.

    Raises:
        sqlite3.DatabaseError: If it is damaged.
    """
    damage = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if damage != "ok":
        raise sqlite3.DatabaseError(damage)


def _migrate(connection: sqlite3.Connection, layouts: Layouts, layout: int) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        for statements in layouts.steps[layout:]:
            for statement in statements:
                connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {layouts.application_id}")
        connection.execute(f"PRAGMA user_version = {len(layouts.steps)}")
        connection.execute("COMMIT")
    except sqlite3.DatabaseError:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
