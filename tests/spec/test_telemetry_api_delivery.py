"""
"Lambda Telemetry API reference": how events reach a subscriber, and what becomes of those that cannot.

The runtime and the extensions are scripts, the subscribers' servers real ones.
"""

import asyncio
import base64
import hashlib
import json

import pytest

from remora.testing.subscriber import (
    ACCEPTED,
    BROKEN,
    listening,
    listening_tcp,
    printing,
    subscribe,
    subscriber,
    wish,
)

EXT = "extension:ext.sh"


def function_lines(listener):
    return listener.records("function")


@pytest.mark.case("TEL-21")
def test_a_batch_is_a_request_with_an_array(stage, run):
    async def scenario():
        async with listening() as listener:
            where = {"protocol": "HTTP", "URI": f"http://sandbox.localdomain:{listener.port}/a/b?c=d"}
            scripts = {"runtime": printing("one\n"), EXT: subscriber(wish(where))}
            async with stage(scripts) as it:
                await it.invoke()
            assert listener.connections == 1, "the connection is kept"
            assert len(listener.batches) > 1
            for batch in listener.batches:
                assert (batch.method, batch.target) == ("POST", "/a/b?c=d")
                assert batch.headers["content-type"] == "application/json"
                assert batch.headers["content-length"] == str(len(batch.body))
                assert batch.headers["user-agent"] == "awslambda-worker/1.0"
                assert batch.headers["host"] == f"169.254.100.6:{listener.port}"
                assert batch.headers["connection"] == "keep-alive"
                digest = base64.b64encode(hashlib.sha256(batch.body).digest()).decode()
                assert batch.headers["sequence-id"] == digest.rstrip("=")
                assert batch.events
                assert b"\n" not in batch.body
                assert all(list(event) == ["time", "type", "record"] for event in batch.events)

    run(scenario())


@pytest.mark.case("TEL-22")
def test_over_tcp_each_event_is_a_line(stage, run):
    async def scenario():
        async with listening_tcp() as listener:
            where = {"protocol": "TCP", "port": listener.port}
            scripts = {"runtime": printing("one\ntwo\n"), EXT: subscriber(wish(where))}
            async with stage(scripts) as it:
                await it.invoke()
                await it.invoke()
            assert listener.connections == 1
            assert function_lines(listener) == ["one\n", "two\n"] * 2
            assert all(batch.body.endswith(b"}\n") for batch in listener.batches)

    run(scenario())


@pytest.mark.case("TEL-23")
def test_deliveries_use_the_chosen_method(stage, run):
    async def scenario():
        async with listening() as put, listening() as post:
            uri = {"protocol": "HTTP", "URI": put.uri, "method": "PUT"}
            scripts = {"runtime": printing("one\n"), EXT: subscriber(wish(uri), wish(post))}
            async with stage(scripts) as it:
                await it.invoke()
            assert {batch.method for batch in put.batches} == {"PUT"}
            assert {batch.method for batch in post.batches} == {"POST"}

    run(scenario())


@pytest.mark.case("TEL-24")
def test_a_full_batch_does_not_wait(stage, run):
    async def scenario():
        async with listening() as listener:
            body = wish(listener, "function", buffering={"maxItems": 1000, "timeoutMs": 30_000})
            enough = lambda: listener.until(lambda: listener.batches)
            scripts = {"runtime": printing("x\n" * 1000, until=enough), EXT: subscriber(body)}
            async with stage(scripts) as it:
                await it.invoke()
            assert [len(batch.events) for batch in listener.batches] == [1000]

    run(scenario())


def test_the_event_that_makes_a_batch_full_is_part_of_it(stage, run):
    line = "x" * 99_999 + "\n"

    async def scenario():
        async with listening() as listener:
            body = wish(listener, "function", buffering={"maxBytes": 262_144, "timeoutMs": 30_000})
            enough = lambda: listener.until(lambda: listener.batches)

            async def runtime(actor):
                event = await actor.next()
                for _ in range(4):
                    await asyncio.to_thread(actor.print, line)
                await enough()
                await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
                await actor.next()

            async with stage({"runtime": runtime, EXT: subscriber(body)}) as it:
                await it.invoke()
            assert [len(batch.events) for batch in listener.batches] == [3, 1]

    run(scenario())


@pytest.mark.case("TEL-25")
def test_a_single_event_waits_for_the_timer(stage, run):
    async def scenario():
        loop, times = asyncio.get_running_loop(), []

        async def noted(_):
            times.append(loop.time())
            return ACCEPTED

        async def printed():
            times.append(loop.time())
            await listener.until(lambda: listener.batches)

        async with listening(noted) as listener:
            body = wish(listener, "function", buffering={"timeoutMs": 50})
            scripts = {"runtime": printing("x\n", until=printed), EXT: subscriber(body)}
            async with stage(scripts) as it:
                await it.invoke()
            (batch,) = listener.batches
            assert len(batch.events) == 1
            assert times[1] - times[0] > 0.045

    run(scenario())


@pytest.mark.case("TEL-26")
def test_unless_told_otherwise_a_batch_holds_ten_thousand(stage, run):
    async def scenario():
        async with listening() as listener:
            body = wish(listener, "function", buffering={"timeoutMs": 30_000})
            enough = lambda: listener.until(lambda: listener.batches)

            async def runtime(actor):
                event = await actor.next()
                await asyncio.to_thread(actor.print, "x\n" * 10_000)
                await enough()
                await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
                await actor.next()

            async with stage({"runtime": runtime, EXT: subscriber(body)}) as it:
                await it.invoke()
            assert [len(batch.events) for batch in listener.batches] == [10_000]

    run(scenario())


@pytest.mark.case("TEL-27", "LOG-24")
def test_what_a_slow_subscriber_cannot_take_is_counted(stage, run):
    lines = [f"{number:05d}\n" for number in range(12_000)]

    async def scenario():
        gate = asyncio.Event()

        async def slow(_):
            await gate.wait()
            return ACCEPTED

        async def runtime(actor):
            for part in (lines[:6000], lines[6000:]):
                event = await actor.next()
                await asyncio.to_thread(actor.print, "".join(part))
                await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
            await actor.next()

        async with listening(slow) as stalled, listening() as quick:
            bodies = (
                wish(stalled, "function", buffering={"maxItems": 1000, "timeoutMs": 25}),
                wish(quick, "function", buffering={"timeoutMs": 25}),
            )
            async with stage({"runtime": runtime, EXT: subscriber(*bodies)}) as it:
                await it.invoke()
                gate.set()
                await it.invoke()
                gate.clear()
                gate.set()
            dropped = stalled.records("platform.logsDropped")
            assert dropped
            counts = [record["droppedRecords"] for record in dropped]
            assert counts == sorted(counts), "they are counted from the beginning"
            assert dropped[0]["reason"].startswith("Some logs were dropped because the downstream consumer")
            assert dropped[0]["droppedBytes"] > 0
            for batch in stalled.batches:
                kinds = [event["type"] for event in batch.events]
                assert "platform.logsDropped" not in kinds[1:], "it is at the head"
                assert len(kinds) <= 1000
            full = [len(batch.events) for batch in stalled.batches if batch.events[0]["type"] != "function"]
            assert full[0] == 1000, "999 lines and the event that tells what is missing"
            assert len(function_lines(stalled)) + counts[-1] == len(lines)
            assert "platform.logsDropped" not in quick.types, "it is told to that subscriber alone"
            assert function_lines(quick) == lines

    run(scenario())


@pytest.mark.case("TEL-28")
def test_what_was_answered_badly_comes_again(stage, run):
    async def scenario():
        answers = [BROKEN, b"", b"nonsense\r\n\r\n", b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n"]

        async def moody(_):
            return answers.pop(0) if answers else ACCEPTED

        async with listening(moody) as listener:
            enough = lambda: listener.until(lambda: len(listener.batches) > 4)
            scripts = {
                "runtime": printing("x\n", until=enough),
                EXT: subscriber(wish(listener, "function")),
            }
            async with stage(scripts) as it:
                await it.invoke()
            bodies = [batch.body for batch in listener.batches]
            assert bodies[0] == bodies[1] == bodies[2] == bodies[3] == bodies[4]
            assert len(bodies) == 5, "and nothing but it"

    run(scenario())


def test_every_success_counts_and_a_long_answer_is_cut_off(stage, run):
    async def scenario():
        answers = [
            b"HTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
            b"HTTP/1.0 200 OK\r\n\r\nand so on",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"5\r\nhello\r\n" * 10_000,
        ]

        async def various(_):
            return answers.pop(0) if answers else ACCEPTED

        async with listening(various) as listener:
            body = wish(listener, "function")
            count = 0

            async def arrived():
                nonlocal count
                count += 1
                await listener.told("function", count)

            async with stage({"runtime": printing("x\n", until=arrived), EXT: subscriber(body)}) as it:
                for _ in range(8):
                    await it.invoke()
            assert not answers
            assert function_lines(listener) == ["x\n"] * 8, "nothing came twice"

    run(scenario())


def test_nobody_has_to_listen(stage, run):
    async def scenario():
        async with listening() as listener:
            port = listener.port
        where = {"protocol": "HTTP", "URI": f"http://sandbox:{port}"}
        bodies = (wish(where), wish({"protocol": "TCP", "port": port}))
        async with stage({"runtime": printing("x\n"), EXT: subscriber(*bodies)}) as it:
            for _ in range(5):
                assert (await it.invoke()).payload == b"ok"

    run(scenario())


@pytest.mark.case("TEL-29")
def test_a_line_is_put_together_per_stream(stage, run):
    async def scenario():
        async def runtime(actor):
            event = await actor.next()
            actor.print("A")
            actor.complain("B\n")
            await listener.told("function")
            actor.print("C\n")
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
            await actor.next()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: subscriber(wish(listener))}) as it:
                await it.invoke()
            assert function_lines(listener) == ["B\n", "AC\n"]

    run(scenario())


@pytest.mark.case("TEL-30", "MB-13")
def test_an_unfinished_line_waits_for_its_end(stage, run):
    async def scenario():
        texts = ["abc", "def\n"]

        async def runtime(actor):
            while True:
                event = await actor.next()
                actor.print(texts.pop(0))
                await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: subscriber(wish(listener))}) as it:
                await it.invoke()
                second = await it.invoke(tail=True)
            assert b"\nabcdef\n" in second.log_tail
            assert function_lines(listener) == ["abcdef\n"]
            kinds = listener.types
            assert kinds.index("function") > kinds.index("platform.report")

    run(scenario())


@pytest.mark.parametrize(
    ("said", "events"),
    [
        (b"\xff\xfe\n", ["\ufffd\ufffd\n"]),
        ("ü€\n".encode(), ["ü€\n"]),
        (b"a\0b\r\n\x1b[31m\n", ["a\0b\r\n", "\x1b[31m\n"]),
        (b"\n\n", ["\n", "\n"]),
        (b"x" * 600_000 + b"\n", ["x" * 262_144, "x" * 262_144, "x" * 75_712 + "\n"]),
    ],
)
def test_whatever_is_printed_arrives(stage, run, said, events):
    async def scenario():
        async def runtime(actor):
            event = await actor.next()
            await asyncio.to_thread(actor.print_bytes, said)
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
            await actor.next()

        async with listening() as listener, listening_tcp() as lines:
            bodies = (wish(listener), wish({"protocol": "TCP", "port": lines.port}))
            async with stage({"runtime": runtime, EXT: subscriber(*bodies)}) as it:
                await it.invoke()
            assert function_lines(listener) == events
            assert function_lines(lines) == events

    run(scenario())


@pytest.mark.case("TEL-33", "TEL-35", "LOG-23")
def test_what_was_not_delivered_before_a_reset_is_delivered_after_it(stage, run):
    async def scenario():
        answers, identifiers = [], []

        async def restarted(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            identifiers.append(actor.identifier)
            answers.append(await subscribe(actor, wish(listener)))
            answers.append(await subscribe(actor, wish(listener), identifier=identifiers[0]))
            await actor.follow()

        async def runtime(actor):
            event = await actor.next()
            if event.body == b"slow":
                await asyncio.Event().wait()
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
            await actor.next()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: restarted}, timeout_s=1) as it:
                slow = await it.invoke(b"slow")
                await it.invoke(b"quick")
            first, _, again, former = answers
            assert (first.body, again.body) == (b'"OK"', b'"AlreadySubscribed"')
            assert former.status == 403
            assert former.json["errorType"] == "Extension.UnknownExtensionIdentifier"
            report = next(r for r in listener.records("platform.report") if r["requestId"] == slow.request_id)
            assert report["status"] == "timeout"
            assert report["metrics"]["durationMs"] == 1000.0
            assert "spans" not in report
            states = [record["state"] for record in listener.records("platform.telemetrySubscription")]
            assert states == ["Subscribed", "Already subscribed", "Already subscribed"]
            events = [(event["type"], event["record"]) for event in listener.events]
            done = next(record for kind, record in events if kind == "platform.runtimeDone")
            assert done["status"] == "timeout"
            assert done["metrics"]["producedBytes"] == 0
            kinds = [kind for kind, _ in events]
            assert kinds.count("platform.report") == 2, "nothing came twice"
            second_init = len(kinds) - 1 - kinds[::-1].index("platform.initStart")
            assert events[second_init][1]["phase"] == "invoke"
            assert second_init > kinds.index("platform.report")

    run(scenario())


def test_a_subscriber_that_never_answers_delays_nobody(stage, run):
    async def scenario():
        async def never(_):
            await asyncio.Event().wait()

        async with listening(never) as dead, listening() as alive:
            scripts = {"runtime": printing("x\n"), EXT: subscriber(wish(dead), wish(alive))}
            async with stage(scripts) as it:
                loop = asyncio.get_running_loop()
                await it.invoke()
                began = loop.time()
                for _ in range(20):
                    await it.invoke()
                assert loop.time() - began < 2
            assert function_lines(alive) == ["x\n"] * 21
            assert len({batch.body for batch in dead.batches}) == 1, "only its first batch is tried"

    run(scenario())


def test_at_shutdown_telemetry_comes_before_the_event(stage, run):
    async def scenario():
        seen = []

        async with listening() as listener:
            short = {"timeoutMs": 25}

            async def subscribed_twice(actor):
                await actor.register("INVOKE", "SHUTDOWN")
                await subscribe(actor, wish(listener, "platform", buffering={"timeoutMs": 30_000}))
                await subscribe(actor, wish(listener, "extension", buffering=short))
                await actor.follow()
                seen.extend(listener.types)
                actor.print("bye\n")
                await listener.told("extension")

            async with stage({"runtime": printing("x\n"), EXT: subscribed_twice}) as it:
                await it.invoke()
            assert seen[-1] == "platform.report"
            assert listener.records("extension") == ["bye\n"]

    run(scenario())


def test_json_is_compact_and_readable(stage, run):
    async def scenario():
        async with listening() as listener:
            scripts = {"runtime": printing('say "hi" \\ \t\n'), EXT: subscriber(wish(listener))}
            async with stage(scripts) as it:
                await it.invoke()
            (batch,) = [each for each in listener.batches if b'"type":"function"' in each.body]
            assert b'"record":"say \\"hi\\" \\\\ \\t\\n"' in batch.body
            assert json.loads(batch.body)

    run(scenario())


def test_what_there_was_no_room_for_before_anybody_subscribed_is_counted(stage, run):
    lines = [f"{number:05d}\n" for number in range(30_000)]

    async def scenario():
        async def verbose(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            await asyncio.to_thread(actor.print, "".join(lines))
            for body in (wish(late, "extension"), wish(other, "function")):
                await subscribe(actor, body)
            await actor.follow()

        async with listening() as late, listening() as other:
            async with stage({"runtime": printing("x\n"), EXT: verbose}) as it:
                await it.invoke()
            dropped = late.records("platform.logsDropped")
            got = late.records("extension")
            assert got == sorted(set(got))
            assert got[0] == lines[0]
            assert len(got) + dropped[-1]["droppedRecords"] == len(lines)
            assert "platform.logsDropped" not in other.types

    run(scenario())
