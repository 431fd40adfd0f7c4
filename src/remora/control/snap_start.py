"""
SnapStart: has snapshots taken of versions that were published, and taken anew when they are lost.

Source: snapstart specification, section 3.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Protocol

from remora.control.preparation import note
from remora.pool.snapshots import SnapshotFailed
from remora.resources import functions, snapshots
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.control.context import Control
    from remora.lifecycle.messages import Failure
    from remora.pool.base import Deployment
    from remora.resources.records import FunctionVersion
    from remora.resources.view import Change, View

REASON: Final = "An error occurred during function initialization"
DAY_MS: Final = 24 * 3600 * 1000

_log = logging.getLogger("remora.control")


class SnapshotTaker(Protocol):
    """Who takes snapshots."""

    @property
    def are_real(self) -> bool:
        """False if environments are initialised again all the same."""

    async def take(self, deployment: Deployment) -> None:
        """
        Take the snapshot of a version, and keep it.

        Raises:
            SnapshotFailed: If that fails.
            StoreError: If it cannot be kept.
        """

    async def drop(self, version: FunctionVersion) -> None:
        """Remove the snapshot of a version. Repeated calls: no effect."""


class SnapStart:
    """
    Sees to the snapshots of a node's versions.

    Args:
        taker: Takes them.
    """

    def __init__(self, taker: SnapshotTaker) -> None:
        self._taker = taker
        self._taking: set[tuple[str, str]] = set()

    def __repr__(self) -> str:
        return f"<SnapStart taking={len(self._taking)}>"

    def look(self, control: Control, name: str = "") -> None:
        """Begin to take the snapshots that are missing of a function's versions; returns at once."""
        for version in snapshots.untaken(control.state.view, name):
            key = (version.arn, version.version)
            if key not in self._taking:
                self._taking.add(key)
                control.spawn(self._take(control, version), f"take the snapshot of {version.name}")

    async def _take(self, control: Control, version: FunctionVersion) -> None:
        """Take one, and note the outcome; this is a boundary: whatever goes wrong becomes the state."""
        try:
            await self._taker.take(await control.deployments.make(version))
        except SnapshotFailed as error:
            _log.warning("no snapshot of %s:%s: %s", version.name, version.version, error)
            await self._fail(control, version, code_of(error.failure))
        except Exception:  # noqa: BLE001 - the boundary
            _log.exception("taking the snapshot of %s:%s failed", version.name, version.version)
            await self._fail(control, version, "InternalError")
        else:
            await self._succeed(control, version)
        finally:
            self._taking.discard((version.arn, version.version))

    async def _succeed(self, control: Control, version: FunctionVersion) -> None:
        def decide(view: View) -> tuple[bool, list[Change]]:
            changes = snapshots.taken(view, version, control.stamp(), is_real=self._taker.are_real)
            return bool(changes), changes

        if not await note(control, decide):
            await self.drop(version)

    async def _fail(self, control: Control, version: FunctionVersion, code: str) -> None:
        def decide(view: View) -> tuple[bool, list[Change]]:
            changes = snapshots.not_taken(view, version, code, REASON)
            return bool(changes), changes

        await note(control, decide)

    def serving(self, control: Control, version: FunctionVersion) -> FunctionVersion:
        """
        Say what an invocation of a version runs; one that has no snapshot gets another.

        Raises:
            ApiError: As `functions.serving`.
        """
        try:
            return functions.serving(control.state.view, version)
        except ApiError:
            if version.state == "Inactive":
                self._change(control, version, lambda view: snapshots.retake(view, version))
            raise

    def lost(self, control: Control, deployment: Deployment) -> None:
        """The snapshot of a version turned out to be none: another one is taken."""
        version = deployment.function
        self._change(control, version, lambda view: snapshots.retake(view, version))

    def used(self, control: Control, deployment: Deployment) -> None:
        """An environment is made from a snapshot: that is kept, to the day."""
        version, now_ms = deployment.function, control.clock.wall_ms()
        known = control.state.view.versions.get(version.name, {}).get(int(version.version))
        if known is not None and now_ms - known.last_used_ms > DAY_MS:
            self._change(control, version, lambda view: snapshots.used(view, version, now_ms))

    def retire_unused(self, control: Control) -> None:
        """Let go of the snapshots that nobody has used for too long."""
        for version in snapshots.unused(control.state.view, control.clock.wall_ms()):
            control.spawn(self._retire(control, version), f"retire the snapshot of {version.name}")

    async def _retire(self, control: Control, version: FunctionVersion) -> None:
        await note(control, lambda view: (True, snapshots.forget(view, version)))
        await self.drop(version)

    async def drop(self, version: FunctionVersion) -> None:
        """Remove the snapshot of a version. Repeated calls: no effect."""
        await self._taker.drop(version)

    def _change(
        self, control: Control, version: FunctionVersion, decide: Callable[[View], list[Change]]
    ) -> None:
        async def change() -> None:
            await note(control, lambda view: (True, decide(view)))
            self.look(control, version.name)

        control.spawn(change(), f"note the snapshot of {version.name}")


def code_of(failure: Failure) -> str:
    """Return the model's StateReasonCode for why a snapshot could not be taken."""
    error_type = failure.error_type
    if error_type == "InternalError":
        return error_type
    if error_type == "Sandbox.Timedout":
        return "FunctionError.InitTimeout"
    if error_type.startswith("Extension."):
        return "FunctionError.ExtensionInitError"
    return "FunctionError.RuntimeInitError"
