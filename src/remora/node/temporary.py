"""
Data directories for a while: removed when they are left, or by the next one if their process was killed.

All of a user's are below one directory. A directory is alive while its process holds the lock file beside it;
whatever a dead one left (sandboxes of every driver, files) is removed when the next one is made.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from remora.kit.ids import random_hex
from remora.node.drivers import SANDBOX_DRIVERS, sandbox_driver
from remora.node.settings import NodeError
from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOCK = ".lock"


@contextmanager
def temporary_data() -> Iterator[Path]:
    """
    Make a data directory and remove it when it is left.

    Raises:
        NodeError: If it cannot be made.
    """
    base = _base()
    path, lock = _make(base)
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
        _unlock(path, lock)


def sweep_now() -> None:
    """Remove what dead processes left; for those who run no event loop."""
    asyncio.run(sweep_dead())


async def sweep_dead() -> int:
    """
    Remove what dead processes left.

    Returns:
        How many directories were removed.

    Raises:
        NodeError: If the user's directory cannot be used.
    """
    removed = 0
    for marker in await asyncio.to_thread(lambda: list(_base().glob(f"*{_LOCK}"))):
        lock = _try_lock(marker)
        if lock is None:
            continue
        path = marker.with_suffix("")
        for name in SANDBOX_DRIVERS if (path / "environments").is_dir() else ():
            with suppress(SandboxError):
                await sandbox_driver(name, path / "environments", path.name).sweep()
        await asyncio.to_thread(shutil.rmtree, path, ignore_errors=True)
        _unlock(path, lock)
        removed += 1
    return removed


def _base() -> Path:
    """Return this user's directory for temporary data; nobody else can write it."""
    base = Path(tempfile.gettempdir(), f"remora-{os.getuid()}")
    with suppress(FileExistsError):
        base.mkdir(mode=0o700)
    state = base.lstat()
    if state.st_uid != os.getuid() or not base.is_dir() or base.is_symlink() or state.st_mode & 0o022:
        raise NodeError(f"{base} belongs to somebody else", "remove it, or name a data directory with --data")
    return base


def _make(base: Path) -> tuple[Path, int]:
    while True:
        path = base / random_hex(12)
        marker = path.with_suffix(_LOCK)
        lock = os.open(marker, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        if marker.exists():  # else somebody swept it before it was locked
            path.mkdir(mode=0o755)
            return path, lock
        os.close(lock)


def _try_lock(marker: Path) -> int | None:
    """Lock a marker whose process is dead; None if it lives, or if the marker has just gone."""
    try:
        lock = os.open(marker, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


def _unlock(path: Path, lock: int) -> None:
    path.with_suffix(_LOCK).unlink(missing_ok=True)
    os.close(lock)
