"""The only place that names drivers."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.node.settings import NodeError
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.process import ProcessDriver
from remora.store.sqlite import SqliteStore

if TYPE_CHECKING:
    from pathlib import Path

    from remora.sandbox.base import SandboxDriver
    from remora.store.base import Store

SANDBOX_DRIVERS = ("bubblewrap", "process")


def sandbox_driver(name: str, environments: Path, node: str) -> SandboxDriver:
    """
    Make the sandbox driver called `name`.

    Args:
        name: One of `SANDBOX_DRIVERS`.
        environments: Directory under which environments keep their files.
        node: Word that names the node's cgroups; the same for the same data directory.

    Raises:
        NodeError: If there is no such driver.
    """
    if name == "bubblewrap":
        return BubblewrapDriver(environments, node)
    if name == "process":
        return ProcessDriver(environments, node)
    raise NodeError(f"there is no sandbox driver {name!r}", f"choose one of: {', '.join(SANDBOX_DRIVERS)}")


def record_store(directory: Path) -> Store:
    """Make the store that keeps records below `directory`."""
    return SqliteStore(directory)
