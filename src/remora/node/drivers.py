"""The only place that names drivers."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from remora.node.settings import NodeError
from remora.sandbox.base import SandboxError
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.criu import find_criu
from remora.sandbox.oci import OciDriver
from remora.sandbox.process import ProcessDriver
from remora.store.sqlite import SqliteStore
from remora.store.sqlite_events import SqliteEventLog

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from remora.kit.clock import Clock
    from remora.node.otlp.exporter import Exporter
    from remora.sandbox.base import SandboxDriver
    from remora.sandbox.copies import Copies
    from remora.sandbox.hierarchies import CpuLimit
    from remora.store.base import Store
    from remora.store.event_log import EventLog
    from remora.telemetry.meter import Meters

RECORDS = "remora.db"
"""The file in a data directory that makes it one."""
LOCK = "lock"
"""The file in a data directory that whoever uses it has locked."""
SANDBOX_DRIVERS = ("bubblewrap", "oci", "process")


def sandbox_driver(name: str, environments: Path, node: str, cpu: CpuLimit = "share") -> SandboxDriver:
    """
    Make the sandbox driver called `name`.

    Args:
        name: One of `SANDBOX_DRIVERS`; `oci:crun` or `oci:/a/path` names the OCI runtime, too.
        environments: Directory under which environments keep their files.
        node: Word that names the node's cgroups; the same for the same data directory.
        cpu: How CPU time is limited.

    Raises:
        NodeError: If there is no such driver.
    """
    if name == "bubblewrap":
        return BubblewrapDriver(environments, node, cpu=cpu)
    kind, _, runtime = name.partition(":")
    if kind == "oci":
        return OciDriver(environments, node, runtime or "runc", cpu=cpu)
    if name == "process":
        return ProcessDriver(environments, node, cpu=cpu)
    raise NodeError(f"there is no sandbox driver {name!r}", f"choose one of: {', '.join(SANDBOX_DRIVERS)}")


def copying_driver(driver: SandboxDriver, criu: Path) -> Copies:
    """
    Make what copies sandboxes for snapshots.

    Args:
        driver: Makes the node's other sandboxes.
        criu: Where CRIU may have been unpacked.

    Raises:
        SandboxError: If that cannot be had here; says why.
    """
    if not isinstance(driver, BubblewrapDriver):
        raise SandboxError(f"sandboxes of the driver {driver.name} cannot be copied")
    return driver.copies(find_criu(criu))


def record_store(directory: Path) -> Store:
    """Make the store that keeps records below `directory`."""
    return SqliteStore(directory)


def exporter(variables: Mapping[str, str], meters: Meters, clock: Clock) -> Exporter | None:
    """
    Make what exports to an OpenTelemetry collector; None if no variable names one.

    Args:
        variables: OpenTelemetry's environment variables.
        meters: What the node counts.
        clock: The node's clock.

    Raises:
        NodeError: If the extra is not installed, or the variables ask for what is not offered.
    """
    is_wanted = any(value for name, value in variables.items() if name.endswith("_ENDPOINT"))
    if not is_wanted or variables.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        module = importlib.import_module("remora.node.otlp.exporter")
    except ModuleNotFoundError as error:
        raise NodeError(
            f"export to OpenTelemetry needs the module {error.name}",
            "install the extra: pip install 'remora[otlp]'",
        ) from error
    made: Exporter = module.Exporter(variables, meters, clock)
    return made


def event_log(directory: Path) -> EventLog:
    """Make the log that keeps asynchronous events below `directory`."""
    return SqliteEventLog(directory)
