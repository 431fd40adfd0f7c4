"""
"Understanding the Lambda execution environment lifecycle": Init, ahead of an invocation and within one.

Scripts play the processes; time limits are shortened.
"""

import asyncio
import json
import re

import pytest

from remora.kit.clock import SystemClock
from remora.lifecycle.machine import Budgets
from remora.pool.base import ProvisioningFailed
from remora.pool.provisioning import provision_one
from remora.testing.scripted import Actor

EXT = "extension:ext.sh"
SHORT = {"budgets": Budgets(init_us=50_000, external_us=200_000, external_runtime_us=30_000)}


def extend(actor):
    return actor.extend("INVOKE", "SHUTDOWN")


def failure_of(answer):
    assert answer.function_error == "Unhandled"
    return json.loads(answer.payload)


def milliseconds(name, line):
    """Return the number that a log line gives to `name`; None if it names no such thing."""
    found = re.search(rf"\t{name}: ([0-9.]+) ms", "\t" + line)
    return float(found[1]) if found else None


def times(it):
    """Return when what happened first, microseconds, by kind and name."""
    return {(mark.kind, mark.name): mark.at_us for mark in reversed(it.timeline())}


def scripts_in_turn(*scripts):
    """Return a script that is another one in each generation; the last stays."""
    left = list(scripts)

    def script(actor):
        return (left.pop(0) if len(left) > 1 else left[0])(actor)

    return script


async def hang(actor):
    await asyncio.Event().wait()


@pytest.mark.case("LC-1")
def test_without_extensions_the_runtime_starts_at_once(stage, run):
    async def scenario():
        async with stage({"runtime": Actor.serve}) as it:
            await it.invoke()
            kinds = [kind for kind, _ in it.marks() if kind not in ("sandbox.created", "environment.frozen")]
            assert kinds[:4] == ["init.started", "process.started", "runtime.ready", "init.ended"]

    run(scenario())


@pytest.mark.case("LC-2")
def test_the_runtime_starts_after_the_registration(stage, run):
    async def slow(actor):
        await asyncio.sleep(0.05)
        await extend(actor)

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: slow}) as it:
            await it.invoke()
            at = times(it)
            assert at["process.started", "runtime"] >= at["extension.registered", "ext.sh"]
            assert at["extension.registered", "ext.sh"] - at["process.started", "ext.sh"] >= 50_000

    run(scenario())


@pytest.mark.slow
@pytest.mark.case("LC-3")
def test_extensions_register_side_by_side(stage, run):
    async def slow(actor):
        await asyncio.sleep(0.3)
        await extend(actor)

    async def scenario():
        async with stage({"runtime": Actor.serve, "extension:a": slow, "extension:b": slow}) as it:
            await it.invoke()
            at = times(it)
            waited_us = at["process.started", "runtime"] - at["init.started", None]
            assert 300_000 <= waited_us < 590_000

    run(scenario())


@pytest.mark.case("LC-4")
def test_init_lasts_until_the_last_first_next(stage, run):
    async def slow(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await it_is_time.wait()
        await actor.follow()

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: slow}) as it:
            call = asyncio.create_task(it.invoke())
            await it.marked("runtime.ready")
            it_is_time.set()
            await call
            at = times(it)
            order = ["runtime.ready", "extension.ready", "init.ended", "invoke.started"]
            moments = [at[kind, "ext.sh" if kind == "extension.ready" else None] for kind in order]
            assert moments == sorted(moments)

    it_is_time = asyncio.Event()
    run(scenario())


@pytest.mark.case("LC-5")
@pytest.mark.case("LC-36")
def test_the_first_report_tells_and_bills_the_init(stage, run):
    async def slow(actor):
        await asyncio.sleep(0.03)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": slow}) as it:
            await it.invoke()
            first = await it.logged("REPORT RequestId")
            await it.invoke()
            second = await it.logged("REPORT RequestId")
            at = times(it)
            init_ms = (at["init.ended", None] - at["init.started", None]) / 1000
            assert milliseconds("Init Duration", first) == pytest.approx(init_ms, abs=0.006)
            assert milliseconds("Init Duration", first) >= 30
            billed = milliseconds("Billed Duration", first)
            assert billed >= milliseconds("Duration", first) + milliseconds("Init Duration", first)
            assert milliseconds("Init Duration", second) is None

    run(scenario())


@pytest.mark.case("LC-6")
def test_an_init_over_the_limit_is_made_again_within_the_invocation(stage, run):
    async def slow(actor):
        await asyncio.sleep(0.06)
        await actor.serve()

    async def scenario():
        # Given an init that takes longer than the limit, and a function timeout that is longer than both
        async with stage({"runtime": scripts_in_turn(hang, slow)}, settings=SHORT) as it:
            # When there is an invocation, then it succeeds
            assert (await it.invoke(b"1")).payload == b"1"
            await it.logged("REPORT RequestId")
            init_report, start, end, report = await it.log()
            assert init_report.endswith(" ms\tPhase: init\tStatus: timeout")
            assert 50 <= milliseconds("INIT_REPORT Init Duration", init_report) < 500
            assert start.startswith("START")
            assert end.startswith("END")
            # and the init within it is part of its duration
            assert milliseconds("Duration", report) >= 60
            assert milliseconds("Init Duration", report) is None
            assert report.endswith("MB\t")
            assert it.driver.sandboxes[0].started == ["runtime", "runtime"]

    run(scenario())


@pytest.mark.case("LC-6")
@pytest.mark.case("LC-7")
def test_the_limit_of_an_init_is_ten_seconds():
    assert Budgets().init_us == 10_000_000


@pytest.mark.case("LC-7")
def test_an_init_over_limit_and_timeout_is_a_timeout(stage, run):
    async def scenario():
        async with stage({"runtime": hang}, settings=SHORT, timeout_s=0.12) as it:
            answer = await it.invoke()
            message = f"RequestId: {answer.request_id} Error: Task timed out after 0.12 seconds"
            assert failure_of(answer) == {"errorType": "Sandbox.Timedout", "errorMessage": message}
            first, second, start, _, report = await it.log()
            assert first.endswith(" ms\tPhase: init\tStatus: timeout")
            assert second.endswith(" ms\tPhase: invoke\tStatus: timeout")
            assert start.startswith("START")
            assert report.endswith("\tStatus: timeout")

    run(scenario())


@pytest.mark.case("LC-8")
@pytest.mark.case("LC-10")
@pytest.mark.case("LC-40")
def test_a_failing_init_is_made_twice_for_the_first_invocation_and_once_for_the_next(stage, run):
    starts = []

    async def failing(actor):
        starts.append(actor)
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": failing}) as it:
            answer = await it.invoke()
            text = f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 1"
            assert failure_of(answer) == {"errorType": "Runtime.ExitError", "errorMessage": text}
            assert len(starts) == 2
            second = await it.invoke()
            assert failure_of(second)["errorType"] == "Runtime.ExitError"
            assert len(starts) == 3
            log = await it.log()
            how = "Status: error\tError Type: Runtime.ExitError"
            reports = [re.sub(r"[0-9.]+ ms", "T", line) for line in log if line.startswith("INIT_REPORT")]
            phases = ["init", "invoke", "invoke"]
            assert reports == [f"INIT_REPORT Init Duration: T\tPhase: {phase}\t{how}" for phase in phases]
            # every invocation has its START, and its init comes before it
            words = [line.split()[0] for line in log]
            assert words == [
                *("INIT_REPORT", "INIT_REPORT", "START", "END", "REPORT"),
                *("INIT_REPORT", "START", "END", "REPORT"),
            ]

    run(scenario())


@pytest.mark.case("LC-9")
def test_an_init_that_fails_once_goes_unnoticed(stage, run):
    async def failing(actor):
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": scripts_in_turn(failing, Actor.serve)}) as it:
            answer = await it.invoke(b"1")
            assert (answer.payload, answer.function_error) == (b"1", None)

    run(scenario())


@pytest.mark.case("LC-11")
def test_provisioned_concurrency_gives_an_init_more_time(stage, run):
    async def slow(actor):
        await asyncio.sleep(0.1)
        await actor.serve()

    async def scenario():
        # Given an init that takes longer than the limit of one on demand
        async with stage({"runtime": slow}, settings=SHORT) as it:
            await provision_one(it.pool, it.deployment)
            assert it.pool.environments()[0]["state"] == "idle"
            (report,) = await it.log()
            assert re.fullmatch(r"INIT_REPORT Init Duration: [1-9][0-9]{2}\.[0-9]{2} ms\tPhase: init", report)
            assert (await it.invoke(b"1")).payload == b"1"
            assert it.driver.sandboxes[0].started == ["runtime"]

    run(scenario())


@pytest.mark.case("LC-11")
@pytest.mark.parametrize(("timeout_s", "limit_s"), [(3, 130), (130, 130), (900, 900)])
def test_the_limit_of_a_provisioned_init_follows_the_timeout(timeout_s, limit_s):
    assert Budgets().provisioned(timeout_s).init_us == limit_s * 1_000_000


@pytest.mark.case("LC-12")
def test_a_provisioned_init_that_fails_is_told_and_not_repeated(stage, run):
    async def failing(actor):
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": scripts_in_turn(failing, Actor.serve)}) as it:
            with pytest.raises(ProvisioningFailed) as failure:
                await provision_one(it.pool, it.deployment)
            assert failure.value.reason == "FUNCTION_ERROR_INIT_FAILURE"
            assert it.driver.sandboxes[0].started == ["runtime"]
            (report,) = await it.log()
            assert report.endswith("Phase: init\tStatus: error\tError Type: Runtime.ExitError")
            # An invocation finds no half-made environment: it gets one of its own
            assert (await it.invoke(b"1")).payload == b"1"
            assert len(it.driver.sandboxes) == 2

    run(scenario())


@pytest.mark.case("LC-44")
def test_the_deadline_counts_from_the_start_even_if_an_init_comes_first(stage, run):
    deadlines, began_again_ms = [], []

    async def failing(actor):
        actor.exit(1)

    async def slow(actor):
        began_again_ms.append(SystemClock().wall_ms())
        await asyncio.sleep(0.05)
        event = await actor.next()
        deadlines.append(int(event.headers["lambda-runtime-deadline-ms"]))
        await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
        await actor.serve()

    async def listening(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        while (event := await actor.next_event()).json["eventType"] == "INVOKE":
            deadlines.append(event.json["deadlineMs"])

    async def scenario():
        scripts = {"runtime": scripts_in_turn(failing, slow), EXT: listening}
        async with stage(scripts) as it:
            asked_ms = SystemClock().wall_ms()
            await it.invoke()
            assert asked_ms <= deadlines[0] - 3000 <= began_again_ms[0]
            assert milliseconds("Duration", await it.logged("REPORT RequestId")) >= 50

    run(scenario())
    assert len(deadlines) == 2
    assert len(set(deadlines)) == 1
