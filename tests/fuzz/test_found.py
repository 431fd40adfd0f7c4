"""What the fuzzers have found, told again in a few words."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from remora.http.limits import Limits
from remora.http.server import Server
from remora.spec.errors import ApiError
from remora.spec.lambda_api import load

NO_TEXT = b'{"a":"\xff","events":["\xff"],"errorMessage":"\xff"}'
"""JSON but for its strings, which are no UTF-8."""
DEEP = b'{"events":[],"more":' + b"[" * 5000 + b"]" * 5000 + b"}"


@pytest.mark.parametrize("body", [NO_TEXT, DEEP])
def test_a_registration_that_cannot_be_read_is_refused(stage, run, body):
    replies = []

    async def extension(actor):
        replies.append(await actor.register(body=body))
        await actor.extend("INVOKE", "SHUTDOWN")

    async def scenario():
        async with stage({"runtime": lambda actor: actor.serve(), "extension:a": extension}) as it:
            assert (await it.invoke(b"1")).payload == b"1"
        assert replies[0].status == 403
        assert replies[0].json["errorType"] == "InvalidRequestFormat"

    run(scenario())


@pytest.mark.parametrize("body", [NO_TEXT, b'"\xff"'])
def test_an_init_error_that_is_no_text_is_taken(stage, run, body):
    statuses = []

    async def runtime(actor):
        headers = {"Lambda-Runtime-Function-Error-Type": "Function.Odd"}
        statuses.append((await actor.call("POST", "/2018-06-01/runtime/init/error", headers, body)).status)
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            answer = await it.invoke()
            assert answer.payload == body
            assert answer.function_error == "Unhandled"
        assert set(statuses) == {202}

    run(scenario())


@pytest.mark.parametrize("kind", ["application/json", "application/vnd.aws.lambda.error.cause+json"])
def test_an_error_whose_cause_is_no_text_is_taken(stage, run, kind):
    async def runtime(actor):
        event = await actor.next()
        path = f"/2018-06-01/runtime/invocation/{event.headers['lambda-runtime-aws-request-id']}/error"
        headers = {"Content-Type": kind, "Lambda-Runtime-Function-XRay-Error-Cause": '{"message":"é"}'}
        sent = await asyncio.wait_for(actor.call("POST", path, headers, NO_TEXT), 10)
        assert sent.status == 202
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            assert (await it.invoke()).function_error == "Unhandled"
            assert (await it.invoke(b"2")).payload == b"2"

    run(scenario())


@pytest.mark.parametrize("digits", [19, 400, 5000])
def test_an_integer_without_end_is_refused(digits):
    api = load()
    route = api.route(b"PUT", b"/2015-03-31/functions/f/configuration", b"")
    with pytest.raises(ApiError) as caught:
        api.parse(route, b"", lambda _: None, b'{"Timeout":1%b}' % (b"0" * digits))
    assert 400 <= caught.value.status < 500


@pytest.mark.parametrize(
    "factory", [asyncio.new_event_loop, uvloop.new_event_loop], ids=["asyncio", "uvloop"]
)
def test_a_peer_that_sends_too_much_and_leaves_is_let_go(factory):
    problems = []

    async def scenario():
        asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
        server = Server(None, socket.create_server(("127.0.0.1", 0)), Limits(header_bytes_max=100))
        await server.start()
        peer = socket.create_connection(("127.0.0.1", server.port))
        while not server.connections:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        peer.sendall(b"GET / HTTP/1.1\r\nA: " + b"a" * 200 + b"\r\n\r\n")
        peer.close()  # the answer provokes a reset, right after it
        async with asyncio.timeout(120):
            while server.connections:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.001)
        await server.close()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(scenario())
    assert problems == []
