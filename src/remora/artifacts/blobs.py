"""Files named by their SHA-256, written to a temporary name, synced, renamed: a name means a whole file."""

from __future__ import annotations

import errno
import hashlib
from typing import TYPE_CHECKING, Final

from remora.kit.files import new_file

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

TEMPORARY: Final = ".new-"
"""What the names of unfinished files and directories begin with; leftovers are removed at start."""
_PIECE_BYTES: Final = 1024 * 1024


def digest_of(content: bytes) -> str:
    """Return the SHA-256 of `content`, hexadecimal."""
    return hashlib.sha256(content).hexdigest()


class BlobDamaged(OSError):  # noqa: N818 - what has happened to it
    """
    A blob is not what was written.

    Args:
        path: Where it is.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(errno.EIO, f"the file {path} is damaged: it is not what was written there")


def check_blob(path: Path) -> None:
    """
    Check that a blob is what its name says.

    Raises:
        BlobDamaged: If it is not.
        OSError: If it is not there, or cannot be read.
    """
    with path.open("rb") as file:
        if hashlib.file_digest(file, "sha256").hexdigest() != path.name:
            raise BlobDamaged(path)


def write_blob(directory: Path, digest: str, content: bytes) -> Path:
    """
    Keep a blob; when this returns it survives a power failure. One that is there already is left alone.

    Args:
        directory: Where blobs are kept; exists.
        digest: SHA-256 of `content`.
        content: The blob.

    Raises:
        OSError: If the disk cannot take it; nothing is left behind.
    """
    path = directory / digest
    if path.exists():
        return path
    with new_file(directory, TEMPORARY) as new:
        new.file.write(content)
        new.path = path
    return path


def join_blobs(directory: Path, digests: Sequence[str]) -> tuple[str, int]:
    """
    Keep a blob that consists of others, one after the other.

    Args:
        directory: Where blobs are kept.
        digests: Of those it consists of.

    Returns:
        Its SHA-256, and its length in bytes.

    Raises:
        OSError: If one is missing, or the disk cannot take it; nothing is left behind.
    """
    total, count = hashlib.sha256(), 0
    with new_file(directory, TEMPORARY) as new:
        for digest in digests:
            with (directory / digest).open("rb") as source:
                while piece := source.read(_PIECE_BYTES):
                    total.update(piece)
                    count += new.file.write(piece)
        new.path = directory / total.hexdigest()
    return total.hexdigest(), count
