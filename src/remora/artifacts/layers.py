"""
Merges the trees of layers, in order, into one tree for /opt, by hard links.

A later layer overwrites an earlier one on the same path, whatever was there: a file takes the place of a
whole directory, and the reverse. Symbolic links are entries like any other and are never followed.
Source: AWS Lambda Developer Guide, "Managing Lambda dependencies with layers".
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

from remora.artifacts.archive import DIRECTORY_MODE

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def stack_digest(digests: Sequence[str]) -> str:
    """Name a list of layers, in order, by one SHA-256 (hexadecimal)."""
    return hashlib.sha256("\n".join(digests).encode()).hexdigest()


def merge(trees: Sequence[Path], target: Path) -> None:
    """
    Merge trees into a new directory.

    Args:
        trees: Unpacked layers, the earliest first; on the same file system as `target` for links to work
            (files are copied where a link is refused).
        target: Does not exist yet; its parent does.

    Raises:
        OSError: If the disk cannot take it; what was made is left for the caller.
    """
    _make_directory(os.fspath(target))
    for tree in trees:
        _lay_over(os.fspath(tree), os.fspath(target))


def _lay_over(source: str, target: str) -> None:
    waiting = [(source, target)]
    while waiting:
        above, below = waiting.pop()
        with os.scandir(above) as entries:
            for entry in entries:
                path = f"{below}/{entry.name}"
                there = _kind(path)
                if entry.is_dir(follow_symlinks=False):
                    if there != stat.S_IFDIR:
                        _remove(path, there)
                        _make_directory(path)
                    waiting.append((entry.path, path))
                else:
                    _remove(path, there)
                    _place(entry, path)


def _kind(path: str) -> int | None:
    """Return the kind of what is at `path` (as `stat.S_IFMT`), links not followed; None if nothing is."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except FileNotFoundError:
        return None


def _remove(path: str, kind: int | None) -> None:
    if kind == stat.S_IFDIR:
        shutil.rmtree(path)
    elif kind is not None:
        os.unlink(path)


def _place(entry: os.DirEntry[str], path: str) -> None:
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), path)
        return
    try:
        os.link(entry.path, path, follow_symlinks=False)
    except OSError:
        shutil.copy2(entry.path, path, follow_symlinks=False)


def _make_directory(path: str) -> None:
    os.mkdir(path, DIRECTORY_MODE)
    os.chmod(path, DIRECTORY_MODE)
