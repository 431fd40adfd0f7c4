"""Finds whatever a node has left on the machine: processes, mounts, cgroups, directories of environments."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from remora.sandbox.cgroups import group_name

CGROUPS = Path("/sys/fs/cgroup")
_SANDBOX = re.compile(r"/environments/([0-9a-f]{32})/")
NAMESPACES = ("mnt", "net", "pid", "user", "ipc", "uts")


def leftovers(data: Path) -> list[str]:
    """Return one line for each trace of the node that kept its state in `data` (a name used only once)."""
    found = [f"process {pid}: {command_of(pid)}" for pid in processes_of(data)]
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


def processes_of_environment(data: Path, environment: str) -> list[int]:
    """Return the processes of one environment, those of its sandbox included, which may have another name."""
    ours = processes_of(data)
    inside = next(pid for pid in ours if f"]{environment}" in _read(Path(f"/proc/{pid}/environ")))
    sandbox = _SANDBOX.search(_read(Path(f"/proc/{inside}/mountinfo")))
    word = sandbox[1] if sandbox else environment
    return [pid for pid in ours if word in command_of(pid) or word in _read(Path(f"/proc/{pid}/mountinfo"))]


def cgroups_of(data: Path) -> list[Path]:
    """Return the cgroups of the node, in every hierarchy and at every depth."""
    digest = _digest(data)
    return [
        Path(directory, name)
        for directory, names, _ in os.walk(CGROUPS)
        for name in names
        if name.startswith("remora-") and name.endswith(digest)
    ]


@contextmanager
def private_namespaces(pids: list[int]) -> Iterator[set[str]]:
    """
    Find the namespaces in which the processes are and this one is not.

    Within the context they are held open, because the kernel gives the numbers of ended ones to new ones.
    """
    own = _namespaces(os.getpid())
    with ExitStack() as stack:
        for pid in pids:
            for name in NAMESPACES:
                with suppress(OSError):
                    stack.callback(os.close, os.open(f"/proc/{pid}/ns/{name}", os.O_RDONLY | os.O_CLOEXEC))
        yield {namespace for pid in pids for namespace in _namespaces(pid)} - own


def processes_in(namespaces: set[str]) -> list[str]:
    """Return one line for each process that is in any of the namespaces."""
    return [
        f"process {pid} in {' '.join(sorted(shared))}: {command_of(pid)}"
        for pid in _pids()
        if (shared := _namespaces(pid) & namespaces)
    ]


def _digest(data: Path) -> str:
    return group_name(data / "environments", "").rpartition("-")[2]


def _mentions(pid: int, word: str, digest: str) -> bool:
    place = Path("/proc", str(pid))
    if word in command_of(pid) or word in _read(place / "mountinfo") or digest in _read(place / "cgroup"):
        return True
    try:
        return word in str((place / "cwd").readlink())
    except OSError:
        return False


def _pids() -> list[int]:
    """Return every process but this one; those that have ended and wait for somebody's glance are none."""
    numbers = (int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())
    return [number for number in numbers if number != os.getpid() and _is_alive(number)]


def _is_alive(pid: int) -> bool:
    state = _read(Path("/proc", str(pid), "stat")).rpartition(")")[2].split()
    return bool(state) and state[0] not in ("Z", "X")


def command_of(pid: int) -> str:
    """Return the command line of a process; empty if it has ended."""
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
