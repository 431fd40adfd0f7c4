"""Spare sandboxes: made for those who come again, given away only where they fit, and never left behind."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager
from dataclasses import replace

import pytest
import uvloop

from remora.kit.clock import SystemClock
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.process import ProcessDriver
from remora.sandbox.warm import WarmDriver
from remora.testing.contracts.sandbox import PATIENCE_S, Bench, Living, Recorder, processes_with

DRIVERS = {"bubblewrap": BubblewrapDriver, "process": ProcessDriver}


@pytest.fixture(params=DRIVERS)
def bench(request, tmp_path):
    for name in ("environments", "task"):
        (tmp_path / name).mkdir()
    inner = DRIVERS[request.param](tmp_path / "environments", "warm")
    driver = WarmDriver(
        inner, tmp_path / "environments", SystemClock(), spares_max=1, memory_left=lambda: 1 << 40
    )
    return Bench(driver, tmp_path / "environments", tmp_path / "task")


async def spares(driver, count):
    """Wait until so many are ready."""
    async with asyncio.timeout(PATIENCE_S):
        while f"spares={count} making=0" not in repr(driver):  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(0.01)


@asynccontextmanager
async def made(bench, *plans):
    """Make sandboxes; whatever was made is gone at the end, spares too."""
    living = []
    try:
        for plan in plans:
            watcher = Recorder()
            living.append(Living(await bench.driver.create(plan, watcher), watcher))
        yield living
    finally:
        for each in living:
            await each.sandbox.close()
        await bench.driver.close()
    assert not processes_with(str(bench.environments))
    assert not list(bench.environments.iterdir())


def test_who_comes_a_third_time_gets_one_that_is_ready(bench):
    async def main():
        async with made(bench, bench.plan(), bench.plan()) as living:
            await spares(bench.driver, 1)
            third, watcher = bench.plan(), Recorder()
            living.append(Living(await bench.driver.create(third, watcher), watcher))
            assert not third.directory.exists(), "it was made under another name"
            assert (await living[-1].run(("/bin/sh", "-c", "exit 4")))[0].code == 4
            living[-1].sandbox.kill_all()
            await watcher.until("emptied")
            await spares(bench.driver, 1)

    uvloop.run(main())


def test_one_that_would_be_different_is_made_anew(bench):
    async def main():
        async with made(bench, bench.plan(), bench.plan()) as living:
            await spares(bench.driver, 1)
            # Given another size, and a directory of the same name that is another one
            larger = replace(bench.plan(), memory_mib=1024)
            bench.task.rename(bench.task.with_name("former"))
            bench.task.mkdir()
            (bench.task / "new").touch()
            for plan in (larger, bench.plan()):
                watcher = Recorder()
                living.append(Living(await bench.driver.create(plan, watcher), watcher))
                assert plan.directory.exists()
            task = living[-1].sandbox.paths.task
            assert (await living[-1].run(("/bin/sh", "-c", f"test -e {task}/new")))[0].code == 0

    uvloop.run(main())


def test_a_spare_whose_pid_1_has_ended_is_given_to_nobody(bench):
    async def main():
        async with made(bench, bench.plan(), bench.plan()) as living:
            await spares(bench.driver, 1)
            ((spare,),) = bench.driver._spares.values()
            os.kill(spare.sandbox._init.pid, signal.SIGKILL)
            async with asyncio.timeout(PATIENCE_S):
                while not spare.relay.is_lost:  # noqa: ASYNC110 - it tells nobody
                    await asyncio.sleep(0.001)
            plan, watcher = bench.plan(), Recorder()
            living.append(Living(await bench.driver.create(plan, watcher), watcher))
            assert plan.directory.exists()
            assert (await living[-1].run(("/bin/sh", "-c", "exit 5")))[0].code == 5

    uvloop.run(main())


def test_who_is_expected_gets_one_that_is_ready(bench):
    async def main():
        async with made(bench) as living:
            plan, watcher = bench.plan(), Recorder()
            bench.driver.expect(bench.plan(), "f")
            await spares(bench.driver, 1)
            living.append(Living(await bench.driver.create(plan, watcher), watcher))
            assert not plan.directory.exists(), "it was made under another name"
            assert (await living[-1].run(("/bin/sh", "-c", "exit 6")))[0].code == 6

    uvloop.run(main())


def test_nothing_is_made_after_the_end(bench):
    async def main():
        async with made(bench, bench.plan(), bench.plan()):
            assert "spares=0 making=0" in repr(bench.driver)
            bench.driver.expect(bench.plan(), "f")
        bench.driver.expect(bench.plan(), "f")
        assert "spares=0 making=0" in repr(bench.driver)

    uvloop.run(main())
