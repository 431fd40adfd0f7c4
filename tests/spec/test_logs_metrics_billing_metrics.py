"""
"Types of metrics for Lambda functions", "Viewing metrics for Lambda functions", and the pricing page.

Scripts play the processes; what was counted is looked at when all is over.
"""

import asyncio
import json
import re

import pytest

from remora.lifecycle.messages import Happened, Kind
from remora.pool.base import Throttled
from remora.sandbox.base import Exit
from remora.telemetry.billing import Rates, bill, bill_one
from remora.telemetry.metrics import MINUTE_S, Subject
from remora.telemetry.report import report
from remora.testing.scripted import Actor, Ended

EXT = "extension:ext.sh"
REQUEST_ID = "lambda-runtime-aws-request-id"
F = Subject("f")


def summary(it, name, subject=F):
    """Return everything that was counted of one metric; None if it has no samples."""
    found = it.meters.metrics.read(name, subject, 0, 2**40, 2**40 // MINUTE_S * MINUTE_S)
    assert len(found) <= 1
    return found[0][1] if found else None


async def reported(it, count=1):
    """Wait for as many reports, and return their durations in hundredths of milliseconds."""
    while len(lines := [line for line in await it.log() if line.startswith("REPORT")]) < count:
        await it.logged("REPORT")
    return [round(float(re.search(r"\tDuration: ([0-9.]+) ms", line)[1]) * 100) for line in lines]


async def failing_on_request(actor):
    while True:
        event = await actor.next()
        request_id = event.headers[REQUEST_ID]
        path = f"/2018-06-01/runtime/invocation/{request_id}"
        if event.body == b"1":
            await actor.call("POST", f"{path}/error", body=b'{"errorType":"E"}')
        else:
            await actor.respond(request_id, event.body)


@pytest.mark.case("MB-24")
def test_every_invocation_is_a_sample_of_errors(stage, run):
    async def scenario():
        async with stage({"runtime": failing_on_request}) as it:
            for body in (b"0", b"1", b"0", b"0", b"1", b"0"):
                await it.invoke(body)
            durations = await reported(it, 6)
            errors = summary(it, "Errors")
            assert (errors.total, errors.count) == (2, 6)
            assert (summary(it, "Invocations").total, summary(it, "Throttles").total) == (6, 0)
            # values are the ones of the log
            assert (summary(it, "Duration").total, summary(it, "Duration").count) == (sum(durations), 6)
            for subject in (F, Subject("f", "f"), Subject()):
                assert summary(it, "Errors", subject).total == 2

    run(scenario())


@pytest.mark.case("MB-25")
def test_duration_has_the_time_of_extensions_after_the_response(stage, run):
    async def lingering(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        await asyncio.sleep(0.3)
        await actor.follow()

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: lingering}) as it:
            await it.invoke()
            await reported(it)
            duration, post = summary(it, "Duration"), summary(it, "PostRuntimeExtensionsDuration")
            assert duration.total >= post.total >= 25_000
            assert duration.total - post.total < 20_000

    run(scenario())


@pytest.mark.case("MB-26")
def test_without_extensions_there_is_no_post_runtime(stage, run):
    async def scenario():
        async with stage({"runtime": Actor.serve}) as it:
            await it.invoke()
            await reported(it)
            assert summary(it, "Invocations").count == 1
            assert summary(it, "PostRuntimeExtensionsDuration") is None

    run(scenario())


def test_with_an_extension_that_is_idle_the_post_runtime_is_a_sample_near_nought(stage, run):
    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: lambda actor: actor.extend("SHUTDOWN")}) as it:
            await it.invoke()
            await reported(it)
            post = summary(it, "PostRuntimeExtensionsDuration")
            assert post.count == 1
            assert post.total < 1_000

    run(scenario())


def test_a_runtime_that_times_out_leaves_no_time_after_it(stage, run):
    async def hanging(actor):
        await actor.next()
        await asyncio.Event().wait()

    async def scenario():
        scripts = {"runtime": hanging, EXT: lambda actor: actor.extend("INVOKE", "SHUTDOWN")}
        async with stage(scripts, timeout_s=0.2) as it:
            await it.invoke()
            await reported(it)
            post = summary(it, "PostRuntimeExtensionsDuration")
            assert (post.count, post.total) == (1, 0)
            assert summary(it, "Errors").total == 1
            assert summary(it, "Duration").total == 20_000

    run(scenario())


@pytest.mark.case("MB-27")
def test_a_throttled_call_is_no_invocation(stage, run):
    entered, release = asyncio.Event(), asyncio.Event()

    async def waiting(actor):
        event = await actor.next()
        entered.set()
        await release.wait()
        await actor.respond(event.headers[REQUEST_ID], b"{}")
        await actor.serve()

    async def scenario():
        async with stage({"runtime": waiting}, settings={"concurrency": 1}) as it:
            call = asyncio.create_task(it.invoke())
            await entered.wait()
            with pytest.raises(Throttled):
                await it.invoke()
            throttles = summary(it, "Throttles")
            assert (throttles.total, throttles.count) == (1, 1)
            assert summary(it, "Invocations") is None
            release.set()
            await call
            await reported(it)
            assert (summary(it, "Throttles").total, summary(it, "Throttles").count) == (1, 2)
            assert summary(it, "Invocations").total == 1
            assert summary(it, "Errors").total == 0
            assert summary(it, "ConcurrentExecutions").greatest == 1

    run(scenario())


@pytest.mark.case("MB-28")
def test_an_init_within_an_invocation_is_part_of_its_duration(stage, run):
    generations = []

    async def slow_to_start(actor):
        generations.append(actor)
        if len(generations) == 1:
            raise Ended(Exit(1, None))
        await asyncio.sleep(0.3)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": slow_to_start}) as it:
            assert (await it.invoke(b"1")).payload == b"1"
            (logged,) = await reported(it)
            assert summary(it, "Duration").total == logged >= 29_000
            assert it.meters.usage.report("f")["cold_starts"] == 0
            assert it.meters.usage.report("f")["inits_failed"] == 1

    run(scenario())


@pytest.mark.case("MB-29")
def test_the_shortest_invocation_is_billed_as_a_millisecond():
    billed = bill_one(Rates("x86_64", 1024), 400)
    assert (billed.billed_ms, billed.gb_seconds) == (1, 0.001)


@pytest.mark.case("MB-30")
def test_gb_seconds_are_memory_times_billed_time():
    assert bill(Rates("x86_64", 512), 1, 1583).gb_seconds == 0.7915


@pytest.mark.case("MB-33")
def test_a_warm_call_is_billed_by_the_millisecond_and_shown_to_the_hundredth():
    assert bill_one(Rates(), 1_317).billed_ms == 2
    ended = Happened(Kind.INVOKE_ENDED, 0, request_id="r", detail="success", duration_us=1_317)
    assert "\tDuration: 1.32 ms\tBilled Duration: 2 ms\t" in report(ended, 128, 50)


def test_what_each_extension_costs_is_told(stage, run):
    async def working(actor):
        await asyncio.sleep(0.05)
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        await is_done.wait()
        await asyncio.sleep(0.1)
        await actor.follow()

    is_done = asyncio.Event()

    async def scenario():
        scripts = {"runtime": Actor.serve, EXT: working, "extension:idle.sh": lambda a: a.extend("SHUTDOWN")}
        async with stage(scripts, memory_mib=512) as it:
            await it.invoke()
            await it.marked("runtime.done")
            is_done.set()
            await reported(it)
            told = it.meters.usage.report("f")
        slow, idle = told["extensions"]
        assert (slow["name"], idle["name"]) == ("ext.sh", "idle.sh")
        assert slow["init_ms"]["max"] >= 45
        assert slow["post_runtime_ms"]["max"] >= 90
        assert idle["post_runtime_ms"] is None
        assert told["cold_starts"] == told["invocations"] == 1
        assert told["billed_ms"] == told["last"][0]["billed_ms"] >= told["duration_ms"]["max"]
        assert told["gb_seconds"] == pytest.approx(0.5 * told["billed_ms"] / 1000)
        assert json.loads(json.dumps(told)) == told
        # when processes have ended it is known what they used
        after = it.meters.usage.report("f", "$LATEST")
        assert [each["processes_ended"] for each in after["extensions"]] == [1, 1]
        assert after["runtime"]["processes_ended"] == 1
        assert it.meters.metrics.in_flight() == {}
        assert it.meters.usage.report("f", "7") is it.meters.usage.report("g") is None

    run(scenario())
