"""
"Configuring JSON and plain text log formats": the platform's lines in a log of format JSON.

Scripts play the processes.
"""

import json
import re

import pytest

from remora.testing.scripted import Actor

TIME = r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3}Z"


def logging(level):
    return {"LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": level, "ApplicationLogLevel": "WARN"}}


@pytest.fixture
def logged(stage, run):
    """Return the records in the log of one invocation, and its answer."""

    def play(level, runtime=Actor.serve, **members):
        async def scenario():
            scripts = {
                "runtime": runtime,
                "extension:ext.sh": lambda actor: actor.extend("INVOKE", "SHUTDOWN"),
            }
            async with stage(scripts, extra=logging(level), **members) as it:
                answer = await it.invoke(tail=True)
                lines = await it.log()
                return [json.loads(line) for line in lines], answer

        return run(scenario())

    return play


async def crash(actor):
    await actor.next()
    actor.exit(1)


@pytest.mark.case("LC-39")
def test_start_runtime_done_and_report(logged):
    records, answer = logged("DEBUG")
    assert all(re.fullmatch(TIME, record["time"]) for record in records)
    assert all(set(record) == {"time", "type", "record"} for record in records)
    types = [record["type"] for record in records]
    assert types == [
        "platform.initStart",
        "platform.initRuntimeDone",
        "platform.extension",
        "platform.initReport",
        "platform.start",
        "platform.runtimeDone",
        "platform.report",
    ]
    start, done, report = (record["record"] for record in records[-3:])
    assert start["requestId"] == done["requestId"] == report["requestId"] == answer.request_id
    assert start["version"] == "$LATEST"
    assert done["status"] == report["status"] == "success"
    assert set(done["metrics"]) == {"durationMs", "producedBytes"}
    assert set(report["metrics"]) == {
        "durationMs",
        "billedDurationMs",
        "memorySizeMB",
        "maxMemoryUsedMB",
        "initDurationMs",
    }
    # the tail has the same lines
    tail = [json.loads(line)["type"] for line in answer.log_tail.decode().splitlines()]
    assert tail[-3:] == types[-3:]


@pytest.mark.case("LC-39")
@pytest.mark.parametrize(
    ("level", "types"),
    [("INFO", ["platform.extension", "platform.start", "platform.report"]), ("WARN", [])],
)
def test_the_level_chooses(logged, level, types):
    records, _ = logged(level)
    assert [record["type"] for record in records] == types


@pytest.mark.case("LC-39")
def test_failures_are_warnings(logged):
    records, _ = logged("WARN", crash)
    assert [record["type"] for record in records] == ["platform.runtimeDone", "platform.report"]
    for record in records:
        assert record["record"]["status"] == "error"
        assert record["record"]["errorType"] == "Runtime.ExitError"


@pytest.mark.case("LC-39")
def test_the_runtime_is_told_the_format(stage, run):
    told = {}

    async def runtime(actor):
        told.update(actor.plan.env)
        await actor.serve()

    async def scenario():
        async with stage({"runtime": runtime}, extra=logging("INFO")) as it:
            await it.invoke()

    run(scenario())
    assert (told["AWS_LAMBDA_LOG_FORMAT"], told["AWS_LAMBDA_LOG_LEVEL"]) == ("JSON", "WARN")


def test_a_tail_has_whole_records(stage, run):
    line = json.dumps({"message": "x" * 1000})

    async def runtime(actor):
        while True:
            event = await actor.next()
            for _ in range(10):
                actor.print(line + "\n")
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"ok")

    async def scenario():
        async with stage({"runtime": runtime}, extra=logging("INFO")) as it:
            tail = (await it.invoke(tail=True)).log_tail
            assert len(tail) <= 4096
            records = [json.loads(each) for each in tail.decode().splitlines()]
            assert records[-1]["type"] == "platform.report"
            assert [record.get("message", "")[:1] for record in records] == ["x", "x", "x", "", ""]

    run(scenario())
