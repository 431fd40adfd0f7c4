"""
The snapshots of a node: sealed on disk, and as long as they are used, open in memory.

In memory each is a directory of files in a place that nobody else sees and that ends with this process; those
that were not used for longest are let go when together they take more than they may.
"""

from __future__ import annotations

import asyncio
import hashlib
import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from remora.kit.files import new_file, remove_unfinished
from remora.kit.ids import random_hex
from remora.kit.threads import begin, in_thread
from remora.kit.turns import Turns
from remora.snapshots.sealing import seal, unseal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

SUFFIX: Final = ".snapshot"
MANIFEST: Final = "manifest"
"""The file, among the others, that says what they are."""
_UNFINISHED: Final = ".snapshot-"


class SnapshotMissing(Exception):  # noqa: N818 - what has happened to it
    """There is no snapshot of that name."""


@dataclass(slots=True)
class _Open:
    """A snapshot in memory."""

    images: str
    size_bytes: int
    users: int = 0


class SnapshotStore:
    """
    Keeps snapshots by name.

    Args:
        directory: Where they are sealed; made if it is not there.
        place: Where they are open, in memory.
        key: The node's, 32 bytes.
        open_bytes_max: How much memory they may take that are not in use.
    """

    def __init__(self, directory: Path, place: Path, key: bytes, *, open_bytes_max: int) -> None:
        self._directory = directory
        self._place = place
        self._key = key
        self._open_bytes_max = open_bytes_max
        self._opened: dict[str, _Open] = {}
        """The one that was used last is the last."""
        self._turns = Turns()
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        remove_unfinished(directory, _UNFINISHED)

    def __repr__(self) -> str:
        return f"<SnapshotStore {self._directory} open={len(self._opened)}>"

    def _path(self, name: str) -> Path:
        return self._directory / f"{hashlib.sha256(name.encode()).hexdigest()}{SUFFIX}"

    @asynccontextmanager
    async def new(self, name: str) -> AsyncIterator[str]:
        """
        Keep a snapshot: what is in the directory when the block has ended, which must hold a `MANIFEST`.

        Yields:
            Name of an empty directory in memory; gone again if the block fails.

        Raises:
            OSError: If the disk cannot take it; then there is none of that name, or the former one.
        """
        images = random_hex(16)
        await in_thread((self._place / images).mkdir)
        try:
            yield images
            async with self._turns.of(name):
                size_bytes = await in_thread(self._seal, images, name)
                await self._forget(name)
                self._opened[name] = _Open(images, size_bytes)
        except BaseException:
            await in_thread(shutil.rmtree, self._place / images, ignore_errors=True)
            raise
        await self._shrink()

    def _seal(self, images: str, name: str) -> int:
        with new_file(self._directory, _UNFINISHED) as new:
            seal(self._place / images, new.file, name, self._key)
            new.path = self._path(name)
        return self._size_bytes(images)

    def _size_bytes(self, images: str) -> int:
        return sum(path.stat().st_blocks * 512 for path in (self._place / images).iterdir())

    @asynccontextmanager
    async def opened(self, name: str) -> AsyncIterator[str]:
        """
        Open a snapshot, for as long as the block lasts at least.

        Yields:
            Name of the directory in memory.

        Raises:
            SnapshotMissing: If there is none.
            SnapshotDamaged: If it is not what was kept.
        """
        async with self._turns.of(name):
            opened = self._opened.pop(name, None) or await self._open(name)
            self._opened[name] = opened
            opened.users += 1
        try:
            yield opened.images
        finally:
            opened.users -= 1
            if self._opened.get(name) is not opened and not opened.users:
                await in_thread(shutil.rmtree, self._place / opened.images)
            await self._shrink()

    async def _open(self, name: str) -> _Open:
        images = random_hex(16)
        opening = begin(self._unseal, images, name)
        try:
            size_bytes = await asyncio.shield(opening)
        except asyncio.CancelledError:
            opening.add_done_callback(
                lambda _: begin(shutil.rmtree, self._place / images, ignore_errors=True)
            )
            raise
        except FileNotFoundError as error:
            raise SnapshotMissing(f"there is no snapshot of {name}") from error
        return _Open(images, size_bytes)

    def _unseal(self, images: str, name: str) -> int:
        with self._path(name).open("rb") as sealed:
            (self._place / images).mkdir()
            try:
                unseal(sealed, self._place / images, name, self._key)
            except BaseException:
                shutil.rmtree(self._place / images)
                raise
        return self._size_bytes(images)

    async def drop(self, name: str) -> None:
        """Remove a snapshot; whoever uses it may finish. Repeated calls: no effect."""
        async with self._turns.of(name):
            await in_thread(self._path(name).unlink, missing_ok=True)
            await self._forget(name)

    async def _forget(self, name: str) -> None:
        former = self._opened.pop(name, None)
        if former is not None and not former.users:
            await in_thread(shutil.rmtree, self._place / former.images)

    async def _shrink(self) -> None:
        """Let go of those that are not in use, until the others fit."""
        left = sum(each.size_bytes for each in self._opened.values())
        for name, opened in list(self._opened.items())[:-1]:
            if left > self._open_bytes_max and not opened.users:
                left -= opened.size_bytes
                await self._forget(name)
