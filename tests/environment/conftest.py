"""A pool over scripted processes, in one event loop with the test."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from remora.environment.base import Deployment, InvokeRequest
from remora.kit.clock import SystemClock
from remora.kit.tasks import TaskSet
from remora.pool.pool import Pool, PoolSettings
from remora.resources.records import FunctionVersion
from remora.runtimes.layout import RuntimeLayout
from remora.telemetry.logs import LogStore
from remora.telemetry.timeline import Timelines
from remora.testing.scripted import ScriptedDriver

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"


def function(**members) -> FunctionVersion:
    defaults = {
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
    return FunctionVersion(**{**defaults, **members})


class Stage:
    """One function whose processes are scripts."""

    def __init__(self, pool, driver, deployment, logs, timelines):
        self.pool, self.driver, self.deployment = pool, driver, deployment
        self.logs, self.timelines = logs, timelines

    async def invoke(self, payload: bytes = b"{}", **members):
        request = InvokeRequest(payload=payload, invoked_arn=ARN, **members)
        return await self.pool.invoke(self.deployment, request)

    async def log(self) -> list[str]:
        return [line.message for line in await self.logs.read("/aws/lambda/f")]

    def marks(self, number: int = 0):
        return [(mark.kind, mark.name) for mark in self.timelines.all()[number].marks()]


@pytest.fixture
def stage(tmp_path: Path):
    @asynccontextmanager
    async def make(scripts, *, settings=None, **members):
        task, opt = tmp_path / "task", tmp_path / "opt"
        task.mkdir()
        (task / "bootstrap").touch()
        names = [name.removeprefix("extension:") for name in scripts if name != "runtime"]
        (opt / "extensions").mkdir(parents=True)
        for name in names:
            (opt / "extensions" / name).touch()
        layout = RuntimeLayout("provided.al2023", (), ("/var/task/bootstrap", "/opt/bootstrap"))
        deployment = Deployment("k", function(**members), task, opt, layout)
        driver = ScriptedDriver(scripts)
        logs, timelines, tasks = LogStore(tmp_path / "logs"), Timelines(), TaskSet("test")
        clock = SystemClock()
        environments = tmp_path / "environments"
        environments.mkdir()
        chosen = PoolSettings(environments, "us-east-1", **(settings or {}))
        pool = Pool(driver, chosen, clock=clock, logs=logs, timelines=timelines, tasks=tasks)
        try:
            async with asyncio.timeout(30):
                yield Stage(pool, driver, deployment, logs, timelines)
        finally:
            await pool.close(drain_s=5)
            await logs.flush()
            await tasks.close()

    return make


@pytest.fixture
def run():
    def call(coroutine):
        return asyncio.run(coroutine)

    return call
