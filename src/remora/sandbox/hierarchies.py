"""
Which cgroup hierarchies there are, and what is written to limit a sandbox: read and planned purely.

Five *controls* are wanted: the freezer, memory, cpu, pids and io. Each lives in one hierarchy: that of
version 1 which carries its controller, else the unified one of version 2 (which can always freeze).

Sources: Linux, Documentation/admin-guide/cgroup-v1/{memory,freezer-subsystem,pids}.rst and cgroup-v2.rst;
Documentation/scheduler/sched-bwc.rst.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

CpuLimit = Literal["share", "strict"]

CONTROLS = ("memory", "cpu", "pids", "io", "freezer")
ASIDE = "remora.node"
"""The group of version 2 into which a node steps aside; see `remora.sandbox.delegation`."""
MEMORY_MIB_PER_CPU = 1769
"""Memory that comes with one vCPU. Source: AWS Lambda Developer Guide, "Configure Lambda function memory"."""
PIDS_MAX = 1024
"""Processes and threads of one environment. Source: AWS Lambda quotas."""
CPU_PERIOD_US = 20_000
"""In each such time an environment may use its part: short, so that nobody is kept waiting for long."""
_CPU_SHARES_MAX: Final = 262_144
_CPU_QUOTA_US_MIN = 1_000
"""The kernel takes no less."""
_WEIGHT_MAX: Final = {"cpu.weight": 10_000, "io.weight": 10_000}
"""Of other files it is 1,000."""
_CONTROL_OF: Final = {"blkio": "io"}
"""Controllers of version 1 that have another name in version 2, which is ours."""


@dataclass(frozen=True, slots=True)
class Hierarchy:
    """
    One mounted hierarchy.

    Args:
        version: 1 or 2.
        root: Where it is mounted.
        own: This process's group in it, a directory below `root`.
        controls: Which controls it carries.
    """

    version: int
    root: Path
    own: Path
    controls: frozenset[str]


@dataclass(frozen=True, slots=True)
class Rules:
    """
    What is decided once for all sandboxes of a node.

    Args:
        cpu: `share`: CPU time in proportion to the memory size where several want it; `strict`: and never
            more than that.
        weights_file: The file that takes an environment's share of the disk; empty if none has an effect.
    """

    cpu: CpuLimit = "share"
    weights_file: str = ""


def read_hierarchies(mountinfo: str, own_groups: str, controllers_of_v2: dict[Path, str]) -> list[Hierarchy]:
    """
    Find the mounted hierarchies.

    Args:
        mountinfo: Content of /proc/self/mountinfo.
        own_groups: Content of /proc/self/cgroup.
        controllers_of_v2: For mount points of version 2, the content of their `cgroup.controllers`.
    """
    own = {}
    for line in own_groups.splitlines():
        _, carried, path = line.split(":", 2)
        own[frozenset(filter(None, carried.split(",")))] = path
    found: dict[Path, Hierarchy] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        mount_root, mount_point = before.split()[3:5]
        kind, _, options = after.split(" ", 2)
        root = Path(_unescape(mount_point))
        if kind == "cgroup":
            controllers = next(
                (names for names in own if names and names <= set(options.split(","))), frozenset()
            )
            controls = frozenset(_CONTROL_OF.get(name, name) for name in controllers) & set(CONTROLS)
            version = 1
        elif kind == "cgroup2":
            controllers = frozenset[str]()
            controls = frozenset(controllers_of_v2.get(root, "").split()) & set(CONTROLS) | {"freezer"}
            version = 2
        else:
            continue
        path = os.path.relpath(own.get(controllers, "/"), _unescape(mount_root))
        is_below = not path.startswith("..")
        found[root] = Hierarchy(version, root, root / path if is_below else root, controls)
    return list(found.values())


def choose_hierarchies(hierarchies: list[Hierarchy]) -> dict[str, Hierarchy]:
    """Choose for each control where it is used: in version 1 where that has it, because then v2 does not."""
    chosen: dict[str, Hierarchy] = {}
    for hierarchy in sorted(hierarchies, key=lambda each: each.version):
        for control in sorted(hierarchy.controls):
            chosen.setdefault(control, hierarchy)
    return chosen


def possible_bases(hierarchy: Hierarchy) -> list[Path]:
    """
    Return the groups below which a node's group may lie: this process's own, then those above it.

    In version 2 a group that has processes cannot give controllers to its children, so the own group will
    not do unless this process can step aside; but where systemd has delegated a subtree, one above does.
    """
    own = hierarchy.own.parent if hierarchy.own.name == ASIDE else hierarchy.own
    bases = [own]
    if hierarchy.version == 2:
        bases += [above for above in own.parents if above.is_relative_to(hierarchy.root)]
    elif hierarchy.own != hierarchy.root:
        bases.append(hierarchy.root)
    return bases


def is_own(hierarchy: Hierarchy, base: Path) -> bool:
    """Tell whether `base` is the group of version 2 that this process is in."""
    return hierarchy.version == 2 and base == hierarchy.own


def may_enter(hierarchy: Hierarchy, base: Path) -> bool:
    """
    Tell whether this process may start others in groups below `base`.

    Source: cgroup-v2.rst, "Delegation Containment": write access to `cgroup.procs` of the common ancestor.
    """
    return hierarchy.version == 1 or os.access(base / "cgroup.procs", os.W_OK)


@dataclass(frozen=True, slots=True)
class Setting:
    """One value to write to a new group; may be absent from some kernels if `is_optional`."""

    file: str
    value: str
    is_optional: bool = False


def plan_settings(control: str, version: int, memory_mib: int, rules: Rules) -> tuple[Setting, ...]:
    """Return what is written to limit a sandbox of `memory_mib` MiB."""
    limit_bytes = str(memory_mib * 1024 * 1024)
    match control, version:
        case "memory", 1:
            return (
                Setting("memory.limit_in_bytes", limit_bytes),
                Setting("memory.memsw.limit_in_bytes", limit_bytes, is_optional=True),
            )
        case "memory", 2:
            return (Setting("memory.max", limit_bytes), Setting("memory.swap.max", "0", is_optional=True))
        case "cpu", 1:
            shares = Setting("cpu.shares", str(max(2, 1024 * memory_mib // MEMORY_MIB_PER_CPU)))
            return (shares, *_ceiling(version, memory_mib, rules.cpu))
        case "cpu", 2:
            return (_weight("cpu.weight", memory_mib), *_ceiling(version, memory_mib, rules.cpu))
        case "io", _:
            return (_weight(rules.weights_file, memory_mib),) if rules.weights_file else ()
        case "pids", _:
            return (Setting("pids.max", str(PIDS_MAX)),)
        case _:
            return ()


def plan_parent_settings(control: str, version: int, processors: int) -> tuple[Setting, ...]:
    """
    Return what is written to the parent of all sandboxes of a node.

    They weigh together as much as one process on each processor: with no more than one process's weight, all
    of them would wait behind a single other program.
    """
    match control, version:
        case "cpu", 1:
            return (Setting("cpu.shares", str(min(_CPU_SHARES_MAX, 1024 * processors))),)
        case "cpu", 2:
            return (Setting("cpu.weight", str(min(_WEIGHT_MAX["cpu.weight"], 100 * processors))),)
        case _:
            return ()


def _weight(file: str, memory_mib: int) -> Setting:
    """Everybody else's weight is 100, as is that of one vCPU's memory."""
    weight = 100 * memory_mib // MEMORY_MIB_PER_CPU
    return Setting(file, str(min(_WEIGHT_MAX.get(file, 1_000), max(1, weight))))


def _ceiling(version: int, memory_mib: int, limit: CpuLimit) -> tuple[Setting, ...]:
    """Return how much CPU time a sandbox may use in each period, whoever else wants any."""
    if limit == "share":
        return ()
    quota_us = max(_CPU_QUOTA_US_MIN, CPU_PERIOD_US * memory_mib // MEMORY_MIB_PER_CPU)
    if version == 2:
        return (Setting("cpu.max", f"{quota_us} {CPU_PERIOD_US}"),)
    return (Setting("cpu.cfs_period_us", str(CPU_PERIOD_US)), Setting("cpu.cfs_quota_us", str(quota_us)))


def find_hierarchies() -> list[Hierarchy]:
    """Read what this machine has mounted; nothing if that cannot be read."""
    try:
        mountinfo = Path("/proc/self/mountinfo").read_text()
        own_groups = Path("/proc/self/cgroup").read_text()
    except OSError:
        return []
    controllers: dict[Path, str] = {}
    for line in mountinfo.splitlines():
        if " - cgroup2 " in line:
            root = Path(_unescape(line.split()[4]))
            with contextlib.suppress(OSError):
                controllers[root] = (root / "cgroup.controllers").read_text()
    return read_hierarchies(mountinfo, own_groups, controllers)


def _unescape(text: str) -> str:
    """Mount points in mountinfo have spaces and the like as octal numbers."""
    return text.encode("latin-1", "backslashreplace").decode("unicode_escape") if "\\" in text else text
