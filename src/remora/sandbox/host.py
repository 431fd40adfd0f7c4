"""What sandboxes are made of on this machine, and where it lies inside: alike for all isolating drivers."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from remora.sandbox.binary import init_program
from remora.sandbox.masks import Masks, find_masks
from remora.sandbox.root_files import choose_ids

if TYPE_CHECKING:
    from remora.sandbox.root_files import IdRange

API_PORT = 9001
"""Where the APIs are found inside. Source: AWS_LAMBDA_RUNTIME_API in the Lambda service."""
HOST_DIRECTORIES = ("usr", "bin", "lib", "lib32", "lib64", "libx32", "sbin")
EMPTY_DIRECTORIES = ("/var/task", "/opt", "/var/runtime", "/var/lang", "/var/tmp", "/home", "/mnt")  # noqa: S108 - inside
CONTROL_INSIDE = "/run/remora/control"
INIT_INSIDE = "/run/remora/init"
_CAP_SETGID, _CAP_SETUID, _CAP_SYS_ADMIN = 6, 7, 21
_NEEDED = 1 << _CAP_SETGID | 1 << _CAP_SETUID | 1 << _CAP_SYS_ADMIN


@dataclass(frozen=True, slots=True)
class HostEntry:
    """One entry of the host's root directory: a directory, or a link to `target`."""

    name: str
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Host:
    """
    What a sandbox depends on besides its plan.

    Args:
        init: remora-init.
        entries: Directories of programs and libraries.
        ids: Where ids inside are mapped to, for root; None if bubblewrap makes the user namespace.
        masks: What of /proc, /usr and /etc is not to be seen.
    """

    init: Path
    entries: tuple[HostEntry, ...]
    ids: IdRange | None
    masks: Masks = field(default_factory=Masks)


def read_host() -> Host:
    """
    Look at this machine.

    Raises:
        SandboxError: If remora-init is missing.
    """
    entries = [
        HostEntry(name, str(path.readlink()) if path.is_symlink() else None)
        for name in HOST_DIRECTORIES
        if (path := Path("/", name)).is_dir()
    ]
    ids = _own_ids()
    masks = find_masks(owns_switches=ids is None)
    return Host(init_program(), tuple(entries), ids, masks)


def _own_ids() -> IdRange | None:
    if os.geteuid() != 0:
        return None
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    if effective & _NEEDED != _NEEDED:
        return None
    return choose_ids(Path("/proc/self/uid_map").read_text(), Path("/proc/self/gid_map").read_text())
