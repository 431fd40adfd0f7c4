"""A sandbox's private directory, surely removed."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def remove_tree(directory: Path) -> None:
    """
    Remove a directory with everything below, whatever its processes made of the permissions, however deep.

    Links are removed, never followed. Call it in a thread: a function may leave many files. Repeated calls:
    no effect.
    """
    with contextlib.suppress(RecursionError):  # a tree of thousands of levels; the library descends into each
        shutil.rmtree(directory, ignore_errors=True)
    numbers = itertools.count()
    while os.path.lexists(directory):
        if not _flatten(directory, numbers):
            return


def _flatten(directory: Path, numbers: Iterator[int]) -> bool:
    """
    Remove the two uppermost levels: what lies two levels deep is lifted first, so that no path grows long.

    Returns:
        False if nothing could be done.
    """
    has_progress = False
    with contextlib.suppress(OSError):
        directory.chmod(stat.S_IRWXU)  # whoever is not root may have lost the right to list or change it
    for entry in _entries(directory):
        if entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(OSError):
                os.chmod(entry.path, stat.S_IRWXU)  # noqa: PTH101 - an entry is no Path
            for below in _entries(entry.path):
                has_progress |= _remove_or_lift(below, directory / f".lifted-{next(numbers)}")
        has_progress |= _remove(entry)
    with contextlib.suppress(OSError):
        directory.rmdir()
        return True
    return has_progress


def _entries(directory: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except OSError:
        return []


def _remove(entry: os.DirEntry[str]) -> bool:
    try:
        if entry.is_dir(follow_symlinks=False):
            os.rmdir(entry.path)  # noqa: PTH106 - an entry is no Path
        else:
            os.unlink(entry.path)  # noqa: PTH108 - an entry is no Path
    except OSError:
        return False
    return True


def _remove_or_lift(entry: os.DirEntry[str], target: Path) -> bool:
    if _remove(entry):
        return True
    try:
        with contextlib.suppress(OSError):
            os.chmod(entry.path, stat.S_IRWXU)  # noqa: PTH101 - to be moved, a directory must be writable
        if os.path.lexists(target):
            return False
        os.rename(entry.path, target)  # noqa: PTH104 - an entry is no Path
    except OSError:
        return False
    return True
