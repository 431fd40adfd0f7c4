import asyncio

import pytest

from remora.pool.base import PoolError
from remora.sandbox.base import SandboxError
from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import open_stage


class BrokenDriver(ScriptedDriver):
    async def create(self, plan, watcher):
        raise SandboxError("there is no room")


def test_a_pool_may_close_right_after_an_environment_could_not_be_made(tmp_path, caplog):
    async def scenario():
        async with open_stage(tmp_path, BrokenDriver({}), {}) as it:
            with pytest.raises(PoolError, match="there is no room"):
                await it.invoke()
        assert repr(it.pool) == "<Pool 0 environments, 0 in flight>"

    asyncio.run(scenario())
    assert caplog.text == ""
