"""
How large /tmp may become: the one place where that is decided (ADR-0011).

- `disk`: a sparse file with an ext4 file system of the wished size, mounted through a loop device in a mount
  namespace of the sandbox's own; needs root, loop devices and mkfs.ext4. Costs no memory.
- `memory`: a tmpfs of the wished size, for anyone. What lies there is charged to the environment's memory,
  whose limit is raised by the same size.

A file system is made once for each size, by mkfs.ext4; what of it is not zero (some 60 KiB) is kept and
written to the file of every sandbox.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from remora.kit.files import extents
from remora.sandbox.base import SandboxError, SandboxPlan

if TYPE_CHECKING:
    from collections.abc import Sequence

Kind = Literal["disk", "memory"]

IMAGE = "tmp.ext4"
"""The file in a sandbox's directory."""
MKFS_WAIT_S = 30.0
TRY_MIB = 16
IN_MEMORY = (
    "the files of /tmp are kept in memory: an environment may use its memory size and the size of /tmp "
    "together, and what lies there counts as memory used"
)
_MIB = 1024 * 1024
_ROOM_MIB = 10
"""Beside the fiftieth of its size, what the file system itself takes of it, MiB."""
_FEATURES = "^has_journal,^resize_inode"
"""It lives as long as its sandbox: nothing is to be recovered, nothing grows."""
_OPTIONS = "lazy_itable_init=1,nodiscard"


@dataclass(frozen=True, slots=True)
class Extent:
    """Bytes of an empty file system that are not zero, from `offset` on."""

    offset: int
    content: bytes


@dataclass(frozen=True, slots=True)
class Template:
    """An empty file system, `size_bytes` long."""

    size_bytes: int
    extents: tuple[Extent, ...]


def image_bytes(ephemeral_mib: int) -> int:
    """Return how long the file must be for `ephemeral_mib` MiB to be usable."""
    return (ephemeral_mib + ephemeral_mib // 50 + _ROOM_MIB) * _MIB


def make_template(ephemeral_mib: int, directory: Path) -> Template:
    """
    Make an empty file system; takes tens of milliseconds.

    Args:
        ephemeral_mib: Usable size, MiB.
        directory: Where a file may be made for a moment.

    Raises:
        SandboxError: If there is no mkfs.ext4, or it fails.
    """
    mkfs = shutil.which("mkfs.ext4", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if mkfs is None:
        raise SandboxError("mkfs.ext4 is not installed (package e2fsprogs)")
    with tempfile.NamedTemporaryFile(dir=directory, prefix=".mkfs-") as file:
        size_bytes = image_bytes(ephemeral_mib)
        file.truncate(size_bytes)
        words = [mkfs, "-q", "-F", "-m", "0", "-O", _FEATURES, "-E", _OPTIONS, "-b", "4096", file.name]
        try:
            subprocess.run(words, check=True, capture_output=True, timeout=MKFS_WAIT_S)
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"mkfs.ext4 could not make a file system for /tmp: {error}") from error
        return Template(size_bytes, tuple(_extents(file.fileno())))


def choose_scratch(launcher: Path, directory: Path, *, wants_disk: bool) -> tuple[Scratch, tuple[str, ...]]:
    """
    Decide what /tmp is made of, by trying; takes tens of milliseconds.

    Args:
        launcher: remora-init.
        directory: Where files may be made for a moment.
        wants_disk: False for those who may not mount anything.

    Returns:
        The decision, and what is missing because of it.
    """
    if not wants_disk:
        return Scratch("memory", launcher, directory), (IN_MEMORY,)
    disk = Scratch("disk", launcher, directory)
    with tempfile.TemporaryDirectory(dir=directory, prefix=".tmp-") as name:
        plan = SandboxPlan("try", Path(name), (), TRY_MIB, ephemeral_mib=TRY_MIB)
        try:
            disk.prepare(plan)
            words = disk.launched(["/bin/sh", "-c", "true"], plan)
            subprocess.run(words, check=True, capture_output=True, timeout=MKFS_WAIT_S, env={})
        except subprocess.CalledProcessError as error:
            reason = error.stderr.decode(errors="replace").strip()
        except (OSError, SandboxError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        else:
            return disk, ()
    return Scratch("memory", launcher, directory), (f"{IN_MEMORY} ({reason})",)


def write_image(path: Path, template: Template) -> None:
    """Write a file system into a new file."""
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    file = os.open(path, flags, 0o600)
    try:
        os.ftruncate(file, template.size_bytes)
        for extent in template.extents:
            os.pwrite(file, extent.content, extent.offset)
    finally:
        os.close(file)


def write_copy(path: Path, source: Path) -> None:
    """Write a file system into a new file that is like the file `source`."""
    with source.open("rb") as original:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            copy_data(original.fileno(), file)
        finally:
            os.close(file)


def copy_data(source: int, target: int) -> None:
    """Make the file `target`, which is empty, like the file `source`, with the same holes."""
    os.ftruncate(target, os.fstat(source).st_size)
    for offset, size_bytes in extents(source):
        done = 0
        while done < size_bytes:
            os.lseek(target, offset + done, os.SEEK_SET)
            done += os.sendfile(target, source, offset + done, size_bytes - done)


def _extents(file: int) -> list[Extent]:
    return [Extent(offset, os.pread(file, size_bytes, offset)) for offset, size_bytes in extents(file)]


class Scratch:
    """
    Decides where /tmp is, and prepares it.

    Args:
        kind: See the module.
        launcher: remora-init.
        directory: Where files may be made for a moment.
    """

    def __init__(self, kind: Kind, launcher: Path, directory: Path) -> None:
        self.kind: Kind = kind
        self._launcher = launcher
        self._directory = directory
        self._templates: dict[int, Template] = {}

    def __repr__(self) -> str:
        return f"<Scratch {self.kind} sizes={sorted(self._templates)}>"

    def is_known(self, ephemeral_mib: int) -> bool:
        """Tell whether `prepare` takes no longer than a few writes."""
        return self.kind == "memory" or ephemeral_mib in self._templates

    def learn(self, ephemeral_mib: int) -> None:
        """
        Get ready for a size; slow, so that it may be called in a thread.

        Raises:
            SandboxError: As `make_template`.
        """
        if not self.is_known(ephemeral_mib):
            self._templates[ephemeral_mib] = make_template(ephemeral_mib, self._directory)

    def prepare(self, plan: SandboxPlan, *, is_new: bool = True) -> None:
        """Make `tmp` in the plan's directory, and if it is new the file that will be mounted on it."""
        tmp = plan.directory / "tmp"
        tmp.mkdir()
        if self.kind == "memory" or not is_new:
            return
        self.learn(plan.ephemeral_mib)
        write_image(plan.directory / IMAGE, self._templates[plan.ephemeral_mib])

    def launched(self, command: Sequence[str], plan: SandboxPlan) -> list[str]:
        """Return the command by which `command` finds /tmp's files in `tmp` of the plan's directory."""
        if self.kind == "memory":
            return list(command)
        place = [str(plan.directory / IMAGE), str(plan.directory / "tmp")]
        return [str(self._launcher), "--scratch", *place, "--", *command]

    def memory_mib(self, plan: SandboxPlan) -> int:
        """Return what the environment's memory is to be limited to, MiB."""
        return plan.memory_mib + (plan.ephemeral_mib if self.kind == "memory" else 0)
