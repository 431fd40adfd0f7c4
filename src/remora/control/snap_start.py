"""
SnapStart: has snapshots taken of versions that were published, and taken anew when they are lost.

Source: snapstart specification, section 3.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from typing import TYPE_CHECKING, Final, Protocol

from remora.control.preparation import RETRY_S, may_pass, note
from remora.kit.alarms import Alarm
from remora.lifecycle.messages import Failure
from remora.pool.snapshots import SnapshotDelayed, SnapshotFailed
from remora.resources import functions, snapshots
from remora.spec.errors import ApiError
from remora.store.base import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.control.context import Control
    from remora.pool.base import Deployment
    from remora.pool.snapshots import SnapshotListener
    from remora.resources.records import FunctionVersion
    from remora.resources.view import Change, View

REASON: Final = "An error occurred during function initialization"
DAY_MS: Final = 24 * 3600 * 1000
REVIEW_S: Final = 3600.0
RETRY_S_MAX: Final = 60
"""Each try initialises the function, so they become rarer; from `RETRY_S` on."""
TRIES_MAX: Final = 8

_log = logging.getLogger("remora.control")


class SnapshotTaker(Protocol):
    """Who takes snapshots."""

    @property
    def are_real(self) -> bool:
        """False if environments are initialised again all the same."""

    def subscribe(self, listener: SnapshotListener) -> None:
        """Tell `listener` what becomes of them."""

    async def take(self, deployment: Deployment) -> None:
        """
        Take the snapshot of a version, and keep it.

        Raises:
            SnapshotFailed: If that fails.
            SnapshotDelayed: If it may succeed another time.
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
        self._tries: dict[tuple[str, str], int] = {}
        """How often it was tried in vain, of those that are tried again."""
        self._known_control: Control | None = None
        self._review: Alarm | None = None

    def __repr__(self) -> str:
        return f"<SnapStart taking={len(self._taking)}>"

    @property
    def _control(self) -> Control:
        assert self._known_control is not None, "nothing is to be seen to before the records are known"
        return self._known_control

    def begin(self, control: Control) -> None:
        """See to what the records say now, and from now on to every version that is published."""
        self._known_control = control
        self._taker.subscribe(self)
        self._review = Alarm(asyncio.get_running_loop(), self._retire_unused)
        self._retire_unused()
        self.look()

    def close(self) -> None:
        """See to nothing any more. Repeated calls: no effect."""
        if self._review is not None:
            self._review.close()

    def look(self, name: str = "") -> None:
        """Begin to take the snapshots that a function's versions lack, or all; returns at once."""
        for version in snapshots.untaken(self._control.state.view, name):
            key = (version.arn, version.version)
            if key not in self._taking:
                self._taking.add(key)
                self._control.spawn(self._take(version), f"take the snapshot of {version.name}")

    async def _take(self, version: FunctionVersion) -> None:
        """Take one, and note the outcome; this is a boundary: whatever goes wrong becomes the state."""
        key = (version.arn, version.version)
        try:
            await self._taker.take(await self._control.deployments.make(version))
        except SnapshotFailed as error:
            _log.warning("no snapshot of %s:%s: %s", version.name, version.version, error)
            await self._fail(version, error.failure)
        except Exception as error:  # noqa: BLE001 - the boundary
            await self._put_off(version, error)
        else:
            self._tries.pop(key, None)
            await self._succeed(version)
        finally:
            self._taking.discard(key)
        self.look(version.name)  # it may have been lost again meanwhile

    async def _succeed(self, version: FunctionVersion) -> None:
        def decide(view: View) -> tuple[bool, list[Change]]:
            changes = snapshots.taken(view, version, self._control.stamp(), is_real=self._taker.are_real)
            return bool(changes), changes

        if not await note(self._control, decide):
            await self.drop(version)

    async def _put_off(self, version: FunctionVersion, error: Exception) -> None:
        """Wait until it may be tried again, or give up (never for want of room); called while handled."""
        key = (version.arn, version.version)
        tries = self._tries[key] = self._tries.get(key, 0) + 1
        if is_full(error) or (isinstance(error, SnapshotDelayed) and tries < TRIES_MAX):
            wait_s = min(RETRY_S * 2 ** min(tries - 1, 8), RETRY_S_MAX)
            text = "no snapshot of %s:%s could be taken, it is tried again in %d s: %s"
            _log.error(text, version.name, version.version, wait_s, error)
            await asyncio.sleep(wait_s)
        else:
            _log.exception("taking the snapshot of %s:%s failed", version.name, version.version)
            await self._fail(version, Failure("InternalError", str(error)))

    async def _fail(self, version: FunctionVersion, failure: Failure) -> None:
        self._tries.pop((version.arn, version.version), None)
        code = code_of(failure)
        reason = failure.message if code == "InternalError" else REASON
        await self._note(lambda view: snapshots.not_taken(view, version, code, reason))

    def serving(self, version: FunctionVersion) -> FunctionVersion:
        """
        Say what an invocation of a version runs; one that has no snapshot gets another.

        Raises:
            ApiError: As `functions.serving`.
        """
        try:
            return functions.serving(self._control.state.view, version)
        except ApiError:
            if version.state == "Inactive":
                self._control.spawn(self._retake(version), f"take the snapshot of {version.name} again")
            raise

    async def _retake(self, version: FunctionVersion) -> None:
        await self._note(lambda view: snapshots.retake(view, version))
        self.look(version.name)

    async def drop(self, version: FunctionVersion) -> None:
        """Remove the snapshot of a version. Repeated calls: no effect."""
        self._tries.pop((version.arn, version.version), None)
        await self._taker.drop(version)

    def _retire_unused(self) -> None:
        """Let go of the snapshots that nobody has used for too long, and look again in a while."""
        assert self._review is not None, "it is looked after what has begun"
        self._review.set_in(REVIEW_S)
        for version in snapshots.unused(self._control.state.view, self._control.clock.wall_ms()):
            self._control.spawn(self._retire(version), f"retire the snapshot of {version.name}")

    async def _retire(self, version: FunctionVersion) -> None:
        def decide(view: View) -> tuple[bool, list[Change]]:
            changes = snapshots.forget(view, version, self._control.clock.wall_ms())
            return bool(changes), changes

        if await note(self._control, decide):
            await self.drop(version)

    async def _note(self, decide: Callable[[View], list[Change]]) -> None:
        await note(self._control, lambda view: (True, decide(view)))

    # --- what the pool tells (pool.snapshots.SnapshotListener) ---------------------------------------------

    def snapshot_used(self, deployment: Deployment) -> None:
        """An environment is made from a snapshot: that is kept, to the day."""
        version, now_ms = deployment.function, self._control.clock.wall_ms()
        known = self._control.state.view.versions.get(version.name, {}).get(int(version.version))
        if known is not None and now_ms - known.last_used_ms > DAY_MS:
            noting = self._note(lambda view: snapshots.used(view, version, now_ms))
            self._control.spawn(noting, f"note the use of {version.name}")

    async def snapshot_lost(self, deployment: Deployment) -> None:
        """The snapshot of a version turned out to be none: another one is taken, and the version says so."""
        version = deployment.function
        try:
            await self._control.state.change(lambda view: (None, snapshots.retake(view, version)))
        except StoreError:  # nobody is to wait for room on the disk
            self._control.spawn(self._retake(version), f"take the snapshot of {version.name} again")
        else:
            self.look(version.name)


def is_full(error: BaseException) -> bool:
    """Tell whether it is only that the disk is full for now, or was caused by that."""
    is_no_room = isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}
    cause = error.__cause__
    return is_no_room or may_pass(error) or (cause is not None and is_full(cause))


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
