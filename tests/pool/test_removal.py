import asyncio

import pytest

from remora.pool.base import PoolError
from remora.sandbox.base import SandboxError
from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import open_stage


class BrokenDriver(ScriptedDriver):
    def __init__(self, error):
        super().__init__({})
        self.error = error

    async def create(self, plan, watcher):
        raise self.error


@pytest.mark.parametrize(
    ("error", "level"),
    [(SandboxError("there is no room"), "WARNING"), (OSError("there is no room, it seems"), "ERROR")],
    ids=["as foreseen", "as not foreseen"],
)
def test_a_pool_may_close_right_after_an_environment_could_not_be_made(tmp_path, caplog, error, level):
    async def scenario():
        async with open_stage(tmp_path, BrokenDriver(error), {}) as it:
            with pytest.raises(PoolError, match="there is no room"):
                await it.invoke()
        assert repr(it.pool) == "<Pool 0 environments, 0 in flight>"

    asyncio.run(scenario())
    assert [record.levelname for record in caplog.records] == [level]
