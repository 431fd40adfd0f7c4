"""
Backups: everything that a node keeps, in one file, taken while it runs; and the way back.

A backup is a tar of the databases, each as it was at one moment, of the packages and objects that the
records refer to, and of the logs. Its last member names all others with their SHA-256, so a backup that was
cut short or changed is recognised before anything of it is believed. What can be made again is left out.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import shutil
import stat
import tarfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

import remora
from remora.control.state import State
from remora.kit.files import PRIVATE, sync_directory
from remora.kit.words import count
from remora.node.drivers import LOCK, RECORDS, record_store
from remora.node.settings import LOCK_OF_KEYS, NodeError
from remora.store.base import StoreError
from remora.store.copies import check_database, copy_database

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import IO, BinaryIO

    from remora.resources.view import View

_FORMAT: Final = 1
_MANIFEST: Final = "manifest.json"
_MODE: Final = 0o755
"""What a restored file may be to others, at most."""
_MANIFEST_BYTES_MAX: Final = 256 * 1024 * 1024
_MADE_AGAIN: Final = frozenset({"boot-id", "code", "environments", LOCK, LOCK_OF_KEYS, "opt"})
_NAME: Final = re.compile(r"(?:[^/\0]+/)*[^/\0]+")
_PIECE_BYTES: Final = 1024 * 1024
_TRIES: Final = 20
"""A package may be deleted between the moment of the records and the moment it would be held, or copied."""


class Content(NamedTuple):
    """What a backup has of one file."""

    size_bytes: int
    sha256: str


class Manifest(msgspec.Struct, frozen=True):
    """What a backup says about itself."""

    format: int
    remora: str
    files: dict[str, Content]


class Summary(NamedTuple):
    """What was backed up or restored."""

    functions: int
    files: int
    size_bytes: int

    def __str__(self) -> str:
        """Tell people."""
        functions, files = count(self.functions, "function"), count(self.files, "file")
        return f"{functions}, {files}, {self.size_bytes:,} bytes"


def back_up(data: Path, target: Path) -> Summary:
    """
    Write a backup of a data directory; a node may be using it meanwhile.

    Args:
        data: The data directory.
        target: The file to write, which its owner alone can read; it appears when it is whole, in place of a
            former one.

    Raises:
        NodeError: If there is nothing to back up, something of it is damaged, or the disk cannot take it.
    """
    if not (data / RECORDS).is_file():
        raise NodeError(
            f"there is no node's data in {data}", "name the directory that `remora up --data` uses"
        )
    with _attempting(f"back up {data} to {target}"), _beside(target) as work:
        for last in range(_TRIES):
            try:
                summary = _write(data, work)
            except FileNotFoundError:
                if last == _TRIES - 1:
                    raise
            else:
                break
        (work / "archive").replace(target)
        sync_directory(target.parent)
    return summary


def restore(source: Path, data: Path) -> Summary:
    """
    Make a data directory from a backup; it appears when it is whole, and is its owner's alone.

    Args:
        source: The backup.
        data: Does not exist, or is empty.

    Raises:
        NodeError: If it is in use, the backup is damaged, or the disk cannot take it.
    """
    if data.exists() and any(data.iterdir()):
        raise NodeError(f"{data} is not empty", "restore into a new directory, then use that one")
    with _attempting(f"restore {source} to {data}"), _beside(data) as work:
        files = _extract(source, work)
        for path in sorted(work.glob("*.db")):
            check_database(path)
        view = _records(work)
        for path in work.rglob("*"):
            if path.is_dir():
                sync_directory(path)
        sync_directory(work)
        (work / LOCK).unlink(missing_ok=True)
        work.rename(data)
        sync_directory(data.parent)
    return Summary(len(view.functions), len(files), sum(content.size_bytes for content in files.values()))


# --- writing ----------------------------------------------------------------------------------------------


def _write(data: Path, work: Path) -> Summary:
    """Write the archive; FileNotFoundError if a package went away meanwhile."""
    copies, packages = work / "databases", work / "packages"
    for directory in (copies, packages):
        shutil.rmtree(directory, ignore_errors=True)
        directory.mkdir()
    _hold(data / "blobs", packages)
    for path in sorted(data.glob("*.db")):
        copy_database(path, copies / path.name)
    view = _records(copies)
    wanted = view.digests() | view.object_digests()
    is_held = _hold(data / "blobs", packages)
    if not is_held:
        packages = data / "blobs"
    files: dict[str, Content] = {}
    with (work / "archive").open("wb") as raw:
        os.fchmod(raw.fileno(), PRIVATE)  # it holds keys, and the variables of functions
        with tarfile.open(fileobj=raw, mode="w") as archive:
            for path in sorted(copies.glob("*.db")):
                files[path.name] = _add(archive, path.name, path)
            for digest in sorted(wanted):
                content = _add(archive, f"blobs/{digest}", packages / digest)
                if content.sha256 != digest:
                    raise NodeError(
                        f"the package {data / 'blobs' / digest} is damaged", "delete what uses it"
                    )
                files[f"blobs/{digest}"] = content
            for path in _others(data):
                name = path.relative_to(data).as_posix()
                try:
                    files[name] = _add(archive, name, path)
                except FileNotFoundError:  # a log that has become too old
                    continue
            manifest = msgspec.json.encode(Manifest(_FORMAT, remora.__version__, files))
            member = tarfile.TarInfo(_MANIFEST)
            member.size = len(manifest)
            manifest_path = work / _MANIFEST
            manifest_path.write_bytes(manifest)
            with manifest_path.open("rb") as file:
                archive.addfile(member, file)
        raw.flush()
        os.fsync(raw.fileno())
    return Summary(len(view.functions), len(files), sum(content.size_bytes for content in files.values()))


def _hold(blobs: Path, packages: Path) -> bool:
    """Link packages that are not linked yet, so that they cannot go away; False where there are no links."""
    if not blobs.is_dir():
        return False
    known = {path.name for path in packages.iterdir()}
    for path in blobs.iterdir():
        if path.name not in known:
            try:
                (packages / path.name).hardlink_to(path)
            except FileNotFoundError:  # gone meanwhile: nobody wants it, or it is missed in a moment
                continue
            except OSError:  # another disk, or one without links
                return False
    return True


def _others(data: Path) -> Iterator[Path]:
    """Go through what is neither a database nor a package, nor made again when it is missing."""
    for top in sorted(data.iterdir()):
        is_database = ".db" in top.suffixes or top.name.endswith((".db-wal", ".db-shm", ".db-journal"))
        if top.name in _MADE_AGAIN or top.name == "blobs" or top.name.startswith(".") or is_database:
            continue
        paths = sorted(top.rglob("*")) if top.is_dir() else [top]
        yield from (path for path in paths if path.is_file() and not path.is_symlink())


def _add(archive: tarfile.TarFile, name: str, path: Path) -> Content:
    """Add a file as long as it is now; one that grows meanwhile is cut there."""
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        member = tarfile.TarInfo(name)
        member.size, member.mode = status.st_size, stat.S_IMODE(status.st_mode)
        hashing = _Hashing(file)
        archive.addfile(member, hashing)
    return Content(member.size, hashing.sum.hexdigest())


class _Hashing:
    """A file to read from that adds up what was read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = hashlib.sha256()

    def read(self, count: int = -1) -> bytes:
        """Read on."""
        piece = self._file.read(count)
        self.sum.update(piece)
        return piece


# --- reading ----------------------------------------------------------------------------------------------


def _extract(source: Path, work: Path) -> dict[str, Content]:
    """Write the files of an archive, then compare them with what it says about itself."""
    found: dict[str, Content] = {}
    manifest: Manifest | None = None
    try:
        with tarfile.open(source, mode="r:") as archive:
            for member in archive:
                file = archive.extractfile(member)
                if file is None or manifest is not None or not _is_plain(member.name):
                    raise NodeError(f"{source} is no backup of remora", "choose another file")
                if member.name == _MANIFEST:
                    manifest = msgspec.json.decode(file.read(_MANIFEST_BYTES_MAX), type=Manifest)
                else:
                    most = PRIVATE if member.name.endswith(".db") else _MODE
                    found[member.name] = _keep(file, work / member.name, member.mode & most)
    except (tarfile.TarError, EOFError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise NodeError(f"{source} is damaged ({error})", "choose another backup") from error
    if manifest is None:
        raise NodeError(f"{source} is damaged: its end is missing", "choose another backup")
    if manifest.format > _FORMAT:
        raise NodeError(
            f"{source} was written by remora {manifest.remora}", "use that version, or a newer one"
        )
    for name in sorted(manifest.files.keys() | found.keys()):
        if manifest.files.get(name) != found.get(name):
            raise NodeError(f"{source} is damaged: {name} is not what was backed up", "choose another backup")
    return found


def _is_plain(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and not {".", ".."} & set(name.split("/"))


def _keep(source: IO[bytes], path: Path, mode: int) -> Content:
    path.parent.mkdir(parents=True, exist_ok=True)
    total, count = hashlib.sha256(), 0
    with path.open("xb") as file:
        while piece := source.read(_PIECE_BYTES):
            total.update(piece)
            count += file.write(piece)
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
    return Content(count, total.hexdigest())


# --- both -------------------------------------------------------------------------------------------------


def _records(directory: Path) -> View:
    """Read the records of a directory that nobody uses; brings them to the newest layout."""

    async def read() -> View:
        store = record_store(directory)
        try:
            state = State(store)
            await state.load()
        finally:
            await store.close()
        return state.view

    return asyncio.run(read())


@contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """Make a directory to work in, on the same disk; one that a killed predecessor left is removed first."""
    work = target.with_name(f".{target.name}.partial")
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir(parents=True)
    work.chmod(0o700)
    try:
        yield work
    finally:
        shutil.rmtree(work, ignore_errors=True)


@contextmanager
def _attempting(attempt: str) -> Iterator[None]:
    try:
        yield
    except StoreError as error:
        raise NodeError(f"could not {attempt}: {error}") from error
    except OSError as error:
        raise NodeError(
            f"could not {attempt}: {error.strerror} ({error.filename})", "look after the disk"
        ) from error
