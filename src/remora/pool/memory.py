"""How much memory is left: of the machine, and of the control group that confines this process."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Final

MIB: Final = 1024 * 1024
UNKNOWN: Final = 1 << 62
"""What is reported where nothing can be found out: nothing is done about it then."""

_ROOT: Final = Path("/")


def memory_left(root: Path = _ROOT) -> int:
    """
    Return how many bytes can still be used without swapping; of several bounds the narrowest counts.

    Args:
        root: Where /proc and /sys are.
    """
    return min(_of_machine(root), _of_group(root))


def _of_machine(root: Path) -> int:
    with suppress(OSError, ValueError, IndexError):
        for line in (root / "proc/meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    return UNKNOWN


def _of_group(root: Path) -> int:
    """Read the bound of a container: its own group is the root of what is mounted there."""
    for limit, usage in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):
            directory = root / "sys/fs/cgroup"
            bound = int((directory / limit).read_text())
            return max(0, bound - int((directory / usage).read_text()))
    return UNKNOWN
