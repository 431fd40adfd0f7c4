"""
The pool over environments that do what dice say: what it promises holds after every step.

`POOL_SEED` in the environment chooses other dice than the usual ones.
"""

import asyncio
import os
import random
from collections import Counter
from types import SimpleNamespace

import pytest

from remora.environment.base import Deployment, InvokeRequest, InvokeResult
from remora.kit.tasks import TaskSet
from remora.pool.base import PoolError, Throttled
from remora.pool.group import MemberState
from remora.pool.pool import Pool
from remora.pool.provisioning import Provisioning
from remora.pool.settings import PoolSettings
from remora.runtimes.layout import RuntimeLayout
from remora.sandbox.base import SandboxError
from remora.telemetry.timeline import Timelines
from remora.testing.clock import ManualClock
from remora.testing.stage import function_version

SEED = int(os.environ.get("POOL_SEED", "1"))
LIMIT = 12
SLOTS = 3
FUNCTIONS = ("a", "b", "c")
LOSSES = {"stopped": ["stopping"], "crash": ["initialising", "available", "running", "finishing"]}


def request_of(function):
    return InvokeRequest(b"{}", f"arn:aws:lambda:r:0:function:{function}")


class FakeEnvironment:
    """An environment that does nothing unless told by the dice."""

    def __init__(self, number, deployment, owner):
        self.identifier = str(number)
        self.deployment = deployment
        self.machine = SimpleNamespace(is_initialised=True)
        self.invocations = 0
        self.state = "new"
        self._owner = owner
        self._answer = None

    def initialised(self, *, well):
        self.machine.is_initialised = well
        self.state = "available"
        self._owner.environment_available(self)

    def invoke(self, request_id, request, answer):
        assert self.state == "available", f"an invocation came while it was {self.state}"
        self.state, self._answer, self.invocations = "running", answer, self.invocations + 1
        self._request_id = request_id

    def answer(self):
        self.state = "finishing"
        self._answer(InvokeResult(self._request_id, b"{}", None, "$LATEST"))

    def done(self):
        self.state = "available"
        self._owner.environment_available(self)

    def stop(self, _):
        if self.state == "running":
            self.answer()
        self.state = "stopping"

    def gone(self):
        if self.state == "running":
            self.answer()
        self.state = "gone"
        self._owner.environment_closed(self)

    def memory_peak_bytes(self):
        return 1

    async def close(self):
        self.state = "removed"


class FakeMaker:
    """Makes them; a sandbox is made when the dice say so."""

    def __init__(self):
        self.made = []
        self.sandboxes = {}

    def make(self, deployment, owner, *, is_provisioned, snapshots):
        assert snapshots is None, "nothing here starts from a snapshot"
        environment = FakeEnvironment(len(self.made), deployment, owner)
        environment.is_provisioned = is_provisioned
        self.made.append(environment)
        return environment

    async def start(self, environment):
        gate = self.sandboxes[environment] = asyncio.get_running_loop().create_future()
        environment.state = "making"
        if not await gate:
            raise SandboxError("the dice were against it")
        environment.state = "initialising"


class World:
    """A pool, everything that was asked of it, and what it promised."""

    def __init__(self, seed):
        self.dice = random.Random(seed)
        self.clock = ManualClock()
        self.tasks = TaskSet("simulation")
        settings = PoolSettings(
            None,
            "us-east-1",
            concurrency=LIMIT,
            starts_at_once=SLOTS,
            idle_s=1e6,
            linger_s=0.0,
            start_hold_s=1e6,
        )
        self.memory = 1 << 40
        self.pool = Pool(
            None,
            settings,
            clock=self.clock,
            logs=None,
            timelines=Timelines(),
            tasks=self.tasks,
            memory_left=lambda: self.memory,
        )
        self.maker = self.pool._supply._maker = FakeMaker()
        self.provisioning = Provisioning(self.pool)
        self.outcomes = Counter()
        self.begun = 0
        layout = RuntimeLayout("provided.al2023", (), ("/var/task/bootstrap",))
        self.deployments = [
            Deployment(name + str(number), function_version(name=name, arn=name), None, None, layout)
            for name in FUNCTIONS
            for number in range(2)
        ]

    # --- what may happen ----------------------------------------------------------------------------------

    def invoke(self):
        deployment = self.dice.choice(self.deployments)
        number = self.begun = self.begun + 1
        load = self.pool._ledger.load(deployment.function.arn, 0)
        promised = load.share.promised.keys() - {deployment.function.arn}
        has_room = load.share.in_flight < load.share.limit - len(promised)
        request = request_of(deployment.function.name)
        refusal = None
        try:
            self.pool.begin(deployment, request, lambda _: self.outcomes.update([number]))
        except Throttled as error:
            refusal = error
            self.outcomes[number] += 1
        assert not (refusal and has_room), f"{refusal} although there was room"

    def pick(self, *states):
        found = [each for each in self.maker.made if each.state in states]
        return self.dice.choice(found) if found else None

    async def step(self):
        dice = self.dice
        what = dice.choices(
            [
                "invoke",
                "sandbox",
                "init",
                "answer",
                "done",
                "stopped",
                "crash",
                "reserve",
                "provision",
                "squeeze",
            ],
            [30, 20, 20, 25, 25, 20, 2, 2, 2, 1],
        )[0]
        self.clock.advance_us(dice.randrange(2_000_000))
        if what == "invoke":
            self.invoke()
        elif what == "sandbox" and (it := self.pick("making")):
            self.maker.sandboxes[it].set_result(dice.random() < 0.9)
            it.state = "made"
        elif what == "init" and (it := self.pick("initialising")):
            it.initialised(well=dice.random() < 0.9)
        elif what == "answer" and (it := self.pick("running")):
            it.answer()
        elif what == "done" and (it := self.pick("finishing")):
            it.done()
        elif what in LOSSES and (it := self.pick(*LOSSES[what])):
            it.gone()
        elif what == "reserve":
            self.pool.reserve(dice.choice(FUNCTIONS), dice.choice([None, 0, 1, 3]))
        elif what == "provision":
            deployment, count = dice.choice(self.deployments), dice.randrange(4)
            if count:
                self.provisioning.want(deployment.key, deployment.function.arn, count)
                self.provisioning.run(deployment.key, deployment)
            else:
                self.provisioning.unwant(deployment.key)
        elif what == "squeeze":
            self.memory = dice.choice([0, 1 << 40])
        for _ in range(6):
            await asyncio.sleep(0)

    # --- what is promised ---------------------------------------------------------------------------------

    def check(self):
        pool, ledger = self.pool, self.pool._ledger
        loads = [ledger.load(each, 0) for each in FUNCTIONS]
        members = list(pool._members.values())
        waiting = Counter()
        for group in pool._groups.values():
            waiting[group.deployment.function.arn] += len(group.waiting)
        assert pool._in_flight == sum(each.on_demand + each.provisioned_in_use for each in loads)
        for name, load in zip(FUNCTIONS, loads, strict=True):
            mine = [m for m in members if m.environment.deployment.function.arn == name]
            busy = [m for m in mine if m.state in (MemberState.BUSY, MemberState.FINISHING)]
            assert load.provisioned_in_use == sum(m.provisioned is not None for m in busy)
            assert load.on_demand == sum(m.provisioned is None for m in busy) + waiting[name]
        assert sum(m.slot is not None for m in members) <= SLOTS
        for group in pool._groups.values():
            assert group.starting >= 0
            assert group.finishing == sum(m.state is MemberState.FINISHING for m in group.members.values())
            for member in (*group.idle, *group.ready):
                assert member.state is MemberState.IDLE
                assert member.environment.state == "available"
            assert not group.waiting or not (group.idle or group.ready)
        assert set(self.outcomes.values()) <= {1}

    async def settle(self):
        """Let everything that is under way come to its end."""
        self.memory = 1 << 40
        for _ in range(20_000):
            it = self.pick("new", "making", "initialising", "running", "finishing", "stopping")
            if it is None:
                break
            if it.state == "new":
                pass  # its task has not begun yet
            elif it.state == "making":
                self.maker.sandboxes[it].set_result(True)
                it.state = "made"
            elif it.state == "initialising":
                it.initialised(well=True)
            else:
                {"running": it.answer, "finishing": it.done, "stopping": it.gone}[it.state]()
            for _ in range(6):
                await asyncio.sleep(0)
        self.check()

    async def close(self):
        """Shut everything down."""
        closing = asyncio.ensure_future(self.pool.close(drain_s=1))
        while not closing.done():
            await asyncio.sleep(0)
            while (it := self.pick("stopping")) is not None:
                it.gone()
        await closing
        await self.tasks.close()


def test_the_longest_idle_environment_goes_first():
    async def scenario():
        world = World(SEED)
        maker = world.maker
        for deployment in world.deployments[:3]:
            world.pool.begin(deployment, request_of(deployment.function.name), lambda _: None)
            await world.settle()
        first, second, third = maker.made
        # Given that the first one was used again, so that the second one is idle for longest
        world.clock.advance_us(1_000_000)
        world.pool.begin(world.deployments[0], request_of("a"), lambda _: None)
        await world.settle()
        # When one MiB is missing for another one, then the second one goes.
        world.memory = 255 * 1024 * 1024
        world.pool.begin(world.deployments[3], request_of("b"), lambda _: None)
        assert [each.state for each in (first, second, third)] == ["available", "stopping", "available"]
        await world.settle()
        await world.close()

    asyncio.run(scenario())


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(SEED, SEED + 8))
def test_what_the_pool_promises_holds(seed):
    async def scenario():
        world = World(seed)
        for _ in range(400):
            await world.step()
            world.check()
        await world.settle()
        assert sum(world.outcomes.values()) == world.begun, "every invocation is answered once"
        for key, target in world.provisioning._targets.items():
            status = world.provisioning.status(key)
            assert status.status in ("READY", "FAILED"), status
            assert status.status == "FAILED" or status.allocated == target.requested
        await world.close()
        assert repr(world.pool) == "<Pool 0 environments, 0 in flight>"
        assert world.pool._groups == {}
        assert world.pool._ledger.common.in_flight == 0
        with pytest.raises(PoolError):
            world.invoke()

    asyncio.run(scenario())
