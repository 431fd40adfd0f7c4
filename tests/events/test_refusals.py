"""What may not be sent is counted when that is certain, not before."""

import asyncio
from collections import Counter

from remora.events.base import Event, Policy
from remora.events.queue import EventQueue
from remora.kit.clock import SystemClock
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.pool.base import InvokeResult
from remora.store.sqlite_events import SqliteEventLog

ARN = "arn:aws:lambda:us-east-1:000000000000:function:"


class StallingLog:
    """A log that does not take the end of an event until it is told to."""

    def __init__(self, directory):
        self._log = SqliteEventLog(directory)
        self.stalls, self.goes_on = asyncio.Event(), asyncio.Event()
        self.load, self.body, self.close = self._log.load, self._log.body, self._log.close

    async def commit(self, entries, *, is_durable=False):
        if entries[0].change == "gone":
            self.stalls.set()
            await self.goes_on.wait()
        await self._log.commit(entries, is_durable=is_durable)


class World:
    """A function whose role may not invoke the one that its results go to."""

    def __init__(self):
        self.counts = Counter()
        self.runs = 0

    def policy(self, event):
        return Policy(on_success=f"{ARN}second")

    async def deployment(self, event):
        return event.function

    def target(self, arn):
        return arn.removeprefix(ARN), None

    def refusal(self, event, target):
        return f"the role of {event.function} may not invoke {target}"

    def concurrency(self, function):
        return 1

    def new_id(self):
        return new_uuid()

    async def invoke(self, deployment, request):
        self.runs += 1
        return InvokeResult(request.request_id, b"{}", None, "1")

    def add(self, name, invoked_arn, number):
        self.counts[name, invoked_arn] += number


def test_a_result_that_may_not_be_sent_is_counted_when_the_end_of_its_event_is_kept(tmp_path, run):
    async def scenario():
        world, log, tasks = World(), StallingLog(tmp_path), TaskSet("node")
        queue = EventQueue(log, world, world, world, clock=SystemClock(), tasks=tasks, meters=world)
        await queue.start()
        failures = ("DestinationDeliveryFailures", f"{ARN}first")
        try:
            async with asyncio.timeout(120):
                sent = Event(new_uuid(), "first", None, f"{ARN}first", SystemClock().wall_ms())
                await queue.accept(sent, b"{}")
                await log.stalls.wait()
                assert world.runs == 1
                assert world.counts[failures] == 0
                log.goes_on.set()
                while queue._unended:  # noqa: ASYNC110 - the queue tells nobody that it is empty
                    await asyncio.sleep(0.001)
        finally:
            queue.stop()
            await tasks.close()
            await log.close()
        assert world.counts[failures] == 1
        assert world.runs == 1

    run(scenario())
