"""All sandboxes of one node: made, counted, and found again after the node has died."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.kit.tasks import TaskSet
from remora.kit.threads import in_thread
from remora.sandbox import launch
from remora.sandbox.base import SandboxError
from remora.sandbox.cgroups import (
    NodeGroup,
    group_name,
    leftover_groups,
    remove_empty_parents,
    sweep_groups,
)
from remora.sandbox.delegation import enter_own_scope
from remora.sandbox.directory import remove_tree
from remora.sandbox.disks import weights_for
from remora.sandbox.hierarchies import Rules, choose_hierarchies, find_hierarchies
from remora.sandbox.supervised import Estate, SupervisedSandbox

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from remora.sandbox.base import SandboxPlan, Watcher
    from remora.sandbox.cgroups import SandboxGroup
    from remora.sandbox.hierarchies import CpuLimit, Hierarchy
    from remora.sandbox.supervised import Habitat

ENDED_AT_ONCE = 16
"""Sandboxes whose end is waited for at once; what runs in others is killed already, and they wait in turn."""


async def _nothing() -> None:
    """Do nothing."""


@dataclass(frozen=True, slots=True)
class Site:
    """
    What a driver adds to a plan.

    Args:
        prepare: Makes the plan's directory, and returns the command to start; its argument is the sandbox's
            cgroups, in that of version 2 it is born.
        memory_mib: What all processes together may use, MiB.
        leave: Called once when the sandbox is gone, or was not made.
        greet: How platform and remora-init find each other.
        gives_control: True if the control socket is made here and handed to remora-init as standard input:
            whoever could make it inside could remove it, too.
        start: Starts remora-init otherwise than by a command, in these cgroups; then `prepare` is not called.
        processes: Number, name and pid of what runs already.
    """

    prepare: Callable[[SandboxGroup], list[str]]
    memory_mib: int
    leave: Callable[[], Awaitable[None]] = _nothing
    greet: launch.Greeting = launch.shake_hands
    gives_control: bool = False
    start: Callable[[SandboxGroup], Awaitable[launch.Init]] | None = None
    processes: tuple[tuple[int, str, int], ...] = ()


class SandboxesOfNode:
    """
    What every driver that uses remora-init does the same way.

    Args:
        environments: Parent of every plan's directory.
        node: Shows in the names of cgroups.
        cpu: How CPU time is limited.
    """

    def __init__(self, environments: Path, node: str, cpu: CpuLimit = "share") -> None:
        self._environments = environments
        self._node = node
        self._cpu: CpuLimit = cpu
        self._living: set[str] = set()
        self._tasks = TaskSet(f"sandboxes of {node}")
        # The kernel takes mount namespaces apart one by one (each waits for a grace period of RCU): were all
        # waited for at once, the last of hundreds would seem not to end.
        self._turn = asyncio.Semaphore(ENDED_AT_ONCE)
        self._hierarchies: list[Hierarchy] = find_hierarchies()
        self._known_group: NodeGroup | None = None
        self._missing: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<SandboxesOfNode {self._node} living={len(self._living)}>"

    def _group(self) -> NodeGroup:
        if self._known_group is None:
            name = group_name(self._environments, self._node)
            rules = Rules(self._cpu, self._weights_file())
            is_root = os.geteuid() == 0
            group = NodeGroup(name, self._hierarchies, is_root=is_root, rules=rules)
            if not is_root and not group.has("memory") and self._move():
                group = NodeGroup(name, self._hierarchies, is_root=is_root, rules=rules)
            self._known_group, self._missing = group, (*self._missing, *group.missing)
        return self._known_group

    def _weights_file(self) -> str:
        """Look whether weights of disk I/O have an effect here, and note what is missing of it."""
        hierarchy = choose_hierarchies(self._hierarchies).get("io")
        if hierarchy is None:
            return "io.weight"  # so that the group says itself that there is no controller
        self._environments.mkdir(parents=True, exist_ok=True)
        weights = weights_for(self._environments, hierarchy.version, hierarchy.root)
        self._missing = (weights.problem,) if weights.problem else ()
        return weights.file

    def is_living(self, name: str) -> bool:
        """Tell whether a sandbox is one of ours, or is being made or removed."""
        return name in self._living

    def _move(self) -> bool:
        """Have this process moved to where an ordinary user may set limits, if there is such a place."""
        hierarchy = choose_hierarchies(self._hierarchies).get("memory")
        if hierarchy is None or hierarchy.version != 2 or not enter_own_scope():
            return False
        self._hierarchies = find_hierarchies()
        return True

    def missing(self) -> tuple[str, ...]:
        """
        One sentence for every limit that cannot be enforced here.

        Raises:
            SandboxError: If the operator asked for one of them.
        """
        if not self._group().has("cpu") and self._cpu == "strict":
            reason = next((text for text in self._missing if "cpu" in text), "no cgroup")
            raise SandboxError(f"the ceiling of CPU time that was asked for cannot be enforced: {reason}")
        return self._missing

    async def create(
        self, plan: SandboxPlan, watcher: Watcher, habitat: Habitat, site: Site
    ) -> SupervisedSandbox:
        """
        Make one sandbox.

        Args:
            plan: What is wanted.
            watcher: Who is told.
            habitat: What the driver decided.
            site: What else it decided; its `leave` is called in every case.

        Raises:
            SandboxError: If it could not be made; nothing of it is left behind.

        **Cancellation:** nothing of it is left behind.
        """
        if plan.name in self._living:
            await site.leave()
            raise SandboxError(f"there is a living sandbox called {plan.name} already")
        self._living.add(plan.name)
        group: SandboxGroup | None = None
        init: launch.Init | None = None
        try:
            group = self._group().create(plan.name, plan.memory_mib, site.memory_mib)
            init = await (site.start(group) if site.start else self._launch(plan, site, group))
            forget = functools.partial(self._forget, plan, site)
            estate = Estate(init, group, self._tasks, self._turn, forget)
            return SupervisedSandbox(plan, watcher, habitat, estate, site.processes)
        except BaseException as error:
            undoing = self._tasks.spawn(self._undo(plan, site, group, init), f"undo sandbox {plan.name}")
            await launch.uncancelled(undoing)
            if isinstance(error, OSError):
                raise SandboxError(f"cannot make sandbox {plan.name}: {error}", retryable=True) from error
            raise

    async def _launch(self, plan: SandboxPlan, site: Site, group: SandboxGroup) -> launch.Init:
        argv, control = site.prepare(group), plan.directory / "control"
        with launch.bind(control) if site.gives_control else contextlib.nullcontext() as given:
            return await launch.launch(
                argv, control, self._tasks, group.birthplace, greet=site.greet, given=given
            )

    async def _forget(self, plan: SandboxPlan, site: Site) -> None:
        self._living.discard(plan.name)
        await site.leave()

    async def _undo(
        self, plan: SandboxPlan, site: Site, group: SandboxGroup | None, init: launch.Init | None
    ) -> None:
        async with self._turn:
            if init is not None:
                await init.stop()
            if group is not None:
                await group.remove()
        await in_thread(remove_tree, plan.directory)
        await self._forget(plan, site)

    async def sweep(self) -> int:
        """Remove what a dead predecessor left; see `SandboxDriver.sweep`."""
        groups = leftover_groups(self._hierarchies, self._environments)
        directories = (
            {entry.name: entry for entry in self._environments.iterdir() if entry.is_dir()}
            if self._environments.is_dir()
            else {}
        )
        swept = 0
        for name in sorted((groups.keys() | directories.keys()) - self._living):
            await sweep_groups(groups.get(name, set()))
            if name in directories:
                launch.kill_stragglers(directories[name])
                await launch.finish_leftover(directories[name] / "control")
                await in_thread(remove_tree, directories[name])
            swept += not name.startswith(".")
        remove_empty_parents(self._hierarchies, self._environments)
        return swept
