"""
Environments and snapshots: how a snapshot is taken of one, and how others begin where it stopped.

Who copies environments is behind a protocol. Where nobody can, the snapshot is *replayed*: each environment
is initialised again and restored in place, with everything that functions and extensions see of a restore.

Source: snapstart specification, sections 1, 4 and 5.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING, Final, Protocol

from remora.kit.ids import random_hex
from remora.lifecycle.messages import Failure, Reason
from remora.pool.base import PoolError
from remora.pool.making import log_stream, new_credentials
from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from remora.environment.base import Deployment
    from remora.environment.environment import Environment
    from remora.kit.clock import Clock
    from remora.pool.making import Maker
    from remora.pool.settings import PoolSettings
    from remora.resources.records import FunctionVersion

INITS_PER_PROCESSOR: Final = 8
"""How many environments are initialised for snapshots at once."""
TIMEOUTS: Final = frozenset({"Runtime.RestoreHookUserTimeout", "Sandbox.Timedout"})
"""Error types of a restore that took too long."""


_log = logging.getLogger("remora.pool")


class SnapshotFailed(Exception):  # noqa: N818 - as in FAILED, the state of a version
    """
    No snapshot could be taken.

    Args:
        failure: Why.
    """

    def __init__(self, failure: Failure) -> None:
        super().__init__(f"{failure.error_type}: {failure.message}")
        self.failure = failure


class SnapshotDelayed(Exception):  # noqa: N818 - as SnapshotFailed
    """A snapshot could not be taken now, for want of something that there may be later."""


class SnapshotLost(SandboxError):  # noqa: N818 - as RestoreFailed
    """There is no snapshot of what is to be restored, or it is damaged: another one has to be taken."""


class RestoreFailed(PoolError):  # noqa: N818 - as the API has it
    """
    An environment could not be restored for an invocation.

    Args:
        failure: Why; None if there is no snapshot any more.
    """

    def __init__(self, failure: Failure | None) -> None:
        super().__init__("the environment could not be restored from its snapshot")
        self.failure = failure

    @property
    def is_timeout(self) -> bool:
        """True if it took too long."""
        return self.failure is not None and self.failure.error_type in TIMEOUTS


class SnapshotListener(Protocol):
    """Who hears what becomes of snapshots."""

    def snapshot_used(self, deployment: Deployment) -> None:
        """An environment is made from it."""

    async def snapshot_lost(self, deployment: Deployment) -> None:
        """There is none, or it is damaged; the invocation that found it out is answered afterwards."""


class Copying(Protocol):
    """Who copies environments that are held for their snapshot."""

    @property
    def is_real(self) -> bool:
        """True if a snapshot is kept, and environments made from it are not initialised again."""

    async def start(self, environment: Environment) -> None:
        """
        Start an environment that a snapshot is to be taken of.

        Raises:
            SandboxError: If there is no sandbox for it.
        """

    async def take(self, environment: Environment) -> None:
        """
        Take the snapshot of an environment that is held, and keep it; the environment can only end then.

        Raises:
            SandboxError: If it cannot be taken.
            OSError: If it cannot be kept.
        """

    async def restore(self, environment: Environment) -> None:
        """
        Start a new environment from the snapshot of its deployment; it is held when it has been loaded.

        Raises:
            SnapshotLost: If there is none, or it is damaged.
            SandboxError: If there is no sandbox for it.
        """

    async def drop(self, version: FunctionVersion) -> None:
        """Remove the snapshot of a version. Repeated calls: no effect."""


class Replay:
    """
    Takes no snapshots: initialises each environment again; see `Copying`.

    Args:
        maker: Makes environments.
        reason: Why nobody can, for the log.
    """

    is_real = False

    def __init__(self, maker: Maker, reason: str) -> None:
        self._maker = maker
        self._reason = reason
        self._has_warned = False

    async def start(self, environment: Environment) -> None:
        """See `Copying.start`."""
        await self._maker.start(environment)

    async def take(self, environment: Environment) -> None:  # noqa: ARG002 - the protocol's signature
        """See `Copying.take`; says once that there is none."""
        if not self._has_warned:
            self._has_warned = True
            _log.warning(
                "no snapshots are taken here, environments of versions with SnapStart are initialised: %s",
                self._reason,
            )

    async def restore(self, environment: Environment) -> None:
        """See `Copying.restore`."""
        await self._maker.start(environment)

    async def drop(self, version: FunctionVersion) -> None:
        """See `Copying.drop`."""


class Snapshots:
    """
    Takes the snapshots of a pool, and restores its environments; see `environment.snapshots.Snapshots`.

    Args:
        maker: Makes environments.
        copying: Copies them.
        settings: What the operator chose.
        clock: The node's clock.
    """

    def __init__(self, maker: Maker, copying: Copying, settings: PoolSettings, clock: Clock) -> None:
        self._maker = maker
        self._copying = copying
        self._settings = settings
        self._clock = clock
        processors = os.cpu_count() or 1
        self._turn = asyncio.Semaphore(processors)
        self._init_turn = asyncio.Semaphore(INITS_PER_PROCESSOR * processors)  # an init may only wait, too
        self._began_us: dict[str, int] = {}
        """When the loading of each environment began that is being restored."""
        self._listener: SnapshotListener | None = None
        self._failures: dict[str, Failure | None] = {}
        """Why an environment could not be restored; None: there is no snapshot."""

    def __repr__(self) -> str:
        return f"<Snapshots by {self._copying!r}>"

    def subscribe(self, listener: SnapshotListener) -> None:
        """Tell `listener` what becomes of snapshots."""
        self._listener = listener

    @property
    def are_real(self) -> bool:
        """See `Copying.is_real`."""
        return self._copying.is_real

    async def take(self, deployment: Deployment) -> None:
        """
        Initialise an environment of a deployment, and take its snapshot.

        Raises:
            SnapshotFailed: If that fails; nothing of it runs any more.
            SnapshotDelayed: If it may succeed another time.

        **Cancellation:** nothing of it runs any more.
        """
        async with self._init_turn:
            original = _Original()
            environment = self._maker.make(deployment, original, snapshots=original)
            try:
                await self._copying.start(environment)
                await original.settled.wait()
                if original.failure is not None:
                    raise SnapshotFailed(original.failure)
                async with self._turn:
                    await self._copying.take(environment)
            except SandboxError as error:
                if error.retryable:
                    raise SnapshotDelayed(str(error)) from error
                raise SnapshotFailed(Failure("InternalError", str(error))) from error
            except OSError as error:
                raise SnapshotDelayed(str(error)) from error
            finally:
                environment.stop(Reason.SPINDOWN)
                await environment.close()

    async def drop(self, version: FunctionVersion) -> None:
        """Remove the snapshot of a version. Repeated calls: no effect."""
        await self._copying.drop(version)

    async def restore(self, environment: Environment) -> None:
        """
        Start an environment from the snapshot of its deployment; its owner hears when it is available.

        Raises:
            SandboxError: If there is no sandbox for it, or no snapshot.
        """
        self._began_us[environment.identifier] = self._clock.monotonic_us()
        if self._listener is not None:
            self._listener.snapshot_used(environment.deployment)
        try:
            await self._copying.restore(environment)
        except SnapshotLost:
            self._failures[environment.identifier] = None
            if self._listener is not None:
                await self._listener.snapshot_lost(environment.deployment)
            raise
        finally:
            if self._copying.is_real:
                self._began_us.pop(environment.identifier, None)

    def take_error(self, environment: Environment) -> RestoreFailed | None:
        """Return why an environment could not be restored, once; None if it was not tried."""
        self._began_us.pop(environment.identifier, None)
        if environment.identifier not in self._failures:
            return None
        return RestoreFailed(self._failures.pop(environment.identifier))

    # --- what environments tell (environment.snapshots.Snapshots) -----------------------------------------

    def environment_held(self, environment: Environment) -> None:
        """It is where its snapshot was taken: let it go on, with a log stream and credentials of its own."""
        now_ms = self._clock.wall_ms()
        function = environment.deployment.function
        loading_us = 0
        began_us = self._began_us.pop(environment.identifier, None)
        if began_us is not None and self._copying.is_real:
            loading_us = self._clock.monotonic_us() - began_us
        environment.restore(
            log_stream(function, random_hex(32), now_ms),
            new_credentials(self._settings.sessions, function, now_ms),
            loading_us,
        )

    def environment_abandoned(self, environment: Environment, failure: Failure) -> None:
        """It failed before it could serve; its owner hears of its end."""
        self._failures[environment.identifier] = failure


class _Original:
    """Owns the environment that a snapshot is taken of."""

    def __init__(self) -> None:
        self.settled = asyncio.Event()
        """Set when it is held, or was abandoned, or has ended."""
        self.failure: Failure | None = None

    def environment_held(self, _: Environment) -> None:
        """It is ready for its snapshot."""
        self.settled.set()

    def environment_abandoned(self, _: Environment, failure: Failure) -> None:
        """It has failed."""
        self.failure = failure
        self.settled.set()

    def environment_available(self, environment: Environment) -> None:
        """Nobody restores it."""
        raise AssertionError(f"{environment!r} was restored, of which a snapshot is taken")

    def environment_closed(self, _: Environment) -> None:
        """It has ended."""
        if self.failure is None:
            self.failure = Failure("Sandbox.Failure", "the environment ended before it was initialised")
        self.settled.set()
