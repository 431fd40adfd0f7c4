"""
"Lambda Telemetry API Event schema reference": which events there are, what they hold, and in which order.

What a subscriber got is looked at when the environment has shut down: by then everything has been delivered.
"""

import asyncio
import json
import re

import pytest

from remora.resources.records import FunctionVersion
from remora.telemetry.facts import rfc3339
from remora.testing.subscriber import listening, listening_tcp, printing, subscribe, subscriber, wish

EXT = "extension:ext.sh"
REQUEST_ID = "lambda-runtime-aws-request-id"
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
SAMPLED = "Root=1-6a00aa00-0123456789abcdef01234567;Parent=5f3e9b7a11c20d48;Sampled=1"


serving = printing("working\n", answer=b"0123456789")


@pytest.fixture
def told(stage, run):
    """Invoke a function whose extension subscribes to everything; returns its listener."""

    def tell(runtime=serving, *, invocations=1, after=None, trace_id="", wished=None, **members):
        async def scenario():
            async with listening() as listener:
                scripts = {"runtime": runtime, EXT: subscriber(wish(listener, **(wished or {})), after=after)}
                async with stage(scripts, **members) as it:
                    tell.answers = [await it.invoke(trace_id=trace_id) for _ in range(invocations)]
                tell.log = [line.message for line in await it.logs.read("/aws/lambda/f")]
                return listener

        return run(scenario())

    return tell


def of(listener, request_id):
    """Return type and record of the events of one invocation, lines included, in order."""
    events = [(event["type"], event["record"]) for event in listener.events]
    first = next(
        number
        for number, (kind, record) in enumerate(events)
        if kind == "platform.start" and record["requestId"] == request_id
    )
    last = next(
        number
        for number, (kind, record) in enumerate(events)
        if kind == "platform.report" and record["requestId"] == request_id
    )
    return events[first : last + 1]


@pytest.mark.case("TEL-18")
def test_who_subscribes_late_is_told_what_was_before(stage, run):
    async def scenario():
        async def late(actor):
            actor.print("second\n")
            await actor.register("INVOKE")
            await one.told("platform.initStart")
            await subscribe(actor, wish(two))
            await actor.follow()

        async with listening() as one, listening() as two:
            scripts = {"runtime": serving, "extension:a": subscriber(wish(one), says="first\n")}
            async with stage({**scripts, "extension:b": late}) as it:
                await it.invoke()
            assert one.batches[0].events[0]["type"] == "platform.initStart"
            replayed = two.batches[0].events
            assert replayed[0] == one.batches[0].events[0]
            assert {"first\n", "second\n"} <= {str(event["record"]) for event in replayed}
            names = [
                event["record"]["name"]
                for event in replayed
                if event["type"] == "platform.telemetrySubscription"
            ]
            assert names == ["a"], "its own is part of the next batch"
            assert [record["name"] for record in two.records("platform.telemetrySubscription")] == ["a", "b"]

    run(scenario())


@pytest.mark.case("TEL-19")
def test_everybody_hears_of_a_subscription(stage, run):
    async def scenario():
        async def late(actor):
            await actor.register("INVOKE")
            await one.told("platform.telemetrySubscription")
            await subscribe(actor, wish(two, "function"))
            await actor.follow()

        async with listening() as one, listening() as two:
            scripts = {"runtime": serving, "extension:a": subscriber(wish(one)), "extension:b": late}
            async with stage(scripts) as it:
                await it.invoke()
                log = await it.log()
            record = {"name": "b", "state": "Subscribed", "types": ["function"]}
            assert one.records("platform.telemetrySubscription")[1] == record
            assert "TELEMETRY\tName: b\tState: Subscribed\tTypes: [Function]" in log

    run(scenario())


@pytest.mark.case("TEL-20")
def test_a_subscriber_gets_only_what_it_asked_for(stage, run):
    async def shout(actor):
        actor.print("extension at work\n")

    async def scenario():
        async with listening() as functions, listening() as extensions, listening() as platform:
            bodies = (
                wish(functions, "function"),
                wish(extensions, "extension"),
                wish(platform, "platform"),
            )
            async with stage({"runtime": serving, EXT: subscriber(*bodies, after=shout)}) as it:
                await it.invoke()
            assert set(functions.types) == {"function"}
            assert set(extensions.types) == {"extension"}
            assert all(kind.startswith("platform.") for kind in platform.types)
            assert functions.records("function") == ["working\n"]
            assert extensions.records("extension") == ["extension at work\n"]

    run(scenario())


@pytest.mark.case("TEL-17")
def test_an_internal_extension_is_told_too(stage, run):
    async def scenario():
        async def runtime(actor):
            inner = actor.inside("inner")
            await inner.register("INVOKE")
            assert (await subscribe(inner, wish(listener))).status == 200
            following = asyncio.ensure_future(inner.follow())
            try:
                event = await actor.next()
                actor.print("working\n")
                assert await listener.told("function") == "working\n"
                await actor.respond(event.headers[REQUEST_ID], b"ok")
                await actor.next()
            finally:
                following.cancel()

        async with listening() as listener:
            async with stage({"runtime": runtime}) as it:
                await it.invoke()
            (record,) = listener.records("platform.extension")
            assert record == {"name": "inner", "state": "Ready", "events": ["INVOKE"]}

    run(scenario())


def test_events_of_an_init_are_whole_and_in_order(told):
    listener = told()
    kinds = [kind for kind in listener.types if kind.startswith("platform.")]
    kinds.remove("platform.telemetrySubscription")
    assert kinds == [
        "platform.initStart",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ]
    (done,) = listener.records("platform.initRuntimeDone")
    assert done == {"initializationType": "on-demand", "phase": "init", "status": "success"}
    (extension,) = listener.records("platform.extension")
    assert extension == {"name": "ext.sh", "state": "Ready", "events": ["INVOKE", "SHUTDOWN"]}
    (init,) = listener.records("platform.initReport")
    assert init.pop("metrics").keys() == {"durationMs"}
    assert init == done
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", e["time"]) for e in listener.events)
    times = [event["time"] for event in listener.events]
    assert times == sorted(times)


@pytest.mark.case("TEL-31")
def test_a_warm_invocation_is_four_events(told):
    listener = told(invocations=2)
    events = of(listener, told.answers[1].request_id)
    assert [kind for kind, _ in events] == [
        "platform.start",
        "function",
        "platform.runtimeDone",
        "platform.report",
    ]
    start, _, done, report = [record for _, record in events]
    request_id = told.answers[1].request_id
    assert start == {"requestId": request_id, "functionArn": ARN, "version": "$LATEST"}
    assert done["status"] == "success"
    assert done["metrics"]["producedBytes"] == 10
    assert [span["name"] for span in done["spans"]] == [
        "responseLatency",
        "responseDuration",
        "runtimeOverhead",
    ]
    parts = sum(span["durationMs"] for span in done["spans"])
    assert parts <= done["metrics"]["durationMs"] + 0.001
    assert list(report) == ["requestId", "metrics", "spans", "status"]
    (overhead,) = report["spans"]
    assert overhead["name"] == "extensionOverhead"
    assert report["status"] == "success"
    metrics = report["metrics"]
    assert set(metrics) == {"durationMs", "billedDurationMs", "memorySizeMB", "maxMemoryUsedMB"}
    assert metrics["memorySizeMB"] == 128
    shown = next(line for line in told.log if line.startswith(f"REPORT RequestId: {request_id}"))
    assert f"\tBilled Duration: {metrics['billedDurationMs']} ms\t" in shown
    assert f"\tMax Memory Used: {metrics['maxMemoryUsedMB']} MB\t" in shown


def test_the_first_report_has_the_init(told):
    listener = told()
    (report,) = listener.records("platform.report")
    (init,) = listener.records("platform.initReport")
    assert report["metrics"]["initDurationMs"] == pytest.approx(init["metrics"]["durationMs"], abs=0.001)


@pytest.mark.case("TEL-32")
def test_a_handler_that_raises_is_a_success(told):
    async def raising(actor):
        while True:
            event = await actor.next()
            await actor.call(
                "POST",
                f"/2018-06-01/runtime/invocation/{event.headers[REQUEST_ID]}/error",
                {"Lambda-Runtime-Function-Error-Type": "Runtime.Odd"},
                b'{"errorMessage":"m","errorType":"t"}',
            )

    listener = told(raising)
    (answer,) = told.answers
    assert answer.function_error == "Unhandled"
    (done,) = listener.records("platform.runtimeDone")
    assert (done["status"], done["metrics"]["producedBytes"]) == ("success", 0)
    assert "spans" not in done
    assert "errorType" not in done
    (report,) = listener.records("platform.report")
    assert report["status"] == "success"
    assert "errorType" not in report


@pytest.mark.case("TEL-34")
def test_an_extension_that_is_too_slow_does_not_make_the_runtime_slow(told):
    async def sleep(_):
        await asyncio.Event().wait()

    listener = told(after=sleep, timeout_s=1)
    (done,) = listener.records("platform.runtimeDone")
    assert done["status"] == "success"
    assert done["metrics"]["durationMs"] < 900
    # The environment was closed after that reset: nobody was there any more to hear the report.
    assert listener.records("platform.report") == []


@pytest.mark.case("TEL-34")
def test_the_report_of_a_slow_extension_says_timeout(stage, run):
    async def scenario():
        slow = [True]

        async def sleep(_):
            if slow:
                slow.clear()
                await asyncio.Event().wait()

        async with listening() as listener:
            scripts = {"runtime": serving, EXT: subscriber(wish(listener), after=sleep)}
            async with stage(scripts, timeout_s=1) as it:
                first = await it.invoke()
                await it.marked("shutdown.ended")
                await it.invoke()
            (done, report) = [
                record
                for kind, record in of(listener, first.request_id)
                if kind in ("platform.runtimeDone", "platform.report")
            ]
            assert done["status"] == "success"
            assert (report["status"], report["metrics"]["durationMs"]) == ("timeout", 1000.0)
            (overhead,) = report["spans"]
            assert overhead["durationMs"] == pytest.approx(1000 - done["metrics"]["durationMs"], abs=100)

    run(scenario())


def test_a_runtime_that_exits_is_an_error(stage, run):
    async def scenario():
        async def runtime(actor):
            event = await actor.next()
            if event.body == b"die":
                actor.exit(3)
            await actor.respond(event.headers[REQUEST_ID], b"ok")
            await actor.next()

        async with listening() as listener:
            async with stage({"runtime": runtime, EXT: subscriber(wish(listener))}) as it:
                died = await it.invoke(b"die")
                await it.invoke(b"live")
            events = dict(of(listener, died.request_id))
            done, report = events["platform.runtimeDone"], events["platform.report"]
            for record in (done, report):
                assert (record["status"], record["errorType"]) == ("error", "Runtime.ExitError")
            assert "spans" not in done

    run(scenario())


def test_a_response_that_is_too_long_is_an_error(told):
    async def verbose(actor):
        event = await actor.next()
        await actor.respond(event.headers[REQUEST_ID], b"x" * 6_300_000)
        await actor.next()

    listener = told(verbose)
    for kind in ("platform.runtimeDone", "platform.report"):
        (record,) = listener.records(kind)
        assert (record["status"], record["errorType"]) == ("error", "Function.ResponseSizeTooLarge")


def test_an_extension_that_dies_before_it_registers(stage, run):
    async def scenario():
        lives = []

        async def dying(actor):
            lives.append(actor)
            if len(lives) < 3:
                actor.exit(17)
            await actor.register("INVOKE")
            await actor.follow()

        async with listening() as listener:
            scripts = {"runtime": serving, "extension:a": subscriber(wish(listener)), "extension:b": dying}
            async with stage(scripts) as it:
                failed = await it.invoke()
                await it.invoke()
            inits = listener.records("platform.initStart")
            assert [record["phase"] for record in inits] == ["init", "invoke", "invoke"]
            reports = [(r["phase"], r["status"]) for r in listener.records("platform.initReport")]
            assert reports[0] == ("init", "error")
            assert ("invoke", "error") in reports
            b = [r for r in listener.records("platform.extension") if r["name"] == "b"]
            assert b[0]["state"] == "Started"
            assert b[0]["events"] == []
            kinds = [kind for kind, _ in of(listener, failed.request_id)]
            assert "platform.runtimeDone" not in kinds
            (report,) = [
                r for r in listener.records("platform.report") if r["requestId"] == failed.request_id
            ]
            assert (report["status"], report["errorType"]) == ("error", "Extension.Crash")

    run(scenario())


@pytest.mark.case("TEL-36")
def test_each_subscriber_gets_its_schema(stage, run):
    async def scenario():
        async with listening() as v1, listening() as v2, listening() as v3:
            bodies = [
                wish(listener, "platform", schemaVersion=version)
                for listener, version in ((v1, "2022-07-01"), (v2, "2022-12-13"), (v3, "2025-01-29"))
            ]
            async with stage({"runtime": serving, EXT: subscriber(*bodies)}) as it:
                await it.invoke()
            extra = {"functionName", "functionVersion", "instanceId", "instanceMaxMemory"}
            starts = [listener.records("platform.initStart")[0] for listener in (v1, v2, v3)]
            assert [extra & set(record) for record in starts] == [set(), extra, extra]
            assert starts[1]["functionName"] == "f"
            assert re.fullmatch(r"\d{4}/\d\d/\d\d/\[\$LATEST\][0-9a-f]{32}", starts[1]["instanceId"])
            reports = [listener.records("platform.initReport")[0] for listener in (v1, v2, v3)]
            assert ["status" in record for record in reports] == [False, True, True]
            invocations = [listener.records("platform.start")[0] for listener in (v1, v2, v3)]
            assert ["functionArn" in record for record in invocations] == [False, False, True]
            assert len(v1.events) == len(v2.events) == len(v3.events)

    run(scenario())


@pytest.mark.case("TEL-37")
@pytest.mark.parametrize("trace_id", ["", SAMPLED.replace("Sampled=1", "Sampled=0"), "nonsense"])
def test_what_is_not_sampled_has_no_tracing(told, trace_id):
    listener = told(trace_id=trace_id)
    assert not [event for event in listener.events if "tracing" in event["record"]]


def test_what_is_sampled_has_tracing(told):
    listener = told(trace_id=SAMPLED)
    context = {"spanId": "5f3e9b7a11c20d48", "type": "X-Amzn-Trace-Id", "value": SAMPLED}
    for kind in ("platform.start", "platform.runtimeDone", "platform.report"):
        (record,) = listener.records(kind)
        assert record["tracing"] == context


@pytest.mark.case("TEL-38")
def test_memory_is_told_in_bytes(told):
    listener = told(memory_mib=512, wished={"schemaVersion": "2022-12-13"})
    (record,) = listener.records("platform.initStart")
    assert record["instanceMaxMemory"] == 536870912


@pytest.mark.case("TEL-39")
def test_over_http_and_tcp_alike_everything_is_told(stage, run):
    async def scenario():
        async def runtime(actor):
            actor.print("runtime out\n")
            actor.complain("runtime error\n")
            await serving(actor)

        async def noisy(actor):
            actor.print("b out\n")
            actor.complain("b error\n")
            await actor.register("INVOKE")
            await asyncio.sleep(0)
            await subscribe(actor, wish({"protocol": "TCP", "port": tcp.port}))
            await actor.follow()

        async with listening() as http, listening_tcp() as tcp:
            scripts = {"extension:a": subscriber(wish(http), says="a out\n"), "extension:b": noisy}
            async with stage({"runtime": runtime, **scripts}) as it:
                await it.invoke()
            for listener in (http, tcp):
                kinds = listener.types
                for kind in ("initStart", "initRuntimeDone", "initReport", "start", "report"):
                    assert kinds.count(f"platform.{kind}") == 1
                states = {r["name"]: r["state"] for r in listener.records("platform.extension")}
                assert states == {"a": "Ready", "b": "Ready"}
                assert listener.records("platform.report")[0]["status"] == "success"
                assert set(listener.records("function")) == {"runtime out\n", "runtime error\n", "working\n"}
                assert set(listener.records("extension")) == {"a out\n", "b out\n", "b error\n"}

    run(scenario())


JSON_LINE = '{"timestamp":"2031-02-03T10:00:00Z", "level":"INFO","message":"x", "n": 1.50}'


@pytest.mark.parametrize(("log_format", "is_object"), [("JSON", True), ("Text", False)])
def test_lines_of_json_become_objects_where_the_schema_knows_them(stage, run, log_format, is_object):
    async def scenario():
        async def runtime(actor):
            event = await actor.next()
            actor.print(f"{JSON_LINE}\nplain\n{{broken\n[1]\n")
            await actor.respond(event.headers[REQUEST_ID], b"ok")
            await actor.next()

        async with listening() as v1, listening() as v3:
            bodies = (wish(v1, "function", schemaVersion="2022-07-01"), wish(v3, "function"))
            extra = {"LoggingConfig": {"LogFormat": log_format}}
            async with stage({"runtime": runtime, EXT: subscriber(*bodies)}, extra=extra) as it:
                await it.invoke()
            plain = ["plain\n", "{broken\n", "[1]\n"]
            assert v1.records("function") == [f"{JSON_LINE}\n", *plain]
            first = json.loads(JSON_LINE) if is_object else f"{JSON_LINE}\n"
            assert v3.records("function") == [first, *plain]

    assert "extra" in FunctionVersion.__struct_fields__
    run(scenario())


@pytest.mark.parametrize(
    ("time_ms", "written"),
    [
        (0, "1970-01-01T00:00:00.000Z"),
        (951_782_400_001, "2000-02-29T00:00:00.001Z"),
        (1_927_879_200_120, "2031-02-03T10:00:00.120Z"),
        (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
        (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
    ],
)
def test_times_are_written_in_milliseconds(time_ms, written):
    assert rfc3339(time_ms) == written
