"""Snapshots of environments: which failures are the function's, which pass, and who waits for whom."""

import asyncio

import pytest

from remora.lifecycle.messages import Failure
from remora.pool.settings import PoolSettings
from remora.pool.snapshots import SnapshotDelayed, SnapshotFailed, Snapshots
from remora.sandbox.base import SandboxError
from remora.testing.clock import ManualClock


class FakeEnvironment:
    def __init__(self, owner):
        self.owner = owner
        self.is_closed = False

    def stop(self, _):
        pass

    async def close(self):
        self.is_closed = True


class FakeMaker:
    def __init__(self):
        self.made = []

    def make(self, _, owner, *, snapshots):
        assert snapshots is owner
        self.made.append(FakeEnvironment(owner))
        return self.made[-1]


class FakeCopying:
    """Initialises at once, but what is to wait for `gate`; `error` says how the snapshot fails."""

    is_real = True

    def __init__(self):
        self.gate = asyncio.Event()
        self.slow = 0
        self.error = None

    async def start(self, environment):
        if self.slow:
            self.slow -= 1
            await self.gate.wait()
        environment.owner.environment_held(environment)

    async def take(self, _):
        if self.error is not None:
            raise self.error


def snapshots(tmp_path):
    maker, copying = FakeMaker(), FakeCopying()
    settings = PoolSettings(directory=tmp_path, region="us-east-1")
    return Snapshots(maker, copying, settings, ManualClock()), maker, copying


@pytest.mark.parametrize(
    "error", [SandboxError("no process", retryable=True), OSError(28, "No space left on device")]
)
def test_what_may_pass_is_told_from_what_does_not(tmp_path, error):
    async def scenario():
        it, maker, copying = snapshots(tmp_path)
        copying.error = error
        with pytest.raises(SnapshotDelayed) as caught:
            await it.take(None)
        assert caught.value.__cause__ is error
        copying.error = SandboxError("a device is open")
        with pytest.raises(SnapshotFailed) as failed:
            await it.take(None)
        assert failed.value.failure == Failure("InternalError", "a device is open")
        assert all(each.is_closed for each in maker.made)

    asyncio.run(scenario())


def test_nobody_waits_for_the_slow_init_of_others(tmp_path):
    async def scenario():
        it, _, copying = snapshots(tmp_path)
        copying.slow = 6
        waiting = [asyncio.create_task(it.take(None)) for _ in range(copying.slow)]
        await asyncio.sleep(0)
        await it.take(None)
        assert not any(task.done() for task in waiting)
        copying.gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(scenario())
