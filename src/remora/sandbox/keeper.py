"""
A place in memory that nobody else sees, and that is gone when this process is, however it ends.

A process waits in a mount namespace of its own, in which a file system in memory is mounted on /run. There
CRIU also remembers what it has found out about the kernel. This process reaches it below /proc.
"""

from __future__ import annotations

import contextlib
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
_STAY: Final = f"""
mount -t tmpfs -o mode=755 none {PLACE} && echo || exit
watched=
while read -r order pid; do
    others=
    for each in $watched; do [ "$each" = "$pid" ] || others="$others $each"; done
    watched=$others
    [ "$order" = unwatch ] || watched="$watched $pid"
done
[ -z "$watched" ] || kill -s KILL -- $watched
"""


class Keeper:
    """
    Keeps files in memory; and kills, should this process end, those that it is told to watch.

    Raises:
        SandboxError: If it cannot be made here.
    """

    def __init__(self) -> None:
        self._enter = _find("nsenter")
        words = [_find("unshare"), "--mount", "--propagation", "slave"]
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

    def watch(self, pid: int) -> None:
        """
        Have a process, or a group of them (negative), killed with this one: they would not notice.

        Raises:
            SandboxError: If the place is gone, and all in it.
        """
        self._tell(f"watch {pid}\n")

    def unwatch(self, pid: int) -> None:
        """Let them be: they have ended, or notice by themselves."""
        with contextlib.suppress(SandboxError):
            self._tell(f"unwatch {pid}\n")

    def _tell(self, order: str) -> None:
        assert self._process.stdin is not None, "it was asked for"
        try:
            self._process.stdin.write(order.encode())
            self._process.stdin.flush()
        except OSError as error:
            raise SandboxError(f"the place for snapshots is gone: {error.strerror}") from error

    def close(self) -> None:
        """Let everything in it go. Repeated calls: no effect."""
        self._process.communicate()


def _find(program: str) -> str:
    found = shutil.which(program, path=f"{os.environ.get('PATH', '')}:{_PROGRAMS}")
    if found is None:
        raise SandboxError(f"{program} is not installed (package util-linux)")
    return found
