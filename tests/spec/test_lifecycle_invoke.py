"""
"Understanding the Lambda execution environment lifecycle": Invoke, its endings, and the reset.

Scripts play the processes; time limits are shortened.
"""

import asyncio
import json
import re

import pytest

from remora.lifecycle.machine import Budgets
from remora.lifecycle.messages import Kind
from remora.telemetry.journal import Journal
from remora.telemetry.report import billed_ms
from remora.testing.scripted import Actor

EXT = "extension:ext.sh"
SHORT = {"budgets": Budgets(external_us=200_000, external_runtime_us=30_000)}
REQUEST_ID = "lambda-runtime-aws-request-id"


def extend(actor):
    return actor.extend("INVOKE", "SHUTDOWN")


def failure_of(answer):
    assert answer.function_error == "Unhandled"
    return json.loads(answer.payload)


def milliseconds(name, line):
    found = re.search(rf"\t{name}: ([0-9.]+) ms", line)
    return float(found[1]) if found else None


def scripts_in_turn(*scripts):
    """Return a script that is another one in each generation; the last stays."""
    left = list(scripts)

    def script(actor):
        return (left.pop(0) if len(left) > 1 else left[0])(actor)

    return script


async def hang(actor):
    await actor.next()
    await asyncio.Event().wait()


class Listener:
    """An external extension that remembers its identifiers, and why it was shut down."""

    def __init__(self):
        self.identifiers = []
        self.reasons = []

    async def __call__(self, actor):
        await actor.register("INVOKE", "SHUTDOWN")
        self.identifiers.append(actor.identifier)
        event = await actor.follow()
        self.reasons.append(event.json["shutdownReason"])


# --- who waits for whom -----------------------------------------------------------------------------------


@pytest.mark.case("LC-13")
@pytest.mark.case("LC-14")
def test_the_client_does_not_wait_for_extensions_but_the_next_event_does(stage, run):
    release, done = asyncio.Event(), []

    async def lingering(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        await release.wait()
        done.append(it_is_time())
        await actor.follow()

    async def runtime(actor):
        while True:
            event = await actor.next()
            given.append(it_is_time())
            await actor.respond(event.headers[REQUEST_ID], event.body)

    def it_is_time():
        return asyncio.get_running_loop().time()

    given = []

    async def scenario():
        async with stage({"runtime": runtime, EXT: lingering}) as it:
            # When the runtime has answered and the extension has not, then the client has its answer
            assert (await it.invoke(b"1")).payload == b"1"
            await it.marked("runtime.done")
            # and another event is not given out until it has
            call = asyncio.create_task(it.invoke(b"2"))
            await asyncio.sleep(0.05)
            assert len(given) == 1
            release.set()
            assert (await call).payload == b"2"
            assert given[1] > done[0]
            assert len(it.driver.sandboxes) == 1
            report = next(line for line in await it.log() if line.startswith("REPORT"))
            assert milliseconds("Duration", report) >= 50

    run(scenario())


@pytest.mark.case("LC-13")
def test_the_time_of_extensions_after_the_runtime_is_told(stage, run, monkeypatch):
    ends, happened, release = [], Journal.happened, asyncio.Event()

    def note(journal, what, *more):
        ends.extend([what] if what.kind is Kind.INVOKE_ENDED else [])
        happened(journal, what, *more)

    async def lingering(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        await release.wait()
        await asyncio.sleep(0.05)
        await actor.follow()

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: lingering}) as it:
            await it.invoke()
            await it.marked("runtime.done")
            release.set()
            await it.logged("REPORT RequestId")

    monkeypatch.setattr(Journal, "happened", note)
    run(scenario())
    (end,) = ends
    assert 50_000 <= end.post_runtime_us <= end.duration_us


@pytest.mark.case("LC-15")
def test_who_wants_no_invocations_is_not_waited_for(stage, run):
    events = []

    async def extension(actor):
        await actor.register("SHUTDOWN")
        events.append((await actor.next_event()).json["eventType"])

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            await it.invoke()
            await it.logged("REPORT RequestId")
            kinds = [kind for kind, _ in it.marks()]
            assert "extension.done" not in kinds
            assert it.pool.environments()[0]["state"] == "idle"

    run(scenario())
    assert events == ["SHUTDOWN"]


# --- endings ----------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.case("LC-16")
def test_a_runtime_that_never_asks_for_more_is_reset_at_the_timeout(stage, run):
    async def once(actor):
        event = await actor.next()
        await actor.respond(event.headers[REQUEST_ID], b"answer")
        await asyncio.Event().wait()

    listener = Listener()

    async def scenario():
        scripts = {"runtime": scripts_in_turn(once, Actor.serve), EXT: listener}
        async with stage(scripts, settings=SHORT, timeout_s=0.5) as it:
            answer = await it.invoke()
            assert (answer.payload, answer.function_error) == (b"answer", None)
            report = await it.logged("REPORT RequestId")
            assert report.endswith("\tStatus: timeout")
            await it.marked("shutdown.ended")
            assert listener.reasons == ["timeout"]

    run(scenario())


@pytest.mark.case("LC-17")
def test_an_error_of_the_handler_changes_nothing(stage, run):
    listener = Listener()

    async def runtime(actor):
        event = await actor.next()
        path = f"/2018-06-01/runtime/invocation/{event.headers[REQUEST_ID]}/error"
        await actor.call("POST", path, {"Lambda-Runtime-Function-Error-Type": "Function.Oops"}, b'{"a":1}')
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime, EXT: listener}) as it:
            assert failure_of(await it.invoke()) == {"a": 1}
            assert (await it.invoke(b"1")).payload == b"1"
            assert it.driver.sandboxes[0].started == [EXT, "runtime"]
            assert listener.reasons == []

    run(scenario())


@pytest.mark.case("LC-18")
def test_an_exit_of_the_runtime_resets_the_environment(stage, run):
    async def crash(actor):
        await actor.next()
        actor.exit(7)

    listener = Listener()

    async def scenario():
        scripts = {"runtime": scripts_in_turn(crash, Actor.serve), EXT: listener}
        async with stage(scripts) as it:
            answer = await it.invoke()
            text = f"RequestId: {answer.request_id} Error: Runtime exited with error: exit status 7"
            assert failure_of(answer) == {"errorType": "Runtime.ExitError", "errorMessage": text}
            assert (await it.invoke(b"1")).payload == b"1"
            assert it.driver.sandboxes[0].started == [EXT, "runtime"] * 2
            assert listener.reasons == ["failure"]
            assert len(set(listener.identifiers)) == 2
            # the same environment, the same log stream
            assert len(it.driver.sandboxes) == 1
            assert len({line.stream for line in await it.logs.read("/aws/lambda/f")}) == 1

    run(scenario())


@pytest.mark.case("LC-19")
def test_a_timeout_ends_the_runtime_before_extensions_hear_of_it(stage, run):
    listener = Listener()

    async def scenario():
        async with stage({"runtime": hang, EXT: listener}, settings=SHORT, timeout_s=0.1) as it:
            assert failure_of(await it.invoke())["errorType"] == "Sandbox.Timedout"
            await it.marked("shutdown.ended")
            marks = it.marks()
            gone = marks.index(("process.exited", "runtime"))
            assert gone < marks.index(("extension.notified", "ext.sh"))
            assert listener.reasons == ["timeout"]

    run(scenario())


@pytest.mark.case("LC-33")
def test_a_crash_of_an_extension_is_the_error_of_the_invocation(stage, run):
    async def crash(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        actor.exit(17)

    async def scenario():
        scripts = {"runtime": scripts_in_turn(hang, Actor.serve), EXT: scripts_in_turn(crash, extend)}
        async with stage(scripts) as it:
            answer = await it.invoke()
            text = f"RequestId: {answer.request_id} Error: exit status 17"
            assert failure_of(answer) == {"errorType": "Extension.Crash", "errorMessage": text}
            assert (await it.log())[-1].endswith("\tStatus: error\tError Type: Extension.Crash")

    run(scenario())


@pytest.mark.case("LC-34")
def test_what_fails_in_a_reset_is_not_reported(stage, run):
    async def crash(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        actor.exit(1)

    async def fail_later(actor):
        await actor.register("SHUTDOWN")
        await actor.follow()
        actor.exit(2)

    async def scenario():
        scripts = {"runtime": hang, "extension:a": crash, "extension:b": fail_later}
        async with stage(scripts, settings=SHORT) as it:
            answer = await it.invoke()
            assert failure_of(answer)["errorMessage"].endswith("Error: exit status 1")
            await it.marked("shutdown.ended")
            assert ("process.exited", "b") in it.marks()
            assert not [line for line in await it.log() if "exit status 2" in line]

    run(scenario())


@pytest.mark.case("LC-38")
def test_the_duration_of_a_timeout_is_the_timeout(stage, run):
    async def scenario():
        async with stage({"runtime": hang}, timeout_s=0.1) as it:
            await it.invoke()
            report = (await it.log())[-1]
            assert 100.0 <= milliseconds("Duration", report) <= 150.0
            assert report.endswith("\tStatus: timeout")

    run(scenario())


@pytest.mark.case("LC-46")
def test_an_event_that_comes_during_a_reset_is_served_after_it(stage, run):
    release = asyncio.Event()

    async def crash(actor):
        await actor.next()
        actor.exit(1)

    async def slow(actor):
        await actor.register("SHUTDOWN")
        await actor.follow()
        await release.wait()

    async def scenario():
        scripts = {"runtime": scripts_in_turn(crash, Actor.serve), EXT: slow}
        async with stage(scripts) as it:
            assert failure_of(await it.invoke())["errorType"] == "Runtime.ExitError"
            await it.marked("extension.notified", "ext.sh")
            calls = [asyncio.create_task(it.invoke(b"%d" % number)) for number in range(3)]
            await asyncio.sleep(0)
            release.set()
            assert [(await call).payload for call in calls] == [b"0", b"1", b"2"]

    run(scenario())


@pytest.mark.case("LC-47")
def test_an_exit_after_the_answer_costs_the_generation_only(stage, run):
    async def leave(actor):
        event = await actor.next()
        await actor.respond(event.headers[REQUEST_ID], b"answer")
        actor.exit(3)

    async def scenario():
        async with stage({"runtime": scripts_in_turn(leave, Actor.serve)}) as it:
            answer = await it.invoke()
            assert (answer.payload, answer.function_error) == (b"answer", None)
            report = await it.logged("REPORT RequestId")
            assert report.endswith("\tStatus: error\tError Type: Runtime.ExitError")
            assert (await it.invoke(b"1")).payload == b"1"
            assert it.driver.sandboxes[0].started == ["runtime", "runtime"]

    run(scenario())


@pytest.mark.case("LC-47")
def test_an_exit_while_idle_is_the_error_of_the_next_invocation(stage, run):
    release = asyncio.Event()

    async def leave(actor):
        event = await actor.next()
        await actor.respond(event.headers[REQUEST_ID], b"answer")
        waiting = asyncio.create_task(actor.next())
        await release.wait()
        waiting.cancel()
        actor.exit(3)

    async def scenario():
        async with stage({"runtime": scripts_in_turn(leave, Actor.serve)}) as it:
            await it.invoke()
            await it.logged("REPORT RequestId")
            release.set()
            await it.marked("process.exited", "runtime")
            assert failure_of(await it.invoke())["errorType"] == "Runtime.ExitError"
            assert (await it.invoke(b"1")).payload == b"1"

    run(scenario())


# --- the log ----------------------------------------------------------------------------------------------


@pytest.mark.case("LC-35")
def test_the_lines_of_a_successful_invocation(stage, run):
    async def printing(actor):
        while True:
            event = await actor.next()
            actor.print("hello\nworld")
            await actor.respond(event.headers[REQUEST_ID], b"ok")

    async def scenario():
        async with stage({"runtime": printing}) as it:
            answers = [await it.invoke(tail=True) for _ in range(2)]
            text = answers[0].log_tail.decode()
            start, first, end, report, nothing = text.split("\n")
            name = answers[0].request_id
            assert start == f"START RequestId: {name} Version: $LATEST"
            assert first == "hello"
            assert end == f"END RequestId: {name}"
            number = r"[0-9]+\.[0-9]{2}"
            memory = r"Memory Size: 128 MB\tMax Memory Used: [0-9]+ MB"
            durations = rf"Duration: {number} ms\tBilled Duration: [0-9]+ ms"
            pattern = rf"REPORT RequestId: {name}\t{durations}\t{memory}\tInit Duration: {number} ms\t"
            assert re.fullmatch(pattern, report)
            assert nothing == ""
            # a line that is not finished waits for its end
            assert "worldhello" in answers[1].log_tail.decode().split("\n")

    run(scenario())


@pytest.mark.case("LC-36")
def test_init_and_duration_are_billed_as_one():
    assert billed_ms(133_610, 80_000) == 214


@pytest.mark.case("LC-37")
@pytest.mark.parametrize(("duration_us", "billed"), [(3_000, 3), (3_010, 4), (3_001, 4), (0, 1)])
def test_a_part_of_a_millisecond_is_billed_whole(duration_us, billed):
    assert billed_ms(duration_us, -1) == billed
