"""The Runtime API over real HTTP: routes, states, headers, bodies, byte for byte."""

import asyncio
import json
import time

import pytest

from remora.resources.configuration import Runtimes, configure
from remora.resources.names import Place
from remora.resources.view import View
from remora.spec.errors import ApiError
from remora.testing.stage import function_version
from remora.testing.wire import connected

INVOCATION = "/2018-06-01/runtime/invocation"
INIT_ERROR = "/2018-06-01/runtime/init/error"
ID = "lambda-runtime-aws-request-id"
OK = b'{"status":"OK"}\n'
INVALID_ID = b'{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}\n'
PLACE = Place("us-east-1", "000000000000")
REFUSED = "State transition is not allowed"
OTHER = "00000000-0000-4000-8000-000000000000"
LIMIT = 6_291_556


def not_allowed(before, target):
    """The body of a refused move."""
    text = f"State transition from {before} to {target} failed for runtime. Error: {REFUSED}"
    return f'{{"errorMessage":"{text}","errorType":"InvalidStateTransition"}}\n'.encode()


def replies(*calls):
    """A runtime that makes calls for its first invocation, keeps the answers, responds, and serves."""
    kept = []

    async def runtime(actor):
        event = await actor.next()
        for method, path, *rest in calls:
            kept.append(await actor.call(method, path.format(id=event.headers[ID]), *rest))
        await actor.respond(event.headers[ID], b"done")
        await actor.serve()

    return runtime, kept


async def play(stage, runtime, *, payload=b"{}", **members):
    """Invoke once and return the answer."""
    async with stage({"runtime": runtime}, **members) as it:
        return await it.invoke(payload)


@pytest.mark.case("RT-1")
def test_unknown_path(stage, run):
    runtime, kept = replies(
        ("GET", "/2018-06-01/runtime/unknown"),
        ("GET", "/"),
        ("POST", INVOCATION + "/{id}/responses"),
        ("POST", INVOCATION + "/{id}/response/more"),
        ("GET", "/2018-06-01/runtime/invocation/next/"),
    )
    run(play(stage, runtime))
    for reply in kept:
        assert (reply.status, reply.body) == (404, b"404 page not found\n")
        assert reply.headers["content-type"] == "text/plain; charset=utf-8"


@pytest.mark.case("RT-2")
def test_wrong_method(stage, run):
    runtime, kept = replies(
        ("POST", INVOCATION + "/next"),
        ("GET", INVOCATION + "/{id}/response"),
        ("PUT", INVOCATION + "/{id}/error"),
        ("GET", INIT_ERROR),
        ("DELETE", "/2018-06-01/ping"),
        ("GET", "/2020-01-01/extension/register"),
    )
    run(play(stage, runtime))
    assert [(reply.status, reply.body) for reply in kept] == [(405, b"")] * 6


@pytest.mark.case("RT-3")
def test_ping(stage, run):
    runtime, kept = replies(("GET", "/2018-06-01/ping"))
    run(play(stage, runtime))
    assert [(reply.status, reply.body) for reply in kept] == [(200, b"pong")]


@pytest.mark.slow
@pytest.mark.case("RT-4")
def test_next_stays_open_until_there_is_an_invocation(stage, run):
    waited = []

    async def runtime(actor):
        await actor.serve(lambda event: waited.append(time.monotonic()) or event.body)

    async def scenario():
        async with stage({"runtime": runtime}, timeout_s=10) as it:
            await it.invoke(b"1")
            await asyncio.sleep(2)
            assert len(waited) == 1
            began = time.monotonic()
            await it.invoke(b"2")
            assert waited[1] >= began

    run(scenario())


@pytest.mark.case("RT-5")
def test_next_carries_everything_that_was_given(stage, run):
    events = []

    async def runtime(actor):
        events.append(await actor.next())
        await actor.respond(events[0].headers[ID], b"1")
        await actor.serve()

    given = {
        "invoked_arn": "arn:aws:lambda:us-east-1:000000000000:function:f:live",
        "client_context": '{"client":{"app_title":"<a & b>"}}',
        "cognito_identity": '{"cognitoIdentityId":"i","cognitoIdentityPoolId":"p"}',
        "trace_id": "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1",
        "tenant_id": "blue",
    }
    payload = bytes(range(256)) * 300

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke(payload, **given)
            (event,) = events
            assert (event.status, event.body) == (200, payload)
            headers = {name: value for name, value in event.headers.items() if name.startswith("lambda-")}
            deadline = headers.pop("lambda-runtime-deadline-ms")
            assert deadline.isdigit()
            assert headers == {
                ID: result.request_id,
                "lambda-runtime-invoked-function-arn": given["invoked_arn"],
                "lambda-runtime-client-context": given["client_context"],
                "lambda-runtime-cognito-identity": given["cognito_identity"],
                "lambda-runtime-trace-id": given["trace_id"],
                "lambda-runtime-aws-tenant-id": given["tenant_id"],
            }

    run(scenario())


@pytest.mark.case("RT-6")
def test_next_leaves_away_what_was_not_given(stage, run):
    events = []

    async def runtime(actor):
        events.append(await actor.next())
        await actor.respond(events[0].headers[ID], b"1")
        await actor.serve()

    run(play(stage, runtime))
    (event,) = events
    assert event.headers["content-type"] == "application/json"
    for name in ("client-context", "cognito-identity", "aws-tenant-id"):
        assert f"lambda-runtime-{name}" not in event.headers


@pytest.mark.case("RT-7")
def test_deadline(stage, run):
    seen = []

    async def runtime(actor):
        event = await actor.next()
        seen.append(int(event.headers["lambda-runtime-deadline-ms"]))
        await actor.respond(event.headers[ID], b"1")
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}, timeout_s=3) as it:
            before = time.time() * 1000
            await it.invoke()
            assert before + 2500 <= seen[0] <= time.time() * 1000 + 3001

    run(scenario())


@pytest.mark.case("RT-8")
def test_next_again_gives_the_same_event_again(stage, run):
    events = []

    async def runtime(actor):
        events.extend([await actor.next(), await actor.next(), await actor.next()])
        await actor.respond(events[0].headers[ID], b"1")
        await actor.serve()

    assert run(play(stage, runtime, payload=b'"same"')).payload == b"1"
    assert [event.status for event in events] == [200] * 3
    assert [event.body for event in events] == [b'"same"'] * 3
    assert len({event.headers[ID] for event in events}) == 1


@pytest.mark.case("RT-9")
def test_response_reaches_the_invoker_as_it_is(stage, run):
    answers = []
    body = bytes(range(256)) * 3

    async def runtime(actor):
        event = await actor.next()
        answers.append(await actor.respond(event.headers[ID], body, {"Content-Type": "image/png"}))
        await actor.serve()

    result = run(play(stage, runtime))
    assert (result.payload, result.content_type, result.function_error) == (body, "image/png", None)
    assert (answers[0].status, answers[0].body) == (202, OK)
    assert answers[0].headers["content-type"] == "application/json"


@pytest.mark.case("RT-10")
def test_wrong_identifier(stage, run):
    runtime, kept = replies(
        ("POST", f"{INVOCATION}/{OTHER}/response", {}, b"wrong"),
        ("POST", f"{INVOCATION}/{OTHER}/error", {}, b"wrong"),
        ("POST", f"{INVOCATION}//response", {}, b"wrong"),
        ("POST", f"{INVOCATION}/no-uuid/response", {}, b"wrong"),
    )
    assert run(play(stage, runtime)).payload == b"done"
    assert [(reply.status, reply.body) for reply in kept] == [(400, INVALID_ID)] * 4


@pytest.mark.case("RT-11")
def test_response_before_the_first_next(stage, run):
    kept = []

    async def runtime(actor):
        kept.append(await actor.respond(OTHER, b"early"))
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            assert (await it.invoke(b"1")).payload == b"1"

    run(scenario())
    assert (kept[0].status, kept[0].body) == (400, INVALID_ID)


@pytest.mark.case("RT-12")
def test_response_to_an_invocation_that_was_not_fetched(stage, run):
    starts, kept = [], []

    async def runtime(actor):
        starts.append(actor)
        if len(starts) == 1:
            actor.exit(1)  # so that the init is tried again inside the invocation
        (member,) = stages[0].pool._members.values()
        invocation = member.environment.machine.state.invocation
        kept.append(await actor.respond(invocation.request_id, b"early"))
        kept.append(await actor.call("POST", f"{INVOCATION}/{invocation.request_id}/error"))
        await actor.serve()

    stages = []

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            stages.append(it)
            assert (await it.invoke(b"1")).payload == b"1"

    run(scenario())
    assert [(reply.status, reply.body) for reply in kept] == [
        (403, not_allowed("Started", "InvocationResponse")),
        (403, not_allowed("Started", "InvocationErrorResponse")),
    ]


def late_calls(stage, run, *, first):
    """Respond, then call again while an extension still works, then once more when all is done."""
    kept, released, asked = [], asyncio.Event(), asyncio.Event()

    async def runtime(actor):
        event = await actor.next()
        identifier = event.headers[ID]
        await actor.call("POST", f"{INVOCATION}/{identifier}/{first}", {}, b'"first"')
        kept.append(await actor.respond(identifier, b"second"))
        kept.append(await actor.call("POST", f"{INVOCATION}/{identifier}/error", {}, b"third"))
        released.set()
        following = await actor.next()
        kept.append(await actor.respond(identifier, b"fourth"))
        await actor.respond(following.headers[ID], b'"next"')
        await actor.serve()

    async def extension(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        await released.wait()
        while (await actor.next_event()).json["eventType"] == "INVOKE":
            asked.set()

    async def scenario():
        async with stage({"runtime": runtime, "extension:a": extension}) as it:
            return [await it.invoke(), await it.invoke()]

    return run(scenario()), kept


@pytest.mark.case("RT-13")
@pytest.mark.case("RT-14")
@pytest.mark.case("RT-15")
@pytest.mark.parametrize("first", ["response", "error"])
def test_second_answer_while_the_invocation_is_open_and_after_it(stage, run, first):
    (one, two), kept = late_calls(stage, run, first=first)
    assert (one.payload, two.payload) == (b'"first"', b'"next"')
    assert one.function_error == (None if first == "response" else "Unhandled")
    assert [(reply.status, reply.body) for reply in kept] == [
        (403, not_allowed("RuntimeResponseSentState", "InvocationResponse")),
        (403, not_allowed("RuntimeResponseSentState", "InvocationErrorResponse")),
        (400, INVALID_ID),
    ]


@pytest.mark.case("RT-16")
@pytest.mark.case("RT-17")
def test_init_error_outside_init(stage, run):
    kept = []

    async def runtime(actor):
        event = await actor.next()
        kept.append(await actor.call("POST", INIT_ERROR, {}, b"{}"))
        await actor.respond(event.headers[ID], b"1")
        kept.append(await actor.call("POST", INIT_ERROR, {}, b"{}"))
        await actor.serve()

    run(play(stage, runtime))
    assert [(reply.status, reply.body) for reply in kept] == [
        (403, not_allowed("Running", "InitError")),
        (403, not_allowed("RuntimeResponseSentState", "InitError")),
    ]


@pytest.mark.case("RT-17")
def test_init_error_while_next_is_parked(stage, run):
    kept, idle, refused = [], asyncio.Event(), asyncio.Event()

    async def runtime(actor):
        event = await actor.next()
        await actor.respond(event.headers[ID], b"1")
        parked = asyncio.ensure_future(actor.next())
        await idle.wait()
        kept.append(await actor.call("POST", INIT_ERROR, {}, b"{}"))
        refused.set()
        await actor.respond((await parked).headers[ID], b"2")
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            await it.invoke(tail=True)
            idle.set()
            await refused.wait()
            assert (await it.invoke()).payload == b"2"

    run(scenario())
    assert (kept[0].status, kept[0].body) == (403, not_allowed("Ready", "InitError"))


@pytest.mark.case("RT-18")
@pytest.mark.case("RT-19")
def test_init_error(stage, run):
    kept = []
    body = b'{"errorMessage":"m <&>","errorType":"T"}'

    async def runtime(actor):
        kept.append(await actor.call("POST", INIT_ERROR, {}, body))
        kept.append(await actor.call("POST", INIT_ERROR, {}, body))
        kept.append(await actor.next())
        actor.exit(1)

    result = run(play(stage, runtime))
    once = [
        (202, OK),
        (403, not_allowed("InitError", "InitError")),
        (403, not_allowed("InitError", "Ready")),
    ]
    assert [(reply.status, reply.body) for reply in kept] == once * 2
    assert (result.payload, result.function_error) == (body, "Unhandled")
    assert result.content_type == "application/json"


@pytest.mark.case("RT-20")
def test_init_error_that_is_no_json(stage, run):
    async def runtime(actor):
        await actor.call("POST", INIT_ERROR, {"Content-Type": "application/json"}, b"abc")
        actor.exit(1)

    result = run(play(stage, runtime))
    assert (result.payload, result.content_type) == (b"abc", "application/octet-stream")


@pytest.mark.case("RT-27")
@pytest.mark.case("RT-28")
def test_oversized_response(stage, run):
    answers = []

    async def runtime(actor):
        for size in (LIMIT, LIMIT + 1, 1):
            event = await actor.next()
            answers.append(await actor.respond(event.headers[ID], b"x" * size))
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            fits, exceeds, after = [await it.invoke() for _ in range(3)]
            assert (len(fits.payload), fits.function_error) == (LIMIT, None)
            assert exceeds.function_error == "Unhandled"
            text = f"Response payload size exceeded maximum allowed payload size ({LIMIT} bytes)."
            expected = f'{{"errorMessage":"{text}","errorType":"Function.ResponseSizeTooLarge"}}'
            assert exceeds.payload == expected.encode()
            assert after.payload == b"x"
            assert it.driver.sandboxes[0].started == ["runtime"]

    run(scenario())
    text = f"Exceeded maximum allowed payload size ({LIMIT} bytes)."
    refusal = f'{{"errorMessage":"{text}","errorType":"RequestEntityTooLarge"}}\n'.encode()
    assert [(reply.status, reply.body) for reply in answers] == [(202, OK), (413, refusal), (202, OK)]


def test_oversized_error(stage, run):
    answers = []

    async def runtime(actor):
        event = await actor.next()
        path = f"{INVOCATION}/{event.headers[ID]}/error"
        answers.append(await actor.call("POST", path, {}, b"x" * (LIMIT + 1)))
        await actor.serve()

    result = run(play(stage, runtime))
    assert answers[0].status == 413
    assert json.loads(result.payload)["errorType"] == "Function.ResponseSizeTooLarge"


def test_a_response_too_large_even_to_be_thrown_away(stage, run):
    answers = []

    async def runtime(actor):
        event = await actor.next()
        async with connected(actor) as wire:
            await wire.head(
                "POST",
                f"{INVOCATION}/{event.headers[ID]}/response",
                {"Content-Length": str(1 << 30), "Expect": "100-continue"},
            )
            answers.append(await wire.reply())
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke()
            assert json.loads(result.payload)["errorType"] == "Function.ResponseSizeTooLarge"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    assert answers[0].status == 413
    assert answers[0].json["errorType"] == "RequestEntityTooLarge"


@pytest.mark.case("RT-29")
@pytest.mark.parametrize("mode", ["Streaming", "buffered", "streaming,", "x"])
def test_unknown_response_mode(stage, run, mode):
    answers = []

    async def runtime(actor):
        event = await actor.next()
        headers = {"Lambda-Runtime-Function-Response-Mode": mode}
        answers.append(await actor.respond(event.headers[ID], b"1", headers))
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke()
            assert result.function_error == "Unhandled"
            assert json.loads(result.payload)["errorType"] == "Runtime.InvalidResponseModeHeader"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    expected = (
        b'{"errorMessage":"Invalid function response mode","errorType":"InvalidFunctionResponseMode"}\n'
    )
    assert (answers[0].status, answers[0].body) == (400, expected)


def test_an_empty_response_mode_is_none(stage, run):
    async def runtime(actor):
        event = await actor.next()
        await actor.respond(event.headers[ID], b"1", {"Lambda-Runtime-Function-Response-Mode": ""})
        await actor.serve()

    assert run(play(stage, runtime)).payload == b"1"


@pytest.mark.case("RT-32")
@pytest.mark.parametrize("framing", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
@pytest.mark.parametrize("verb", ["response", "error"])
def test_body_cut_short(stage, run, framing, verb):
    answers = []

    async def runtime(actor):
        event = await actor.next()
        async with connected(actor) as wire:
            await wire.head("POST", f"{INVOCATION}/{event.headers[ID]}/{verb}", framing)
            if "Content-Length" in framing:
                await wire.send(b"0123456789")
            else:
                await wire.chunk(b"0123456789")
            wire.writer.write_eof()
            answers.append(await wire.reply())
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke()
            assert result.function_error == "Unhandled"
            assert json.loads(result.payload)["errorType"] == "Runtime.TruncatedResponse"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())
    expected = b'{"errorMessage":"HTTP request detected as truncated","errorType":"TruncatedHTTPRequest"}\n'
    assert (answers[0].status, answers[0].body) == (400, expected)


@pytest.mark.case("RT-33")
def test_error_reaches_the_invoker_as_it_is(stage, run):
    answers = []
    body = b'{"errorMessage" : "m", "errorType": "E", "stackTrace": [], "more": 1}'

    async def runtime(actor):
        event = await actor.next()
        headers = {"Lambda-Runtime-Function-Error-Type": "Function.MyErr"}
        path = f"{INVOCATION}/{event.headers[ID]}/error"
        answers.append(await actor.call("POST", path, headers, body))
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            result = await it.invoke()
            assert (result.payload, result.function_error) == (body, "Unhandled")
            assert (await it.invoke(b"2")).payload == b"2"
            assert it.driver.sandboxes[0].started == ["runtime"]

    run(scenario())
    assert (answers[0].status, answers[0].body) == (202, OK)


@pytest.mark.case("RT-38")
def test_no_restore_without_snapstart(stage, run):
    runtime, kept = replies(
        ("GET", "/2018-06-01/runtime/restore/next"), ("POST", "/2018-06-01/runtime/restore/error")
    )
    run(play(stage, runtime))
    assert [(reply.status, reply.body) for reply in kept] == [(404, b"404 page not found\n")] * 2


@pytest.mark.case("RT-52")
def test_special_characters_in_an_error_text(stage, run):
    async def failing(actor):
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": failing, "extension:<&>": odd}) as it:
            await it.invoke()

    kept = []

    async def odd(actor):
        await actor.register("SHUTDOWN", name=actor.name)
        kept.append(await actor.register("<&>"))
        await actor.follow()

    run(scenario())
    assert kept[0].json["errorMessage"] == "<&>: ErrorInvalidEventType"
    assert b"\\u003c\\u0026\\u003e" in kept[0].body


@pytest.mark.case("RT-44")
@pytest.mark.parametrize("name", ["AWS_REGION", "LAMBDA_TASK_ROOT", "_HANDLER", "AWS_LAMBDA_RUNTIME_API"])
def test_reserved_variables_are_refused(name):
    request = {"Environment": {"Variables": {name: "x", "LANG": "C"}}}
    with pytest.raises(ApiError) as caught:
        configure(View(), PLACE, Runtimes((), ()), function_version(), request, shared={})
    assert caught.value.code == "InvalidParameterValueException"
    assert f"Reserved keys used in this request: {name}" in caught.value.message
