"""Directories named by a digest: made under a temporary name, then renamed; so a name means a whole tree."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from remora.artifacts.blobs import TEMPORARY

if TYPE_CHECKING:
    from collections.abc import Callable


def make_tree(directory: Path, name: str, fill: Callable[[Path], object]) -> Path:
    """
    Make a tree unless it is there.

    Args:
        directory: Where such trees are kept; exists.
        name: The digest.
        fill: Makes and fills the directory it is given.

    Raises:
        OSError: If the disk cannot take it; nothing is left behind. Whatever `fill` raises, likewise.
    """
    path = directory / name
    if path.is_dir():
        return path
    workplace = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=directory))
    try:
        fill(workplace / "tree")
        try:
            os.rename(workplace / "tree", path)
        except OSError:
            if not path.is_dir():
                raise
    finally:
        shutil.rmtree(workplace, ignore_errors=True)
    return path


def remove_tree(path: Path) -> None:
    """Remove a tree; its name is gone at once, its content a little later. A missing one is passed over."""
    workplace = Path(tempfile.mkdtemp(prefix=TEMPORARY, dir=path.parent))
    try:
        os.rename(path, workplace / "tree")
    except FileNotFoundError:
        pass
    finally:
        shutil.rmtree(workplace, ignore_errors=True)


def tree_bytes(path: Path) -> int:
    """Add up the lengths of all files and links of a tree."""
    return sum((Path(above) / name).lstat().st_size for above, _, names in os.walk(path) for name in names)


def sweep(directory: Path) -> None:
    """Remove what was unfinished when a former process died."""
    for leftover in directory.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)
