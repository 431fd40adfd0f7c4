"""
How a node that is not root comes by a part of the cgroup tree (version 2) in which it may set limits.

Two rules stand in the way. Only the user's own part of the tree may be changed, and the group of a login
session is not in it: but the user's systemd moves whoever asks into a group of their own, with every
controller that the user has. And a group with processes in it gives no controllers to the groups below: so a
process that is alone in such a group has to step aside, into a group below.

Sources: Linux, Documentation/admin-guide/cgroup-v2.rst, "No Internal Process Constraint" and "Delegation
Containment"; systemd, CGROUP_DELEGATION and org.freedesktop.systemd1(5), StartTransientUnit.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from remora.kit.ids import random_hex
from remora.sandbox.hierarchies import ASIDE

if TYPE_CHECKING:
    from collections.abc import Iterator

CALL_WAIT_S = 5.0
MOVE_WAIT_S = 2.0
_LOOK_AGAIN_S = 0.002
_OWN_GROUP = Path("/proc/self/cgroup")


@contextlib.contextmanager
def stepped_aside(base: Path) -> Iterator[None]:
    """
    Be in a group below `base` from here on, if this process is alone in `base`; after an error, be back.

    Raises:
        OSError: If it may not move.
    """
    file = base / "cgroup.procs"
    is_alone = file.read_text().split() == [str(os.getpid())]
    if not is_alone:
        yield
        return
    aside = base / ASIDE
    aside.mkdir(exist_ok=True)
    try:
        (aside / "cgroup.procs").write_text(str(os.getpid()))
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            file.write_text(str(os.getpid()))
            aside.rmdir()
        raise


def scope_call(unit: str, pid: int) -> list[str]:
    """Return the command that asks the user's systemd to move a process into a delegated scope of its own."""
    bus = "org.freedesktop.systemd1"
    place = [bus, "/org/freedesktop/systemd1", f"{bus}.Manager", "StartTransientUnit"]
    properties = ["2", "PIDs", "au", "1", str(pid), "Delegate", "b", "true"]
    return ["busctl", "--user", "--quiet", "call", *place, "ssa(sv)a(sa(sv))", unit, "fail", *properties, "0"]


def enter_own_scope() -> bool:
    """
    Have this process moved to where its user may set limits; takes some 20 ms where there is systemd.

    Returns:
        True if it was moved; False if there is nobody to ask, or the answer was no.
    """
    runtime = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}")
    if not (runtime / "bus").exists() or shutil.which("busctl") is None:
        return False
    unit = f"remora-{os.getpid()}-{random_hex(8)}.scope"
    try:
        done = subprocess.run(
            scope_call(unit, os.getpid()),
            capture_output=True,
            check=False,
            timeout=CALL_WAIT_S,
            env=os.environ | {"XDG_RUNTIME_DIR": str(runtime)},
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0 and _arrives(unit)


def _arrives(unit: str) -> bool:
    """Wait until this process is in a unit: the order was accepted, nobody tells when it is carried out."""
    end = time.monotonic() + MOVE_WAIT_S
    while not _OWN_GROUP.read_text().rstrip().endswith(unit):
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_AGAIN_S)
    return True
