"""
Checks and unpacks uploaded zips, which are written by anybody: nothing in one is believed.

What is refused: entries that are absolute, climb out with `..`, lie below a symbolic link or a file, change
their kind on repetition, are encrypted or compressed in a way that costs unbounded memory; links that could
lead out of the tree; archives that unpack to more than Lambda takes, counted while they do so.
What is dropped: set-user, set-group and sticky bits, owners, devices, times.
"""

from __future__ import annotations

import errno
import os
import posixpath
import stat
import zipfile
import zlib
from typing import TYPE_CHECKING, Final

from remora.artifacts.central import count_entries
from remora.spec import limits

if TYPE_CHECKING:
    from pathlib import Path

DIRECTORY_MODE: Final = 0o755
_FILE_MODE: Final = 0o644
_READ_ALL: Final = 0o444
_CHUNK_BYTES: Final = 256 * 1024
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_CAUSED_BY_ARCHIVE: Final = (errno.ENAMETOOLONG, errno.EINVAL)
"""What a name that is too long, or an entry that says it begins before the archive, ends with."""
_UNIX: Final = 3
_ENCRYPTED_FLAG: Final = 0x1
_LINK_ROOTS: Final = (
    "/opt/",
    "/var/task/",
    "/var/lang/",
    "/var/runtime/",
    "/tmp/",  # noqa: S108 - a path inside of the sandbox
    "/usr/",
    "/bin/",
    "/lib",
)
"""Absolute links may lead here: they are resolved inside of the sandbox only."""


class ArchiveError(Exception):
    """A zip was refused; the message is AWS's."""


class UnreadableArchiveError(ArchiveError):
    """It is no zip, is broken, or contains what is not allowed."""

    def __init__(self) -> None:
        super().__init__("Could not unzip uploaded file. Please check your file, then try to upload again.")


class EmptyArchiveError(ArchiveError):
    """It is a zip of nothing."""

    def __init__(self) -> None:
        super().__init__("Uploaded file must be a non-empty zip")


class OversizedArchiveError(ArchiveError):
    """It unpacks to more than a function may have."""

    def __init__(self, bytes_max: int) -> None:
        super().__init__(f"Unzipped size must be smaller than {bytes_max} bytes")


def unpack(archive: Path, target: Path, *, bytes_max: int = limits.UNZIPPED_BYTES_MAX) -> int:
    """
    Unpack a zip into a new directory.

    Args:
        archive: The zip.
        target: Does not exist yet; its parent does. On failure what was unpacked is left for the caller.
        bytes_max: More real bytes than this are not unpacked.

    Returns:
        Real bytes of all files together.

    Raises:
        ArchiveError: If the zip is refused.
        OSError: If the disk cannot take it.
    """
    target.mkdir(mode=DIRECTORY_MODE)
    target.chmod(DIRECTORY_MODE)
    try:
        with archive.open("rb") as file:
            entries = count_entries(file)
            if entries > limits.ARCHIVE_ENTRIES_MAX:
                raise UnreadableArchiveError
            if not entries:
                raise EmptyArchiveError
            with zipfile.ZipFile(file) as opened:
                return _Unpacking(opened, target, bytes_max).run()
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, EOFError, ValueError) as error:
        raise UnreadableArchiveError from error
    except OSError as error:
        if error.errno in _CAUSED_BY_ARCHIVE:
            raise UnreadableArchiveError from error
        raise


class _Unpacking:
    """One archive on its way to disk; knows what it has made, so that it never has to follow anything."""

    def __init__(self, archive: zipfile.ZipFile, target: Path, bytes_max: int) -> None:
        self._archive = archive
        self._target = os.fspath(target)
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kinds: dict[str, str] = {"": "directory"}

    def run(self) -> int:
        """Unpack every entry in the order of the archive's directory; return the real bytes."""
        for entry in self._archive.infolist():
            self._unpack(entry)
        return self._bytes

    def _unpack(self, entry: zipfile.ZipInfo) -> None:
        name = clean_name(entry.orig_filename)
        if entry.flag_bits & _ENCRYPTED_FLAG or entry.compress_type not in _METHODS:
            raise UnreadableArchiveError
        mode = entry.external_attr >> 16 if entry.create_system == _UNIX else 0
        if entry.orig_filename.endswith("/"):
            self._make_directory(name)
            return
        self._make_directory(posixpath.dirname(name))
        if stat.S_ISLNK(mode):
            self._make_link(name, entry)
        elif stat.S_IFMT(mode) in {0, stat.S_IFREG}:
            self._make_file(name, entry, mode)
        else:
            raise UnreadableArchiveError

    def _make_directory(self, name: str) -> None:
        """Make a directory and those above it, unless they exist; a file or link in the way is refused."""
        if self._kinds.get(name) == "directory":
            return
        made = ""
        for part in name.split("/"):
            made = f"{made}/{part}" if made else part
            known = self._kinds.get(made)
            if known is None:
                self._note(made, "directory")
                os.mkdir(self._path(made), DIRECTORY_MODE)
                os.chmod(self._path(made), DIRECTORY_MODE)
            elif known != "directory":
                raise UnreadableArchiveError

    def _make_link(self, name: str, entry: zipfile.ZipInfo) -> None:
        if name in self._kinds:
            raise UnreadableArchiveError
        with self._archive.open(entry) as source:
            content = source.read(limits.SYMLINK_TARGET_BYTES_MAX + 1)
        if len(content) > limits.SYMLINK_TARGET_BYTES_MAX:
            raise UnreadableArchiveError
        link = content.decode()
        if not is_safe_link(name, link):
            raise UnreadableArchiveError
        self._count(len(content))
        self._note(name, "link")
        os.symlink(link, self._path(name))

    def _make_file(self, name: str, entry: zipfile.ZipInfo, mode: int) -> None:
        """Write a file; the same name again replaces it, as the usual tools do."""
        known = self._kinds.get(name)
        if known == "file":
            os.unlink(self._path(name))
        elif known is not None:
            raise UnreadableArchiveError
        self._note(name, "file")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(self._path(name), flags, 0o600), "wb") as file:
            with self._archive.open(entry) as source:
                while chunk := source.read(_CHUNK_BYTES):
                    self._count(len(chunk))
                    file.write(chunk)
            os.fchmod(file.fileno(), mode & 0o777 | _READ_ALL if mode & 0o777 else _FILE_MODE)

    def _count(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._bytes_max:
            raise OversizedArchiveError(self._bytes_max)

    def _note(self, name: str, kind: str) -> None:
        self._kinds[name] = kind
        if len(self._kinds) > limits.ARCHIVE_ENTRIES_MAX + 1:
            raise UnreadableArchiveError

    def _path(self, name: str) -> str:
        return f"{self._target}/{name}"


def clean_name(name: str) -> str:
    """
    Return an entry's name as a plain relative path.

    Raises:
        UnreadableArchiveError: If it is absolute, climbs, names nothing, or lies too deep.
    """
    parts = [part for part in name.split("/") if part not in {"", "."}]
    if name.startswith("/") or not parts or ".." in parts or "\0" in name:
        raise UnreadableArchiveError
    if len(parts) > limits.ARCHIVE_DEPTH_MAX:
        raise UnreadableArchiveError
    return "/".join(parts)


def is_safe_link(name: str, target: str) -> bool:
    """
    Tell whether a symbolic link may be made.

    Args:
        name: Where it lies, a plain relative path; no part of it is a link.
        target: What it says.

    A relative target may climb only at its beginning and only as high as the tree's root; in the middle a
    `..` could leave the tree through another link, so it is refused there. An absolute target must begin
    with a directory of Lambda's file system.
    """
    if not target or "\0" in target:
        return False
    if target.startswith("/"):
        normal = posixpath.normpath(target) + "/"
        return any(normal.startswith(root) for root in _LINK_ROOTS)
    parts = [part for part in target.split("/") if part not in {"", "."}]
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    return climbs <= name.count("/") and ".." not in parts[climbs:]
