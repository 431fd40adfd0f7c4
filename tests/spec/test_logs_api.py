"""
"Using the Lambda Logs API": what differs from the Telemetry API.

Source: logs-api specification.
"""

import asyncio

import pytest

from remora.testing.subscriber import (
    LOGS,
    TELEMETRY,
    listening,
    listening_tcp,
    printing,
    subscribe,
    wish,
)
from remora.testing.subscriber import subscriber as telemetry_subscriber

EXT = "extension:ext.sh"
REQUEST_ID = "lambda-runtime-aws-request-id"
HTTP = {"protocol": "HTTP", "URI": "http://sandbox.localdomain:4243/"}
V1, V2 = "2020-08-15", "2021-03-18"


def old(destination, *types, version=V2, **members):
    """Return the body of a subscription through the Logs API."""
    return wish(destination, *types, schemaVersion=version, **members)


def subscriber(*bodies, path=LOGS, **settings):
    """Return the script of an extension that subscribes through the Logs API."""
    return telemetry_subscriber(*bodies, path=path, **settings)


serving = printing("working\n")


@pytest.fixture
def judged(stage, run):
    """Return the answers to `(path, body)`, asked one after the other while the environment initialises."""

    def judge(*requests):
        async def scenario():
            answers, done = [], asyncio.Event()

            async def extension(actor):
                await actor.register("INVOKE")
                for path, body in requests:
                    answers.append(await subscribe(actor, body, path=path))
                done.set()
                await actor.follow()

            async def runtime(actor):
                await done.wait()
                await serving(actor)

            async with stage({"runtime": runtime, EXT: extension}) as it:
                await it.invoke()
                return answers, await it.log()

        return run(scenario())

    return judge


def refused(answer, error_type, message, status=400):
    assert answer.status == status
    assert answer.body.startswith(b'{"errorType":"Logs.' + error_type.encode())
    assert not answer.body.endswith(b"\n")
    assert answer.json["errorMessage"].partition(" at line ")[0] == message
    return True


@pytest.mark.case("LOG-1", "LOG-2")
@pytest.mark.parametrize("version", [None, V1, V2])
def test_a_subscription_is_accepted(judged, version):
    (answer,), log = judged((LOGS, old(HTTP, "function", "platform", version=version)))
    assert (answer.status, answer.body) == (200, b'"OK"')
    assert answer.headers["content-type"] == "application/json"
    assert "LOGS\tName: ext.sh\tState: Subscribed\tTypes: [Function, Platform]" in log


@pytest.mark.case("LOG-3", "LOG-4")
def test_the_schema_must_be_one_of_this_api(judged):
    (newer, unknown), _ = judged(
        (LOGS, old(HTTP, version="2022-07-01")), (LOGS, old(HTTP, version="2099-01-01"))
    )
    text = "LogsAPI only supports the following SchemaVersion: 2020-08-15, 2021-03-18"
    assert refused(newer, "ValidationError", text)
    assert unknown.json["errorType"] == "Logs.DeserializationError"
    assert unknown.json["errorMessage"].startswith("unknown variant `2099-01-01`")


@pytest.mark.case("LOG-7", "LOG-8", "LOG-9", "LOG-11")
def test_bodies_are_checked_as_in_the_other_api(judged):
    (timeout, items, size, get, host, bogus, single), _ = judged(
        (LOGS, old(HTTP, buffering={"timeoutMs": 24})),
        (LOGS, old(HTTP, buffering={"maxItems": 10_001})),
        (LOGS, old(HTTP, buffering={"maxBytes": 262_143})),
        (LOGS, old({**HTTP, "method": "GET"})),
        (LOGS, old({"protocol": "HTTP", "URI": "http://127.0.0.1:4243"})),
        (LOGS, old(HTTP, types=["bogus"])),
        (LOGS, old(HTTP, types=["platform.end"])),
    )
    assert refused(timeout, "ValidationError", "timeoutMs should be between 25 and 30000")
    assert refused(items, "ValidationError", "maxItems should be between 1000 and 10000")
    assert refused(size, "ValidationError", "maxBytes should be between 262144 and 1048576")
    assert refused(get, "DeserializationError", "unknown variant `GET`, expected `POST` or `PUT`")
    assert refused(host, "AccessDenied", "Only 'sandbox.localdomain' hostname is supported.", 403)
    assert bogus.json["errorType"] == "Logs.DeserializationError"
    assert refused(single, "ValidationError", "Unrecognized enum variant")


@pytest.mark.case("LOG-18")
@pytest.mark.parametrize(("first", "second"), [(TELEMETRY, LOGS), (LOGS, TELEMETRY)])
def test_an_extension_uses_one_of_the_two_apis(judged, first, second):
    bodies = {TELEMETRY: wish(HTTP), LOGS: old(HTTP)}
    (accepted, other, again), log = judged(
        (first, bodies[first]), (second, bodies[second]), (first, bodies[first])
    )
    assert accepted.body == b'"OK"'
    used, wanted = ("Telemetry", "Logs") if first == TELEMETRY else ("Logs", "Telemetry")
    assert other.status == 400
    assert other.json == {
        "errorType": f"{wanted}.AccessDenied",
        "errorMessage": f"The extension ext.sh is already subscribed to the {used}API. "
        "You must either subscribe to the LogsAPI or the TelemetryAPI",
    }
    assert again.body == b'"AlreadySubscribed"'
    assert not [line for line in log if line.startswith(f"{wanted.upper()}\t")]


@pytest.mark.case("LOG-10")
def test_deliveries_use_the_chosen_method(stage, run):
    async def scenario():
        async with listening() as put, listening() as post:
            uri = {"protocol": "HTTP", "URI": put.uri, "method": "PUT"}
            async with stage({"runtime": serving, EXT: subscriber(old(uri), old(post))}) as it:
                await it.invoke()
            assert {batch.method for batch in put.batches} == {"PUT"}
            assert {batch.method for batch in post.batches} == {"POST"}

    run(scenario())


@pytest.mark.case("LOG-12")
def test_over_tcp_each_event_is_a_line(stage, run):
    async def scenario():
        async with listening_tcp() as listener:
            body = old({"protocol": "TCP", "port": listener.port})
            async with stage({"runtime": serving, EXT: subscriber(body)}) as it:
                await it.invoke()
                await it.invoke()
            assert listener.connections == 1
            assert listener.records("function") == ["working\n"] * 2

    run(scenario())


@pytest.mark.case("LOG-13", "LOG-14", "LOG-15", "LOG-25")
def test_a_normal_invocation(stage, run):
    trace_id = "Root=1-6a00aa00-0123456789abcdef01234567;Parent=5f3e9b7a11c20d48;Sampled=1"

    async def scenario():
        async with listening() as one, listening() as two:
            bodies = (old(one, version=V1), old(two, version=V2))
            async with stage({"runtime": serving, EXT: subscriber(*bodies)}) as it:
                answer = await it.invoke(trace_id=trace_id)
            request_id = answer.request_id
            kinds = [kind for kind in two.types if kind != "platform.logsSubscription"]
            expected = [
                "platform.extension",
                "platform.start",
                "function",
                "platform.runtimeDone",
                "platform.end",
                "platform.report",
            ]
            assert kinds == expected
            expected.remove("platform.runtimeDone")
            assert [kind for kind in one.types if kind != "platform.logsSubscription"] == expected
            (start,) = two.records("platform.start")
            assert start.pop("requestId") == request_id
            assert start == {"version": "$LATEST"}
            assert two.records("platform.runtimeDone") == [{"requestId": request_id, "status": "success"}]
            assert two.records("platform.end") == [{"requestId": request_id}]
            (report,) = two.records("platform.report")
            assert set(report) == {"requestId", "metrics", "tracing"}
            assert set(report["metrics"]) == {
                "durationMs",
                "billedDurationMs",
                "memorySizeMB",
                "maxMemoryUsedMB",
                "initDurationMs",
            }
            assert report["tracing"] == {"type": "X-Amzn-Trace-Id", "value": trace_id}
            (extension,) = two.records("platform.extension")
            assert extension == {"name": "ext.sh", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}

    run(scenario())


@pytest.mark.case("LOG-16")
def test_both_apis_side_by_side(stage, run):
    async def scenario():
        async with listening() as logs, listening() as telemetry:
            scripts = {
                "runtime": serving,
                "extension:a": subscriber(old(logs)),
                "extension:b": subscriber(wish(telemetry), path=TELEMETRY),
            }
            async with stage(scripts) as it:
                await it.invoke()
            only_logs = {"platform.end", "platform.logsSubscription"}
            only_telemetry = {
                "platform.initStart",
                "platform.initRuntimeDone",
                "platform.initReport",
                "platform.telemetrySubscription",
            }
            assert set(logs.types) - set(telemetry.types) == only_logs
            assert set(telemetry.types) - set(logs.types) == only_telemetry

    run(scenario())


@pytest.mark.case("LOG-17")
def test_subscribers_hear_of_those_that_come_later(stage, run):
    async def scenario():
        async with listening() as one, listening() as two:
            heard = lambda: one.told("platform.logsSubscription")
            scripts = {
                "runtime": serving,
                "extension:a": subscriber(old(one)),
                "extension:b": subscriber(old(two, "function"), before=heard),
            }
            async with stage(scripts) as it:
                await it.invoke()
            names = [record["name"] for record in one.records("platform.logsSubscription")]
            assert names == ["a", "b"]

    run(scenario())


@pytest.mark.case("LOG-20", "LOG-23")
def test_a_timeout_is_a_fault(stage, run):
    async def scenario():
        answers = []

        async def extension(actor):
            await actor.register("INVOKE", "SHUTDOWN")
            answers.append(await subscribe(actor, old(listener), path=LOGS))
            await actor.follow()

        async def runtime(actor):
            event = await actor.next()
            if event.body == b"slow":
                await asyncio.Event().wait()
            await actor.respond(event.headers[REQUEST_ID], b"ok")
            await actor.next()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: extension}, timeout_s=1) as it:
                slow = await it.invoke(b"slow")
                await it.marked("shutdown.ended")
                await it.invoke(b"quick")
            assert [answer.body for answer in answers] == [b'"OK"', b'"AlreadySubscribed"']
            states = [record["state"] for record in listener.records("platform.logsSubscription")]
            assert states == ["Subscribed", "Already subscribed"]
            fault = next(e for e in listener.events if e["type"] == "platform.fault")
            at = listener.events.index(fault)
            three = listener.events[at : at + 3]
            assert [e["type"] for e in three] == ["platform.fault", "platform.end", "platform.report"]
            assert len({e["time"] for e in three}) == 1
            assert fault["record"] == f"RequestId: {slow.request_id}\tStatus: timeout\n"
            assert three[2]["record"]["metrics"]["durationMs"] == 1000.0
            done = listener.records("platform.runtimeDone")[0]
            assert done == {"requestId": slow.request_id, "status": "timeout"}

    run(scenario())


@pytest.mark.case("LOG-21")
def test_the_exit_of_a_runtime_is_a_fault(stage, run):
    async def scenario():
        async def runtime(actor):
            event = await actor.next()
            if event.body == b"die":
                actor.exit(1)
            await actor.respond(event.headers[REQUEST_ID], b"ok")
            await actor.next()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: subscriber(old(listener))}) as it:
                died = await it.invoke(b"die")
                await it.marked("shutdown.ended")
                await it.invoke(b"live")
            (fault,) = listener.records("platform.fault")
            text = f"RequestId: {died.request_id}\tStatus: error\tErrorType: Runtime.ExitError\n"
            assert fault == text
            assert listener.records("platform.runtimeDone")[0]["status"] == "failure"

    run(scenario())


@pytest.mark.case("LOG-22")
def test_a_handler_that_raises_is_no_fault(stage, run):
    async def scenario():
        async def runtime(actor):
            event = await actor.next()
            path = f"/2018-06-01/runtime/invocation/{event.headers[REQUEST_ID]}/error"
            await actor.call("POST", path, None, b"{}")
            await actor.next()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: subscriber(old(listener))}) as it:
                assert (await it.invoke()).function_error == "Unhandled"
            (done,) = listener.records("platform.runtimeDone")
            assert done["status"] == "success"
            assert listener.types[-2:] == ["platform.end", "platform.report"]
            assert "platform.fault" not in listener.types

    run(scenario())
