"""The driver `process`: no isolation at all, for machines where nothing better can be had."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from remora.sandbox import messages
from remora.sandbox.base import Paths
from remora.sandbox.binary import init_program
from remora.sandbox.node import SandboxesOfNode, Site
from remora.sandbox.supervised import Habitat

if TYPE_CHECKING:
    from pathlib import Path

    from remora.sandbox.base import Sandbox, SandboxPlan, Watcher
    from remora.sandbox.cgroups import SandboxGroup
    from remora.sandbox.hierarchies import CpuLimit

WARNING = (
    "the sandbox driver `process` isolates nothing: functions run with this user's rights, see its files, "
    "processes and network, and each other; use it only for code that you trust"
)


def choose_paths(plan: SandboxPlan) -> Paths:
    """Return where Lambda's directories are: the mounts' sources, and private ones for the rest."""
    sources = {mount.target: str(mount.source) for mount in plan.mounts}
    private = plan.directory
    return Paths(
        task=sources.get("/var/task", str(private / "task")),
        opt=sources.get("/opt", str(private / "opt")),
        runtime=sources.get("/var/runtime", str(private / "runtime")),
        lang=sources.get("/var/lang", str(private / "lang")),
        tmp=str(private / "tmp"),
    )


def prepare(plan: SandboxPlan) -> None:
    """Make the sandbox's private directory."""
    plan.directory.mkdir(mode=0o700)
    for name in ("control", "task", "opt", "runtime", "lang", "tmp"):
        (plan.directory / name).mkdir(mode=0o700)


class ProcessDriver:
    """
    Makes sandboxes that are none; see `SandboxDriver`.

    Args:
        environments: Parent of every plan's directory.
        node: A short word, `[a-z0-9-]`, that shows in the names of cgroups.
        cpu: How CPU time is limited.
    """

    def __init__(self, environments: Path, node: str, *, cpu: CpuLimit = "share") -> None:
        self._sandboxes = SandboxesOfNode(environments, node, cpu)

    def __repr__(self) -> str:
        return f"<ProcessDriver {self._sandboxes!r}>"

    @property
    def name(self) -> Literal["process"]:
        """See `SandboxDriver.name`."""
        return "process"

    def check(self) -> tuple[str, ...]:
        """See `SandboxDriver.check`; never without a warning."""
        init_program()
        return (WARNING, *self._sandboxes.missing(), "the size of /tmp is not enforced")

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """See `SandboxDriver.create`."""
        program = init_program()
        habitat = Habitat(choose_paths(plan), messages.UNCHANGED, messages.UNCHANGED, is_isolated=False)

        def command(_: SandboxGroup) -> list[str]:
            prepare(plan)
            # Relative, because the path of a unix socket is short; the working directory is where it belongs.
            return [str(program), "--subreaper", "--control", "control.sock", "--port", "0"]

        return await self._sandboxes.create(plan, watcher, habitat, Site(command, plan.memory_mib))

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        return await self._sandboxes.sweep()
