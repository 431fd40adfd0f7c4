"""Streamed responses, from the runtime's chunks to whoever invoked."""

import asyncio
import base64
import json
import tracemalloc

import pytest

from remora.testing.wire import connected

ID = "lambda-runtime-aws-request-id"
LIMIT = 6_291_556
STREAM_LIMIT = 200 * 1024 * 1024
MIB = 1024 * 1024
TRAILERS = {"Trailer": "Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body"}


def streaming(produce, replies, headers=None):
    """A runtime whose first response is what `produce` sends on a connection, with what it was answered."""

    async def runtime(actor):
        event = await actor.next()
        async with connected(actor) as wire:
            await wire.begin_stream(event.headers[ID], headers)
            await produce(wire)
            replies.append(await wire.reply())
        await actor.serve()

    return runtime


async def three(wire):
    for piece in (b"one ", b"two ", b"three"):
        await wire.chunk(piece)
    await wire.last_chunk()


async def read(stream):
    return b"".join([chunk async for chunk in stream.chunks()])


@pytest.mark.case("RT-30")
def test_as_it_is_produced(stage, run):
    replies, seen = [], asyncio.Event()

    async def produce(wire):
        await wire.chunk(b"first")
        await seen.wait()
        await wire.chunk(b"second")
        await wire.last_chunk()

    async def scenario():
        runtime = streaming(produce, replies, {"Content-Type": "text/html"})
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke(streams=True)
            assert (result.payload, result.function_error, result.content_type) == (b"", None, "text/html")
            chunks = result.stream.chunks()
            assert await anext(chunks) == b"first"
            assert not replies
            seen.set()
            assert await anext(chunks) == b"second"
            with pytest.raises(StopAsyncIteration):
                await anext(chunks)
            assert result.stream.end == ("", "", None)
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert (replies[0].status, replies[0].body) == (202, b'{"status":"OK"}\n')


@pytest.mark.case("RT-30")
def test_whole_for_whoever_does_not_stream(stage, run):
    replies = []

    async def scenario():
        async with stage({"runtime": streaming(three, replies)}) as it:
            result = await it.invoke()
            assert (result.payload, result.function_error) == (b"one two three", None)
            assert result.stream is None

    run(scenario())
    assert replies[0].status == 202


def test_more_than_six_megabytes_for_whoever_does_not_stream(stage, run):
    replies = []

    async def produce(wire):
        for _ in range(7):
            await wire.chunk(b"x" * MIB)
        await wire.last_chunk()

    async def scenario():
        async with stage({"runtime": streaming(produce, replies)}) as it:
            result = await it.invoke()
            assert json.loads(result.payload)["errorType"] == "Function.ResponseSizeTooLarge"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert (replies[0].status, replies[0].json["errorType"]) == (413, "RequestEntityTooLarge")


def test_a_runtime_that_does_not_stream_gives_a_whole_result(stage, run):
    async def echo(actor):
        await actor.serve()

    async def scenario():
        async with stage({"runtime": echo}) as it:
            result = await it.invoke(b"1", streams=True)
            assert (result.payload, result.stream) == (b"1", None)

    run(scenario())


@pytest.mark.case("RT-31")
@pytest.mark.parametrize("streams", [True, False])
def test_error_trailers(stage, run, streams):
    replies = []
    error = b'{"errorMessage":"m","errorType":"X"}'

    async def produce(wire):
        await wire.chunk(b"part")
        await wire.last_chunk(
            {
                "Lambda-Runtime-Function-Error-Type": "Runtime.X",
                "Lambda-Runtime-Function-Error-Body": base64.b64encode(error).decode(),
            }
        )

    async def scenario():
        async with stage({"runtime": streaming(produce, replies, TRAILERS)}) as it:
            result = await it.invoke(streams=streams)
            if streams:
                assert await read(result.stream) == b"part"
                assert result.stream.end == ("Runtime.X", error.decode(), None)
            else:
                assert (result.payload, result.function_error) == (b"part", None)
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert replies[0].status == 202


@pytest.mark.case("RT-32")
def test_cut_short(stage, run):
    replies = []

    async def produce(wire):
        await wire.chunk(b"part")
        wire.writer.write_eof()

    async def scenario():
        async with stage({"runtime": streaming(produce, replies)}) as it:
            result = await it.invoke(streams=True)
            assert await read(result.stream) == b"part"
            assert result.stream.end.error_code == "Runtime.TruncatedResponse"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert (replies[0].status, replies[0].json["errorType"]) == (400, "TruncatedHTTPRequest")


def test_error_after_the_response_has_begun(stage, run):
    replies = []

    async def runtime(actor):
        event = await actor.next()
        path = f"/2018-06-01/runtime/invocation/{event.headers[ID]}/error"
        async with connected(actor) as wire:
            await wire.begin_stream(event.headers[ID])
            await wire.chunk(b"part")
            replies.append(await actor.call("POST", path, {}, b"{}"))
            replies.append(await actor.next())
            await wire.last_chunk()
            await wire.reply()
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke(streams=True)
            assert await read(result.stream) == b"part"
            assert result.stream.end.error_code == ""

    run(scenario())
    texts = [reply.json["errorMessage"] for reply in replies]
    assert [reply.status for reply in replies] == [403, 403]
    assert texts[0].startswith("State transition from InvocationResponse to InvocationErrorResponse failed")
    assert texts[1].startswith("State transition from InvocationResponse to Ready failed")


@pytest.mark.parametrize("how", ["timeout", "exit"])
def test_the_environment_fails_in_the_middle(stage, run, how):
    async def runtime(actor):
        event = await actor.next()
        if event.body == b"2":
            await actor.respond(event.headers[ID], event.body)
            await actor.serve()
        async with connected(actor) as wire:
            await wire.begin_stream(event.headers[ID])
            await wire.chunk(b"part")
            if how == "exit":
                actor.exit(3)
            await asyncio.sleep(60)

    async def scenario():
        async with stage({"runtime": runtime}, timeout_s=1) as it:
            result = await it.invoke(streams=True)
            assert await read(result.stream) == b"part"
            error = json.loads(result.stream.end.error_details)
            assert error["errorType"] == result.stream.end.error_code
            # A process that ends closes its connections first, and the first failure is the one reported.
            assert error["errorType"] == (
                "Runtime.TruncatedResponse" if how == "exit" else "Sandbox.Timedout"
            )
            assert result.request_id in error["errorMessage"]
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())


def test_the_tail_of_the_log_comes_with_the_end(stage, run):
    async def runtime(actor):
        event = await actor.next()
        async with connected(actor) as wire:
            await wire.begin_stream(event.headers[ID])
            actor.print("printed while streaming\n")
            await three(wire)
            await wire.reply()
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke(streams=True, tail=True)
            assert await read(result.stream) == b"one two three"
            tail = result.stream.end.log_tail.decode()
            assert "printed while streaming" in tail
            assert "REPORT RequestId: " in tail

    run(scenario())


@pytest.mark.slow
def test_two_hundred_megabytes_and_no_byte_more(stage, run):
    replies = []

    async def runtime(actor):
        for size in (STREAM_LIMIT, STREAM_LIMIT + 1):
            event = await actor.next()
            async with connected(actor) as wire:
                await wire.begin_stream(event.headers[ID])
                for _ in range(size // MIB):
                    await wire.chunk(bytes(MIB))
                if size % MIB:
                    await wire.chunk(bytes(size % MIB))
                await wire.last_chunk()
                replies.append(await wire.reply())
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}, timeout_s=60) as it:
            for expected in ("", "Function.ResponseSizeTooLarge"):
                result = await it.invoke(streams=True)
                size = 0
                async for chunk in result.stream.chunks():
                    size += len(chunk)
                assert result.stream.end.error_code == expected
                assert size <= STREAM_LIMIT
                if not expected:
                    assert size == STREAM_LIMIT
            text = f"maximum allowed payload size ({STREAM_LIMIT} bytes)."
            assert text in result.stream.end.error_details
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert [reply.status for reply in replies] == [202, 413]


@pytest.mark.slow
def test_a_slow_reader_holds_the_runtime_back_and_memory_stays_flat(stage, run):
    sent, replies, full = [], [], asyncio.Event()

    async def produce(wire):
        for _ in range(100 * 16):
            wire.writer.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            if wire.writer.transport.get_write_buffer_size() > 65536:
                asyncio.get_running_loop().call_later(
                    0.2, full.set
                )  # long after the kernel's buffers are full
            await wire.writer.drain()
            sent.append(65536)
        await wire.last_chunk()

    async def scenario():
        async with stage({"runtime": streaming(produce, replies)}, timeout_s=60) as it:
            result = await it.invoke(streams=True)
            await full.wait()
            held = sum(sent)
            tracemalloc.start()
            size = 0
            async for chunk in result.stream.chunks():
                size += len(chunk)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            assert size == 100 * MIB
            assert held < 40 * MIB
            assert peak < 16 * MIB

    run(scenario())


def test_an_abandoned_stream_lets_the_runtime_finish(stage, run):
    replies = []

    async def produce(wire):
        for _ in range(64):
            await wire.chunk(bytes(65536))
        await wire.last_chunk()

    async def scenario():
        async with stage({"runtime": streaming(produce, replies)}) as it:
            result = await it.invoke(streams=True)
            result.stream.abandon()
            assert (await it.invoke(b"2")).payload == b"2"
            assert it.driver.sandboxes[0].started == ["runtime"]

    run(scenario())
    assert replies[0].status == 202


def test_a_body_that_was_pipelined_is_streamed_too(stage, run):
    replies = []

    async def runtime(actor):
        event = await actor.next()
        async with connected(actor) as wire:
            # One packet: a ping, and the response behind it.
            await wire.send(
                b"GET /2018-06-01/ping HTTP/1.1\r\nHost: x\r\n\r\n"
                b"POST /2018-06-01/runtime/invocation/%b/response HTTP/1.1\r\nHost: x\r\n"
                b"Lambda-Runtime-Function-Response-Mode: streaming\r\nTransfer-Encoding: chunked\r\n\r\n"
                b"3\r\nabc\r\n" % event.headers[ID].encode()
            )
            replies.append(await wire.reply())
            await wire.chunk(b"def")
            await wire.last_chunk()
            replies.append(await wire.reply())
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke(streams=True)
            assert await read(result.stream) == b"abcdef"

    run(scenario())
    assert [reply.status for reply in replies] == [200, 202]


def test_a_caller_that_gave_up_leaves_nothing_waiting(stage, run):
    replies, fetched, gate = [], asyncio.Event(), asyncio.Event()

    async def runtime(actor):
        event = await actor.next()
        if event.body == b"{}":
            fetched.set()
            await gate.wait()
            async with connected(actor) as wire:
                await wire.begin_stream(event.headers[ID])
                for _ in range(64):
                    await wire.chunk(bytes(65536))
                await wire.last_chunk()
                replies.append(await wire.reply())
            gate.clear()
        else:
            await actor.respond(event.headers[ID], event.body)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            call = asyncio.ensure_future(it.invoke(streams=True))
            await fetched.wait()
            call.cancel()
            gate.set()
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert replies[0].status == 202
