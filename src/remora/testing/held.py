"""One environment that is made for a snapshot, held, restored in place and invoked: without a pool."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from remora.auth.sessions import Sessions
from remora.environment.base import InvokeRequest, InvokeResult
from remora.kit.ids import new_uuid, random_hex
from remora.lifecycle.machine import Budgets
from remora.lifecycle.messages import Failure, Reason
from remora.pool.making import Maker, log_stream, new_credentials
from remora.pool.settings import PoolSettings
from remora.telemetry.logs import LogStore
from remora.telemetry.meter import Meters
from remora.telemetry.timeline import Timelines
from remora.testing.clock import LoopClock
from remora.testing.stage import ARN, LOG_GROUP, SCENE_S, lay_out

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from remora.environment.environment import Environment
    from remora.environment.variables import Credentials
    from remora.sandbox.base import SandboxDriver


@dataclass(slots=True)
class Held:
    """
    Owns one environment, and keeps what becomes of it.

    Args:
        logs: Where it writes.
        clock: Its clock.
    """

    logs: LogStore
    clock: LoopClock
    is_held: bool = False
    is_available: bool = False
    is_closed: bool = False
    failure: Failure | None = None
    """Why it was abandoned, if it was."""
    _environment: Environment | None = None
    _streams: list[str] = field(default_factory=list)
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def environment(self) -> Environment:
        """The environment."""
        assert self._environment is not None, "there is no environment yet"
        return self._environment

    # --- what it hears (environment.Owner, environment.Snapshots) -----------------------------------------

    def environment_held(self, _: Environment) -> None:
        """Note it."""
        self.is_held = True
        self._changed.set()

    def environment_abandoned(self, _: Environment, failure: Failure) -> None:
        """Note why."""
        assert self.failure is None, "it was abandoned twice"
        self.failure = failure
        self._changed.set()

    def environment_available(self, _: Environment) -> None:
        """Note it."""
        self.is_available = True
        self._changed.set()

    def environment_closed(self, _: Environment) -> None:
        """Note it."""
        self.is_closed = True
        self._changed.set()

    # --- what it does -------------------------------------------------------------------------------------

    async def start(self, maker: Maker, environment: Environment) -> None:
        """Start the environment."""
        self._environment = environment
        self._streams.append(environment.journal.stream)
        await maker.start(environment)

    async def settled(self) -> None:
        """Wait until it is held or was abandoned."""
        while not self.is_held and self.failure is None:
            await self._change()

    async def restore(self, loading_us: int = 0) -> Credentials:
        """Restore it, and wait until it is available or was abandoned; return its new credentials."""
        now_ms = self.clock.wall_ms()
        function = self.environment.deployment.function
        credentials = new_credentials(Sessions(bytes(32)), function, now_ms)
        self._streams.append(log_stream(function, random_hex(32), now_ms))
        self.environment.restore(self._streams[-1], credentials, loading_us)
        while not self.is_available and self.failure is None:
            await self._change()
        return credentials

    async def invoke(self, payload: bytes = b"{}", **members: Any) -> InvokeResult:
        """Wait until it can take an invocation, and make it."""
        while not self.is_available:
            assert not self.is_closed, "it was closed before it could take an invocation"
            await self._change()
        self.is_available = False
        answer: asyncio.Future[InvokeResult] = asyncio.get_running_loop().create_future()
        request = InvokeRequest(**{"payload": payload, "invoked_arn": ARN, **members})
        self.environment.invoke(new_uuid(), request, answer.set_result)
        return await answer

    async def available(self) -> None:
        """Wait until its invocation is done with."""
        while not self.is_available:
            await self._change()

    async def closed(self) -> None:
        """Wait until nothing runs in it any more."""
        while not self.is_closed:
            await self._change()

    async def _change(self) -> None:
        self._changed.clear()
        await self._changed.wait()

    async def log(self) -> list[tuple[str, str]]:
        """Return all lines of the log so far, one stream after the other, each with its stream."""
        lines = await self.logs.read(LOG_GROUP)
        lines.sort(key=lambda line: self._streams.index(line.stream))
        return [(line.stream, line.message) for line in lines]

    def marks(self) -> list[tuple[str, str | None]]:
        """Return kind and name of every mark of its timeline."""
        return [(mark.kind, mark.name) for mark in self.environment.journal.timeline.marks()]


@asynccontextmanager
async def open_held(
    directory: Path,
    driver: SandboxDriver,
    files: Mapping[str, str | None],
    *,
    budgets: Budgets | None = None,
    scene_s: float = SCENE_S,
    is_awaited: bool = True,
    **members: Any,
) -> AsyncIterator[Held]:
    """
    Make an environment for a snapshot; it is stopped in the end.

    Args:
        directory: An empty directory for everything.
        driver: Makes sandboxes below `directory / "environments"`.
        files: As `lay_out` takes them, and so are `members`.
        budgets: Time limits that are not the usual.
        scene_s: How long all of it may take, seconds.
        is_awaited: True to begin when it is held, or was abandoned.
        members: `layout`, and members of the function's record.
    """
    environments = directory / "environments"
    environments.mkdir(exist_ok=True)
    clock, logs, timelines = LoopClock(), LogStore(directory / "logs"), Timelines()
    settings = PoolSettings(environments, "us-east-1", budgets=budgets or Budgets())
    maker = Maker(driver, settings, clock=clock, logs=logs, timelines=timelines, meters=Meters(clock))
    held = Held(logs, clock)
    environment = maker.make(lay_out(directory, files, **members), held, snapshots=held)
    try:
        async with asyncio.timeout(scene_s):
            await held.start(maker, environment)
            if is_awaited:
                await held.settled()
            yield held
            environment.stop(Reason.SPINDOWN)
            await held.closed()
    finally:
        await environment.close()
        await logs.flush()
