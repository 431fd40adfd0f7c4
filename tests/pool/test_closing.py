"""What a pool that closes does to invocations that do not end in time."""

import asyncio

import pytest

from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import open_stage


async def never_done(actor):
    await actor.next()
    await asyncio.Event().wait()


@pytest.mark.parametrize("count", [1, 3])
def test_an_invocation_that_is_broken_off_leaves_once(tmp_path, caplog, count):
    async def scenario():
        driver = ScriptedDriver({"runtime": never_done})
        async with open_stage(tmp_path, driver, {"task/bootstrap": ""}) as it:
            invocations = [asyncio.ensure_future(it.invoke()) for _ in range(count)]
            for number in range(count):
                await it.marked("invoke.started", number=number)
            await it.pool.close(drain_s=0)
            answers = await asyncio.gather(*invocations)
            assert [answer.function_error for answer in answers] == ["Unhandled"] * count
            assert repr(it.pool) == "<Pool 0 environments, 0 in flight>"

    asyncio.run(scenario())
    assert caplog.text == ""
