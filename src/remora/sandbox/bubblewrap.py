"""
The driver `bubblewrap`: own user, pid, mount, net, ipc, uts and cgroup namespaces, for root and for anyone.

For root, bubblewrap makes the namespaces and the mounts with the machine's own ids (so that directories below
such that only root may enter can be mounted) and leaves two capabilities to remora-init, which enters a user
namespace of its own with them and drops them: the processes' ids outside are high ones that own nothing.
For anyone else the user namespace is bubblewrap's, with a single id.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from remora.kit.threads import in_thread
from remora.sandbox import messages
from remora.sandbox.base import Paths, SandboxError, SandboxPlan
from remora.sandbox.cgroups import digest_of
from remora.sandbox.copies import Copies
from remora.sandbox.directory import remove_tree
from remora.sandbox.host import Host, read_host
from remora.sandbox.keeper import Keeper
from remora.sandbox.launch import bind
from remora.sandbox.node import SandboxesOfNode, Site
from remora.sandbox.root_files import GID, UID
from remora.sandbox.scratch import choose_scratch
from remora.sandbox.supervised import Habitat
from remora.sandbox.ways import Ways
from remora.sandbox.wrapping import command, prepare

if TYPE_CHECKING:
    from remora.sandbox.base import Sandbox, Watcher
    from remora.sandbox.criu import Criu
    from remora.sandbox.hierarchies import CpuLimit
    from remora.sandbox.scratch import Scratch

CHECK_WAIT_S = 60.0


def find_bubblewrap() -> Path:
    """
    Return the program.

    Raises:
        SandboxError: If it is missing.
    """
    program = shutil.which("bwrap")
    if program is None:
        raise SandboxError(
            "bubblewrap is not installed: install the package `bubblewrap`, or choose the driver `process`"
        )
    return Path(program)


class BubblewrapDriver:
    """
    Makes isolated sandboxes; see `SandboxDriver`.

    A sandbox dies with the thread that called `create`: that is the event loop's, and has to live on.

    Args:
        environments: Parent of every plan's directory.
        node: A short word, `[a-z0-9-]`, that shows in the names of cgroups.
        cpu: How CPU time is limited.
    """

    def __init__(self, environments: Path, node: str, *, cpu: CpuLimit = "share") -> None:
        self._sandboxes = SandboxesOfNode(environments, node, cpu)
        self._environments = environments
        self._program = Path()
        self._known_host: Host | None = None
        self._known_scratch: Scratch | None = None
        self._scratch_missing: tuple[str, ...] = ()
        self._known_ways: Ways | None = None

    def __repr__(self) -> str:
        return f"<BubblewrapDriver {self._sandboxes!r}>"

    @property
    def name(self) -> Literal["bubblewrap"]:
        """See `SandboxDriver.name`."""
        return "bubblewrap"

    def _host(self) -> Host:
        if self._known_host is None:
            self._program = find_bubblewrap()
            self._known_host = read_host()
        return self._known_host

    def _scratch(self, ephemeral_mib: int) -> Scratch:
        """Return what makes /tmp, ready for a size; takes long when that is new."""
        if self._known_scratch is None:
            host = self._host()
            wants_disk = host.ids is not None
            chosen = choose_scratch(host.init, self._environments, wants_disk=wants_disk)
            self._known_scratch, self._scratch_missing = chosen
        self._known_scratch.learn(ephemeral_mib)
        return self._known_scratch

    def _ways(self) -> Ways:
        if self._known_ways is None:
            host = self._host()
            digest = digest_of(self._environments)
            self._known_ways = Ways(host.init, digest, is_root=host.ids is not None)
        return self._known_ways

    def network_problems(self) -> tuple[str, ...]:
        """See `NetworkPower.network_problems`."""
        return self._ways().problems()

    def _command(self, plan: SandboxPlan, scratch: Scratch) -> list[str]:
        """Make the plan's directory, return the command that makes the sandbox."""
        host = self._host()
        words = command(self._program, host, plan, prepare(plan, scratch), scratch.kind)
        return scratch.launched(words, plan)

    def check(self) -> tuple[str, ...]:
        """See `SandboxDriver.check`; makes a sandbox and lets it go."""
        host = self._host()
        self._environments.mkdir(parents=True, exist_ok=True)
        plan = SandboxPlan("check", self._environments / f".check-{os.getpid()}", (), 128)
        try:
            words = [*self._command(plan, self._scratch(plan.ephemeral_mib)), "--probe"]
            with bind(plan.directory / "control") if host.ids is None else nullcontext() as given:
                done = subprocess.run(
                    words,
                    stdin=given.fileno() if given else subprocess.DEVNULL,
                    capture_output=True,
                    check=False,
                    timeout=CHECK_WAIT_S,
                    env={},
                )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"cannot try bubblewrap: {error}") from error
        finally:
            remove_tree(plan.directory)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip("\0\n ")
            raise SandboxError(
                f"bubblewrap cannot make a sandbox here: {said}. Allow user namespaces (sysctl "
                "user.max_user_namespaces, kernel.apparmor_restrict_unprivileged_userns=0), run as root, or "
                "choose the driver `process`"
            )
        return (*self._sandboxes.missing(), *self._scratch_missing)

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """See `SandboxDriver.create`."""
        host = self._host()
        scratch = self._known_scratch
        if scratch is None or not scratch.is_known(plan.ephemeral_mib):
            scratch = await in_thread(self._scratch, plan.ephemeral_mib)
        uid, gid = (UID, GID) if host.ids else (messages.UNCHANGED, messages.UNCHANGED)
        habitat = Habitat(Paths(), uid, gid, is_isolated=True)
        way = await self._ways().find(plan.network)
        site = Site(
            lambda _: way.launched(self._command(plan, scratch)),
            scratch.memory_mib(plan),
            way.leave,
            gives_control=host.ids is None,
        )
        return await self._sandboxes.create(plan, watcher, habitat, site)

    def copies(self, criu: Criu) -> Copies:
        """
        Return who makes sandboxes that can be copied.

        Raises:
            SandboxError: If only others can be made here.
        """
        host = self._host()
        if host.ids is None:
            raise SandboxError("sandboxes can be copied by root only")
        keeper = Keeper()
        return Copies(
            self._sandboxes,
            host,
            bwrap=self._program,
            scratch=self._scratch,
            ways=self._ways(),
            criu=criu,
            keeper=keeper,
        )

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        swept = await self._sandboxes.sweep()
        await self._ways().put_back()
        return swept
