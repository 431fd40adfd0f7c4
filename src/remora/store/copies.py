"""Copies of SQLite files that may be in use, each the state of one moment."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

from remora.kit.files import PRIVATE
from remora.store.layouts import check
from remora.store.sqlite_errors import explained

if TYPE_CHECKING:
    from pathlib import Path


def copy_database(source: Path, target: Path) -> None:
    """
    Copy a file while whoever uses it goes on; the copy, its owner's alone, needs no other file beside it.

    Args:
        source: Exists.
        target: Does not exist.

    Raises:
        StoreError: If it is damaged, or cannot be read or written.
        OSError: If the copy cannot be made.
    """
    target.touch(mode=PRIVATE, exist_ok=False)
    try:
        with closing(sqlite3.connect(source)) as original, closing(sqlite3.connect(target)) as copy:
            check(original)
            original.backup(copy)
            copy.execute("PRAGMA journal_mode = DELETE")
    except sqlite3.DatabaseError as error:
        raise explained(source, "cannot copy", error) from error


def check_database(path: Path) -> None:
    """
    Look whether a file that nobody uses is whole.

    Raises:
        StoreError: If it is damaged, or cannot be read.
    """
    try:
        with closing(sqlite3.connect(path)) as connection:
            check(connection)
    except sqlite3.DatabaseError as error:
        raise explained(path, "cannot check", error) from error
