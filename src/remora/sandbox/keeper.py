"""
A place in memory that nobody else sees, and that is gone when this process is, however it ends.

A process waits in a mount namespace of its own, in which a file system in memory is mounted on /run. There
CRIU also remembers what it has found out about the kernel. This process reaches it below /proc.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from collections.abc import Sequence

PLACE: Final = "/run"
_PROGRAMS: Final = "/usr/sbin:/usr/bin:/sbin:/bin"
_STAY: Final = f"mount -t tmpfs -o mode=755 none {PLACE} && echo && read -r _"


class Keeper:
    """
    Keeps files in memory.

    Args:
        launcher: remora-init.

    Raises:
        SandboxError: If it cannot be made here.
    """

    def __init__(self, launcher: Path) -> None:
        self._enter = _find("nsenter")
        words = [str(launcher), "--leash", "--", _find("unshare"), "--mount", "--propagation", "slave"]
        self._process = subprocess.Popen(
            [*words, "/bin/sh", "-c", _STAY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert self._process.stdout is not None, "it was asked for"
        assert self._process.stderr is not None, "it was asked for"
        if self._process.stdout.readline() != b"\n":
            said = self._process.stderr.read().decode(errors="replace").strip()
            self.close()
            raise SandboxError(f"no place for snapshots could be made: {said}")

    def __repr__(self) -> str:
        return f"<Keeper {self._process.pid}>"

    @property
    def directory(self) -> Path:
        """Where this process finds the place."""
        return Path(f"/proc/{self._process.pid}/root{PLACE}")

    def inside(self, command: Sequence[str]) -> list[str]:
        """Return the command that runs `command` where the place is `PLACE`."""
        return [self._enter, f"--mount=/proc/{self._process.pid}/ns/mnt", *command]

    def close(self) -> None:
        """Let everything in it go. Repeated calls: no effect."""
        self._process.kill()
        self._process.communicate()


def _find(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PROGRAMS}")
    if found is None:
        raise SandboxError(f"{program} is not installed (package util-linux)")
    return found
