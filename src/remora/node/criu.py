"""CRIU on this machine: where it is, whether it works, and how to have it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from remora.node.drivers import copying_driver, sandbox_driver
from remora.node.settings import NodeError
from remora.runtimes.catalog import default_cache
from remora.sandbox.base import SandboxError, SandboxPlan
from remora.sandbox.criu import find_criu
from remora.sandbox.criu_package import fetch_criu
from remora.sandbox.restoration import Belongings
from remora.sandbox.spares import Relay

if TYPE_CHECKING:
    from pathlib import Path

    from remora.sandbox.copies import Copies


def criu_directory() -> Path:
    """Return where `remora prepare criu` puts the program."""
    return default_cache().parent / "criu"


def prepare_criu() -> str:
    """
    Make sure that there is a CRIU that works; return its version.

    Raises:
        NodeError: If there is none, and none can be had.
    """
    if os.geteuid() != 0:
        raise NodeError("snapshots can be taken by root only")
    try:
        fetch_criu(criu_directory())
        return ".".join(map(str, find_criu(criu_directory()).version))
    except SandboxError as error:
        raise NodeError(str(error)) from error


def snapshot_problem(directory: Path) -> str:
    """Take a snapshot of a sandbox below `directory`, and copy it; return why that fails, or nothing."""
    try:
        copies = copying_driver(sandbox_driver("bubblewrap", directory, "doctor"), criu_directory())
    except SandboxError as error:
        return str(error)
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (copies.directory / "try").mkdir()
        asyncio.run(_try(copies, directory))
    except SandboxError as error:
        return str(error)
    finally:
        copies.close()
    return ""


async def _try(copies: Copies, directory: Path) -> None:
    watcher = Relay(lambda: None)
    original = await copies.create(SandboxPlan("original", directory / "original", (), 128), watcher)
    try:
        image = await copies.dump(original, "try")
    finally:
        await original.close()
    plan = SandboxPlan("copy", directory / "copy", (), 128)
    copy = await copies.copy(plan, watcher, image, Belongings("try", {}, []))
    await copy.sandbox.close()
