"""Files that are whole or not there: written to a temporary name, synced, renamed; private ones; holes."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator


PRIVATE: Final = 0o600
"""What files that hold secrets are to others than their owner."""


def make_private(path: Path) -> None:
    """Make a file that only its owner may read; one that is there becomes so. Raises OSError."""
    path.touch(mode=PRIVATE)
    path.chmod(PRIVATE)


class NewFile:
    """
    A file that is being written; readable by its owner only.

    Args:
        file: What it is written to.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.path: Path | None = None
        """What it is to be called, in the directory that it was made in; what is there is replaced."""


@contextmanager
def new_file(directory: Path, prefix: str) -> Iterator[NewFile]:
    """
    Write a file; when the block has ended it survives a power failure under the path that was set in it.

    Args:
        directory: Where; exists.
        prefix: What the temporary name begins with: a killed process leaves it behind.

    Raises:
        OSError: If the disk cannot take it; like any error in the block, it leaves nothing behind.
    """
    descriptor, name = tempfile.mkstemp(prefix=prefix, dir=directory)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            new = NewFile(file)
            yield new
            assert new.path is not None, "a file was written that has no name"
            file.flush()
            os.fsync(descriptor)
        temporary.rename(new.path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(directory)


def remove_unfinished(directory: Path, prefix: str) -> None:
    """
    Remove what killed processes left of files; the caller sees to it that nobody writes one now.

    Args:
        directory: Where.
        prefix: As for `new_file`.
    """
    for path in directory.glob(f"{prefix}*"):
        path.unlink(missing_ok=True)


def sync_directory(directory: Path) -> None:
    """Make renames in `directory` survive a power failure."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def extents(file: int) -> Iterator[tuple[int, int]]:
    """
    Yield where there is something in a file, and how many bytes of it; between them are only zeros.

    Args:
        file: Its descriptor; its position changes.

    Raises:
        OSError: If it cannot be read.
    """
    position = 0
    while True:
        try:
            start = os.lseek(file, position, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            return
        position = os.lseek(file, start, os.SEEK_HOLE)
        yield start, position - start
