"""The limit on concurrent executions, where an invocation meets the end of the one before it."""

import asyncio

import pytest

from remora.pool.base import Throttled
from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import open_stage

SETTINGS = {"concurrency": 1}
IMPATIENT = SETTINGS | {"linger_s": 0.01}
FILES = {"task/bootstrap": "", "opt/extensions/a": ""}


async def echo(actor):
    await actor.serve()


def test_whoever_calls_again_at_once_is_not_throttled_by_himself(tmp_path):
    async def scenario():
        driver = ScriptedDriver({"runtime": echo})
        async with open_stage(tmp_path, driver, {"task/bootstrap": ""}, settings=SETTINGS) as it:
            for _ in range(20):
                assert (await it.invoke(b"1")).payload == b"1"

    asyncio.run(scenario())


def test_an_extension_at_work_counts(tmp_path):
    async def scenario():
        leave = asyncio.Event()

        async def busy(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            await actor.next_event()
            await leave.wait()
            await actor.follow()

        driver = ScriptedDriver({"runtime": echo, "extension:a": busy})
        async with open_stage(tmp_path, driver, FILES, settings=IMPATIENT) as it:
            await it.invoke()
            with pytest.raises(Throttled):
                await it.invoke()
            leave.set()
            assert repr(it.pool) == "<Pool 1 environments, 1 in flight>"
            assert len(driver.sandboxes) == 1

    asyncio.run(scenario())
