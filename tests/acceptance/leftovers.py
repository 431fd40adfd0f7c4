"""Finds whatever a node has left on the machine: processes, mounts, cgroups, directories of environments."""

from __future__ import annotations

import os
from pathlib import Path

from remora.sandbox.cgroups import group_name

CGROUPS = Path("/sys/fs/cgroup")
NAMESPACES = ("mnt", "net", "pid", "user", "ipc", "uts")


def leftovers(data: Path) -> list[str]:
    """Return one line for each trace of the node that kept its state in `data` (a name used only once)."""
    found = [f"process {pid}: {_command(pid)}" for pid in processes_of(data)]
    found += [
        f"mount: {line}" for line in _read(Path("/proc/self/mountinfo")).splitlines() if data.name in line
    ]
    found += [f"cgroup: {path}" for path in cgroups_of(data)]
    environments = data / "environments"
    if environments.is_dir():
        found += [f"directory: {path}" for path in environments.iterdir()]
    return found


def processes_of(data: Path) -> list[int]:
    """Return the processes that mention `data` in command line, mounts, working directory or cgroup."""
    digest = _digest(data)
    return [pid for pid in _pids() if _mentions(pid, data.name, digest)]


def cgroups_of(data: Path) -> list[Path]:
    """Return the cgroups of the node, in every hierarchy and at every depth."""
    digest = _digest(data)
    return [
        Path(directory, name)
        for directory, names, _ in os.walk(CGROUPS)
        for name in names
        if name.startswith("remora-") and name.endswith(digest)
    ]


def private_namespaces(pids: list[int]) -> set[str]:
    """Return the namespaces in which the processes are and this one is not."""
    own = _namespaces(os.getpid())
    return {namespace for pid in pids for namespace in _namespaces(pid)} - own


def processes_in(namespaces: set[str]) -> list[int]:
    """Return the processes that are in any of the namespaces."""
    return [pid for pid in _pids() if _namespaces(pid) & namespaces]


def _digest(data: Path) -> str:
    return group_name(data / "environments", "").rpartition("-")[2]


def _mentions(pid: int, word: str, digest: str) -> bool:
    place = Path("/proc", str(pid))
    if word in _command(pid) or word in _read(place / "mountinfo") or digest in _read(place / "cgroup"):
        return True
    try:
        return word in str((place / "cwd").readlink())
    except OSError:
        return False


def _pids() -> list[int]:
    numbers = (entry.name for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [int(number) for number in numbers if int(number) != os.getpid()]


def _command(pid: int) -> str:
    return _read(Path("/proc", str(pid), "cmdline")).replace("\0", " ")


def _namespaces(pid: int) -> set[str]:
    found = set()
    for name in NAMESPACES:
        try:
            found.add(str(Path("/proc", str(pid), "ns", name).readlink()))
        except OSError:
            continue
    return found


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
