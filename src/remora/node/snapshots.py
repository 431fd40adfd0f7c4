"""How a node takes snapshots: really, where this machine can; else environments are initialised again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remora.auth.vault import Vault
from remora.kit.threads import in_thread
from remora.node.criu import criu_directory
from remora.node.drivers import copying_driver
from remora.pool.copying import Copying
from remora.sandbox.base import SandboxError
from remora.snapshots.store import SnapshotStore

if TYPE_CHECKING:
    from contextlib import AsyncExitStack
    from pathlib import Path

    from remora.pool.settings import PoolSettings
    from remora.sandbox.base import SandboxDriver

DIRECTORY: Final = "snapshots"
"""In the data directory."""
KEY: Final = "snapshots.key"
"""The file, beside the records, with the key that snapshots are sealed with."""
OPEN_BYTES_MAX: Final = 1 << 30
"""How much memory snapshots may take that are not in use."""
_PURPOSE: Final = b"snapshots"


async def open_copying(
    driver: SandboxDriver, data: Path, settings: PoolSettings, stack: AsyncExitStack
) -> tuple[Copying | None, str]:
    """
    Make what takes snapshots.

    Args:
        driver: Makes the node's sandboxes.
        data: The node's data directory.
        settings: What the operator chose.
        stack: Where it is closed.

    Returns:
        None if there can be none here, and why.

    Raises:
        OSError: If the data directory cannot be written.
        VaultError: If the key is damaged.
    """
    if "host" in {settings.network, *(policy for _, policy in settings.networks)}:
        return None, "environments with the network of the host cannot be copied"
    try:
        copies = await in_thread(copying_driver, driver, criu_directory())
    except SandboxError as error:
        return None, str(error)
    stack.callback(copies.close)
    key = await in_thread(Vault(data / KEY).key_for, _PURPOSE)
    store = SnapshotStore(data / DIRECTORY, copies.directory, key, open_bytes_max=OPEN_BYTES_MAX)
    return Copying(copies, store, copies.directory, settings), ""
