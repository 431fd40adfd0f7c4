"""
The driver `oci`: sandboxes made by a runtime of the Open Container Initiative, runc, crun or runsc, for root.

What is inside is the same as under bubblewrap, described in a `config.json` instead of arguments; remora-init
is pid 1 here, too, enters a user namespace of its own and installs its filter. What differs is who
makes namespaces and mounts.

gVisor (`runsc`) puts a kernel of its own between processes and host: see `remora.sandbox.own_kernel`.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from remora.kit.threads import in_thread
from remora.sandbox.base import Paths, SandboxError, SandboxPlan
from remora.sandbox.cgroups import digest_of, remove_groups
from remora.sandbox.directory import remove_tree
from remora.sandbox.hierarchies import find_hierarchies
from remora.sandbox.host import (
    API_PORT,
    CONTROL_INSIDE,
    EMPTY_DIRECTORIES,
    INIT_INSIDE,
    Host,
    read_host,
)
from remora.sandbox.launch import CONTROL_SOCKET
from remora.sandbox.masks import HIDDEN, READ_ONLY
from remora.sandbox.node import SandboxesOfNode, Site
from remora.sandbox.own_kernel import OPTIONS, Meeting, has_own_kernel, surrounded
from remora.sandbox.root_files import GID, HOSTNAME, UID, write_etc
from remora.sandbox.scratch import choose_scratch
from remora.sandbox.supervised import Habitat
from remora.sandbox.switches import put_back
from remora.sandbox.ways import Ways

if TYPE_CHECKING:
    from remora.sandbox.base import Sandbox, Watcher
    from remora.sandbox.cgroups import SandboxGroup
    from remora.sandbox.hierarchies import CpuLimit
    from remora.sandbox.scratch import Kind, Scratch

_log = logging.getLogger("remora.sandbox")

VERSION = "1.0.2"
"""Of the runtime specification."""
CHECK_WAIT_S = 60.0
DELETE_WAIT_S = 60.0
_STATE = "oci"
_ROOT = "rootfs"
_CAPABILITIES = ["CAP_SETUID", "CAP_SETGID"]
"""With these remora-init maps ids into its user namespace; it drops them before anything else runs."""
_DEVICES = ["nosuid", "strictatime", "mode=755", "size=64k"]
_OWN_KERNEL_MIB = 64
"""What gVisor's own processes may use besides; 25 MiB were seen at rest."""
_BIND = ["rbind", "nosuid", "nodev", "private"]


def configuration(
    host: Host,
    plan: SandboxPlan,
    etc_directories: tuple[str, ...],
    tmp: Kind,
    cgroup: str,
    *,
    has_own_kernel: bool = False,
) -> dict[str, Any]:
    """
    Return the content of `config.json`.

    Args:
        host: This machine; it has ids.
        plan: The sandbox.
        etc_directories: Directories of the host's /etc to show inside.
        tmp: What /tmp is made of.
        cgroup: Where the runtime puts pid 1.
        has_own_kernel: True for gVisor, which stays in the network that it is started in.
    """
    assert host.ids is not None, "the driver is for root"
    port = _port(plan)
    control = f"{CONTROL_INSIDE}/{CONTROL_SOCKET}"
    arguments = [INIT_INSIDE, "--control", control, "--port", str(port)]
    arguments += ["--idmap", f"{host.ids.base}:{host.ids.count}", *(["--meet"] if has_own_kernel else [])]
    kinds = ["pid", "ipc", "uts", "mount", "cgroup"]
    if plan.network == "none" and not has_own_kernel:
        kinds.append("network")
    held = dict.fromkeys(("bounding", "effective", "permitted"), _CAPABILITIES)
    return {
        "ociVersion": VERSION,
        "process": {
            "terminal": False,
            "user": {"uid": 0, "gid": 0},
            "args": arguments,
            "env": [],
            "cwd": "/",
            "capabilities": held,
            "noNewPrivileges": True,
        },
        "root": {"path": _ROOT, "readonly": True},
        "hostname": HOSTNAME,
        "mounts": _mounts(host, plan, etc_directories, tmp),
        "linux": {
            "namespaces": [{"type": kind} for kind in kinds],
            "cgroupsPath": cgroup,
            "maskedPaths": list(HIDDEN),
            "readonlyPaths": list(READ_ONLY),
            "resources": {"devices": [{"allow": False, "access": "rwm"}]},
        },
    }


def _mounts(
    host: Host, plan: SandboxPlan, etc_directories: tuple[str, ...], tmp: Kind
) -> list[dict[str, Any]]:
    def read_only(source: str, target: str) -> dict[str, Any]:
        return {"destination": target, "type": "bind", "source": source, "options": [*_BIND, "ro"]}

    def memory(target: str, mode: str, size_mib: int) -> dict[str, Any]:
        options = ["nosuid", "nodev", f"mode={mode}", f"size={size_mib}m"]
        return {"destination": target, "type": "tmpfs", "source": "tmpfs", "options": options}

    def writable(source: Path, target: str) -> dict[str, Any]:
        return {"destination": target, "type": "bind", "source": str(source), "options": _BIND}

    private = plan.directory
    on_disk = tmp == "disk"
    terminals = {"destination": "/dev/pts", "type": "devpts", "source": "devpts"}
    return [
        *(read_only(f"/{each.name}", f"/{each.name}") for each in host.entries if each.target is None),
        read_only(str(private / "etc"), "/etc"),
        *(read_only(f"/etc/{name}", f"/etc/{name}") for name in etc_directories),
        {"destination": "/proc", "type": "proc", "source": "proc"},
        {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": _DEVICES},
        terminals | {"options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"]},
        memory("/dev/shm", "1777", plan.memory_mib),  # noqa: S108 - inside
        writable(private / "tmp", "/tmp") if on_disk else memory("/tmp", "1777", plan.ephemeral_mib),  # noqa: S108 - inside
        *(read_only(str(mount.source), mount.target) for mount in plan.mounts),
        writable(private / "control", CONTROL_INSIDE),
        read_only(str(host.init), INIT_INSIDE),
    ]


def prepare_root(host: Host, plan: SandboxPlan) -> None:
    """Make the directory that becomes the root inside: links, and what is to be mounted on."""
    root = plan.directory / _ROOT
    root.mkdir(mode=0o755)
    for entry in host.entries:
        if entry.target is None:
            (root / entry.name).mkdir(mode=0o755)
        else:
            (root / entry.name).symlink_to(entry.target)
    for path in (*EMPTY_DIRECTORIES, "/etc", "/proc", "/dev", "/tmp", CONTROL_INSIDE):  # noqa: S108 - inside
        (root / path[1:]).mkdir(mode=0o755, parents=True, exist_ok=True)
    (root / INIT_INSIDE[1:]).touch()


class OciDriver:
    """
    Makes isolated sandboxes by an OCI runtime; see `SandboxDriver`.

    Args:
        environments: Parent of every plan's directory.
        node: A short word, `[a-z0-9-]`, that shows in the names of cgroups.
        runtime: The runtime: a program's name or path.
        cpu: How CPU time is limited.
    """

    def __init__(
        self, environments: Path, node: str, runtime: str = "runc", *, cpu: CpuLimit = "share"
    ) -> None:
        self._sandboxes = SandboxesOfNode(environments, node, cpu)
        self._environments = environments
        self._runtime = runtime
        self._known: tuple[str, Host, Scratch, tuple[str, ...], Ways] | None = None

    def __repr__(self) -> str:
        return f"<OciDriver {self._runtime} {self._sandboxes!r}>"

    @property
    def name(self) -> Literal["oci"]:
        """See `SandboxDriver.name`."""
        return "oci"

    def _look(self) -> tuple[str, Host, Scratch, tuple[str, ...], Ways]:
        """Return runtime, host, scratch, what is missing of it, ways; takes long the first time."""
        if self._known is None:
            program = shutil.which(self._runtime, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
            if program is None:
                raise SandboxError(
                    f"the OCI runtime {self._runtime} is not installed: install it (package runc, crun or "
                    "runsc) or name another with --oci-runtime"
                )
            host = read_host()
            if host.ids is None:
                raise SandboxError(
                    "the driver `oci` needs root and the capabilities to mount and to give processes other "
                    "ids: choose the driver `bubblewrap`"
                )
            self._environments.mkdir(parents=True, exist_ok=True)
            scratch, missing = choose_scratch(host.init, self._environments, wants_disk=True)
            ways = Ways(host.init, digest_of(self._environments), is_root=True)
            self._known = (program, host, scratch, missing, ways)
        return self._known

    def _has_own_kernel(self) -> bool:
        return has_own_kernel(self._look()[0])

    def _command(self, plan: SandboxPlan, birthplace: Path | None) -> list[str]:
        program, host, scratch, _, _ = self._look()
        plan.directory.mkdir(mode=0o700)
        (plan.directory / "control").mkdir(mode=0o700)
        scratch.prepare(plan)
        prepare_root(host, plan)
        etc_directories = write_etc(plan.directory / "etc", Path("/etc"), plan.network)
        cgroup = _cgroup(plan, birthplace)
        is_own = self._has_own_kernel()
        config = configuration(host, plan, etc_directories, scratch.kind, cgroup, has_own_kernel=is_own)
        (plan.directory / "config.json").write_bytes(msgspec.json.encode(config))
        words = [*_runtime(program, plan.directory), "run", "--bundle", str(plan.directory)]
        return scratch.launched([*words, plan.name], plan)

    def check(self) -> tuple[str, ...]:
        """See `SandboxDriver.check`; makes a sandbox and lets it go."""
        *_, missing, _ = self._look()
        plan = SandboxPlan(f"check-{os.getpid()}", self._environments / f".check-{os.getpid()}", (), 128)
        meeting = Meeting(0)
        try:
            self._known_size(plan.ephemeral_mib)
            words = self._command(plan, None)
            if self._has_own_kernel():
                meeting.open(plan.directory / "control")
            config = plan.directory / "config.json"
            content = msgspec.json.decode(config.read_bytes())
            content["process"]["args"].append("--probe")
            config.write_bytes(msgspec.json.encode(content))
            done = subprocess.run(words, capture_output=True, check=False, timeout=CHECK_WAIT_S, env={})
        except (OSError, subprocess.TimeoutExpired) as error:
            raise SandboxError(f"cannot try {self._runtime}: {error}") from error
        finally:
            meeting.close()
            self._delete(plan.directory, plan.name)
            for group in _groups(plan.name):
                with contextlib.suppress(OSError):
                    group.rmdir()
            remove_tree(plan.directory)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip("\0\n ")
            raise SandboxError(f"{self._runtime} cannot make a sandbox here: {said}")
        return (*self._sandboxes.missing(), *missing)

    def _known_size(self, ephemeral_mib: int) -> None:
        self._look()[2].learn(ephemeral_mib)

    def network_problems(self) -> tuple[str, ...]:
        """See `NetworkPower.network_problems`."""
        return self._look()[4].problems()

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """See `SandboxDriver.create`."""
        if self._known is None or not self._known[2].is_known(plan.ephemeral_mib):
            await in_thread(self._known_size, plan.ephemeral_mib)
        _, host, scratch, _, ways = self._look()
        way = await ways.find(plan.network)
        habitat = Habitat(Paths(), UID, GID, is_isolated=True)
        memory_mib = scratch.memory_mib(plan)

        def prepare(group: SandboxGroup) -> list[str]:
            # A frozen runtime does not notice that the node died.
            return [str(host.init), "--leash", "--", *way.launched(self._command(plan, group.birthplace))]

        async def leave() -> None:
            await way.leave()
            await _remove_groups(plan.name)

        if not self._has_own_kernel():
            return await self._sandboxes.create(plan, watcher, habitat, Site(prepare, memory_mib, leave))
        meeting = Meeting(_port(plan))

        def prepare_meeting(group: SandboxGroup) -> list[str]:
            words = way.launched(self._command(plan, group.birthplace))
            meeting.open(plan.directory / "control")
            return surrounded(words, host.init, group, plan.network)

        async def leave_meeting() -> None:
            meeting.close()
            await leave()

        site = Site(prepare_meeting, memory_mib + _OWN_KERNEL_MIB, leave_meeting, meeting.greet)
        return await self._sandboxes.create(plan, watcher, habitat, site)

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`; the runtime forgets its containers first."""
        if self._environments.is_dir():
            for state in self._environments.glob(f"*/{_STATE}"):
                if not self._sandboxes.is_living(state.parent.name):
                    await in_thread(self._delete, state.parent, state.parent.name)
                    await _remove_groups(state.parent.name)
        swept = await self._sandboxes.sweep()
        if os.geteuid() == 0:
            await in_thread(put_back)
        return swept

    def _delete(self, directory: Path, name: str) -> None:
        """Have the runtime end and forget a container; one that it does not know is no error."""
        program = shutil.which(self._runtime, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
        if program is None or has_own_kernel(program) or not (directory / _STATE).is_dir():
            return  # what has a kernel of its own is a few processes, found by cgroup and command line
        words = [*_runtime(program, directory), "delete", "--force", name]
        subprocess.run(words, capture_output=True, check=False, timeout=DELETE_WAIT_S, env={})


def _port(plan: SandboxPlan) -> int:
    return 0 if plan.network == "host" else API_PORT


def _runtime(program: str, directory: Path) -> list[str]:
    # Cgroups are the platform's; crun can be told so (and refuses hybrid hierarchies otherwise), runc cannot.
    words = ["--cgroup-manager=disabled"] if Path(program).name.startswith("crun") else []
    if has_own_kernel(program):
        words = list(OPTIONS)
    return [program, *words, "--root", str(directory / _STATE)]


def _groups(name: str) -> set[Path]:
    """Return the groups that a runtime makes for pid 1."""
    return {hierarchy.root / f"{name}.oci" for hierarchy in find_hierarchies()}


async def _remove_groups(name: str) -> None:
    """Remove the groups that a runtime left, because it was killed itself, and who is on the way there."""
    if not await remove_groups(_groups(name), ()):
        _log.error("sandbox %s: the cgroups of its OCI runtime could not be removed", name)


def _cgroup(plan: SandboxPlan, birthplace: Path | None) -> str:
    """Return where pid 1 is to be: in its group of version 2 if there is one; else nowhere."""
    if birthplace is not None:
        roots = [each.root for each in find_hierarchies() if each.version == 2]
        above = next((root for root in roots if birthplace.is_relative_to(root)), None)
        if above is not None:
            return f"/{birthplace.relative_to(above)}"
    return f"/{plan.name}.oci"
