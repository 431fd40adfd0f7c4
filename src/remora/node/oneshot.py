"""One function with its layers, run a few times without a node: what `remora run` does."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.artifacts.archive import ArchiveError, unpack
from remora.artifacts.layers import merge
from remora.kit.clock import SystemClock
from remora.kit.tasks import TaskSet
from remora.node.drivers import sandbox_driver
from remora.node.networks import choose_network
from remora.node.settings import NodeError
from remora.node.temporary import sweep_dead, temporary_data
from remora.pool.base import Deployment, InvokeRequest, InvokeResult, PoolError
from remora.pool.pool import Pool
from remora.pool.settings import PoolSettings
from remora.resources.records import FunctionVersion
from remora.runtimes.catalog import Runtimes, default_cache
from remora.runtimes.errors import RuntimeUnavailable
from remora.sandbox.base import SandboxError
from remora.sandbox.launch import uncancelled
from remora.spec.limits import LAYERS_PER_FUNCTION_MAX
from remora.telemetry.logs import LogStore
from remora.telemetry.meter import Meters
from remora.telemetry.timeline import Timelines
from remora.telemetry.usage import described

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from remora.sandbox.base import Network
    from remora.sandbox.hierarchies import CpuLimit
    from remora.telemetry.logs import Follower

REGION = "us-east-1"
ACCOUNT = "000000000000"


class RunError(Exception):
    """
    A run could not be made.

    Args:
        message: What was attempted, on what.
        hint: What to do.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


@dataclass(frozen=True, slots=True)
class RunRequest:
    """
    What to run.

    Args:
        directory: The function's directory; seen as /var/task.
        handler: As in Lambda.
        runtime: Identifier, `python3.12`.
        layers: Directories or zips, merged into /opt in this order.
        payload: The event.
        repeat: How often, in turn.
        timeout_s: Function timeout.
        memory_mib: Memory size.
        variables: The function's environment variables.
        driver: Sandbox driver.
        network: What the processes can reach; None: `nat` if this machine can, else `none`.
        cpu: How CPU time is limited.
    """

    directory: Path
    handler: str
    runtime: str
    layers: tuple[Path, ...]
    payload: bytes
    repeat: int
    timeout_s: int
    memory_mib: int
    variables: dict[str, str]
    driver: str
    network: Network | None
    cpu: CpuLimit = "share"


@dataclass(frozen=True, slots=True)
class RunReport:
    """
    What came of it.

    Args:
        results: The answers, in order.
        timeline: That of the environment.
        invocations: What each invocation took and costs, as JSON objects, in order.
    """

    results: list[InvokeResult]
    timeline: dict[str, object]
    invocations: list[dict[str, object]]


async def run_once(request: RunRequest, on_log: Callable[[str], None]) -> RunReport:
    """
    Run a function in an environment of its own, shutdown included.

    Args:
        request: What to run.
        on_log: Called with every line of the log as it is written.

    Raises:
        RunError: If it could not be run at all; what the function does wrong is a result.

    **Cancellation:** the environment is shut down; nothing is left behind.
    """
    try:
        await sweep_dead()
        with temporary_data() as work:
            deployment = await _deployment(request, work)
            return await _run(request, deployment, work, on_log)
    except (NodeError, PoolError, RuntimeUnavailable, SandboxError) as error:
        hint = getattr(error, "hint", "")
        raise RunError(f"{request.directory} could not be run: {error}", hint) from error


async def _run(
    request: RunRequest, deployment: Deployment, work: Path, on_log: Callable[[str], None]
) -> RunReport:
    environments = work / "environments"
    environments.mkdir()
    driver = sandbox_driver(request.driver, environments, work.name, request.cpu)
    missing = driver.check()
    network, _ = choose_network(driver, request.network)
    for text in missing if request.driver == "process" else ():
        on_log(f"WARNING {text}")
    timelines, logs = Timelines(), LogStore(work / "logs")
    follower = logs.follow("/aws/lambda/" + deployment.function.name)
    settings = PoolSettings(environments, REGION, network=network, linger_s=request.timeout_s)
    tasks = TaskSet("run")
    meters = Meters(SystemClock(), last_max=request.repeat)
    pool = Pool(
        driver, settings, clock=SystemClock(), logs=logs, timelines=timelines, tasks=tasks, meters=meters
    )
    invoke = InvokeRequest(payload=request.payload, invoked_arn=deployment.function.arn)
    async with _reading(follower, on_log):
        drain_s = 0.0
        try:
            results = [await pool.invoke(deployment, invoke) for _ in range(request.repeat)]
            drain_s = request.timeout_s
        finally:
            # In a task of its own: before Python 3.11.3, time limits do not work in one that was cancelled.
            ending = TaskSet("end of the run")
            await uncancelled(ending.spawn(_end(pool, tasks, logs, drain_s), "end"))
    function = deployment.function
    last = meters.usage.of(function.name, function.version).last
    return RunReport(results, timelines.all()[0].to_json(), [described(each) for each in last])


async def _end(pool: Pool, tasks: TaskSet, logs: LogStore, drain_s: float) -> None:
    await pool.close(drain_s=drain_s)
    await tasks.close()
    await logs.flush()


@asynccontextmanager
async def _reading(follower: Follower, on_log: Callable[[str], None]) -> AsyncIterator[None]:
    """Hand lines over as they come, and the rest of them at the end."""

    async def read() -> None:
        async for line in follower.lines():
            on_log(line.message)

    try:
        async with asyncio.TaskGroup() as group:
            reader = group.create_task(read(), name="read the log")
            try:
                yield
            finally:
                reader.cancel()
    finally:
        for line in follower.take():
            on_log(line.message)


async def _deployment(request: RunRequest, work: Path) -> Deployment:
    runtimes = Runtimes(default_cache(), REGION)
    layout = await runtimes.prepare(request.runtime)
    name = request.directory.name or "function"
    function = FunctionVersion(
        name=name,
        version="$LATEST",
        arn=f"arn:aws:lambda:{REGION}:{ACCOUNT}:function:{name}",
        runtime=request.runtime,
        handler=request.handler,
        role=f"arn:aws:iam::{ACCOUNT}:role/run",
        timeout_s=request.timeout_s,
        memory_mib=request.memory_mib,
        ephemeral_mib=512,
        description="",
        variables=request.variables or None,
        layers=(),
        architecture="x86_64",
        code_digest="",
        code_size_bytes=0,
        code_unzipped_bytes=0,
        revision_id="",
        last_modified="",
        state="Active",
    )
    opt = await asyncio.to_thread(_opt, request.layers, work)
    return Deployment("run", function, request.directory, opt, layout)


def _opt(layers: tuple[Path, ...], work: Path) -> Path | None:
    """Make /opt from layers; one directory alone is taken as it is."""
    if len(layers) > LAYERS_PER_FUNCTION_MAX:
        raise RunError(
            f"{len(layers)} layers were given",
            f"Lambda takes {LAYERS_PER_FUNCTION_MAX} at most: merge some of them",
        )
    trees = []
    for number, layer in enumerate(layers):
        if layer.is_dir():
            trees.append(layer)
            continue
        tree = work / f"layer-{number}"
        try:
            unpack(layer, tree)
        except ArchiveError as error:
            raise RunError(f"{layer} is no layer: {error}", "give a directory or a zip file") from error
        trees.append(tree)
    if not trees:
        return None
    if len(trees) == 1:
        return trees[0]
    merged = work / "opt"
    try:
        merge(trees, merged)
    except OSError as error:
        raise RunError(f"the layers could not be merged: {error}", "are they readable?") from error
    return merged
