"""What an environment tells, over a snapshot: subscriptions, what was not delivered, what is held back."""

from __future__ import annotations

import asyncio
import json
import socket
from dataclasses import dataclass

import msgspec

from remora.kit.clock import SystemClock
from remora.kit.tasks import TaskSet
from remora.lifecycle.messages import Happened, Kind
from remora.telemetry.broadcast import Broadcast, BroadcastState
from remora.telemetry.facts import Subject, Teller
from remora.telemetry.queue import Entry, Queue, QueueState
from remora.telemetry.subscriptions import Api, Buffering

TIMEOUT_S = 20
SUBJECT = Subject("f", "1", "arn", 128, "old", initialization_type="snap-start")


@dataclass
class Clock:
    """A clock of its own machine."""

    ahead_us: int

    def monotonic_us(self):
        return SystemClock().monotonic_us() + self.ahead_us

    def wall_ms(self):
        return 1_700_000_000_000


class Subscriber:
    """Takes lines of JSON over TCP."""

    def __init__(self):
        self.events = asyncio.Queue()
        self.ended = asyncio.Event()

    async def __aenter__(self):
        self.server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_):
        self.server.close()
        await self.server.wait_closed()

    async def _serve(self, reader, writer):
        try:
            while line := await reader.readline():
                self.events.put_nowait(json.loads(line))
        except ConnectionError:
            pass
        self.ended.set()
        writer.close()

    async def types(self, count):
        return [(await self.events.get())["type"] for _ in range(count)]

    @property
    def body(self):
        destination = {"protocol": "TCP", "port": self.port}
        types = ["platform", "function"]
        asked = {"schemaVersion": "2022-12-13", "types": types, "destination": destination}
        return json.dumps({**asked, "buffering": {"maxItems": 1000, "timeoutMs": 25}}).encode()


async def make_socket():
    made = socket.socket()
    made.setblocking(False)
    return made


def broadcast(tasks, ahead_us):
    return Broadcast(Teller(SUBJECT), make_socket=make_socket, clock=Clock(ahead_us), tasks=tasks)


def initialised(telling):
    """Tell an init that succeeds."""
    telling.happened(Happened(Kind.RUNTIME_READY, 5))
    telling.happened(Happened(Kind.INIT_ENDED, 6, detail="success", phase="init", duration_us=6))


def over_a_snapshot(state):
    return msgspec.msgpack.decode(msgspec.msgpack.encode(state), type=BroadcastState)


def test_subscribers_are_there_again_and_nothing_is_told_twice():
    async def scene():
        tasks = TaskSet("test")
        async with asyncio.timeout(TIMEOUT_S), Subscriber() as subscriber:
            # Given a subscriber that has got what there was of an init
            first = broadcast(tasks, 10**9)
            first.happened(Happened(Kind.INIT_STARTED, 1, phase="init"))
            first.subscribe("e", Api.TELEMETRY, subscriber.body)
            assert await subscriber.types(1) == ["platform.telemetrySubscription"]
            # And something it has not got when a snapshot is taken
            first.pause()
            first.printed("function", ["a", "b"], "\n")
            initialised(first)
            await first.release()
            await subscriber.ended.wait()
            state = over_a_snapshot(first.state())
            first.close()
            # When a copy is restored, by another clock
            second = broadcast(tasks, 77)
            second.adopt(state)
            assert second.is_heard
            assert repr(second) == "<Broadcast to e>"
            assert subscriber.events.empty()
            second.happened(Happened(Kind.RESTORE_STARTED, 80))
            second.resume()
            # Then it gets that, and the init that was held back, and the restore, each once
            expected = ["function", "function", "platform.initStart", "platform.initRuntimeDone"]
            expected += ["platform.initReport", "platform.restoreStart"]
            assert await subscriber.types(6) == expected
            second.happened(Happened(Kind.RESTORE_ENDED, 90, detail="success"))
            second.happened(Happened(Kind.INVOKE_STARTED, 95, request_id="r"))
            second.happened(Happened(Kind.INVOKE_ENDED, 99, request_id="r", detail="timeout"))
            second.resume()
            # And the runtime counts as having been at work
            told = await subscriber.types(4)
            assert told == [
                "platform.restoreRuntimeDone",
                "platform.restoreReport",
                "platform.start",
                "platform.runtimeDone",
            ]
            # And it is known as a subscriber
            answer = second.subscribe("e", Api.TELEMETRY, subscriber.body)
            assert answer.state == "Already subscribed"
            await second.release()
            second.close()
            await tasks.close()

    asyncio.run(scene())


def test_nobody_listens_and_it_is_let_go_of_at_once():
    async def scene():
        tasks = TaskSet("test")
        async with asyncio.timeout(TIMEOUT_S):
            async with Subscriber() as subscriber:
                body = subscriber.body
            first = broadcast(tasks, 10)
            first.happened(Happened(Kind.INIT_STARTED, 1, phase="init"))
            first.subscribe("e", Api.TELEMETRY, body)
            initialised(first)
            await first.release()
            (held,) = first.state().subscribers
            kept = [*held.queue.out, *(each.json for each in held.queue.waiting)]
            assert [b"telemetrySubscription" in each for each in kept] == [True]
            first.close()
            await tasks.close()

    asyncio.run(scene())


def test_a_queue_goes_on_with_what_was_out_waited_and_was_lost():
    buffering = Buffering(2, 1000, 100)
    first = Queue(buffering, lambda records, _: b"lost %d" % records)
    first.put([Entry(b"%d" % number, 1, 5) for number in range(2)])
    assert first.take(5) == [b"0", b"1"]
    first.put([Entry(b"%d" % number, 1, 5) for number in range(2, 7)])
    state = msgspec.msgpack.decode(msgspec.msgpack.encode(first.state()), type=QueueState)
    second = Queue(buffering, lambda records, _: b"lost %d" % records)
    second.adopt(state, 10_000_000)
    batches = []
    while (batch := second.take(10_000_000)) is not None:
        batches.append(batch)
        second.delivered()
    assert batches == [[b"0", b"1"], [b"lost 1", b"2"], [b"3", b"4"]]
    assert second.take(10_099_999) is None
    assert second.take(10_100_000) == [b"5"]
