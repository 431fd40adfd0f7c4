"""A sandbox's private directory, surely removed."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def remove_tree(directory: Path) -> None:
    """
    Remove a directory with everything below, whatever its processes made of the permissions.

    Links are removed, never followed. Call it in a thread: a function may leave many files. Repeated calls:
    no effect.
    """
    shutil.rmtree(directory, ignore_errors=True)
    if os.path.lexists(directory):
        _open_up(directory)
        shutil.rmtree(directory, ignore_errors=True)


def _open_up(directory: Path) -> None:
    """Take back the right to list and change every directory (whoever is not root may have lost it)."""
    with contextlib.suppress(OSError):
        directory.chmod(stat.S_IRWXU)
        for entry in os.scandir(directory):
            if entry.is_dir(follow_symlinks=False):
                _open_up(directory / entry.name)
