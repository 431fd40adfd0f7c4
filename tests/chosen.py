"""Which sandbox driver the tests use that need just any isolating one: `make test DRIVER=oci:crun`."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from remora.runtimes.catalog import default_cache
from remora.sandbox.base import SandboxError
from remora.sandbox.criu import find_criu

OCI_RUNTIMES = ("runc", "crun", "runsc")
CRIU_PREFIX = default_cache().parent / "criu"
"""Where `remora prepare criu` unpacks it."""
_UNIFIED_OF_HYBRID = Path("/sys/fs/cgroup/unified")


def chosen_driver() -> str:
    """Return the driver that the command line takes from the same two variables, as one word."""
    driver = os.environ.get("REMORA_DRIVER") or "bubblewrap"
    runtime = os.environ.get("REMORA_OCI_RUNTIME") or "runc"
    return f"oci:{runtime}" if driver == "oci" else driver


def monitor() -> str:
    """Return the program that watches over each pid 1 from outside."""
    return {"bubblewrap": "bwrap"}.get(chosen_driver(), chosen_driver().rpartition(":")[2])


def usable_oci_runtimes() -> list[str]:
    """
    Return the OCI runtimes that have to work here: root's, if they are installed.

    Whether they do work is not asked, or a driver that works no more would be tested no more. Only crun is
    left out where it refuses: on hybrid cgroup hierarchies.
    """
    if os.geteuid() != 0:
        return []
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    found = [runtime for runtime in OCI_RUNTIMES if shutil.which(runtime, path=path)]
    return [each for each in found if each != "crun" or not _UNIFIED_OF_HYBRID.is_dir()]


def criu_problem() -> str:
    """
    Return why there can be no snapshots here: they are root's, and take CRIU; empty if there have to be.

    Whether it does work is not asked, as for OCI runtimes.
    """
    if os.geteuid() != 0:
        return "only root can take snapshots"
    try:
        find_criu(CRIU_PREFIX)
    except SandboxError as error:
        return str(error)
    return ""
