"""What SQLite's errors mean for whoever looks after the disk."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from remora.store.base import StoreError

if TYPE_CHECKING:
    from pathlib import Path


def explained(path: Path, attempt: str, error: sqlite3.DatabaseError) -> StoreError:
    """Tell what to do about an error of SQLite."""
    code = getattr(error, "sqlite_errorcode", None)
    reason = " ".join(str(error).split())
    primary = code & 0xFF if code is not None else None
    if primary == sqlite3.SQLITE_FULL:
        return StoreError(f"{attempt} {path}: the disk is full; free some space", retryable=True)
    if primary in {sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT} or primary is None:
        return StoreError(
            f"{attempt} {path}: the file is damaged ({reason}); restore it from a backup, "
            "or move it away to start empty"
        )
    return StoreError(f"{attempt} {path}: {reason}; look after the disk", retryable=True)
