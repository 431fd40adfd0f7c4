"""
The queue of asynchronous invocations: what was accepted is run, tried again, ended, and its outcome sent.

An event is kept before it is accepted, its every step is kept before the next one is made: a node that is
killed at any instant goes on where it was. What may happen twice after a kill is a run, or the sending of a
message, that had begun; what is sent on to another function of the node happens once.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import msgspec

from remora.events.base import Condition, Delivery, DeliveryError, Event, Gone, NotReady, Policy, Progress
from remora.events.decisions import (
    Again,
    Next,
    Over,
    Pace,
    after_error,
    after_refusal,
    after_success,
    before_try,
)
from remora.events.records import Outcome, deliveries
from remora.pool.base import InvokeRequest, PoolError, Throttled
from remora.resources import lineage
from remora.spec.limits import EVENT_PAYLOAD_BYTES_MAX
from remora.store.base import StoreError
from remora.store.event_log import Entry

if TYPE_CHECKING:
    from remora.events.base import EventPool, Functions, Sender
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.pool.base import InvokeResult
    from remora.store.event_log import EventLog
    from remora.telemetry.meter import Meters

TRIES_AT_ONCE_MAX: Final = 100
"""Of one function: each may hold a payload of a megabyte."""
HELD_BYTES_MAX: Final = 64 * 1024 * 1024
"""Payloads of waiting events beyond this are read again from the log."""
RETRY_S: Final = 5.0
"""Between two tries to keep a step while the disk cannot take it."""

_log = logging.getLogger("remora.events")
_encode: Final = msgspec.json.Encoder().encode
_read_event: Final = msgspec.json.Decoder(Event).decode
_read_delivery: Final = msgspec.json.Decoder(Delivery).decode
_read_progress: Final = msgspec.json.Decoder(Progress).decode


@dataclass(slots=True, eq=False)
class _Item:
    """An event that has not ended."""

    number: int
    event: Event
    progress: Progress = field(default_factory=Progress)
    payload: bytes | None = None
    """None if it has to be read from the log."""


@dataclass(slots=True, eq=False)
class _Lane:
    """The events of one function that are to be tried now."""

    function: str
    ready: deque[_Item] = field(default_factory=deque)
    trying: int = 0
    pause: asyncio.TimerHandle | None = None
    """Set while the function is throttled; goes off when it is tried again."""


class EventQueue:
    """
    The events of a node.

    Args:
        log: Keeps them.
        pool: Runs them.
        functions: Knows what is configured.
        sender: Sends messages to other services.
        clock: The node's clock.
        tasks: Owner of the tasks that try and send; closed by the caller after `stop`, before the log.
        meters: What counts.
        pace: How fast time runs.
    """

    def __init__(
        self,
        log: EventLog,
        pool: EventPool,
        functions: Functions,
        sender: Sender,
        *,
        clock: Clock,
        tasks: TaskSet,
        meters: Meters,
        pace: Pace = Pace(),  # noqa: B008 - a tuple
    ) -> None:
        self._kept = log
        self._pool = pool
        self._functions = functions
        self._sender = sender
        self._clock = clock
        self._tasks = tasks
        self._meters = meters
        self._pace = pace
        self._lanes: dict[str, _Lane] = {}
        self._later: list[tuple[int, int, _Item]] = []
        """Events that wait for their time: when (milliseconds since 1970), number, event; a heap."""
        self._alarm: asyncio.TimerHandle | None = None
        self._numbers = itertools.count(1)
        self._held_bytes = 0
        self._unended = 0
        self._is_stopped = True

    def __repr__(self) -> str:
        return f"<EventQueue {self._unended} events, {len(self._later)} of them for later>"

    async def start(self) -> None:
        """
        Open the log and go on with what a former process left.

        Raises:
            StoreError: If the log cannot be opened, or an entry is not understood.
        """
        entries = await self._kept.load()
        if entries:
            self._numbers = itertools.count(entries[-1].number + 1)
        self._is_stopped = False
        for entry in entries:
            try:
                if entry.kind == "event":
                    self._put(_Item(entry.number, _read_event(entry.head), _read_progress(entry.progress)))
                else:
                    self._send(entry.number, _read_delivery(entry.head))
            except msgspec.DecodeError as error:
                raise StoreError(
                    f"the event {entry.number} is not understood ({error}); use a newer remora"
                ) from error

    def stop(self) -> None:
        """Begin nothing more; what is accepted from now on runs when the node starts again."""
        self._is_stopped = True
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        for lane in self._lanes.values():
            if lane.pause is not None:
                lane.pause.cancel()

    async def accept(self, event: Event, payload: bytes) -> None:
        """
        Take in an event; when this returns, it survives whatever happens to the machine.

        Raises:
            StoreError: If it could not be kept; it is not accepted then.

        **Cancellation:** it may be accepted all the same.
        """
        item = _Item(next(self._numbers), event, payload=payload)
        await self._kept.commit([_new_event(item, payload)], is_durable=True)
        self._accepted(item)

    def _accepted(self, item: _Item) -> None:
        self._meters.add("AsyncEventsReceived", item.event.invoked_arn, 1)
        self._put(item)

    # --- whose turn it is ---------------------------------------------------------------------------------

    def _put(self, item: _Item) -> None:
        """Line an event up that was not known yet."""
        self._unended += 1
        self._hold(item)
        self._line_up(item)

    def _line_up(self, item: _Item) -> None:
        """Have an event tried when its time has come."""
        if item.progress.due_ms > self._clock.wall_ms():
            heapq.heappush(self._later, (item.progress.due_ms, item.number, item))
            self._set_alarm()
            return
        lane = self._lanes.get(item.event.function)
        if lane is None:
            lane = self._lanes[item.event.function] = _Lane(item.event.function)
        lane.ready.append(item)
        self._advance(lane)

    def _set_alarm(self) -> None:
        """Look at the first event that waits for its time when that has come."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._later and not self._is_stopped:
            wait_s = max(0, self._later[0][0] - self._clock.wall_ms()) / 1000
            self._alarm = asyncio.get_running_loop().call_later(wait_s, self._look)

    def _look(self) -> None:
        self._alarm = None
        now_ms = self._clock.wall_ms()
        while self._later and self._later[0][0] <= now_ms:
            self._line_up(heapq.heappop(self._later)[2])
        self._set_alarm()

    def _advance(self, lane: _Lane) -> None:
        """Begin to try as many events of a function as it may have running."""
        most = min(TRIES_AT_ONCE_MAX, max(1, self._functions.concurrency(lane.function)))
        while lane.ready and lane.pause is None and lane.trying < most and not self._is_stopped:
            self._begin_try(lane)
        if not (lane.ready or lane.trying or lane.pause):
            self._lanes.pop(lane.function, None)

    def _begin_try(self, lane: _Lane) -> None:
        item = lane.ready.popleft()
        lane.trying += 1
        self._tasks.spawn(self._try(lane, item), f"event {item.event.request_id}")

    def _resume(self, lane: _Lane) -> None:
        lane.pause = None
        self._advance(lane)

    # --- one try ------------------------------------------------------------------------------------------

    async def _try(self, lane: _Lane, item: _Item) -> None:
        """Run an event once, if it is to be run, and carry out what follows."""
        try:
            await self._run(lane, item)
        except Gone as error:
            _log.warning("event %s was dropped: %s", item.event.request_id, error)
            self._dropped(item.event.invoked_arn)
            await self._end(item, [])
        finally:
            lane.trying -= 1
            self._advance(lane)

    async def _run(self, lane: _Lane, item: _Item) -> None:
        event = item.event
        policy = self._functions.policy(event)
        over = before_try(event, item.progress, policy, self._clock.wall_ms(), self._pace)
        if over is not None:
            await self._finish(item, over, policy, None)
            return
        begun = msgspec.structs.replace(item.progress, starts=item.progress.starts + 1)
        try:
            deployment = await self._functions.deployment(event)
            payload = await self._payload(item)
            await self._keep(Entry("progress", item.number, progress=_encode(begun)))
            age_ms = self._clock.wall_ms() - event.accepted_ms
            request = InvokeRequest(
                payload, event.invoked_arn, trace_id=event.trace_id, request_id=event.request_id
            )
            result = await self._pool.invoke(deployment, request)
        except (Throttled, PoolError, NotReady, StoreError) as error:
            await self._refused(lane, item, error)
            return
        self._meters.add("AsyncEventAge", event.invoked_arn, age_ms)
        if lane.pause is not None and lane.ready and not self._is_stopped:
            self._begin_try(lane)  # what was refused to others is free now
        if result.function_error is None:
            await self._finish(item, after_success(begun), policy, result)
        elif self._is_stopped:
            item.progress = begun  # the node's end may be what went wrong: the next one tries again
        else:
            policy = self._functions.policy(event)
            verdict = after_error(event, begun, policy, self._clock.wall_ms(), self._pace)
            await self._follow(item, verdict, policy, result)

    async def _refused(self, lane: _Lane, item: _Item, error: Exception) -> None:
        """The function was not run."""
        if self._is_stopped:
            await self._keep(Entry("progress", item.number, progress=_encode(item.progress)))
            return
        policy = self._functions.policy(item.event)
        verdict = after_refusal(item.event, item.progress, policy, self._clock.wall_ms(), self._pace)
        if isinstance(error, Throttled) and isinstance(verdict, Again):
            # Others would fare no better: the function as a whole waits, and this event stays the first.
            item.progress = verdict.progress
            await self._keep(Entry("progress", item.number, progress=_encode(item.progress)))
            lane.ready.appendleft(item)
            self._pause(lane, item.progress.due_ms)
            return
        if not isinstance(error, Throttled):
            _log.warning("event %s could not be run and is tried again: %s", item.event.request_id, error)
        await self._follow(item, verdict, policy, None)

    def _pause(self, lane: _Lane, due_ms: int) -> None:
        if lane.pause is None and not self._is_stopped:
            wait_s = max(0, due_ms - self._clock.wall_ms()) / 1000
            lane.pause = asyncio.get_running_loop().call_later(wait_s, self._resume, lane)

    async def _follow(self, item: _Item, verdict: Next, policy: Policy, result: InvokeResult | None) -> None:
        if isinstance(verdict, Over):
            await self._finish(item, verdict, policy, result)
            return
        item.progress = verdict.progress
        self._let_go(item)
        await self._keep(Entry("progress", item.number, progress=_encode(item.progress)))
        self._line_up(item)

    # --- the end ------------------------------------------------------------------------------------------

    async def _finish(self, item: _Item, over: Over, policy: Policy, result: InvokeResult | None) -> None:
        """End an event and send its outcome where it belongs."""
        event, condition = item.event, over.condition
        outcome = Outcome(condition, over.progress, result)
        owed: list[Delivery] = []
        if policy.on_success or policy.on_failure or policy.dead_letter:
            owed = deliveries(
                event,
                await self._payload(item),
                outcome,
                policy=policy,
                function_arn=_qualified(event),
                now_ms=self._clock.wall_ms(),
            )
        if condition is Condition.RECURSION:
            self._meters.add("RecursiveInvocationsDropped", event.invoked_arn, 1)
        if condition is not Condition.SUCCESS and not owed:
            self._dropped(event.invoked_arn)
        await self._end(item, owed)

    async def _end(self, item: _Item, owed: list[Delivery]) -> None:
        """Replace an event by what is owed, in one step: to functions of the node the event that they get."""
        entries = [Entry("gone", item.number)]
        sent_on: list[_Item] = []
        to_send: list[tuple[int, Delivery]] = []
        refused: list[tuple[Delivery, str]] = []
        for delivery in owed:
            event = self._sent_on(delivery)
            if event is not None and (why := self._functions.refusal(item.event, delivery.target)):
                refused.append((delivery, why))
                continue
            number = next(self._numbers)
            if event is not None:
                sent_on.append(_Item(number, event, payload=delivery.body))
                entries.append(_new_event(sent_on[-1], delivery.body))
            else:
                to_send.append((number, delivery))
                entries.append(Entry("put", number, "delivery", _encode(delivery)))
        await self._keep(*entries)
        self._let_go(item)
        self._unended -= 1
        for delivery, why in refused:
            self._not_delivered(delivery, why)
        for each in sent_on:
            self._accepted(each)
        for number, delivery in to_send:
            self._send(number, delivery)

    def _sent_on(self, delivery: Delivery) -> Event | None:
        """Return the event that a function of the node gets; None if the target is none that can take it."""
        target = self._functions.target(delivery.target)
        if target is None or len(delivery.body) > EVENT_PAYLOAD_BYTES_MAX:
            return None
        name, qualifier = target
        return Event(
            request_id=self._functions.new_id(),
            function=name,
            qualifier=qualifier,
            invoked_arn=delivery.target,
            accepted_ms=self._clock.wall_ms(),
            trace_id=lineage.follow(delivery.trace_id, delivery.target),
        )

    def _send(self, number: int, delivery: Delivery) -> None:
        self._unended += 1
        if not self._is_stopped:
            self._tasks.spawn(self._deliver(number, delivery), f"deliver to {delivery.target}")

    async def _deliver(self, number: int, delivery: Delivery) -> None:
        try:
            await self._sender.send(delivery)
        except DeliveryError as error:
            self._not_delivered(delivery, str(error))
        await self._keep(Entry("gone", number))
        self._unended -= 1

    def _not_delivered(self, delivery: Delivery, why: str) -> None:
        """Count a message that did not arrive; with it the event is lost, unless that had succeeded."""
        _log.warning("%s", why)
        is_letter = delivery.kind == "dead-letter"
        name = "DeadLetterErrors" if is_letter else "DestinationDeliveryFailures"
        self._meters.add(name, delivery.invoked_arn, 1)
        if delivery.condition != Condition.SUCCESS.value:
            self._dropped(delivery.invoked_arn)

    # --- keeping ------------------------------------------------------------------------------------------

    async def _keep(self, *entries: Entry) -> None:
        """Make a step durable; while the disk cannot take it, nothing follows from it."""
        while True:
            try:
                await self._kept.commit(entries)
            except StoreError as error:
                if not error.retryable:
                    raise
                _log.error("%s; trying again in %g s", error, RETRY_S)
                await asyncio.sleep(RETRY_S)
            else:
                return

    async def _payload(self, item: _Item) -> bytes:
        if item.payload is None:
            return await self._kept.body(item.number)
        return item.payload

    def _hold(self, item: _Item) -> None:
        """Keep the payload of a waiting event in memory as long as there is room."""
        if item.payload is None:
            return
        if self._held_bytes + len(item.payload) > HELD_BYTES_MAX:
            item.payload = None
        else:
            self._held_bytes += len(item.payload)

    def _let_go(self, item: _Item) -> None:
        if item.payload is not None:
            self._held_bytes -= len(item.payload)
            item.payload = None

    def _dropped(self, invoked_arn: str) -> None:
        self._meters.add("AsyncEventsDropped", invoked_arn, 1)


def _new_event(item: _Item, payload: bytes) -> Entry:
    return Entry("put", item.number, "event", _encode(item.event), payload, _encode(item.progress))


def _qualified(event: Event) -> str:
    """Return the qualified ARN of what was invoked."""
    return event.invoked_arn if event.qualifier else f"{event.invoked_arn}:$LATEST"
