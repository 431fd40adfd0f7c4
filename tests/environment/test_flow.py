"""The main path: init, invoke, reuse, failures, shutdown, with scripted processes over real HTTP."""

import asyncio
import json

import pytest


async def echo(actor):
    await actor.serve()


async def extension(actor):
    await actor.extend("INVOKE", "SHUTDOWN")


@pytest.mark.case("LC-1")
@pytest.mark.case("RT-9")
def test_first_and_second_invocation(stage, run):
    async def scenario():
        async with stage({"runtime": echo}) as it:
            first = await it.invoke(b'{"a":1}')
            second = await it.invoke(b'{"a":2}', tail=True)
            assert (first.payload, second.payload) == (b'{"a":1}', b'{"a":2}')
            assert first.function_error is None
            assert first.executed_version == "$LATEST"
            assert it.driver.sandboxes[0].started == ["runtime"]
            log = await it.log()
            assert log[0].startswith("START RequestId: ")
            assert log[1].startswith("END")
            assert "Init Duration: " in log[2]
            assert "Init Duration: " not in log[5]
            assert len(log) == 6

    run(scenario())


@pytest.mark.case("LC-2")
@pytest.mark.case("EXT-28")
def test_runtime_starts_after_every_extension_registered(stage, run):
    async def slow(actor):
        await asyncio.sleep(0.05)
        await actor.extend("INVOKE", "SHUTDOWN")

    async def scenario():
        async with stage({"runtime": echo, "extension:a": slow, "extension:b": slow}) as it:
            await it.invoke()
            marks = it.marks()
            started = [name for kind, name in marks if kind == "process.started"]
            assert started == ["a", "b", "runtime"]
            registered = [number for number, (kind, _) in enumerate(marks) if kind == "extension.registered"]
            assert max(registered) < marks.index(("process.started", "runtime"))

    run(scenario())


@pytest.mark.case("LC-13")
def test_answer_does_not_wait_for_extensions(stage, run):
    release = asyncio.Event()

    async def lingering(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        while (await actor.next_event()).json["eventType"] == "INVOKE":
            await release.wait()

    async def scenario():
        async with stage({"runtime": echo, "extension:a": lingering}) as it:
            answer = await it.invoke(b"1")
            assert answer.payload == b"1"
            assert it.pool.environments()[0]["state"] == "finishing"
            release.set()
            assert (await it.invoke(b"2", tail=True)).log_tail.count(b"REPORT") == 1

    run(scenario())


@pytest.mark.case("EXT-37")
def test_spindown_reaches_extensions_after_the_runtime_is_gone(stage, run):
    heard = {}

    async def listening(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        while (event := await actor.next_event()).json["eventType"] == "INVOKE":
            pass
        heard.update(event.json)

    async def scenario():
        async with stage({"runtime": echo, "extension:a": listening}) as it:
            await it.invoke()
        assert heard["shutdownReason"] == "spindown"
        marks = it.marks()
        exits = marks.index(("process.exited", "runtime"))
        assert exits < marks.index(("extension.notified", "a")) < marks.index(("process.exited", "a"))

    run(scenario())


@pytest.mark.case("LC-18")
def test_runtime_exit_fails_the_invocation_and_resets(stage, run):
    reasons = []

    async def listening(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        while (event := await actor.next_event()).json["eventType"] == "INVOKE":
            pass
        reasons.append(event.json["shutdownReason"])

    async def crashing(actor):
        event = await actor.next()
        if event.body == b'"crash"':
            actor.exit(7)
        await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")
        await actor.serve()

    async def scenario():
        async with stage({"runtime": crashing, "extension:a": listening}) as it:
            answer = await it.invoke(b'"crash"')
            assert answer.function_error == "Unhandled"
            body = json.loads(answer.payload)
            assert body == {
                "errorType": "Runtime.ExitError",
                "errorMessage": f"RequestId: {answer.request_id} Error: "
                "Runtime exited with error: exit status 7",
            }
            assert (await it.invoke()).payload == b"ok"
            assert len(it.driver.sandboxes) in (1, 2)
        assert reasons[0] == "failure"

    run(scenario())


@pytest.mark.case("RT-25")
def test_timeout(stage, run):
    async def hanging(actor):
        await actor.next()
        await asyncio.sleep(60)

    async def scenario():
        async with stage({"runtime": hanging}, timeout_s=1) as it:
            answer = await it.invoke()
            assert json.loads(answer.payload) == {
                "errorType": "Sandbox.Timedout",
                "errorMessage": f"RequestId: {answer.request_id} Error: Task timed out after 1.00 seconds",
            }
            assert (await it.log())[-1].endswith("\tStatus: timeout")

    run(scenario())


def test_fifty_at_once_make_fifty_environments(stage, run):
    gate = asyncio.Barrier(50)

    async def waiting(actor):
        event = await actor.next()
        await gate.wait()
        await actor.respond(event.headers["lambda-runtime-aws-request-id"], event.body)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": waiting}) as it:
            answers = await asyncio.gather(*(it.invoke(b"%d" % number) for number in range(50)))
            assert sorted(int(answer.payload) for answer in answers) == list(range(50))
            assert len(it.driver.sandboxes) == 50

    run(scenario())


@pytest.mark.case("LC-8")
def test_failing_init_is_retried_within_the_invocation(stage, run):
    starts = []

    async def failing(actor):
        starts.append(1)
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": failing}) as it:
            answer = await it.invoke()
            assert "Runtime exited with error: exit status 1" in json.loads(answer.payload)["errorMessage"]
            assert len(starts) == 2
            log = "\n".join(await it.log())
            assert "Phase: init\tStatus: error\tError Type: Runtime.ExitError" in log
            assert "Phase: invoke\tStatus: error\tError Type: Runtime.ExitError" in log

    run(scenario())


def test_a_broken_machine_costs_its_environment_only(stage, run, caplog):
    async def scenario():
        async with stage({"runtime": echo}) as it:
            await it.invoke(b"1", tail=True)
            (member,) = it.pool._members.values()
            member.environment._performers.clear()
            answer = await it.invoke(b"2")
            assert json.loads(answer.payload)["errorType"] == "Sandbox.Failure"
            assert (await it.invoke(b"3")).payload == b"3"
            assert len(it.driver.sandboxes) == 2
        assert "broke" in caplog.text

    run(scenario())
