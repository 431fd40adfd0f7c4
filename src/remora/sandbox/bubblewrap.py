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
from remora.sandbox.directory import remove_tree
from remora.sandbox.host import (
    API_PORT,
    CONTROL_INSIDE,
    EMPTY_DIRECTORIES,
    INIT_INSIDE,
    Host,
    HostEntry,
    read_host,
)
from remora.sandbox.launch import CONTROL_SOCKET, bind
from remora.sandbox.node import SandboxesOfNode, Site
from remora.sandbox.root_files import GID, HOSTNAME, UID, IdRange, write_etc
from remora.sandbox.scratch import choose_scratch
from remora.sandbox.supervised import Habitat
from remora.sandbox.ways import Ways

if TYPE_CHECKING:
    from remora.sandbox.base import Network, Sandbox, Watcher
    from remora.sandbox.hierarchies import CpuLimit
    from remora.sandbox.scratch import Kind, Scratch

CHECK_WAIT_S = 60.0


def command(
    bwrap: Path, host: Host, plan: SandboxPlan, etc_directories: tuple[str, ...], tmp: Kind = "disk"
) -> list[str]:
    """
    Return the complete command that makes a sandbox.

    Args:
        bwrap: The program.
        host: This machine.
        plan: The sandbox; its directory holds `control`, `etc` and `tmp`.
        etc_directories: Directories of the host's /etc to show inside.
        tmp: What /tmp is made of.
    """
    return [
        str(bwrap),
        *_namespaces(host.ids, plan.network),
        *_system(host.entries, plan, etc_directories),
        *host.masks.words(),
        *_private(host, plan, tmp),
        *(
            "--remount-ro",
            "/",
            "--chdir",
            "/",
            "--",
            INIT_INSIDE,
            "--control",
            f"{CONTROL_INSIDE}/{CONTROL_SOCKET}" if host.ids else "-",
        ),
        *("--port", str(0 if plan.network == "host" else API_PORT)),
        *(("--idmap", f"{host.ids.base}:{host.ids.count}") if host.ids else ()),
    ]


def _namespaces(ids: IdRange | None, network: Network) -> list[str]:
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    if network == "none":
        words.append("--unshare-net")  # for `nat` whoever starts bubblewrap has made one
    if ids is None:
        words += ["--unshare-user", "--uid", str(UID), "--gid", str(GID), "--cap-drop", "ALL"]
    else:
        words += ["--cap-drop", "ALL", "--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID"]
    return [*words, "--hostname", HOSTNAME, "--as-pid-1", "--die-with-parent"]


def _system(entries: tuple[HostEntry, ...], plan: SandboxPlan, etc_directories: tuple[str, ...]) -> list[str]:
    words: list[str] = []
    for entry in entries:
        if entry.target is None:
            words += ["--ro-bind", f"/{entry.name}", f"/{entry.name}"]
        else:
            words += ["--symlink", entry.target, f"/{entry.name}"]
    words += ["--ro-bind", str(plan.directory / "etc"), "/etc"]
    for name in etc_directories:
        words += ["--ro-bind", f"/etc/{name}", f"/etc/{name}"]
    words += ["--proc", "/proc", "--dev", "/dev", "--remount-ro", "/dev"]
    return [*words, *_tmpfs("/dev/shm", plan.memory_mib)]  # noqa: S108 - inside


def _tmpfs(path: str, size_mib: int) -> list[str]:
    return ["--perms", "1777", "--size", str(size_mib * 1024 * 1024), "--tmpfs", path]


def _private(host: Host, plan: SandboxPlan, tmp: Kind) -> list[str]:
    on_disk = ["--bind", str(plan.directory / "tmp"), "/tmp"]  # noqa: S108 - inside
    words = on_disk if tmp == "disk" else _tmpfs("/tmp", plan.ephemeral_mib)  # noqa: S108 - inside
    targets = {mount.target for mount in plan.mounts}
    for directory in EMPTY_DIRECTORIES:
        if directory not in targets:
            words += ["--dir", directory]
    for mount in plan.mounts:
        words += ["--ro-bind", str(mount.source), mount.target]
    # Where everybody inside is one user, whoever may make the socket may remove it: it is made outside.
    how = "--bind" if host.ids else "--ro-bind"
    words += [how, str(plan.directory / "control"), CONTROL_INSIDE]
    return [*words, "--ro-bind", str(host.init), INIT_INSIDE]


def prepare(plan: SandboxPlan, scratch: Scratch) -> tuple[str, ...]:
    """
    Make the sandbox's private directory, and what becomes its /tmp.

    Returns:
        Directories of the host's /etc to show inside.
    """
    plan.directory.mkdir(mode=0o700)
    (plan.directory / "control").mkdir(mode=0o700)
    scratch.prepare(plan)
    return write_etc(plan.directory / "etc", Path("/etc"), plan.network)


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

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        swept = await self._sandboxes.sweep()
        await self._ways().put_back()
        return swept
