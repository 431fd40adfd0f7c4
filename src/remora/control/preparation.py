"""Makes functions ready in the background: Pending becomes Active, an update in progress Successful."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from remora.artifacts.archive import ArchiveError
from remora.resources import functions
from remora.runtimes.errors import RuntimeUnavailable
from remora.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.control.context import Control
    from remora.pool.base import Deployment
    from remora.resources.records import FunctionVersion
    from remora.resources.view import Change, View

RETRY_S: Final = 5
"""Between two tries to keep the outcome of a preparation."""

_log = logging.getLogger("remora.control")


def begin(control: Control, version: FunctionVersion) -> None:
    """Prepare a function that is Pending or whose update is in progress; returns at once."""
    control.spawn(_prepare(control, version), f"prepare {version.name}")


def resume(control: Control) -> int:
    """Begin every preparation that a former process left; return how many there are."""
    waiting = functions.unprepared(control.state.view)
    for version in waiting:
        begin(control, version)
    return len(waiting)


async def _prepare(control: Control, version: FunctionVersion) -> None:
    """Prepare and note the outcome; this is a boundary: whatever goes wrong becomes the function's state."""
    try:
        deployment = await control.deployments.make(version)
    except RuntimeUnavailable as error:
        await _fail(control, version, "InvalidRuntime", f"The runtime could not be prepared: {error}")
    except ArchiveError as error:
        await _fail(control, version, "InvalidZipFileException", str(error))
    except Exception as error:  # noqa: BLE001 - the boundary
        _log.exception("preparing %s failed", version.arn)
        await _fail(control, version, "InternalError", f"The function could not be prepared: {error}")
    else:
        await _succeed(control, version, deployment)


async def _succeed(control: Control, version: FunctionVersion, deployment: Deployment) -> None:
    stamp = control.stamp()

    def decide(view: View) -> tuple[bool, list[Change]]:
        changes = functions.prepared(view, version, deployment.runtime.version_arn, stamp)
        return bool(changes), changes

    if await note(control, decide):
        control.deployments.keep_only(version)
        if version.state != "Pending":
            control.pool.retire(version.arn, version.version)
        if control.expect is not None:
            control.expect(deployment)
        if control.snap_start is not None:
            control.snap_start.look(version.name)
    control.cleaning.request()


async def _fail(control: Control, version: FunctionVersion, code: str, reason: str) -> None:
    stamp = control.stamp()

    def decide(view: View) -> tuple[bool, list[Change]]:
        changes = functions.unpreparable(view, version, code, reason, stamp)
        return bool(changes), changes

    await note(control, decide)
    if control.snap_start is not None:
        control.snap_start.look(version.name)


def may_pass(error: BaseException) -> bool:
    """Tell whether an error, or each of a group, is only that the disk is full for now."""
    if isinstance(error, BaseExceptionGroup):
        return all(map(may_pass, error.exceptions))
    return isinstance(error, StoreError) and error.retryable


async def note(control: Control, decide: Callable[[View], tuple[bool, Sequence[Change]]]) -> bool:
    """Keep an outcome; while the disk is full nobody else would, so it is tried again until there is room."""
    while True:
        try:
            return await control.state.change(decide)
        except StoreError as error:
            if not error.retryable:
                raise
            _log.error("%s; trying again in %d s", error, RETRY_S)
            await asyncio.sleep(RETRY_S)
