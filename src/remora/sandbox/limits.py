"""
What the kernel limits each process to, apart from the cgroup that limits them together.

Where there is no permission for cgroups, limits of processes stand in: not the sizes that were asked for, but
enough that a function which goes wild takes neither the machine's memory nor its process table.
"""

from __future__ import annotations

import resource
from typing import NamedTuple

from remora.sandbox.hierarchies import PIDS_MAX

_UNLIMITED = 0xFFFFFFFFFFFFFFFF
_MIB = 1024 * 1024
_SPARE_MIB = 1024
"""What one process may have beyond twice its memory size: the stacks of threads, reserves of runtimes."""


class Limit(NamedTuple):
    """One limit: `RLIMIT_…`, soft, hard."""

    resource: int
    soft: int
    hard: int


ALWAYS = (
    Limit(resource.RLIMIT_NOFILE, 1024, 1024),
    Limit(resource.RLIMIT_STACK, 8 * _MIB, _UNLIMITED),
    Limit(resource.RLIMIT_MEMLOCK, 65_536, 65_536),
    Limit(resource.RLIMIT_CORE, 0, 0),
)
"""
What every process is limited to, as functions of the Lambda service are.

Deviation: no core dumps, which would be written on the host.
"""


def process_limits(
    memory_mib: int, *, has_memory: bool, has_pids: bool, is_isolated: bool
) -> tuple[Limit, ...]:
    """
    Return the limits of each process of a sandbox.

    Args:
        memory_mib: Its memory size.
        has_memory: True if a cgroup limits the memory.
        has_pids: True if a cgroup limits the number of processes.
        is_isolated: True if it has a user namespace of its own: elsewhere the kernel would count the
            processes that the same user has outside.
    """
    limits = list(ALWAYS)
    if not has_memory:
        data_bytes = (2 * memory_mib + _SPARE_MIB) * _MIB
        limits.append(Limit(resource.RLIMIT_DATA, data_bytes, data_bytes))
    if not has_pids and is_isolated:
        limits.append(Limit(resource.RLIMIT_NPROC, PIDS_MAX, PIDS_MAX))
    return tuple(limits)
