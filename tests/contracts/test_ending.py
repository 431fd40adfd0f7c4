"""Many sandboxes that end at once: killed at once, waited for in turn; and waits that look once more."""

import asyncio
import os
import signal
import time

import pytest
import uvloop

from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.process import ProcessDriver
from remora.sandbox.waiting import readable
from remora.testing.contracts.sandbox import PATIENCE_S, Bench, Living, Recorder, processes_with

DRIVERS = {"bubblewrap": BubblewrapDriver, "process": ProcessDriver}


@pytest.mark.slow
@pytest.mark.parametrize("kind", DRIVERS)
def test_who_waits_for_the_turn_to_end_is_killed_already(tmp_path, kind):
    async def main():
        driver = DRIVERS[kind](tmp_path / "environments", "ending")
        bench = Bench(driver, tmp_path / "environments", tmp_path / "task")
        # Given living sandboxes, and nobody's turn
        living = []
        for _ in range(3):
            watcher = Recorder()
            living.append(Living(await driver.create(bench.plan(), watcher), watcher))
            os.close(living[-1].begin("sleeper", ("/bin/sleep", "1000")))
        driver._sandboxes._turn._value = 0
        # When they are closed
        closing = [asyncio.ensure_future(each.sandbox.close()) for each in living]
        # Then what runs in them is killed, and reported as it was
        for each in living:
            assert (await each.watcher.until("exited", "sleeper"))[2].signal == signal.SIGKILL
        assert not any(task.done() for task in closing)
        assert len(list(bench.environments.iterdir())) == 3
        # And all is gone as soon as it is their turn, one by one
        driver._sandboxes._turn.release()
        async with asyncio.timeout(PATIENCE_S):
            await asyncio.gather(*closing)
        assert not list(bench.environments.iterdir())
        assert not processes_with(str(bench.environments))
        assert driver._sandboxes._turn._value == 1

    for name in ("environments", "task"):
        (tmp_path / name).mkdir()
    uvloop.run(main())


def test_a_wait_that_a_busy_loop_has_overslept_has_not_been_in_vain():
    async def main():
        reader, writer = os.pipe()

        def be_busy():
            os.write(writer, b"x")
            time.sleep(0.05)

        asyncio.get_running_loop().call_later(0.01, be_busy)
        assert await readable(reader, within_s=0.03)
        os.read(reader, 1)
        assert not await readable(reader, within_s=0.01)
        for descriptor in (reader, writer):
            os.close(descriptor)

    uvloop.run(main())
