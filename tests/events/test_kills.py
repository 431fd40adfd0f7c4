"""
The node is killed at every step in turn, before and after it is written, and started again.

What is on disk at that instant is all that the next process has. The log is a real one, on disk.
"""

import asyncio
import json
from collections import Counter

import pytest

from remora.events.base import Event, Policy
from remora.events.decisions import Pace
from remora.events.queue import EventQueue
from remora.kit.clock import SystemClock
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.pool.base import InvokeResult, Throttled
from remora.store.event_log import Entry
from remora.store.sqlite_events import SqliteEventLog
from remora.telemetry.meter import Meters

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"
QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"
PACE = Pace(0.00001)
AGE_S = 10**9
"""So that nothing ends of age, at this pace."""
PATIENCE_S = 120.0

pytestmark = pytest.mark.slow


class KilledLog:
    """A log whose process is killed at the commit with a number: before it, or when it is written."""

    def __init__(self, directory, at, *, is_written):
        self._log = SqliteEventLog(directory)
        self._left = at
        self._is_written = is_written
        self.killed = asyncio.Event()
        self.load, self.body, self.close = self._log.load, self._log.body, self._log.close

    async def commit(self, entries, *, is_durable=False):
        self._left -= 1
        if self._left == 0 or self.killed.is_set():
            if self._is_written and not self.killed.is_set():
                await self._log.commit(entries, is_durable=is_durable)
            self.killed.set()
            await asyncio.Event().wait()
        await self._log.commit(entries, is_durable=is_durable)


class World:
    """What is outside of the node, and outlives it: functions, what they did, a queue of SQS."""

    def __init__(self, fates):
        self.fates = fates
        """By function: the answers of its runs, the last one for ever."""
        self.runs = Counter()
        self.ids = {}
        self.records = []

    # --- functions ----------------------------------------------------------------------------------------

    def policy(self, event):
        if event.function == "second":
            return Policy(age_s=AGE_S)
        return Policy(age_s=AGE_S, on_success=f"{ARN}second", on_failure=QUEUE, dead_letter=QUEUE)

    async def deployment(self, event):
        return event.function

    def refusal(self, event, target):
        return ""

    def target(self, arn):
        return (arn.removeprefix(ARN), None) if arn.startswith(ARN) else None

    def concurrency(self, function):
        return 10

    def new_id(self):
        return new_uuid()

    # --- pool ---------------------------------------------------------------------------------------------

    async def invoke(self, deployment, request):
        fates = self.fates[deployment]
        fate = fates.pop(0) if len(fates) > 1 else fates[0]
        if fate == "throttled":
            raise Throttled("ConcurrentInvocationLimitExceeded")
        await asyncio.sleep(0)
        self.runs[deployment] += 1
        self.ids.setdefault(deployment, set()).add(request.request_id)
        return InvokeResult(
            request.request_id, b'{"errorMessage":"x"}', None if fate == "ok" else "Unhandled", "1"
        )

    # --- sender -------------------------------------------------------------------------------------------

    async def send(self, delivery):
        self.records.append(delivery)


async def life(directory, world, *, at, is_written, event=None):
    """Run a node until it is killed, or has nothing left to do; returns whether the event was accepted."""
    clock, tasks = SystemClock(), TaskSet("node")
    log = KilledLog(directory, at, is_written=is_written)
    queue = EventQueue(log, world, world, world, clock=clock, tasks=tasks, meters=Meters(clock), pace=PACE)
    await queue.start()
    accepted = False
    killed = asyncio.ensure_future(log.killed.wait())
    if event is not None:
        accepting = asyncio.ensure_future(queue.accept(event, b'{"a":1}'))
        await asyncio.wait([accepting, killed], return_when=asyncio.FIRST_COMPLETED)
        accepted = accepting.done()
        accepting.cancel()
    async with asyncio.timeout(PATIENCE_S):
        while queue._unended and not killed.done():  # noqa: ASYNC110 - the queue tells nobody that it is empty
            await asyncio.sleep(0.001)
    queue.stop()
    killed.cancel()
    await tasks.close()
    await log.close()
    return accepted


def event():
    return Event(new_uuid(), "first", None, f"{ARN}first", SystemClock().wall_ms())


@pytest.mark.parametrize("is_written", [False, True])
@pytest.mark.parametrize(
    ("fates", "condition"),
    [
        (["ok"], "Success"),
        (["error", "error", "ok"], "Success"),
        (["throttled", "error", "throttled", "ok"], "Success"),
        (["error"], "RetriesExhausted"),
    ],
)
def test_nothing_is_lost_and_tries_are_counted(tmp_path, run, fates, condition, is_written):
    async def killed_at(directory, at):
        world = World({"first": list(fates), "second": ["ok"]})
        directory.mkdir()
        sent = event()
        accepted = await life(directory, world, at=at, is_written=is_written, event=sent)
        was_killed = at <= await steps(directory)
        await life(directory, world, at=0, is_written=False)
        kept = await rest(directory)
        assert kept == [], f"killed at {at}: something is left"
        if not accepted and not world.runs:
            return was_killed  # nobody was told that it was accepted
        assert world.ids["first"] == {sent.request_id}
        errors = fates.count("error") if condition == "Success" else 3
        ok = condition == "Success"
        # Each kill may repeat one run, and no more.
        assert errors + ok <= world.runs["first"] <= errors + ok + 1
        if ok:
            assert world.runs["second"] in (1, 2)
            assert len(world.ids["second"]) == 1, "it was sent on once"
            assert world.records == []
        else:
            records = [json.loads(each.body) for each in world.records if each.kind == "destination"]
            assert 1 <= len(records) <= 2
            assert sum(each.kind == "dead-letter" for each in world.records) in (1, 2)
            context = records[0]["requestContext"]
            assert context["condition"] == condition
            # The last run may have been begun once more, and that is counted.
            assert world.runs["first"] <= context["approximateInvokeCount"] <= world.runs["first"] + 1
        return was_killed

    async def steps(directory):
        """Return more than any number of steps that a life has, unless the killed one finished all."""
        return 0 if await rest(directory) == [] else 10**9

    async def rest(directory):
        log = SqliteEventLog(directory)
        entries = await log.load()
        await log.close()
        return entries

    async def scenario():
        for at in range(1, 60):
            if not await killed_at(tmp_path / str(at), at) and at > 12:
                return
        raise AssertionError("a life without a kill was never reached")

    run(scenario())


def test_a_hundred_events_and_a_kill_every_few_steps(tmp_path, run):
    async def scenario():
        world = World({"first": ["error", "ok", "ok", "throttled", "ok"] * 40 + ["ok"], "second": ["ok"]})
        log = SqliteEventLog(tmp_path)
        await log.load()
        sent = [event() for _ in range(100)]
        for number, each in enumerate(sent, 1):
            head = json.dumps({name: getattr(each, name) for name in each.__struct_fields__}).encode()
            await log.commit([Entry("put", number, "event", head, b"{}", b"{}")])
        await log.close()
        for lap in range(40):
            await life(tmp_path, world, at=7 + lap, is_written=lap % 2 == 0)
        await life(tmp_path, world, at=0, is_written=False)
        assert world.ids["first"] == {each.request_id for each in sent}
        failed = [json.loads(each.body) for each in world.records if each.kind == "destination"]
        exhausted = {each["requestContext"]["requestId"] for each in failed}
        assert {each["requestContext"]["condition"] for each in failed} <= {"RetriesExhausted"}
        assert len(world.ids["second"]) + len(exhausted) == 100

    run(scenario())
