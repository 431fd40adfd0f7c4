"""
One environment's telemetry: who subscribed, what they are told, what those who come later will be told.

Everything that happens is recorded from the start of an init until it is done; after that, an environment
without subscribers pays nothing for them.

Source: telemetry-api specification, sections 1 to 4 and 5.6; logs-api specification.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from remora.lifecycle.messages import Kind
from remora.telemetry.delivery import Delivery
from remora.telemetry.events import write_dropped, write_fact, write_lines, write_objects
from remora.telemetry.facts import Fact, TellerState
from remora.telemetry.queue import Queue, QueueState
from remora.telemetry.subscriptions import Api, Refusal, Subscription, place, read_subscription

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.lifecycle.messages import Happened
    from remora.telemetry.facts import Teller
    from remora.telemetry.queue import Entry

FLUSH_S: Final = 1.0
"""How long a shutdown waits in total until subscribers have what was there."""
HISTORY_ITEMS_MAX: Final = 10_000
HISTORY_BYTES_MAX: Final = 1_048_576
"""Lines that are recorded of an init for those who subscribe late; what follows these counts as dropped."""
HISTORY_FACTS_MAX: Final = 1_000
"""The same for platform events."""

SUBSCRIBED: Final = b'"OK"'
ALREADY_SUBSCRIBED: Final = b'"AlreadySubscribed"'

_EVENTS: Final = {
    Api.TELEMETRY: "platform.telemetrySubscription",
    Api.LOGS: "platform.logsSubscription",
}


class Printed(NamedTuple):
    """Log lines, with their newlines."""

    category: str
    texts: list[str]
    time_ms: int
    at_us: int


@dataclass(frozen=True, slots=True)
class Subscriber:
    """One subscription and its delivery."""

    subscription: Subscription
    delivery: Delivery


class SubscriptionState(msgspec.Struct, frozen=True):
    """One subscription, and what was not delivered to it."""

    subscription: Subscription
    queue: QueueState


class BroadcastState(msgspec.Struct, frozen=True):
    """What goes into a snapshot: who subscribed, and what the teller knows."""

    subscribers: tuple[SubscriptionState, ...]
    teller: TellerState


class Answer(NamedTuple):
    """The answer to a request for a subscription; `state` is empty if it was refused."""

    status: int
    body: bytes
    state: str
    types: tuple[str, ...]


class Broadcast:
    """
    The telemetry of one environment.

    Args:
        teller: Tells what happened.
        make_socket: Returns a socket of the environment's network.
        clock: The node's clock.
        tasks: Owner of the tasks that connect to subscribers.
        has_objects: True if the function logs JSON: lines that are objects are delivered as such.
    """

    def __init__(
        self,
        teller: Teller,
        *,
        make_socket: Callable[[], Awaitable[socket.socket]],
        clock: Clock,
        tasks: TaskSet,
        has_objects: bool = False,
    ) -> None:
        self.teller = teller
        self._make_socket = make_socket
        self._clock = clock
        self._tasks = tasks
        self._has_objects = has_objects
        self._subscribers: list[Subscriber] = []
        self._history: list[Fact | Printed] | None = None
        self._history_facts = self._history_items = self._history_bytes = 0
        self._missed: dict[str, tuple[int, int]] = {}
        """Records, and bytes of them, for which the history had no room, by category."""
        self._flushing: list[Callable[[], None]] = []
        self._flush_timer: asyncio.TimerHandle | None = None
        self._is_flushed = False

    def __repr__(self) -> str:
        """State who has subscribed."""
        names = ", ".join(each.subscription.name for each in self._subscribers)
        return f"<Broadcast to {names or 'nobody'}>"

    @property
    def is_heard(self) -> bool:
        """True if anybody listens, or might still come to."""
        return bool(self._subscribers) or self._history is not None

    # --- who listens ---------------------------------------------------------------------------------------

    def subscribe(self, name: str, api: Api, body: bytes) -> Answer:
        """Add a subscription of the extension `name`, if its body is as it should be."""
        try:
            subscription = read_subscription(name, api, body)
            is_new = place(subscription, (each.subscription for each in self._subscribers))
        except Refusal as refusal:
            error = {"errorType": f"{api.value}.{refusal.error_type}", "errorMessage": refusal.message}
            return Answer(refusal.status, msgspec.json.encode(error), "", ())
        if is_new:
            self._add(subscription)
        else:
            for each in self._subscribers:
                if each.subscription == subscription:
                    each.delivery.retry()
        state = "Subscribed" if is_new else "Already subscribed"
        record = {"name": name, "state": state, "types": list(subscription.types)}
        self._tell(Fact(_EVENTS[api], self._clock.wall_ms(), self._clock.monotonic_us(), record))
        return Answer(200, SUBSCRIBED if is_new else ALREADY_SUBSCRIBED, state, subscription.types)

    def _add(self, subscription: Subscription) -> None:
        """Begin to deliver, what was recorded first, as a batch of its own."""
        subscriber = self._subscriber(subscription)
        delivery = subscriber.delivery
        queue = delivery.queue
        for each in self._history or ():
            queue.put(self._entries(each, subscriber))
        for category in subscription.types:
            if category in self._missed:
                queue.drop(*self._missed[category])
        self._subscribers.append(subscriber)
        queue.flush()
        delivery.step()

    def _subscriber(self, subscription: Subscription) -> Subscriber:
        delivery = Delivery(
            Queue(subscription.buffering, self._write_dropped),
            subscription.destination,
            make_socket=self._make_socket,
            clock=self._clock,
            tasks=self._tasks,
        )
        return Subscriber(subscription, delivery)

    def _write_dropped(self, records: int, size_bytes: int) -> bytes:
        return write_dropped(records, size_bytes, self._clock.wall_ms())

    # --- what goes into a snapshot, and comes out of it ----------------------------------------------------

    async def release(self) -> None:
        """
        Deliver nothing until `resume`, and return when no connection to a subscriber is left.

        **Cancellation:** connections are dropped all the same.
        """
        for each in self._subscribers:
            each.delivery.pause()
            each.delivery.disconnect()
        for each in self._subscribers:
            await each.delivery.release()

    def state(self) -> BroadcastState:
        """Return who subscribed and what they have not got yet; the init must be over."""
        assert self._history is None, "a snapshot was taken within an init"
        subscribers = self._subscribers
        held = [SubscriptionState(each.subscription, each.delivery.queue.state()) for each in subscribers]
        return BroadcastState(tuple(held), self.teller.state())

    def adopt(self, state: BroadcastState) -> None:
        """Have the subscribers that another one had; they hear nothing of it, nor anything until `resume`."""
        assert not self._subscribers, "subscribers were adopted by an environment that has some"
        now_us = self._clock.monotonic_us()
        self.teller.adopt(state.teller, now_us)
        for held in state.subscribers:
            subscriber = self._subscriber(held.subscription)
            subscriber.delivery.pause()
            subscriber.delivery.queue.adopt(held.queue, now_us)
            self._subscribers.append(subscriber)

    # --- what they are told --------------------------------------------------------------------------------

    def happened(self, happened: Happened, memory_peak_bytes: int = 0) -> None:
        """Tell what happened in the environment, to those who listen and those who may come."""
        kind = happened.kind
        if kind is Kind.INIT_STARTED:
            self._init_started()
        if not self.is_heard:
            return
        memory_peak_mib = -(-memory_peak_bytes // (1024 * 1024))
        for fact in self.teller.tell(happened, self._clock.wall_ms(), memory_peak_mib):
            self._tell(fact)
        if kind is Kind.INIT_ENDED and happened.detail == "success":
            self._history = None
        elif kind is Kind.SHUTDOWN_ENDED:
            for each in self._subscribers:
                each.delivery.disconnect()
            self.pause()

    def _init_started(self) -> None:
        self._is_flushed = False
        if self._history is None:
            self._history = []
            self._history_facts = self._history_items = self._history_bytes = 0
            self._missed.clear()
        self.resume()

    def printed(self, category: str, lines: list[str], end: str) -> None:
        """
        Tell what a process printed.

        Args:
            category: `function` or `extension`.
            lines: Its lines.
            end: What each ended with, a newline or nothing.
        """
        if self.is_heard:
            now_ms, now_us = self._clock.wall_ms(), self._clock.monotonic_us()
            self._tell(Printed(category, [line + end for line in lines], now_ms, now_us))

    def logged(self, text: str, time_ms: int) -> None:
        """Tell what the runtime logged through its channel; nothing is added to it."""
        if self.is_heard:
            self._tell(Printed("function", [text], time_ms, self._clock.monotonic_us()))

    def _tell(self, what: Fact | Printed) -> None:
        if self._history is not None:
            self._record(what)
        written: dict[str, list[Entry]] = {}
        category = what.category if isinstance(what, Printed) else "platform"
        for each in self._subscribers:
            if category not in each.subscription.types:
                continue
            version = each.subscription.version
            if version not in written:
                written[version] = self._entries(what, each)
            if written[version]:
                each.delivery.queue.put(written[version])
                each.delivery.step()

    def _record(self, what: Fact | Printed) -> None:
        assert self._history is not None, "something was recorded after the window had closed"
        if isinstance(what, Fact):
            self._history_facts += 1
            if self._history_facts <= HISTORY_FACTS_MAX:
                self._history.append(what)
            else:
                self._miss("platform", 1, 0)
            return
        room = 0
        if not self._missed.keys() - {"platform"} and self._history_bytes < HISTORY_BYTES_MAX:
            room = HISTORY_ITEMS_MAX - self._history_items
        kept, missed = what.texts[:room], what.texts[room:]
        if kept:
            self._history_items += len(kept)
            self._history_bytes += sum(map(len, kept))
            self._history.append(what._replace(texts=kept))
        if missed:
            self._miss(what.category, len(missed), sum(map(len, missed)))

    def _miss(self, category: str, items: int, size_bytes: int) -> None:
        missed_items, missed_bytes = self._missed.get(category, (0, 0))
        self._missed[category] = (missed_items + items, missed_bytes + size_bytes)

    def _entries(self, what: Fact | Printed, subscriber: Subscriber) -> list[Entry]:
        subscription = subscriber.subscription
        if isinstance(what, Fact):
            entry = write_fact(what, subscription.version) if "platform" in subscription.types else None
            return [entry] if entry is not None else []
        if what.category not in subscription.types:
            return []
        if self._has_objects:
            return write_objects(what.category, what.texts, what.time_ms, what.at_us, subscription.version)
        return write_lines(what.category, what.texts, what.time_ms, what.at_us)

    # --- when ----------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """Deliver nothing: nobody inside can run."""
        for each in self._subscribers:
            each.delivery.pause()

    def resume(self) -> None:
        """Deliver again, what waited at once."""
        for each in self._subscribers:
            each.delivery.resume()

    def flush(self, call: Callable[[], None]) -> None:
        """
        Call when subscribers have what is there now, or have had their time: `FLUSH_S` for a whole shutdown.

        Args:
            call: Called once, perhaps at once.
        """
        if self._is_flushed or not self._subscribers:
            call()
            return
        self._flushing.append(call)
        if self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(FLUSH_S, self._flushed)
            missing = len(self._subscribers)

            def arrived() -> None:
                nonlocal missing
                missing -= 1
                if not missing:
                    self._flushed()

            for each in self._subscribers:
                each.delivery.when_flushed(arrived)

    def _flushed(self) -> None:
        self._is_flushed = True
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        calls, self._flushing = self._flushing, []
        for call in calls:
            call()

    def close(self) -> None:
        """Deliver nothing any more. Repeated calls: no effect."""
        self._flushing.clear()
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        for each in self._subscribers:
            each.delivery.close()
