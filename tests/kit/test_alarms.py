import asyncio

import pytest
import uvloop

from remora.kit.alarms import Alarm


class Handle:
    def __init__(self, loop, when, callback):
        self.loop, self.at, self.callback = loop, when, callback

    def when(self):
        return self.at

    def cancel(self):
        self.loop.timers.remove(self)


class Loop:
    """A loop whose time passes when told."""

    def __init__(self):
        self.now, self.timers, self.made = 100.0, [], 0

    def time(self):
        return self.now

    def call_at(self, when, callback):
        self.made += 1
        self.timers.append(Handle(self, when, callback))
        return self.timers[-1]

    def pass_until(self, now):
        while due := [timer for timer in self.timers if timer.at <= now]:
            first = min(due, key=Handle.when)
            self.now = max(self.now, first.at)
            self.timers.remove(first)
            first.callback()
        self.now = now


@pytest.fixture
def loop():
    return Loop()


@pytest.fixture
def rung():
    return []


@pytest.fixture
def alarm(loop, rung):
    return Alarm(loop, lambda: rung.append(loop.now))


def test_it_rings_once_when_its_time_has_come(loop, alarm, rung):
    alarm.set_in(3)
    loop.pass_until(102.9)
    assert rung == []
    loop.pass_until(200)
    assert rung == [103]
    assert not loop.timers


def test_set_for_later_it_rings_only_then(loop, alarm, rung):
    alarm.set_in(3)
    loop.pass_until(102)
    alarm.set_in(3)
    loop.pass_until(200)
    assert rung == [105]


def test_set_for_earlier_it_rings_then_and_not_again(loop, alarm, rung):
    alarm.set_in(30)
    alarm.set_in(3)
    loop.pass_until(200)
    assert rung == [103]


def test_taken_back_it_does_not_ring(loop, alarm, rung):
    alarm.set_in(3)
    alarm.cancel()
    alarm.cancel()
    loop.pass_until(200)
    assert rung == []
    assert not loop.timers


def test_taken_back_it_can_be_set_again(loop, alarm, rung):
    alarm.set_in(3)
    alarm.cancel()
    alarm.set_in(4)
    loop.pass_until(200)
    assert rung == [104]


def test_a_thousand_changes_make_few_timers(loop, alarm, rung):
    for step in range(1_000):
        alarm.set_in(5)
        loop.pass_until(100 + step / 100)
        alarm.cancel()
    assert rung == []
    assert loop.made <= 3


def test_closed_it_leaves_nothing_in_the_loop(loop, alarm, rung):
    alarm.set_in(3)
    alarm.close()
    alarm.close()
    assert not loop.timers
    loop.pass_until(200)
    assert rung == []


def test_a_time_that_is_past_is_now(loop, alarm, rung):
    alarm.set_in(-1)
    loop.pass_until(100)
    assert rung == [100]


def test_it_may_be_set_anew_while_it_rings(loop, rung):
    alarm = Alarm(loop, lambda: (rung.append(loop.now), len(rung) < 3 and alarm.set_in(1)))
    alarm.set_in(1)
    loop.pass_until(200)
    assert rung == [101, 102, 103]


def test_it_rings_in_a_real_loop():
    async def run():
        rings = asyncio.Event()
        alarm = Alarm(asyncio.get_running_loop(), rings.set)
        alarm.set_in(60)
        alarm.set_in(0.001)
        await asyncio.wait_for(rings.wait(), 30)

    asyncio.run(run())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_is_due_at_once_can_be_set_again(new_loop):
    async def main():
        rung = asyncio.Event()
        alarm = Alarm(asyncio.get_running_loop(), rung.set)
        alarm.set_in(0)
        alarm.set_in(0.0001)
        alarm.set_in(-1)
        async with asyncio.timeout(120):
            await rung.wait()

    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(main())
