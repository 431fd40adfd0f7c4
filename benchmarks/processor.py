"""How much processor time a node, its environments and the client take."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

from memory import below


def spent(pid):
    """Return processor time so far, microseconds: of a node, of everything below it, of this process."""
    return [_of(pid), sum(map(_of, below(pid))), time.process_time_ns() // 1000]


def per_call(before, after, calls):
    """Return what each of them spent per call, microseconds."""
    return [(late - early) / calls for early, late in zip(before, after, strict=True)]


def calls_at_most(row):
    """Return how many calls per second all processors together could serve if the node took no time."""
    _, environments_us, client_us = row
    return os.cpu_count() * 1e6 / (environments_us + client_us)


def _of(pid):
    total_ns = 0
    with suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            total_ns += int((task / "schedstat").read_text().split()[0])
    return total_ns // 1000
