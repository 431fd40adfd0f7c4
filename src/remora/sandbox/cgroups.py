"""
Limits, freezing and measuring by cgroups, of version 1, 2 or both, as far as this process is permitted.

What is not permitted is left out, control by control, and named in `NodeGroup.missing`. How processes get in:

- Version 1: remora-init holds the open `tasks` files, and every process it starts writes "0" to them before
  its exec. A thread may move itself without the lock that moving anything else takes, which costs a grace
  period of the kernel (10 to 20 ms after a pause). Pid 1 itself stays out, so that it is never frozen: it
  notices when the platform dies, and thaws what it kills (the frozen of version 1 do not even die).
- Version 2: pid 1 is born there (CLONE_INTO_CGROUP), which takes no such lock. The frozen can be killed.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from typing import TYPE_CHECKING

from remora.sandbox.base import SandboxError
from remora.sandbox.delegation import stepped_aside
from remora.sandbox.hierarchies import (
    CONTROLS,
    Rules,
    choose_hierarchies,
    is_own,
    may_enter,
    plan_parent_settings,
    plan_settings,
    possible_bases,
)
from remora.sandbox.waiting import kill_and_wait

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from remora.sandbox.hierarchies import Hierarchy, Setting

REMOVE_ROUNDS_MAX = 20
KILL_WAIT_S = 30.0

_WITHOUT = {
    "freezer": "environments are frozen by signals, which their processes can notice",
    "memory": "memory sizes are not enforced (one process may have twice its size and 1 GiB), "
    "and memory use is added up from the processes",
    "cpu": "CPU time does not follow the memory size",
    "pids": "the number of processes is not limited by a cgroup",
    "io": "disk I/O is not shared by weights",
}


def group_name(environments: Path, node: str) -> str:
    """Return the name of the node's parent group; the same data directory gives the same digest in it."""
    return f"remora-{node}-{digest_of(environments)}"


class SandboxGroup:
    """
    The cgroups of one sandbox.

    `freeze`, `thaw` and `memory_peak_bytes` happen on every invocation: they are one system call each, on
    descriptors that stay open.

    Args:
        name: The sandbox's.
        directories: For each control its version and its group's directory.
    """

    def __init__(self, name: str, directories: dict[str, tuple[int, Path]]) -> None:
        self._name = name
        self._directories = directories
        self._freezer_version, self._freezer = 0, -1
        self._peak, self._current, self._sampled_bytes = -1, -1, 0
        self._kills = -1
        self._thaw_files: tuple[str, ...] = ()
        try:
            self._open_files(directories)
        except OSError:
            self.close_files()
            raise

    def __repr__(self) -> str:
        return f"<SandboxGroup {self._name} {','.join(sorted(self._directories)) or 'none'}>"

    def _open_files(self, directories: dict[str, tuple[int, Path]]) -> None:
        if "freezer" in directories:
            version, directory = directories["freezer"]
            file = directory / ("freezer.state" if version == 1 else "cgroup.freeze")
            self._freezer_version, self._freezer = version, os.open(file, os.O_WRONLY | os.O_CLOEXEC)
            self._thaw_files = (str(file),) if version == 1 else ()
        if "memory" in directories:
            version, directory = directories["memory"]
            self._open_memory(version, directory)

    def _open_memory(self, version: int, directory: Path) -> None:
        kills = "memory.oom_control" if version == 1 else "memory.events"
        with contextlib.suppress(FileNotFoundError):
            self._kills = os.open(directory / kills, os.O_RDONLY | os.O_CLOEXEC)
        peak = "memory.max_usage_in_bytes" if version == 1 else "memory.peak"
        try:
            self._peak = os.open(directory / peak, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            # Kernels before 5.19 count no peak in version 2: the samples taken at each call must do.
            self._current = os.open(directory / "memory.current", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def has_freezer(self) -> bool:
        """True if `freeze` and `thaw` work."""
        return self._freezer >= 0

    @property
    def has_memory(self) -> bool:
        """True if `memory_peak_bytes` works."""
        return self._peak >= 0 or self._current >= 0

    @property
    def has_pids(self) -> bool:
        """True if the number of processes is limited."""
        return "pids" in self._directories

    def freeze(self) -> None:
        """Take the CPU from every process in the group."""
        os.write(self._freezer, b"FROZEN" if self._freezer_version == 1 else b"1")

    def thaw(self) -> None:
        """Give it back; the kernel has woken them all when this returns."""
        os.write(self._freezer, b"THAWED" if self._freezer_version == 1 else b"0")

    def memory_peak_bytes(self) -> int:
        """Return the highest memory use so far, bytes."""
        if self._peak >= 0:
            return int(os.pread(self._peak, 32, 0))
        self._sampled_bytes = max(self._sampled_bytes, int(os.pread(self._current, 32, 0)))
        return self._sampled_bytes

    def memory_kills(self) -> int:
        """Return how many processes were killed because the group's memory was used up; 0 if unknown."""
        if self._kills < 0:
            return 0
        counts = dict(line.split() for line in os.pread(self._kills, 512, 0).decode().splitlines())
        return int(counts.get("oom_kill", 0))

    def open_join_files(self) -> tuple[list[int], bool]:
        """
        Open what remora-init needs so that its processes join the groups of version 1.

        Returns:
            Descriptors, owned by the caller; True if the last is the freezer's state file.
        """
        opened: list[int] = []
        try:
            opened.extend(os.open(each / "tasks", os.O_WRONLY | os.O_CLOEXEC) for each in sorted(self.joined))
            if self._freezer_version == 1:
                opened.append(os.dup(self._freezer))
        except OSError:
            for descriptor in opened:
                os.close(descriptor)
            raise
        return opened, self._freezer_version == 1

    @property
    def birthplace(self) -> Path | None:
        """The group of version 2 in which pid 1 has to be born; None if there is none."""
        return next((directory for version, directory in self._directories.values() if version == 2), None)

    @property
    def joined(self) -> set[Path]:
        """The groups of version 1, which processes join."""
        return {directory for version, directory in self._directories.values() if version == 1}

    @property
    def freezer_of_v1(self) -> Path | None:
        """The group that freezes by version 1, where the frozen do not die when they are killed."""
        return self._directories["freezer"][1] if self._freezer_version == 1 else None

    def pids(self) -> list[int]:
        """Return the processes that are in any of the groups."""
        return _pids_of({directory for _, directory in self._directories.values()})

    def close_files(self) -> None:
        """Let go of the open files; then nothing can be frozen or measured. Repeated calls: no effect."""
        for descriptor in (self._freezer, self._peak, self._current, self._kills):
            if descriptor >= 0:
                os.close(descriptor)
        self._freezer = self._peak = self._current = self._kills = -1

    async def remove(self) -> bool:
        """
        Kill what is left inside, and remove the groups.

        Repeated calls: no effect.

        Returns:
            False if they would not go.
        """
        self.close_files()
        directories = {directory for _, directory in self._directories.values()}
        self._directories = {}
        is_gone = await remove_groups(directories, self._thaw_files)
        for parent in {directory.parent for directory in directories}:
            with contextlib.suppress(OSError):  # others are still in it
                parent.rmdir()
        return is_gone


class NodeGroup:
    """
    The parent of all sandboxes' groups of one node; made when the first sandbox is, removed with the last.

    Args:
        name: See `group_name`.
        hierarchies: What the machine has.
        is_root: True if groups beside this process's own may be made.
        rules: What is decided for all of them; without a file for weights `io` is left out.
    """

    def __init__(
        self, name: str, hierarchies: list[Hierarchy], *, is_root: bool, rules: Rules | None = None
    ) -> None:
        self._name = name
        self._rules = rules or Rules()
        self._parents: dict[str, tuple[Hierarchy, Path]] = {}
        self._missing: list[str] = []
        self._base_of_v2: Path | None = None
        chosen = choose_hierarchies(hierarchies)
        for control in CONTROLS:
            if control == "io" and not self._rules.weights_file:
                continue
            if control not in chosen:
                self._missing.append(f"no cgroup controller for {control}: {_WITHOUT[control]}")
                continue
            self._find_parent(control, chosen[control], is_root=is_root)

    @property
    def missing(self) -> tuple[str, ...]:
        """One sentence for every control that is not to be had."""
        return tuple(self._missing)

    def has(self, control: str) -> bool:
        """Tell whether sandboxes get a control."""
        return control in self._parents

    def _find_parent(self, control: str, hierarchy: Hierarchy, *, is_root: bool) -> None:
        """
        Try the root of the hierarchy (only root may), then this process's own group, then those above it.

        A process is born in one group of version 2 only: the base of the first control is that of all.
        """
        bases = [hierarchy.root, *possible_bases(hierarchy)] if is_root else possible_bases(hierarchy)
        if hierarchy.version == 2 and self._base_of_v2 is not None:
            bases = [self._base_of_v2]
        reason: OSError | None = None
        for base in bases:
            parent = base / self._name
            try:
                if not may_enter(hierarchy, base):
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(base))
                with stepped_aside(base) if is_own(hierarchy, base) else contextlib.nullcontext():
                    self._try(control, hierarchy.version, parent)
            except OSError as error:
                reason = reason or error
            else:
                self._parents[control] = (hierarchy, parent)
                if hierarchy.version == 2:
                    self._base_of_v2 = base
                return
        self._missing.append(f"no permission for cgroup control {control} ({reason}): {_WITHOUT[control]}")

    def _try(self, control: str, version: int, parent: Path) -> None:
        """Make a group, write what will be written, remove it."""
        probe = parent / f"probe-{os.getpid()}"
        try:
            self._make(control, version, parent, probe, 128)
            SandboxGroup("probe", {control: (version, probe)}).close_files()
        finally:
            for directory in (probe, parent):
                with contextlib.suppress(OSError):
                    directory.rmdir()

    def _make(self, control: str, version: int, parent: Path, directory: Path, memory_mib: int) -> None:
        parent.mkdir(exist_ok=True)
        if version == 2 and control != "freezer":
            for above in (parent.parent, parent):
                _enable(above, control)
        _apply(parent, plan_parent_settings(control, version, os.cpu_count() or 1))
        directory.mkdir(exist_ok=True)
        _apply(directory, plan_settings(control, version, memory_mib, self._rules))

    def create(self, name: str, memory_mib: int, limit_mib: int = 0) -> SandboxGroup:
        """
        Make the groups of one sandbox, limited and empty.

        Args:
            name: The sandbox's.
            memory_mib: The function's memory size, which shares of CPU and disk follow.
            limit_mib: What all processes together may use; 0: the same.

        Raises:
            SandboxError: If the kernel refused what it had allowed before; nothing is left behind.
        """
        directories: dict[str, tuple[int, Path]] = {}
        try:
            for control, (hierarchy, parent) in self._parents.items():
                directory = parent / name
                directories[control] = (hierarchy.version, directory)
                size_mib = limit_mib or memory_mib if control == "memory" else memory_mib
                self._make(control, hierarchy.version, parent, directory, size_mib)
            return SandboxGroup(name, directories)
        except OSError as error:
            for _, directory in directories.values():
                for each in (directory, directory.parent):
                    with contextlib.suppress(OSError):
                        each.rmdir()
            raise SandboxError(
                f"cannot make the cgroups of sandbox {name}: {error}", retryable=True
            ) from error


def leftover_groups(hierarchies: list[Hierarchy], environments: Path) -> dict[str, set[Path]]:
    """Return the groups that any node with this data directory has made, by the sandbox's name."""
    found: dict[str, set[Path]] = {}
    bases = {base for hierarchy in hierarchies for base in (hierarchy.root, *possible_bases(hierarchy))}
    for base in bases:
        for group in base.glob(f"remora-*-{digest_of(environments)}/*/"):
            found.setdefault(group.name, set()).add(group)
    return found


def remove_empty_parents(hierarchies: list[Hierarchy], environments: Path) -> None:
    """Remove what a node's groups were in, where an OCI runtime has removed the groups themselves."""
    bases = {base for hierarchy in hierarchies for base in (hierarchy.root, *possible_bases(hierarchy))}
    for base in bases:
        for parent in base.glob(f"remora-*-{digest_of(environments)}/"):
            with contextlib.suppress(OSError):  # somebody lives in it
                parent.rmdir()


async def remove_groups(directories: set[Path], thaw_files: tuple[str, ...]) -> bool:
    """
    Remove groups; whoever is inside is killed first, thawed, and waited for.

    Returns:
        True if all are gone.
    """
    left = set(directories)
    for _ in range(REMOVE_ROUNDS_MAX):
        for directory in sorted(left):
            try:
                directory.rmdir()
            except FileNotFoundError:
                left.discard(directory)
            except OSError:
                continue
            else:
                left.discard(directory)
        if not left:
            return True
        await kill_and_wait(_pids_of(left), within_s=KILL_WAIT_S, and_then=thaw_files)
    return False


async def sweep_groups(directories: set[Path]) -> bool:
    """Remove the groups of a sandbox whose node is dead, and their parents if that was the last."""
    states = [directory / "freezer.state" for directory in directories]
    thaw_files = tuple(str(state) for state in states if state.exists())
    is_gone = await remove_groups(directories, thaw_files)
    for parent in {directory.parent for directory in directories}:
        with contextlib.suppress(OSError):
            parent.rmdir()
    return is_gone


def digest_of(environments: Path) -> str:
    """Return the word, 12 hexadecimal digits, that names what belongs to a directory of environments."""
    return hashlib.sha256(os.fsencode(environments.resolve())).hexdigest()[:12]


def _apply(directory: Path, settings: Iterable[Setting]) -> None:
    for setting in settings:
        try:
            _write(directory / setting.file, setting.value)
        except FileNotFoundError:
            if not setting.is_optional:
                raise


def _write(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _enable(group: Path, control: str) -> None:
    """Let the children of a v2 group have a control, unless they have it."""
    if control not in (group / "cgroup.subtree_control").read_text().split():
        try:
            _write(group / "cgroup.subtree_control", f"+{control}")
        except FileNotFoundError as error:
            raise OSError(f"{group.name} was given no {control}") from error


def _pids_of(directories: set[Path]) -> list[int]:
    found: set[int] = set()
    for directory in directories:
        with contextlib.suppress(OSError):
            found.update(map(int, (directory / "cgroup.procs").read_text().split()))
    return sorted(found)
