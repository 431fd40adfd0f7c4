"""
Everything on disk that functions are made of: zips, unpacked code, merged layers; shared by digest.

Zips are the truth, directories can be made from them again. What nobody refers to is removed by `collect`;
what somebody holds (an upload on its way to a record, a living deployment) is kept even without a record.
All work on files happens in threads.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from remora.artifacts.archive import unpack
from remora.artifacts.blobs import BlobDamaged, check_blob, digest_of, join_blobs, write_blob
from remora.artifacts.layers import merge, stack_digest
from remora.artifacts.trees import make_tree, remove_tree, sweep, tree_bytes
from remora.kit.turns import Turns
from remora.resources.packages import Package

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Artifacts:
    """
    Keeps zips, code and merged layers below one directory.

    Args:
        directory: The node's data directory.
    """

    def __init__(self, directory: Path) -> None:
        self._boot = directory / "boot-id"
        self._blobs = directory / "blobs"
        self._code = directory / "code"
        self._opt = directory / "opt"
        self._turns = Turns()
        self._held: Counter[str] = Counter()
        self._sound: set[str] = set()
        """Blobs that were written, or looked at, since this process began."""

    def __repr__(self) -> str:
        return f"<Artifacts {self._blobs.parent} held={len(self._held)}>"

    async def open(self) -> None:
        """
        Make the directories and remove what a dead process left unfinished.

        Directories that were made before the machine last started are removed, too: unlike zips they are not
        synced, so a power failure may have left them incomplete. They are made again when they are needed.

        Raises:
            OSError: If the directory cannot be written.
        """
        await asyncio.to_thread(self._open)

    @asynccontextmanager
    async def receiving(self, content: bytes) -> AsyncIterator[Package]:
        """
        Check a zip, keep and unpack it; it is held until the block is left, then records must refer to it.

        Raises:
            ArchiveError: If it is refused; nothing of it is left behind.
            OSError: If the disk cannot take it; nothing of it is left behind.
        """
        digest = await asyncio.to_thread(digest_of, content)
        with self.holding((digest,)):
            async with self._turns.of(digest):
                unzipped_bytes = await asyncio.to_thread(self._receive, digest, content)
            yield Package(digest=digest, size_bytes=len(content), unzipped_bytes=unzipped_bytes)

    @asynccontextmanager
    async def keeping(self, content: bytes) -> AsyncIterator[str]:
        """
        Keep any content, and give its digest; held until the block is left, then records must refer to it.

        Raises:
            OSError: If the disk cannot take it; nothing of it is left behind.
        """
        digest = await asyncio.to_thread(digest_of, content)
        with self.holding((digest,)):
            async with self._turns.of(digest):
                await asyncio.to_thread(self._write, digest, content)
            yield digest

    @asynccontextmanager
    async def joining(self, digests: Sequence[str]) -> AsyncIterator[tuple[str, int]]:
        """
        Keep what consists of other blobs, and give its digest and length; held as in `keeping`.

        Raises:
            OSError: If one is missing, or the disk cannot take it; nothing is left behind.
        """
        with self.holding(digests):
            digest, size_bytes = await asyncio.to_thread(join_blobs, self._blobs, digests)
            with self.holding((digest,)):
                if not self.blob(digest).exists():  # it may have been swept before it was held
                    await asyncio.to_thread(join_blobs, self._blobs, digests)
                yield digest, size_bytes

    async def code(self, digest: str) -> Path:
        """
        Return the read-only directory of an unpacked zip; it is unpacked now if it is not there.

        Raises:
            FileNotFoundError: If there is no such zip.
            ArchiveError: If it is damaged.
            OSError: If the disk cannot take it.
        """
        path = self._code / digest
        with self.holding((digest,)):
            async with self._turns.of(digest):
                await asyncio.to_thread(make_tree, self._code, digest, partial(self._unpack, digest))
        return path

    async def stack(self, digests: Sequence[str]) -> Path:
        """
        Return the read-only directory of merged layers; they are merged now if it is not there.

        Args:
            digests: Of the layers' zips, the earliest first.

        Raises:
            As `code`.
        """
        name = stack_digest(digests)
        with self.holding((name, *digests)):
            trees = [await self.code(digest) for digest in digests]
            async with self._turns.of(name):
                return await asyncio.to_thread(make_tree, self._opt, name, partial(merge, trees))

    def blob(self, digest: str) -> Path:
        """Return where the zip with this digest is, if it is there."""
        return self._blobs / digest

    async def sound(self, digest: str) -> Path:
        """
        Return where a blob is; the first time it is read and compared with its digest.

        Raises:
            FileNotFoundError: If there is none.
            BlobDamaged: If it is not what was written.
        """
        if digest not in self._sound:
            await asyncio.to_thread(self._check, digest)
        return self._blobs / digest

    @contextmanager
    def holding(self, names: Iterable[str]) -> Iterator[None]:
        """Keep what is called so (digests of zips and stacks) until the block is left."""
        release = self.hold(names)
        try:
            yield
        finally:
            release()

    def hold(self, names: Iterable[str]) -> Callable[[], None]:
        """Keep what is called so until the returned function is called, once."""
        held = tuple(names)
        self._held.update(held)

        def release() -> None:
            for name in held:
                self._held[name] -= 1
                if not self._held[name]:
                    del self._held[name]

        return release

    async def collect(self, live: Callable[[], set[str]]) -> int:
        """
        Remove whatever nobody refers to.

        Args:
            live: Names what records refer to: digests of zips and of stacks; asked again before each removal.

        Returns:
            How many zips and directories were removed.

        **Cancellation:** some are removed, the others by the next call.
        """
        removed = 0
        for directory in (self._blobs, self._code, self._opt):
            paths = await asyncio.to_thread(_entries, directory)
            named = live()
            for path in [path for path in paths if path.name not in named]:
                async with self._turns.of(path.name):
                    if path.name not in self._held and path.name not in live():
                        await asyncio.to_thread(_remove, path)
                        removed += 1
        return removed

    def _open(self) -> None:
        for directory in (self._blobs, self._code, self._opt):
            directory.mkdir(parents=True, exist_ok=True)
            sweep(directory)
        boot_id = _BOOT_ID.read_text() if _BOOT_ID.exists() else ""
        if not self._boot.exists() or self._boot.read_text() != boot_id:
            for directory in (self._code, self._opt):
                for path in _entries(directory):
                    remove_tree(path)
            self._boot.write_text(boot_id)

    def _receive(self, digest: str, content: bytes) -> int:
        """Write and unpack one zip; a refused one leaves nothing."""
        code = self._code / digest
        blob = self._blobs / digest
        is_new = not blob.exists()
        self._write(digest, content)
        if not is_new and code.is_dir():
            return tree_bytes(code)
        counted: list[int] = []
        try:
            make_tree(self._code, digest, lambda target: counted.append(unpack(blob, target)))
        except BaseException:
            if is_new:
                blob.unlink(missing_ok=True)
            raise
        return counted[0] if counted else tree_bytes(code)

    def _write(self, digest: str, content: bytes) -> None:
        """Keep a blob; one that is there and is damaged is written anew."""
        try:
            self._check(digest)
        except BlobDamaged:
            (self._blobs / digest).unlink()
        except FileNotFoundError:
            pass
        write_blob(self._blobs, digest, content)
        self._sound.add(digest)

    def _check(self, digest: str) -> None:
        path = self._blobs / digest
        if digest not in self._sound or not path.exists():
            self._sound.discard(digest)
            check_blob(path)
            self._sound.add(digest)

    def _unpack(self, digest: str, target: Path) -> int:
        self._check(digest)
        return unpack(self._blobs / digest, target)


def _entries(directory: Path) -> list[Path]:
    return [path for path in directory.iterdir() if not path.name.startswith(".")]


def _remove(path: Path) -> None:
    if path.is_dir():
        remove_tree(path)
    else:
        path.unlink(missing_ok=True)
