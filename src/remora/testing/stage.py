"""
A stage: one function in a pool, in one event loop with the test, over the sandboxes that the test chooses.

Over scripted processes everything about the APIs and the lifecycle shows in milliseconds; what only the
kernel can show (signals, exec errors, freezing, process groups) runs over real ones.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, cast

from remora.environment.base import Deployment, InvokeRequest, InvokeResult
from remora.kit.tasks import TaskSet
from remora.pool.pool import Pool
from remora.pool.settings import PoolSettings
from remora.resources.records import FunctionVersion
from remora.runtimes.layout import RuntimeLayout
from remora.telemetry.logs import LogStore
from remora.telemetry.meter import Meters
from remora.telemetry.timeline import Timelines
from remora.testing.clock import LoopClock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

    from remora.sandbox.base import SandboxDriver
    from remora.telemetry.logs import Follower
    from remora.telemetry.timeline import Mark, Timeline

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
LOG_GROUP = "/aws/lambda/f"
PROVIDED = RuntimeLayout("provided.al2023", (), ("/var/task/bootstrap", "/opt/bootstrap"))
LINGER_S = 10.0
"""An environment that is about to be done, or is being reset, is waited for even on a busy machine."""
SCENE_S = 60.0
"""A scenario that takes longer hangs."""


def function_version(**members: Any) -> FunctionVersion:
    """Return a function's record; `members` replace what is usual."""
    usual: dict[str, Any] = {
        "name": "f",
        "version": "$LATEST",
        "arn": ARN,
        "runtime": "provided.al2023",
        "handler": "h.handler",
        "role": "arn:aws:iam::000000000000:role/r",
        "timeout_s": 3,
        "memory_mib": 128,
        "ephemeral_mib": 512,
        "description": "",
        "variables": None,
        "layers": (),
        "architecture": "x86_64",
        "code_digest": "0" * 64,
        "code_size_bytes": 1,
        "code_unzipped_bytes": 1,
        "revision_id": "r",
        "last_modified": "",
        "state": "Active",
    }
    return FunctionVersion(**{**usual, **members})


class WatchedTimeline:
    """A timeline that says when it grows."""

    def __init__(self, timeline: Timeline, grown: asyncio.Event) -> None:
        self._timeline, self._grown = timeline, grown

    def __getattr__(self, name: str) -> Any:
        self._grown.set()
        return getattr(self._timeline, name)


class WatchedTimelines:
    """Timelines that say when one of them grows."""

    def __init__(self) -> None:
        self.kept = Timelines()
        self.grown = asyncio.Event()

    def open(self, *arguments: Any) -> WatchedTimeline:
        """Begin a timeline."""
        self.grown.set()
        return WatchedTimeline(self.kept.open(*arguments), self.grown)


class Stage:
    """One function, and everything that is said about it."""

    def __init__(
        self,
        pool: Pool,
        driver: Any,
        deployment: Deployment,
        logs: LogStore,
        timelines: WatchedTimelines,
        *,
        meters: Meters,
    ) -> None:
        self.pool, self.driver, self.deployment = pool, driver, deployment
        self.logs, self.timelines, self.meters = logs, timelines.kept, meters
        self._grown = timelines.grown
        self._follower: Follower = logs.follow(LOG_GROUP)

    async def invoke(self, payload: bytes = b"{}", **members: Any) -> InvokeResult:
        """Invoke the function; `members` are those of an `InvokeRequest`."""
        request = InvokeRequest(**{"payload": payload, "invoked_arn": ARN, **members})
        return await self.pool.invoke(self.deployment, request)

    async def logged(self, text: str) -> str:
        """Wait for a line of the log that contains `text`, and return it; lines before it are passed over."""
        async for line in self._follower.lines():
            if text in line.message:
                return line.message
        raise AssertionError(f"the log ended without {text!r}")

    async def log(self) -> list[str]:
        """Return all lines of the log so far."""
        return [line.message for line in await self.logs.read(LOG_GROUP)]

    async def marked(self, kind: str, name: str | None = None, number: int = 0) -> None:
        """Wait for a mark in the timeline of an environment."""
        while len(self.timelines.all()) <= number or (kind, name) not in self.marks(number):
            self._grown.clear()
            await self._grown.wait()

    def timeline(self, number: int = 0) -> list[Mark]:
        """Return the marks of an environment, by the order in which environments were made."""
        return self.timelines.all()[number].marks()

    def marks(self, number: int = 0) -> list[tuple[str, str | None]]:
        """Return kind and name of every mark of an environment."""
        return [(mark.kind, mark.name) for mark in self.timeline(number)]


def lay_out(
    directory: Path, files: Mapping[str, str | None], layout: RuntimeLayout = PROVIDED, **members: Any
) -> Deployment:
    """
    Write a function's files, and return what an environment of it is made from.

    Args:
        directory: Where `task` and `opt` are made.
        files: Text of the programs by path (`task/bootstrap`, `opt/extensions/a`); None for a file that need
            not be executed.
        layout: Its runtime.
        members: Members of the function's record that are not the usual.
    """
    task, opt = directory / "task", directory / "opt"
    for each in (task, opt):
        each.mkdir(exist_ok=True)
    for name, text in files.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text or "")
        file.chmod(0o644 if text is None else 0o755)
    return Deployment("k", function_version(**members), task, opt, layout)


@asynccontextmanager
async def open_stage(
    directory: Path,
    driver: SandboxDriver,
    files: Mapping[str, str | None],
    *,
    settings: Mapping[str, Any] | None = None,
    scene_s: float = SCENE_S,
    **members: Any,
) -> AsyncIterator[Stage]:
    """
    Set a stage up, and take it down again: the environments shut down in an orderly way.

    Args:
        directory: An empty directory for everything.
        driver: Makes sandboxes below `directory / "environments"`.
        files: As `lay_out` takes them.
        settings: Members of the pool's settings that are not the usual.
        scene_s: How long the stage may be up, seconds.
        members: Members of the function's record that are not the usual.
    """
    environments = directory / "environments"
    environments.mkdir(exist_ok=True)
    deployment = lay_out(directory, files, **members)
    logs, timelines, tasks = LogStore(directory / "logs"), WatchedTimelines(), TaskSet("stage")
    chosen = PoolSettings(environments, "us-east-1", **{"linger_s": LINGER_S, **(settings or {})})
    clock = LoopClock()
    meters = Meters(clock)
    pool = Pool(
        driver,
        chosen,
        clock=clock,
        logs=logs,
        timelines=cast("Timelines", timelines),
        tasks=tasks,
        meters=meters,
    )
    try:
        async with asyncio.timeout(scene_s):
            yield Stage(pool, driver, deployment, logs, timelines, meters=meters)
    finally:
        await pool.close(drain_s=5)
        await logs.flush()
        await tasks.close()
