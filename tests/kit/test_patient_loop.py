"""The loop in which scripted processes run: a pause of the machine is no time, a wait is."""

import asyncio
import time

import pytest

from remora.testing.clock import LoopClock

LIMIT_S = 0.03


def test_a_pause_of_the_machine_uses_up_no_limit(run):
    async def scenario():
        clock = LoopClock()
        before_us = clock.monotonic_us()
        async with asyncio.timeout(LIMIT_S):
            time.sleep(2 * LIMIT_S)  # noqa: ASYNC251 - the machine is away
            await asyncio.sleep(0)
        assert clock.monotonic_us() - before_us < LIMIT_S * 1e6

    run(scenario())


def test_a_pause_while_the_loop_waits_lasts_no_longer_than_was_waited_for(run):
    async def scenario():
        loop = asyncio.get_running_loop()
        before_s = loop.time()
        loop.call_later(LIMIT_S, time.sleep, 2 * LIMIT_S)
        await asyncio.sleep(2 * LIMIT_S)
        assert 2 * LIMIT_S <= loop.time() - before_s < 3 * LIMIT_S

    run(scenario())


def test_a_wait_uses_its_limit_up(run):
    async def scenario():
        async with asyncio.timeout(LIMIT_S):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        run(scenario())
