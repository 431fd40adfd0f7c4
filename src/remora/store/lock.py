"""Keeps two nodes from using one data directory."""

from __future__ import annotations

import fcntl
import os
from typing import TYPE_CHECKING

from remora.store.base import StoreError

if TYPE_CHECKING:
    from pathlib import Path


class DirectoryLock:
    """
    An exclusive lock on a directory, gone when the process is: the kernel holds it, not a file's existence.

    Args:
        directory: Exists.
    """

    def __init__(self, directory: Path) -> None:
        self._path = directory / "lock"
        self._descriptor: int | None = None

    def acquire(self) -> None:
        """
        Take the lock.

        Raises:
            StoreError: If another living process holds it, or the directory cannot be written.
        """
        try:
            descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise StoreError(
                f"cannot open {self._path}: {error.strerror}; choose a data directory that can be written"
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(descriptor, 32).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise StoreError(
                f"the data directory {self._path.parent} is used by another node (process {holder}); "
                "stop that node or choose another directory"
            ) from error
        self._descriptor = descriptor
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Give the lock back. Repeated calls: no effect."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
