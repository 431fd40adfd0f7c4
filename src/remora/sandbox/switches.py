"""
Switches of the kernel that are on for as long as somebody needs them, and then say what they said before.

What a switch said is kept in a file, on which whoever needs it holds a lock: the kernel takes that back from
the dead. The last one to let go puts the switch back; where that one was killed, the next node that starts
does. Nobody puts back what somebody else has turned on for the whole machine meanwhile.

Only switches below /proc/sys/net are thought of: they belong to a network namespace, and so do the files.
"""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, unquote

if TYPE_CHECKING:
    from collections.abc import Iterator

PLACE: Final = Path("/run/remora/switches")
ON: Final = "1"


class Switches:
    """
    The switches that one owner needs.

    Args:
        place: Where it is written what they said; the same for all nodes of a machine.
    """

    def __init__(self, place: Path = PLACE) -> None:
        self._place = place
        self._files: dict[Path, int] = {}

    def __repr__(self) -> str:
        return f"<Switches held={len(self._files)}>"

    def turn_on(self, switch: Path) -> bool:
        """
        Turn a switch on and hold it. Repeated calls: the same answer.

        Returns:
            True if it is on because of us, or of others who need it likewise: it was off before.

        Raises:
            OSError: If that is not permitted; nothing is held then.
        """
        with _alone(self._place):
            if switch not in self._files:
                self._files[switch] = _hold(self._place, switch)
            return os.pread(self._files[switch], 16, 0).decode() != ON

    def close(self) -> None:
        """Let go of all; those that nobody else needs are put back. Repeated calls: no effect."""
        if not self._files:
            return
        with _alone(self._place):
            for switch, file in self._files.items():
                _let_go(_file_of(self._place, switch), switch, file)
            self._files.clear()


def _hold(place: Path, switch: Path) -> int:
    """Turn a switch on; return the open file that says what it said before, with a lock."""
    path = _file_of(place, switch)
    file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if not os.fstat(file).st_size:
            os.pwrite(file, switch.read_text().strip().encode(), 0)
        switch.write_text(ON)
    except BaseException:
        _let_go(path, switch, file)
        raise
    return file


def _let_go(path: Path, switch: Path, file: int) -> None:
    """Put a switch back unless somebody else holds it, and close its file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(file)
        return
    with suppress(OSError):  # the device may be gone
        former = os.pread(file, 16, 0).decode()
        everywhere = switch.parent.parent / "all" / switch.name
        if former and former != ON and everywhere.read_text().strip() != ON:
            switch.write_text(former)
    path.unlink(missing_ok=True)
    os.close(file)


def put_back(place: Path = PLACE) -> int:
    """
    Put back what the dead have turned on and nobody needs.

    Returns:
        How many switches that were.
    """
    if not place.is_dir():
        return 0
    count = 0
    with suppress(PermissionError), _alone(place):
        for path in place.glob(f"{_namespace()}:*"):
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            _let_go(path, Path(unquote(path.name.partition(":")[2])), file)
            count += not path.exists()
    return count


def _file_of(place: Path, switch: Path) -> Path:
    return place / f"{_namespace()}:{quote(str(switch), safe='')}"


def _namespace() -> int:
    return Path("/proc/thread-self/ns/net").stat().st_ino


@contextmanager
def _alone(place: Path) -> Iterator[None]:
    """Let nobody else decide about any switch meanwhile; they all take a moment only."""
    place.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = os.open(place / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
