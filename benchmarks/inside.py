"""
Remora's runtime side alone: pool, environment, isolated processes, but no HTTP in front and no Lambda API.

`python benchmarks/inside.py DIRECTORY TASK [OPT]`: says {} when it is ready, then answers questions on
standard input until that ends: {"count": …, "gap_s": …} with {"samples": […], "rate": …} of warm invocations,
{"cold": true} with {"first_ms": …, "events": […]} of an environment that was made for it and is gone again,
{"cold": true, "spare": true} with the same of one whose sandbox was there already, as after a deployment.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import asynccontextmanager
from pathlib import Path

import uvloop
from children import questions, say
from workload import EVENT, HANDLER, MEMORY_MIB, REGION, RUNTIME

from remora.kit.clock import SystemClock
from remora.kit.tasks import TaskSet
from remora.node.drivers import sandbox_driver
from remora.pool.base import Deployment, InvokeRequest
from remora.pool.making import sandbox_plan
from remora.pool.memory import memory_left
from remora.pool.pool import Pool
from remora.pool.settings import PoolSettings
from remora.resources.records import FunctionVersion
from remora.runtimes.catalog import Runtimes, default_cache
from remora.sandbox.warm import WarmDriver
from remora.telemetry.logs import LogStore
from remora.telemetry.timeline import Timelines

_ACCOUNT = "000000000000"
_ARN = f"arn:aws:lambda:{REGION}:{_ACCOUNT}:function:bench"


async def _deployment(task, opt):
    function = FunctionVersion(
        name="bench",
        version="$LATEST",
        arn=_ARN,
        runtime=RUNTIME,
        handler=HANDLER,
        role=f"arn:aws:iam::{_ACCOUNT}:role/bench",
        timeout_s=30,
        memory_mib=MEMORY_MIB,
        ephemeral_mib=512,
        description="",
        variables=None,
        layers=(),
        architecture="x86_64",
        code_digest="",
        code_size_bytes=0,
        code_unzipped_bytes=0,
        revision_id="",
        last_modified="",
        state="Active",
    )
    layout = await Runtimes(default_cache(), REGION).prepare(RUNTIME)
    return Deployment("bench", function, task, opt, layout)


@asynccontextmanager
async def _pool(directory, timelines):
    environments = directory / "environments"
    environments.mkdir(parents=True)
    tasks = TaskSet("benchmark")
    logs = LogStore(directory / "logs")
    driver = sandbox_driver("bubblewrap", environments, directory.name)
    driver.check()
    settings = PoolSettings(environments, REGION)
    warm = WarmDriver(driver, environments, SystemClock(), spares_max=1, memory_left=memory_left)
    pools = [
        Pool(each, settings, clock=SystemClock(), logs=logs, timelines=timelines, tasks=tasks)
        for each in (driver, warm)
    ]
    try:
        yield pools, settings, warm, tasks
    finally:
        for pool in pools:
            await pool.close(drain_s=5.0)
        await warm.close()
        await tasks.close()
        await logs.flush()


async def _measure(pool, deployment, count, gap_s):
    samples = []
    clock = time.perf_counter_ns
    request = InvokeRequest(payload=EVENT, invoked_arn=_ARN)
    began = clock()
    for number in range(count):
        if gap_s and number:
            await asyncio.sleep(gap_s)
        started = clock()
        await pool.invoke(deployment, request)
        samples.append(clock() - started)
    return {"samples": samples, "rate": count * 1e9 / (clock() - began)}


async def _cold(pool, deployment, timelines, tasks):
    started = time.perf_counter_ns()
    result = await pool.invoke(deployment, InvokeRequest(payload=EVENT, invoked_arn=_ARN))
    first_ms = (time.perf_counter_ns() - started) / 1e6
    if result.function_error is not None:
        raise RuntimeError(result.payload)
    marks = timelines.all()[-1].marks()
    pool.retire(_ARN)
    while pool.environments():
        await asyncio.sleep(0.005)
        pool.retire(_ARN)
        await tasks.join()
    events = [[mark.kind, mark.name, mark.at_us] for mark in marks]
    return {"first_ms": first_ms, "events": events}


async def _main(directory, task, opt):
    stopping = asyncio.current_task()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopping.cancel)
    timelines = Timelines()
    deployment = await _deployment(task, opt)
    async with _pool(directory, timelines) as ((pool, spared), settings, warm, tasks):
        say({})
        async for question in questions():
            if question.get("spare"):
                warm.expect(sandbox_plan(deployment, settings, "expected"), _ARN)
                while not warm.spares:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.005)
                say(await _cold(spared, deployment, timelines, tasks))
            elif question.get("cold"):
                say(await _cold(pool, deployment, timelines, tasks))
            else:
                say(await _measure(pool, deployment, **question))


if __name__ == "__main__":
    paths = [Path(word) for word in sys.argv[1:]]
    uvloop.run(_main(paths[0], paths[1], paths[2] if len(paths) > 2 else None))
