"""
"Using the Lambda Extensions API to create extensions": event/next, init/error, exit/error, and the events.

Scripts play the processes; what they were answered is looked at when all is over.
"""

import asyncio
import re
import time
import uuid

import pytest

from remora.environment.answers import invoke_event
from remora.environment.base import InvokeRequest
from remora.testing.scripted import Actor

EXT = "extension:ext.sh"
NEXT = ("GET", "/2020-01-01/extension/event/next")
INIT_ERROR = ("POST", "/2020-01-01/extension/init/error")
EXIT_ERROR = ("POST", "/2020-01-01/extension/exit/error")
CALLS = (NEXT, INIT_ERROR, EXIT_ERROR)
IDENTIFIER = "Lambda-Extension-Identifier"
ERROR_TYPE = "Lambda-Extension-Function-Error-Type"


def refused(answer, error_type, message):
    assert answer.status == 403
    assert answer.headers["content-type"] == "application/json"
    assert answer.json == {"errorMessage": message, "errorType": error_type}
    return True


def not_moved(answer, actor, source, target, why="State transition is not allowed"):
    failed = f"State transition from {source} to {target} failed for extension {actor.identifier}."
    return refused(answer, "Extension.InvalidExtensionState", f"{failed} Error: {why}")


def accepted(answer):
    assert answer.status == 202
    assert answer.headers["content-type"] == "application/json"
    assert answer.body == b'{"status":"OK"}\n'
    return True


@pytest.fixture
def played(stage, run):
    """
    Let an external extension play `scene(actor)` once, then do its work, while there are invocations.

    The runtime starts to serve when the scene is over, or sets `actor.cue`.
    """

    def play(scene, *, invocations=1, events=("INVOKE", "SHUTDOWN"), **members):
        cue, scenes = asyncio.Event(), [scene]

        async def extension(actor):
            actor.cue = cue
            await actor.register(*events)
            try:
                if scenes:
                    await scenes.pop()(actor)
            finally:
                cue.set()
            await actor.follow()

        async def runtime(actor):
            await cue.wait()
            await actor.serve()

        async def scenario():
            async with stage({"runtime": runtime, EXT: extension}, **members) as it:
                return [await it.invoke(b"1") for _ in range(invocations)]

        return run(scenario())

    return play


async def wait_twice(actor):
    """Call next twice at once; return the answer to the second, and the first, which still waits."""
    calls = {asyncio.create_task(actor.next_event()) for _ in range(2)}
    answered, waiting = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    return answered.pop().result(), waiting.pop()


# --- who calls --------------------------------------------------------------------------------------------


@pytest.mark.case("EXT-16")
@pytest.mark.parametrize(("method", "path"), CALLS)
@pytest.mark.parametrize("headers", [{}, {IDENTIFIER: ""}])
def test_a_call_needs_an_identifier(played, method, path, headers):
    async def scene(actor):
        answer = await actor.call(method, path, {**headers, ERROR_TYPE: "Extension.Foo"})
        text = "Missing Lambda-Extension-Identifier header"
        assert refused(answer, "Extension.MissingExtensionIdentifier", text)

    played(scene)


@pytest.mark.case("EXT-17")
@pytest.mark.parametrize(("method", "path"), CALLS)
def test_an_identifier_is_a_uuid(played, method, path):
    async def scene(actor):
        answer = await actor.call(method, path, {IDENTIFIER: "abc", ERROR_TYPE: "Extension.Foo"})
        text = "Invalid Lambda-Extension-Identifier"
        assert refused(answer, "Extension.InvalidExtensionIdentifier", text)

    played(scene)


@pytest.mark.case("EXT-18")
def test_an_identifier_must_have_been_given(played):
    async def scene(actor):
        stranger = str(uuid.uuid4())
        headers = {IDENTIFIER: stranger, ERROR_TYPE: "Extension.Foo"}
        answer = await actor.call(*NEXT, headers)
        assert refused(answer, "Extension.UnknownExtensionIdentifier", f"Unknown extension {stranger}")
        for call in (INIT_ERROR, EXIT_ERROR):
            answer = await actor.call(*call, headers)
            text = "Unknown Lambda-Extension-Identifier"
            assert refused(answer, "Extension.UnknownExtensionIdentifier", text)

    played(scene)


@pytest.mark.case("EXT-20")
@pytest.mark.parametrize("call", [INIT_ERROR, EXIT_ERROR])
@pytest.mark.parametrize("headers", [{}, {ERROR_TYPE: ""}])
def test_an_error_needs_a_type_whoever_posts_it(played, call, headers):
    async def scene(actor):
        for identifier in (actor.identifier, str(uuid.uuid4())):
            answer = await actor.call(*call, {IDENTIFIER: identifier, **headers})
            text = "Lambda-Extension-Function-Error-Type not found"
            assert refused(answer, "Extension.MissingHeader", text)

    played(scene)


@pytest.mark.case("EXT-48")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", NEXT[1]),
        ("GET", "/2020-01-01/extension/register"),
        ("PUT", INIT_ERROR[1]),
        ("GET", EXIT_ERROR[1]),
    ],
)
def test_a_wrong_method_is_not_allowed(played, method, path):
    async def scene(actor):
        assert (await actor.call(method, path)).status == 405

    played(scene)


@pytest.mark.case("EXT-46")
def test_switched_off_there_are_no_extensions_and_no_api(stage, run):
    answers = []

    async def runtime(actor):
        answers.append(await actor.register("INVOKE", name="in"))
        answers.append(await actor.next_event())
        answers.append(await actor.report("init", "Extension.Foo"))
        await actor.serve()

    async def scenario():
        switch = {"opt/disable-extensions-jwigqn8j": None}
        async with stage({"runtime": runtime, EXT: Actor.extend}, files=switch) as it:
            assert (await it.invoke(b"1")).payload == b"1"
            assert it.driver.sandboxes[0].started == ["runtime"]
            assert not [line for line in await it.log() if line.startswith("EXTENSION")]

    run(scenario())
    assert [(answer.status, answer.body) for answer in answers] == [(404, b"")] * 3


@pytest.mark.case("EXT-47")
def test_telemetry_is_answered_and_the_extension_goes_on(played):
    async def scene(actor):
        body = b'{"schemaVersion":"2022-12-13","types":["platform"],"destination":{"protocol":"HTTP"}}'
        answer = await actor.call("PUT", "/2022-07-01/telemetry", {IDENTIFIER: actor.identifier}, body)
        assert answer.status == 202
        assert answer.json["errorType"] == "Telemetry.NotSupported"

    (answer,) = played(scene, settings={"has_telemetry": False})
    assert answer.payload == b"1"


# --- states -----------------------------------------------------------------------------------------------


@pytest.mark.case("EXT-19")
def test_a_second_next_beside_the_first_is_refused(played):
    async def scene(actor):
        second, first = await wait_twice(actor)
        assert not_moved(second, actor, "Ready", "Ready")
        actor.cue.set()
        assert (await first).json["eventType"] == "INVOKE"

    played(scene)


@pytest.mark.case("EXT-21")
def test_the_first_init_error_stays(stage, run):
    async def extension(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        assert accepted(await actor.report("init", "Extension.Foo"))
        assert accepted(await actor.report("init", "Extension.Bar"))
        assert not_moved(await actor.next_event(), actor, "InitError", "Ready")
        assert not_moved(await actor.report("exit", "Extension.Bar"), actor, "InitError", "Exited")
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            await it.invoke()
            state = "EXTENSION\tName: ext.sh\tState: InitError\tEvents: [INVOKE, SHUTDOWN]"
            assert f"{state}\tError Type: Extension.Foo" in await it.log()

    run(scenario())


@pytest.mark.case("EXT-22")
def test_after_its_first_next_an_extension_reports_no_init_error(played):
    async def scene(actor):
        _, waiting = await wait_twice(actor)
        assert not_moved(await actor.report("init", "Extension.Foo"), actor, "Ready", "InitError")
        actor.cue.set()
        await waiting
        assert not_moved(await actor.report("init", "Extension.Foo"), actor, "Running", "InitError")

    (answer,) = played(scene)
    assert answer.payload == b"1"


async def is_registered(actor):
    pass


async def is_ready(actor):
    _, waiting = await wait_twice(actor)
    actor.waiting = waiting


async def is_running(actor):
    actor.cue.set()
    await actor.next_event()


@pytest.mark.case("EXT-23")
@pytest.mark.parametrize("reach", [is_registered, is_ready, is_running])
def test_an_exit_error_is_taken_in_every_state(played, reach):
    async def scene(actor):
        await reach(actor)
        assert accepted(await actor.report("exit", "Extension.Foo"))
        assert accepted(await actor.report("exit", "Extension.Bar"))
        assert not_moved(await actor.next_event(), actor, "ExitError", "Ready")
        assert not_moved(await actor.report("init", "Extension.Bar"), actor, "ExitError", "InitError")
        if reach is is_ready:
            why = "Concurrent state modification"
            assert not_moved(await actor.waiting, actor, "ExitError", "Ready", why)
        actor.exit(1)

    played(scene)


# --- events -----------------------------------------------------------------------------------------------


@pytest.fixture
def heard(stage, run):
    """Return the answers to the runtime's and the extension's next, after so many invocations."""

    def listen(*, invocations=1, trace_id=""):
        events, announced = [], []

        async def runtime(actor):
            while True:
                events.append(await actor.next())
                await actor.respond(events[-1].headers["lambda-runtime-aws-request-id"], b"ok")

        async def extension(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            while (event := await actor.next_event()).json["eventType"] == "INVOKE":
                announced.append((actor.identifier, event))

        async def scenario():
            async with stage({"runtime": runtime, EXT: extension}) as it:
                for _ in range(invocations):
                    await it.invoke(b'{"secret":1}', invoked_arn="arn:f:live", trace_id=trace_id)

        run(scenario())
        return events, announced

    return listen


@pytest.mark.case("EXT-24")
def test_the_invoke_event_tells_what_the_runtime_is_told(heard):
    events, announced = heard(invocations=2)
    before_ms = time.time_ns() // 1_000_000
    for event, (identifier, told) in zip(events, announced, strict=True):
        assert told.status == 200
        assert told.headers["content-type"] == "application/json"
        assert told.headers["lambda-extension-identifier"] == identifier
        headers = event.headers
        assert told.json == {
            "eventType": "INVOKE",
            "deadlineMs": int(headers["lambda-runtime-deadline-ms"]),
            "requestId": headers["lambda-runtime-aws-request-id"],
            "invokedFunctionArn": headers["lambda-runtime-invoked-function-arn"],
            "tracing": {"type": "X-Amzn-Trace-Id", "value": headers["lambda-runtime-trace-id"]},
        }
        assert told.json["invokedFunctionArn"] == "arn:f:live"
        assert abs(told.json["deadlineMs"] - before_ms - 3000) < 1000
    first, second = (told.headers["lambda-extension-event-identifier"] for _, told in announced)
    assert re.fullmatch(r"[0-9a-f-]{36}", first)
    assert first != second


@pytest.mark.case("EXT-25")
def test_the_trace_is_told_as_it_came(heard):
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"
    _, ((_, told),) = heard(trace_id=trace)
    assert told.json["tracing"] == {"type": "X-Amzn-Trace-Id", "value": trace}


@pytest.mark.case("EXT-25")
def test_without_a_trace_there_is_no_tracing():
    """The pool gives every invocation a trace, as the cloud does: this is about the event alone."""
    event = invoke_event("r", 1, InvokeRequest(payload=b"", invoked_arn="a"))
    assert event == {"eventType": "INVOKE", "deadlineMs": 1, "requestId": "r", "invokedFunctionArn": "a"}


@pytest.mark.case("EXT-26")
@pytest.mark.case("LC-15")
def test_who_did_not_subscribe_is_not_waited_for(played):
    events = []

    async def scene(actor):
        actor.cue.set()
        events.append(await actor.next_event())
        actor.exit()

    answers = played(scene, invocations=3, events=("SHUTDOWN",))
    assert [answer.payload for answer in answers] == [b"1"] * 3
    assert [event.json["eventType"] for event in events] == ["SHUTDOWN"]


@pytest.mark.case("EXT-27")
@pytest.mark.case("LC-4")
def test_init_waits_for_the_first_next_of_all_who_registered(stage, run):
    release = asyncio.Event()

    async def extension(actor):
        await actor.register()
        await release.wait()
        await actor.next_event()

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            call = asyncio.create_task(it.invoke())
            # Given a runtime that is at next, and an extension that is not
            await it.marked("runtime.ready")
            assert "init.ended" not in dict(it.marks())
            # When it calls next, then init is done
            release.set()
            await call
            kinds = [kind for kind, _ in it.marks()]
            assert kinds.index("extension.ready") < kinds.index("init.ended") < kinds.index("invoke.started")

    run(scenario())
