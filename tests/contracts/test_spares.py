"""Spare sandboxes: how many there should be, and what becomes of them, with a driver that obeys."""

import asyncio
from collections import deque
from dataclasses import dataclass, field, replace

import pytest
import uvloop

from remora.kit.clock import SystemClock
from remora.sandbox import spares as rules
from remora.sandbox import warm
from remora.sandbox.base import Mount, SandboxError, SandboxPlan
from remora.sandbox.spares import EXPECTED_US, WANTED_US, Demand, likeness, share_out
from remora.sandbox.warm import MEMORY_BYTES_MIN, WarmDriver
from remora.testing.contracts.sandbox import PATIENCE_S, Recorder


def demand(*wishes_us, expected_us=0):
    return Demand(None, expected_us=expected_us, wishes_us=deque(wishes_us))


@pytest.mark.parametrize(
    ("demands", "spares_max", "expected"),
    [
        ({"a": demand(1)}, 2, {"a": 1}),
        ({"a": demand(1, 2)}, 2, {"a": 1}),
        ({"a": demand(1, 2, 3)}, 2, {"a": 2}),
        ({"a": demand(*range(8))}, 2, {"a": 2}),
        ({"a": demand(*range(8))}, 100, {"a": 4}),
        ({"a": demand(*range(8)), "b": demand(1)}, 2, {"a": 1, "b": 1}),
        ({"a": demand(*range(8)), "b": demand(1)}, 3, {"a": 2, "b": 1}),
        ({"a": demand(1), "b": demand(1), "c": demand(1)}, 2, {"a": 1, "b": 1}),
        ({"a": demand(), "b": demand(expected_us=200)}, 2, {"b": 1}),
        ({"a": demand(expected_us=99), "b": demand(100 - WANTED_US)}, 2, {}),
        ({"a": demand(1)}, 0, {}),
    ],
)
def test_who_was_wanted_or_is_expected_gets_spares_and_nobody_all_of_them(demands, spares_max, expected):
    assert share_out(demands.items(), 100, spares_max) == expected


def test_a_wish_that_came_is_not_expected_any_more():
    one = demand(expected_us=EXPECTED_US)
    assert one.spares(0) == 1
    assert one.until_us(0) == EXPECTED_US
    one.wish(5)
    assert one.until_us(5) == 5 + WANTED_US
    assert one.spares(5 + WANTED_US) == 0
    assert one.until_us(5 + WANTED_US) == 0
    one.forget(5 + WANTED_US)
    assert not one.wishes_us


@dataclass
class FakeSandbox:
    driver: "FakeDriver"
    plan: SandboxPlan
    watcher: object

    async def close(self):
        self.driver.living.remove(self)


@dataclass
class FakeDriver:
    """Makes one sandbox for each time it is let."""

    name = "fake"
    living: list = field(default_factory=list)
    begun: int = 0
    refusals: int = 0
    may_go_on: asyncio.Event = field(default_factory=asyncio.Event)

    async def create(self, plan, watcher):
        self.begun += 1
        await self.may_go_on.wait()
        if self.refusals:
            self.refusals -= 1
            raise SandboxError(f"cannot make sandbox {plan.name}: the machine is full", retryable=True)
        self.living.append(FakeSandbox(self, plan, watcher))
        return self.living[-1]


class Keeper:
    """A driver with spares, about which time and memory can be told."""

    def __init__(self, path, spares_max=2):
        self.fake = FakeDriver()
        self.memory_bytes = MEMORY_BYTES_MIN
        self.path = path
        self.driver = WarmDriver(
            self.fake, path, SystemClock(), spares_max=spares_max, memory_left=lambda: self.memory_bytes
        )

    def plan(self, memory_mib=128):
        return SandboxPlan("p", self.path / "p", (Mount(self.path, "/var/task"),), memory_mib)

    async def until(self, is_so):
        async with asyncio.timeout(PATIENCE_S):
            while not is_so():  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(0.001)

    async def state(self, spares):
        await self.until(lambda: repr(self.driver).endswith(f"spares={spares} making=0>"))


@pytest.fixture(autouse=True)
def no_calm(monkeypatch):
    """Do not wait for calm."""
    monkeypatch.setattr(warm, "CALM_S", 0.0)


def test_who_comes_while_one_is_made_waits_for_that_one(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.driver.expect(it.plan(), "f")
        await it.until(lambda: it.fake.begun == 1)
        watcher = Recorder()
        wish = asyncio.ensure_future(it.driver.create(it.plan(), watcher))
        await asyncio.sleep(0)
        it.fake.may_go_on.set()
        got = await wish
        assert got is it.fake.living[0], "nothing else was made for it"
        got.watcher.process_started("x", 2)
        assert watcher.of("started"), "and it hears of it"
        await it.state(1)
        await it.driver.close()
        assert it.fake.living == [got]

    asyncio.run(main())


def test_who_is_cancelled_while_waiting_leaves_it_to_others(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.driver.expect(it.plan(), "f")
        await it.until(lambda: it.fake.begun == 1)
        wish = asyncio.ensure_future(it.driver.create(it.plan(), Recorder()))
        await asyncio.sleep(0)
        wish.cancel()
        await asyncio.wait([wish])
        assert wish.cancelled()
        it.fake.may_go_on.set()
        await it.until(lambda: it.driver.spares >= 1)
        await it.driver.close()
        assert it.fake.living == []

    asyncio.run(main())


def test_one_that_cannot_be_made_leaves_who_waits_for_it_with_another(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.refusals = 1
        it.driver.expect(it.plan(), "f")
        await it.until(lambda: it.fake.begun == 1)
        wish = asyncio.ensure_future(it.driver.create(it.plan(), Recorder()))
        await asyncio.sleep(0)
        it.fake.may_go_on.set()
        assert (await wish).plan.name == "p"
        await it.driver.close()

    asyncio.run(main())


def test_no_spare_is_begun_while_anybody_waits_for_a_sandbox(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        wishes = [asyncio.ensure_future(it.driver.create(it.plan(256), Recorder())) for _ in range(3)]
        await it.until(lambda: it.fake.begun == 3)
        it.driver.expect(it.plan(128), "f")
        it.driver._carry_out()
        assert it.fake.begun == 3
        wishes[0].cancel()
        it.fake.may_go_on.set()
        await asyncio.wait(wishes)
        await it.state(2)
        assert it.fake.begun == 5
        await it.driver.close()
        assert len(it.fake.living) == 2

    asyncio.run(main())


def test_why_no_spare_can_be_made_is_told_once_until_one_can(tmp_path, caplog):
    async def main():
        it = Keeper(tmp_path, spares_max=1)
        it.fake.may_go_on.set()
        for refusals, memory_mib in ((3, 128), (1, 256)):
            it.fake.refusals = refusals
            for _ in range(refusals):
                assert it.driver.spares == 0
                begun = it.fake.begun
                it.driver.expect(it.plan(memory_mib), "f")
                await it.until(lambda begun=begun: it.fake.begun > begun)
                await it.state(0)
            assert caplog.text.count("no spare sandbox could be made: cannot make sandbox …: ") == 1
            caplog.clear()
            it.driver.expect(it.plan(memory_mib), "f")
            await it.state(1)
            it.memory_bytes -= 1
            it.driver.expect(it.plan(memory_mib), "f")
            await it.state(0)
            it.memory_bytes += 1
        await it.driver.close()

    asyncio.run(main())


def test_a_function_that_is_deleted_meanwhile_is_no_trouble(tmp_path, caplog):
    async def main():
        it = Keeper(tmp_path)
        it.fake.refusals = 1
        layers = tmp_path / "layers"
        layers.mkdir()
        it.driver.expect(replace(it.plan(), mounts=(Mount(layers, "/opt"),)), "f")
        await it.until(lambda: it.fake.begun == 1)
        layers.rmdir()
        it.fake.may_go_on.set()
        await it.state(0)
        await it.driver.close()
        assert caplog.text == ""

    asyncio.run(main())


def test_a_sandbox_that_cannot_be_made_is_tried_again_without_spares(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        it.driver.expect(it.plan(), "f")
        await it.state(1)
        it.fake.refusals = 1
        got = await it.driver.create(it.plan(256), Recorder())
        assert it.fake.living == [got], "and none is made for a while"
        it.fake.refusals = 1
        with pytest.raises(SandboxError):
            await it.driver.create(it.plan(512), Recorder())
        await it.driver.close()

    asyncio.run(main())


def test_a_review_that_is_overdue_can_be_asked_for_any_number_of_times(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        for _ in range(3):
            it.driver.expect(it.plan(), "f")
        await it.state(1)
        await it.driver.close()

    uvloop.run(main())


def test_without_memory_there_are_no_spares(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        it.driver.expect(it.plan(), "f")
        await it.state(1)
        it.memory_bytes -= 1
        it.driver.expect(it.plan(), "f")
        await it.state(0)
        assert it.fake.living == []
        it.memory_bytes += 1
        it.driver.expect(it.plan(), "f")
        await it.state(1)
        await it.driver.close()

    asyncio.run(main())


def test_a_new_version_takes_the_place_of_the_old_one_and_the_newest_two_have_spares(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        it.driver.expect(it.plan(128), "f")
        await it.state(1)
        it.driver.expect(it.plan(256), "f")
        await it.until(lambda: [each.plan.memory_mib for each in it.fake.living] == [256])
        for number, memory_mib in enumerate((512, 1024)):
            it.driver.expect(it.plan(memory_mib), f"g{number}")
        await it.until(lambda: {each.plan.memory_mib for each in it.fake.living} == {512, 1024})
        await it.driver.close()

    asyncio.run(main())


def test_a_spare_that_nobody_wants_is_let_go_in_time(tmp_path, monkeypatch):
    monkeypatch.setattr(rules, "WANTED_US", 50_000)
    monkeypatch.setattr(warm, "EXPECTED_US", 50_000)

    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        it.driver.expect(it.plan(128), "f")
        await it.driver.create(it.plan(256), Recorder())
        await it.until(lambda: len(it.fake.living) == 3)
        await it.until(lambda: len(it.fake.living) == 1)
        await it.state(0)
        await it.driver.close()

    asyncio.run(main())


def test_a_spare_that_is_lost_is_replaced(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        it.driver.expect(it.plan(), "f")
        await it.state(1)
        (lost,) = it.fake.living
        lost.watcher.sandbox_lost("killed")
        await it.until(lambda: lost not in it.fake.living and it.driver.spares == 1)
        await it.driver.close()

    asyncio.run(main())


def test_whoever_has_no_directory_is_neither_expected_nor_served(tmp_path):
    async def main():
        it = Keeper(tmp_path)
        it.fake.may_go_on.set()
        gone = SandboxPlan("p", tmp_path, (Mount(tmp_path / "gone", "/var/task"),), 128)
        it.driver.expect(gone, "f")
        await it.driver.create(gone, Recorder())
        assert it.driver.spares == 0
        assert it.fake.begun == 1
        await it.driver.close()

    asyncio.run(main())
    with pytest.raises(FileNotFoundError):
        likeness(SandboxPlan("p", tmp_path, (Mount(tmp_path / "gone", "/var/task"),), 128))
