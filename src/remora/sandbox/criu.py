"""
CRIU: the program that writes processes into files, and makes processes of such files.

Here are its command lines; who runs them is `remora.sandbox.copies`.

Source: criu(8); https://criu.org, "External bind mounts", "Action scripts", "Inheriting FDs on restore".
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

VERSION_MIN: Final = (4, 2)
"""Older ones do not know what newer kernels map into every process, or how their sockets behave."""
PROGRAM_VARIABLE: Final = "REMORA_CRIU"
_VERSION_S: Final = 60
COMPLAINTS_MAX: Final = 3
_VERSION = re.compile(r"Version: (\d+)\.(\d+)")
_LOADER: Final = "ld-linux-x86-64.so.2"
_OPTIONS: Final = (
    "--tcp-established",
    *("--network-lock", "skip"),
    "--manage-cgroups=ignore",
    "--file-locks",
    "--link-remap",
    *("--ghost-limit", "512M"),
    *("--empty-ns", "net"),
    "-v1",
)
LOG: Final = "criu.log"
_ERROR = re.compile(r"\s*(?:\d+: )?Error \([^)]*\): (.*)")
"""What is said by a process that is being restored begins with its number."""
_NOISE: Final = ("rlimit", "cgroupd", "Restoring FAILED", "Dumping FAILED")
MEETING, BEGIN, MADE, GO = "meeting", "begin", "made", "go"
"""
A program and three FIFOs: CRIU is not started before we let it begin, tells when namespaces are made, and
waits until we have been there.
"""
_MEETING: Final = """#!/bin/sh
[ "$CRTOOLS_SCRIPT_ACTION" = setup-namespaces ] || exit 0
cd "${0%/*}" && echo "$CRTOOLS_INIT_PID" >made && read -r _ <go
"""


@dataclass(frozen=True, slots=True)
class Criu:
    """The program, with what must come before its arguments; and its version."""

    words: tuple[str, ...]
    version: tuple[int, int]

    def dump(self, pid: int, images: Path, mounts: Sequence[str]) -> list[str]:
        """
        Return the command that writes the processes from `pid` (a pid 1) down into files, and kills them.

        Args:
            pid: As this process sees it.
            images: Where the files are to be; exists.
            mounts: Where, inside, something of the host is mounted.
        """
        external = [word for target in mounts for word in ("--external", f"mnt[{target}]:{target}")]
        return [*self.words, "dump", "-t", str(pid), "-D", str(images), *_OPTIONS, *external]

    def restore(
        self,
        root: Path,
        images: Path,
        meeting: Path,
        pidfile: Path,
        *,
        mounts: Mapping[str, str],
        pipes: Mapping[int, int],
    ) -> list[str]:
        """
        Return the command that makes processes of files; pid 1 becomes a child of whoever runs it.

        Args:
            root: A mounted directory with a place for everything that is mounted inside.
            images: The directory of the files.
            meeting: A directory that `arrange_meeting` has prepared; it also gets the log, `LOG`.
            pidfile: Where the number of pid 1 is written.
            mounts: What of the host is to be found where inside.
            pipes: Which open file of this process takes the place of which pipe, by its number.
        """
        external = [
            word for target, source in mounts.items() for word in ("--external", f"mnt[{target}]:{source}")
        ]
        inherited = [
            word for number, fd in pipes.items() for word in ("--inherit-fd", f"fd[{fd}]:pipe:[{number}]")
        ]
        return [
            *(*self.words, "restore"),
            *("-D", str(images), "--root", str(root), "--pidfile", str(pidfile)),
            *("--log-file", str(meeting / LOG)),
            *("--restore-detached", "--restore-sibling"),
            *("--action-script", str(meeting / MEETING)),
            *(*_OPTIONS, *external, *inherited),
        ]


def arrange_meeting(directory: Path) -> None:
    """Make the program by which CRIU waits for us, and the FIFOs."""
    (directory / MEETING).write_text(_MEETING)
    (directory / MEETING).chmod(0o700)
    for name in (BEGIN, MADE, GO):
        os.mkfifo(directory / name, 0o600)


def begun_later(words: Sequence[str], directory: Path) -> list[str]:
    """Return the command that runs `words` when somebody has written a line to `BEGIN`."""
    return ["/bin/sh", "-c", 'read -r _ <"$0" && exec "$@"', str(directory / BEGIN), *words]


def complaint(said: bytes) -> str:
    """Return the errors in what CRIU says, but for its notes on limits and on what follows of errors."""
    lines = said.decode(errors="replace").strip().splitlines()
    found = [match[1] for line in lines if (match := _ERROR.match(line))]
    errors = [text for text in found if not any(word in text for word in _NOISE)]
    return "; ".join(errors[:COMPLAINTS_MAX]) or (lines[-1] if lines else "it did not say why")


def find_criu(prefix: Path) -> Criu:
    """
    Find the program: the one that a variable names, that of the search path, one that was unpacked.

    Args:
        prefix: Where the distribution's packages may have been unpacked, with the libraries they need.

    Raises:
        SandboxError: If there is none that is new enough.
    """
    found: list[tuple[str, ...]] = []
    named = os.environ.get(PROGRAM_VARIABLE) or shutil.which(
        "criu", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    )
    if named:
        found.append((named,))
    loader = next(prefix.glob(f"usr/lib/*/{_LOADER}"), None)
    if loader is not None:
        library = str(loader.parent)
        found.append(
            (str(loader), "--library-path", library, "--argv0", "criu", str(prefix / "usr/sbin/criu"))
        )
    versions = [(words, _version(words)) for words in found]
    for words, version in versions:
        if version >= VERSION_MIN:
            return Criu(words, version)
    wanted = ".".join(map(str, VERSION_MIN))
    if not found:
        raise SandboxError(f"CRIU is not installed (package criu, {wanted} or newer)")
    there = ", ".join(".".join(map(str, version)) for _, version in versions)
    raise SandboxError(f"CRIU {there} is too old: {wanted} or newer is needed")


def _version(words: tuple[str, ...]) -> tuple[int, int]:
    try:
        said = subprocess.run(
            [*words, "--version"], capture_output=True, text=True, check=False, timeout=_VERSION_S
        )
    except OSError:
        return (0, 0)
    match = _VERSION.search(said.stdout)
    return (int(match[1]), int(match[2])) if match else (0, 0)
