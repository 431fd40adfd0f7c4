"""What programs put up with that work on what anybody has written: little time, and little memory."""

from __future__ import annotations

import ctypes
import resource
import signal
from typing import Final

_PR_SET_PDEATHSIG: Final = 1


def confine(seconds: int, memory_bytes: int) -> None:
    """
    Make this process end with the thread that started it, in time, and before it takes the machine's memory.

    Args:
        seconds: When SIGALRM ends it.
        memory_bytes: Its address space; beyond it, allocations fail.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    signal.alarm(seconds)
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
