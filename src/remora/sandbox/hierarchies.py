"""
Which cgroup hierarchies there are, and what is written to limit a sandbox: read and planned purely.

Four *controls* are wanted: the freezer, memory, cpu and pids. Each lives in one hierarchy: that of version 1
which carries its controller, else the unified one of version 2 (which can always freeze).

Sources: Linux, Documentation/admin-guide/cgroup-v1/{memory,freezer-subsystem,pids}.rst and cgroup-v2.rst.
"""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

CONTROLS = ("memory", "cpu", "pids", "freezer")
MEMORY_MIB_PER_CPU = 1769
"""Memory that comes with one vCPU. Source: AWS Lambda Developer Guide, "Configure Lambda function memory"."""
PIDS_MAX = 1024
"""Processes and threads of one environment. Source: AWS Lambda quotas."""


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
            controls = controllers & set(CONTROLS)
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

    In version 2 a group that has processes cannot give controllers to its children, so the own group of a
    shell in a terminal will not do; but where systemd has delegated a subtree to the user, one above does.
    """
    bases = [hierarchy.own]
    if hierarchy.version == 2:
        bases += [above for above in hierarchy.own.parents if above.is_relative_to(hierarchy.root)]
    elif hierarchy.own != hierarchy.root:
        bases.append(hierarchy.root)
    return bases


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


def plan_settings(control: str, version: int, memory_mib: int) -> tuple[Setting, ...]:
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
            return (Setting("cpu.shares", str(max(2, 1024 * memory_mib // MEMORY_MIB_PER_CPU))),)
        case "cpu", 2:
            return (Setting("cpu.weight", str(min(10_000, max(1, 100 * memory_mib // MEMORY_MIB_PER_CPU)))),)
        case "pids", _:
            return (Setting("pids.max", str(PIDS_MAX)),)
        case _:
            return ()


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
