"""
"Configuring JSON and plain text log formats", "Log-level filtering", "Viewing CloudWatch logs": the log of a
function, its tail, its names. Scripts play the processes.
"""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from remora.pool.provisioning import provision_one
from remora.testing.scripted import Actor
from remora.testing.subscriber import listening, subscribe, wish

NUMBER = r"[0-9]+\.[0-9]{2}"
REPORT = (
    rf"REPORT RequestId: (?P<id>\S+)\tDuration: (?P<duration>{NUMBER}) ms\t"
    r"Billed Duration: (?P<billed>[0-9]+) ms\tMemory Size: 128 MB\tMax Memory Used: (?P<used>[0-9]+) MB\t"
    rf"(?:Init Duration: (?P<init>{NUMBER}) ms\t)?(?P<rest>.*)"
)
EXTENSION = "extension:ext.sh"
ROOT = "Root=1-6a00aa00-0123456789abcdef01234567"
TRACE = "XRAY TraceId: 1-6a00aa00-0123456789abcdef01234567"


def reports(lines):
    return [match for line in lines if (match := re.fullmatch(REPORT, line))]


def hundredths(text):
    return int(text.replace(".", ""))


def ceiling_ms(*texts):
    return -(-sum(map(hundredths, texts)) // 100)


async def quiet(actor):
    await actor.extend("INVOKE", "SHUTDOWN")


def saying(*texts):
    """A runtime that prints, at each invocation, the next of `texts`."""

    async def runtime(actor):
        for text in texts:
            event = await actor.next()
            actor.print(text)
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"{}")
        await actor.next()

    return runtime


async def hang(actor):
    await actor.next()
    await asyncio.Event().wait()


@pytest.mark.case("MB-1")
@pytest.mark.case("MB-2")
@pytest.mark.case("MB-3")
@pytest.mark.case("MB-10")
def test_cold_and_warm(stage, run):
    async def scenario():
        async with stage({"runtime": saying("one\n", "two\n"), EXTENSION: quiet}) as it:
            cold, warm = await it.invoke(tail=True), await it.invoke(tail=True)
            return cold, warm, await it.log()

    cold, warm, log = run(scenario())
    # the warm tail
    expected = (
        rf"START RequestId: {warm.request_id} Version: \$LATEST\ntwo\nEND RequestId: {warm.request_id}\n"
        rf"{REPORT}\n"
    )
    match = re.fullmatch(expected, warm.log_tail.decode())
    assert match
    assert (match["init"], match["rest"]) == (None, "")
    # the cold one: lines about extensions come first, INIT_START is not there
    lines = cold.log_tail.decode().splitlines()
    assert lines[0] == "EXTENSION\tName: ext.sh\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"
    assert lines[1] == f"START RequestId: {cold.request_id} Version: $LATEST"
    assert "INIT_START" not in cold.log_tail.decode()
    (report,) = reports(lines)
    exact = ceiling_ms(report["duration"], report["init"])
    assert abs(int(report["billed"]) - exact) <= 1  # both parts are rounded, their sum is not
    assert log == lines + warm.log_tail.decode().splitlines()


@pytest.mark.case("MB-4")
def test_an_error_of_the_handler(stage, run):
    async def runtime(actor):
        event = await actor.next()
        path = f"/2018-06-01/runtime/invocation/{event.headers['lambda-runtime-aws-request-id']}/error"
        await actor.call("POST", path, {"Lambda-Runtime-Function-Error-Type": "E"}, b'{"errorType":"E"}')
        await actor.next()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            return await it.invoke(tail=True)

    result = run(scenario())
    assert result.function_error == "Unhandled"
    (report,) = reports(result.log_tail.decode().splitlines())
    assert report["rest"] == ""
    assert result.log_tail.endswith(b"\t\n")


@pytest.mark.case("MB-5")
@pytest.mark.case("MB-6")
def test_a_timeout(stage, run):
    async def warm_then_hang(actor):
        event = await actor.next()
        await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"{}")
        await hang(actor)

    async def scenario():
        async with stage({"runtime": hang}, timeout_s=1) as it:
            return await it.invoke(tail=True)

    async def warm_scenario():
        async with stage({"runtime": warm_then_hang}, timeout_s=1) as it:
            await it.invoke()
            return await it.invoke(tail=True)

    (first,) = reports(run(scenario()).log_tail.decode().splitlines())
    assert (first["duration"], first["rest"]) == ("1000.00", "Status: timeout")
    assert abs(int(first["billed"]) - ceiling_ms("1000.00", first["init"])) <= 1
    warm = run(warm_scenario())
    (second,) = reports(warm.log_tail.decode().splitlines())
    assert (second["duration"], second["billed"], second["init"]) == ("1000.00", "1000", None)
    assert warm.log_tail.endswith(b"\tStatus: timeout\n")
    assert b"Task timed out" not in warm.log_tail
    assert b"Task timed out after 1.00 seconds" in warm.payload


@pytest.mark.case("MB-7")
def test_an_extension_that_ends_before_it_registers(stage, run):
    async def crash(actor):
        actor.exit(17)

    async def scenario():
        async with stage({"runtime": Actor.serve, EXTENSION: crash}) as it:
            result = await it.invoke(tail=True)
            return result, await it.log()

    result, log = run(scenario())
    shape = [line.split("\t")[0].split(" ")[0] for line in log]
    assert shape == ["EXTENSION", "INIT_REPORT", "EXTENSION", "INIT_REPORT", "START", "END", "REPORT"]
    assert all(
        line.startswith("EXTENSION\tName: ext.sh\tState: Started\tEvents: []") for line in (log[0], log[2])
    )
    pattern = (
        rf"INIT_REPORT Init Duration: {NUMBER} ms\tPhase: (\w+)\tStatus: error\tError Type: Extension.Crash"
    )
    assert [re.fullmatch(pattern, line)[1] for line in (log[1], log[3])] == ["init", "invoke"]
    (report,) = reports(log)
    assert report["rest"] == "Status: error\tError Type: Extension.Crash"
    assert (report["init"], int(report["billed"])) == (None, ceiling_ms(report["duration"]))
    assert result.function_error == "Unhandled"


@pytest.mark.case("MB-8")
@pytest.mark.case("MB-22")
def test_after_a_reset(stage, run):
    starts = []

    async def runtime(actor):
        starts.append(actor)
        event = await actor.next()
        if len(starts) == 1:
            actor.exit(1)
        await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"{}")
        await actor.next()

    async def scenario():
        async with stage({"runtime": runtime}) as it:
            await it.invoke(tail=True)
            await it.invoke(tail=True)
            return await it.logs.read("/aws/lambda/f")

    lines = run(scenario())
    failed, after = reports([line.message for line in lines])
    assert failed["rest"] == "Status: error\tError Type: Runtime.ExitError"
    assert (after["init"], after["rest"]) == (None, "")
    assert int(after["billed"]) == ceiling_ms(after["duration"])
    assert len({line.stream for line in lines}) == 1


@pytest.mark.case("MB-9")
def test_inits_that_are_reported(stage, run):
    async def scenario(*, provisioned):
        async with stage({"runtime": Actor.serve}) as it:
            if provisioned:
                await provision_one(it.pool, it.deployment)
            await it.invoke()
            return [line for line in await it.log() if line.startswith("INIT_REPORT")]

    assert run(scenario(provisioned=False)) == []
    (line,) = run(scenario(provisioned=True))
    assert re.fullmatch(rf"INIT_REPORT Init Duration: {NUMBER} ms\tPhase: init", line)


@pytest.mark.case("MB-11")
def test_a_tail_is_cut_by_bytes(stage, run):
    async def scenario():
        async with stage({"runtime": saying("é" * 5000 + "\n")}) as it:
            return (await it.invoke(tail=True)).log_tail

    tail = run(scenario())
    assert len(tail) == 4096
    assert tail.lstrip(b"\xa9\xc3").startswith(b"\nEND RequestId: ")
    assert b"\nREPORT RequestId: " in tail


@pytest.mark.case("MB-13")
def test_a_line_that_is_finished_later(stage, run):
    async def scenario():
        async with stage({"runtime": saying("half ", "a line\n")}) as it:
            return [(await it.invoke(tail=True)).log_tail.decode().splitlines() for _ in range(2)]

    first, second = run(scenario())
    assert "half" not in "\n".join(first)
    assert second[1] == "half a line"


def json_logging(application="INFO", system="INFO", **more):
    return {
        "LoggingConfig": {
            "LogFormat": "JSON",
            "ApplicationLogLevel": application,
            "SystemLogLevel": system,
            **more,
        }
    }


@pytest.mark.case("MB-12")
def test_a_json_tail_has_whole_records(stage, run):
    async def scenario():
        texts = (json.dumps({"message": "x" * 1000}) + "\n") * 10, "y" * 5000 + "\n"
        async with stage({"runtime": saying(*texts)}, extra=json_logging()) as it:
            return [(await it.invoke(tail=True)).log_tail for _ in texts]

    many, huge = run(scenario())
    records = [json.loads(line) for line in many.splitlines()]
    assert len(many) <= 4096
    assert [record.get("message", record.get("type"))[:15] for record in records][-2:] == [
        "platform.runtim",
        "platform.report",
    ]
    assert [json.loads(line)["type"] for line in huge.splitlines()] == [
        "platform.runtimeDone",
        "platform.report",
    ]


@pytest.mark.case("MB-15")
@pytest.mark.case("MB-16")
@pytest.mark.case("MB-18")
def test_levels_are_for_the_log_group_only(stage, run):
    told = []

    async def runtime(actor):
        for level in ("INFO", "ERROR"):
            event = await actor.next()
            actor.print(json.dumps({"level": level, "message": level}) + "\n" + f"text {level}\n")
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"{}")
        await actor.next()
        actor.exit(1)

    async def scenario():
        extra = json_logging("ERROR", "WARN")
        async with listening() as listener:

            async def subscriber(actor):
                await actor.register("INVOKE", "SHUTDOWN")
                await subscribe(actor, wish(listener))
                await actor.follow()

            async with stage({"runtime": runtime, EXTENSION: subscriber}, extra=extra) as it:
                told.extend([(await it.invoke(tail=True)).log_tail for _ in range(3)])
                return [json.loads(line) for line in await it.log()], listener

    records, listener = run(scenario())
    types = [record.get("type", record.get("message")) for record in records]
    assert types == ["ERROR", "platform.runtimeDone", "platform.report"]
    assert records[0]["timestamp"]
    assert records[-1]["record"]["status"] == "error"
    assert all(set(record) == {"time", "type", "record"} for record in records[1:])
    # subscribers get everything, and so does the tail
    assert {"platform.start", "platform.runtimeDone", "platform.report"} <= set(listener.types)
    messages = [each.get("message") for each in listener.records("function") if isinstance(each, dict)]
    assert messages[:2] == ["INFO", "ERROR"]
    tail = [json.loads(line) for line in told[0].splitlines()]
    assert [each.get("message") for each in tail if "message" in each] == ["INFO", "text INFO"]
    assert {"platform.start", "platform.report"} <= {each.get("type") for each in tail}
    assert "platform.end" not in {each.get("type") for each in tail}


@pytest.mark.case("MB-21")
@pytest.mark.parametrize(
    ("config", "group", "stream"),
    [
        ({}, "/aws/lambda/f", r"[0-9]{4}/[0-9]{2}/[0-9]{2}/\[\$LATEST\][0-9a-f]{32}"),
        ({"LogGroup": "mine"}, "mine", r"[0-9]{4}/[0-9]{2}/[0-9]{2}/f\[\$LATEST\][0-9a-f]{32}"),
    ],
)
def test_names(stage, run, config, group, stream):
    told = {}

    async def runtime(actor):
        told.update(actor.plan.env)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}, extra={"LoggingConfig": config}) as it:
            await it.invoke()
            return await it.logs.read(group)

    lines = run(scenario())
    assert {line.stream for line in lines} == {told["AWS_LAMBDA_LOG_STREAM_NAME"]}
    assert re.fullmatch(stream, lines[0].stream)
    assert told["AWS_LAMBDA_LOG_GROUP_NAME"] == group


@pytest.mark.case("MB-32")
@pytest.mark.parametrize(
    ("trace_id", "expected"),
    [
        (
            f"{ROOT};Parent=5f3e9b7a11c20d48;Sampled=1",
            f"{TRACE}\tSegmentId: 5f3e9b7a11c20d48\tSampled: true\t",
        ),
        (f"{ROOT};Sampled=1;Lineage=a:0", f"{TRACE}\tSampled: true\t"),
        (f"{ROOT};Parent=5f3e9b7a11c20d48;Sampled=0", None),
        ("Sampled=1", None),
        ("", None),
    ],
)
def test_a_sampled_trace_is_told_after_the_report(stage, run, trace_id, expected):
    async def scenario():
        async with stage({"runtime": Actor.serve}) as it:
            traced = await it.invoke(tail=True, trace_id=trace_id)
            return traced, await it.invoke(tail=True), await it.log()

    traced, plain, log = run(scenario())
    last = traced.log_tail.decode().splitlines()[-1]
    assert last == expected if expected else re.fullmatch(REPORT, last)
    # REPORT and XRAY are one event of the log; the next invocation has a trace of its own
    (report,) = [line for line in log if line.startswith(f"REPORT RequestId: {traced.request_id}")]
    assert report.splitlines()[1:] == ([expected] if expected else [])
    assert b"XRAY" not in plain.log_tail


@pytest.mark.case("MB-36")
@pytest.mark.parametrize("extra", [{}, json_logging("FATAL")])
def test_lines_of_an_extension(stage, run, extra):
    async def talker(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        actor.print("said by an extension\n")
        await actor.follow()

    async def scenario():
        async with stage({"runtime": Actor.serve, EXTENSION: talker}, extra=extra) as it:
            await it.invoke()
            await it.logged("said by")
            return [line for line in await it.logs.read("/aws/lambda/f") if "said" in line.message]

    (line,) = run(scenario())
    assert (line.message, line.request_id) == ("said by an extension", "")
