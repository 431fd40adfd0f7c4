"""The command by which bubblewrap makes a sandbox, and the files that it shows inside."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from remora.sandbox.host import API_PORT, CONTROL_INSIDE, EMPTY_DIRECTORIES, INIT_INSIDE
from remora.sandbox.launch import CONTROL_SOCKET
from remora.sandbox.root_files import GID, HOSTNAME, UID, write_etc

if TYPE_CHECKING:
    from remora.sandbox.base import Network, SandboxPlan
    from remora.sandbox.host import Host, HostEntry
    from remora.sandbox.root_files import IdRange
    from remora.sandbox.scratch import Kind, Scratch

EMPTY, NOTHING = "empty", "nothing"
"""A directory and a file in the directory of a sandbox, that replace what is hidden."""


def command(
    bwrap: Path,
    host: Host,
    plan: SandboxPlan,
    etc_directories: tuple[str, ...],
    tmp: Kind = "disk",
    *,
    is_owner: bool = False,
) -> list[str]:
    """
    Return the complete command that makes a sandbox.

    Args:
        bwrap: The program.
        host: This machine.
        plan: The sandbox; its directory holds `control`, `etc` and `tmp`.
        etc_directories: Directories of the host's /etc to show inside.
        tmp: What /tmp is made of.
        is_owner: True if whoever runs it is root of the user namespace that the sandbox is to have.
    """
    if is_owner:
        namespaces, identity = _namespaces_of_owner(), ["--owned"]
    else:
        namespaces = _namespaces(host.ids, plan.network)
        identity = ["--idmap", f"{host.ids.base}:{host.ids.count}"] if host.ids else []
    return [
        str(bwrap),
        *namespaces,
        *_system(host.entries, plan, etc_directories),
        *host.masks.words((plan.directory / NOTHING, plan.directory / EMPTY) if is_owner else None),
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
        *identity,
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


def _namespaces_of_owner() -> list[str]:
    """
    Return what makes namespaces for a pid 1 that leads a session of its own.

    That of users is there; one of cgroups could not be copied, for processes join groups not below its root.
    """
    words = ["--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-net"]
    words += ["--cap-drop", "ALL"]
    for capability in ("CAP_SETUID", "CAP_SETGID", "CAP_KILL", "CAP_SETPCAP"):
        words += ["--cap-add", capability]
    return [*words, "--hostname", HOSTNAME, "--as-pid-1", "--new-session", "--die-with-parent"]


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


def prepare(plan: SandboxPlan, scratch: Scratch, *, is_tmp_new: bool = True) -> tuple[str, ...]:
    """
    Make the sandbox's private directory, and what becomes its /tmp.

    Args:
        plan: The sandbox.
        scratch: What /tmp is made of.
        is_tmp_new: False if its files come from elsewhere: then only the directory is made.

    Returns:
        Directories of the host's /etc to show inside.
    """
    plan.directory.mkdir(mode=0o700)
    (plan.directory / "control").mkdir(mode=0o700)
    scratch.prepare(plan, is_new=is_tmp_new)
    return write_etc(plan.directory / "etc", Path("/etc"), plan.network)
