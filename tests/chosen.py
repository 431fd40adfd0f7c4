"""Which sandbox driver the tests use that need just any isolating one: `make test DRIVER=oci:crun`."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from remora.node.drivers import sandbox_driver
from remora.sandbox.base import SandboxError

OCI_RUNTIMES = ("runc", "crun", "runsc")


def chosen_driver() -> str:
    """Return the driver that the command line takes from the same two variables, as one word."""
    driver = os.environ.get("REMORA_DRIVER") or "bubblewrap"
    runtime = os.environ.get("REMORA_OCI_RUNTIME") or "runc"
    return f"oci:{runtime}" if driver == "oci" else driver


def monitor() -> str:
    """Return the program that watches over each pid 1 from outside."""
    return {"bubblewrap": "bwrap"}.get(chosen_driver(), chosen_driver().rpartition(":")[2])


def usable_oci_runtimes() -> list[str]:
    """Return the OCI runtimes that work here: they need root; crun refuses hybrid cgroup hierarchies."""
    return [runtime for runtime in OCI_RUNTIMES if os.geteuid() == 0 and _can_run(runtime)]


def _can_run(runtime: str) -> bool:
    with tempfile.TemporaryDirectory() as directory:
        try:
            sandbox_driver(f"oci:{runtime}", Path(directory), "test").check()
        except SandboxError:
            return False
    return True
