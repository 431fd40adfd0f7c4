"""An environment that is made for a snapshot, its processes played by scripts: answers, log, telemetry."""

import asyncio
import json
import re
from contextlib import asynccontextmanager
from types import SimpleNamespace

import pytest

from remora.lifecycle.machine import Budgets
from remora.lifecycle.messages import Failure
from remora.runtimes.layout import RuntimeLayout
from remora.testing.held import open_held
from remora.testing.scripted import ScriptedDriver
from remora.testing.subscriber import LOGS, TELEMETRY, listening, subscribe, wish

VERSION_ARN = f"arn:aws:lambda:us-east-1::runtime:{'0' * 64}"
LAYOUT = RuntimeLayout("python3.12", (), ("/var/task/bootstrap",), {}, "python:3.12.v1", VERSION_ARN)
SHORT = Budgets(restore_us=200_000)
RESTORE = "/2018-06-01/runtime/restore/"
CREDENTIALS = "/2021-04-23/credentials"


def denied(state, target):
    text = f"State transition from {state} to {target} failed for runtime."
    why = "Error: State transition is not allowed"
    return 403, {"errorMessage": f"{text} {why}", "errorType": "InvalidStateTransition"}


def told(reply):
    return reply.status, reply.json


async def waits_for_restore(actor):
    return await actor.call("GET", RESTORE + "next")


async def restores_and_serves(actor):
    await waits_for_restore(actor)
    await actor.serve()


async def extends(actor):
    await actor.extend("INVOKE", "SHUTDOWN")


@pytest.fixture
def held(tmp_path):
    """Make an environment of scripts for a snapshot; what a script did not expect fails the test."""

    @asynccontextmanager
    async def make(scripts, **members):
        names = [name.replace("extension:", "opt/extensions/") for name in scripts if name != "runtime"]
        driver = ScriptedDriver(scripts)
        files = dict.fromkeys(["task/bootstrap", *names])
        async with open_held(tmp_path, driver, files, **{"layout": LAYOUT, **members}) as it:
            yield SimpleNamespace(it=it, sandbox=driver.sandboxes[0])
        for failure in driver.sandboxes[0].failures:
            raise failure

    return make


@pytest.mark.case("LC-41")
@pytest.mark.case("RT-39")
def test_the_runtime_waits_until_it_is_restored(held, run):
    async def scenario():
        answers = []

        async def runtime(actor):
            answers.append(await waits_for_restore(actor))
            await actor.serve()

        async with held({"runtime": runtime, "extension:a": extends}) as its:
            # Held, frozen, nobody answered
            assert its.it.is_held
            assert its.sandbox.is_frozen
            assert answers == []
            assert its.it.environment.machine.phase.value == "snapshot ready"
            # When it is restored
            await its.it.restore()
            # Then the runtime has an empty answer, and serves
            (answer,) = answers
            assert (answer.status, answer.body) == (200, b"")
            assert not its.sandbox.is_frozen
            assert (await its.it.invoke(b'{"a":1}')).payload == b'{"a":1}'
            assert (await its.it.invoke(b'{"a":2}')).payload == b'{"a":2}'
        assert its.sandbox.started == ["extension:a", "runtime"]

    run(scenario())


@pytest.mark.case("LC-42")
@pytest.mark.case("SS-21", partly="images are not offered: shown for any program that goes straight to next")
def test_a_runtime_that_goes_straight_to_next(held, run):
    async def serves(actor):
        await actor.serve()

    async def scenario():
        async with held({"runtime": serves}) as its:
            await its.it.restore()
            assert (await its.it.invoke(b"1")).payload == b"1"
            await its.it.available()
            log = [line for _, line in await its.it.log()]
            assert "\tBilled Restore Duration: 0 ms\t" in log[-1]

    run(scenario())


@pytest.mark.case("RT-40")
@pytest.mark.case("SS-17")
def test_calls_around_the_restore(held, run):
    async def scenario():
        answers = {}

        async def runtime(actor):
            async def ask(name, method, path):
                answers[name] = told(await actor.call(method, path, body=b"{}"))

            await ask("error started", "POST", RESTORE + "error")
            waiting = asyncio.create_task(waits_for_restore(actor))
            await is_held.wait()
            await ask("next held", "GET", RESTORE + "next")
            await ask("error held", "POST", RESTORE + "error")
            await ask("init/error held", "POST", "/2018-06-01/runtime/init/error")
            has_asked.set()
            await waiting
            await ask("next restoring", "GET", RESTORE + "next")
            await ask("error restoring", "POST", RESTORE + "error")
            await ask("error again", "POST", RESTORE + "error")
            await ask("invocation/next", "GET", "/2018-06-01/runtime/invocation/next")

        is_held, has_asked = asyncio.Event(), asyncio.Event()
        async with held({"runtime": runtime}) as its:
            is_held.set()
            await has_asked.wait()
            await its.it.restore()
            assert its.it.failure == Failure("Runtime.Unknown", "Runtime exited without providing a reason")
        accepted = (202, {"status": "OK"})
        assert answers == {
            "error started": denied("Started", "RuntimeRestoreErrorState"),
            "next held": denied("RestoreReady", "Ready"),
            "error held": denied("RestoreReady", "RuntimeRestoreErrorState"),
            "init/error held": denied("RestoreReady", "InitError"),
            "next restoring": denied("Restoring", "Ready"),
            "error restoring": accepted,
            "error again": denied("RuntimeRestoreErrorState", "RuntimeRestoreErrorState"),
            "invocation/next": denied("RuntimeRestoreErrorState", "Ready"),
        }

    run(scenario())


@pytest.mark.case("RT-38")
@pytest.mark.case("SS-16")
def test_none_of_it_is_there_otherwise(stage, run):
    async def scenario():
        async def runtime(actor):
            for method, path in (
                ("GET", RESTORE + "next"),
                ("POST", RESTORE + "error"),
                ("GET", CREDENTIALS),
            ):
                answer = await actor.call(method, path)
                assert (answer.status, answer.body) == (404, b"404 page not found\n")
            await actor.serve()

        async with stage({"runtime": runtime}) as it:
            assert (await it.invoke(b"1")).payload == b"1"

    run(scenario())


@pytest.mark.case("LC-43")
@pytest.mark.parametrize(
    ("post", "header", "error_type"),
    [
        ("restore/error", "Runtime.AfterRestoreError", "Runtime.AfterRestoreError"),
        ("restore/error", "My.Error", "Runtime.Unknown"),
        ("restore/error", "Function.Foo", "Function.Foo"),
        ("init/error", "Function.foo", "Function.Unknown"),
        ("", "", "Runtime.ExitError"),
    ],
)
@pytest.mark.case("SS-12")
@pytest.mark.case("SS-15")
@pytest.mark.case("SS-19")
@pytest.mark.case("SS-20")
def test_a_runtime_that_fails_in_its_hooks(held, run, post, header, error_type):
    async def scenario():
        async def runtime(actor):
            await waits_for_restore(actor)
            actor.print("hook\n")
            if post:
                path = f"/2018-06-01/runtime/{post}"
                headers = {"Lambda-Runtime-Function-Error-Type": header}
                assert (await actor.call("POST", path, headers, b"{}")).status == 202
            actor.exit(65)

        async with held({"runtime": runtime, "extension:a": extends}) as its:
            await its.it.restore()
            # Then whoever wanted it knows why, and the environment ends
            assert its.it.failure == Failure(error_type, "Runtime exited with error: exit status 65")
            await its.it.closed()
            assert not its.it.is_available
            log = [line for _, line in await its.it.log()]
        hook = log.index("hook")
        duration = r"Restore Duration: \d+\.\d\d ms"
        assert log[hook - 1].startswith("RESTORE_START Runtime Version: ")
        assert re.fullmatch(
            rf"RESTORE_REPORT {duration}\tStatus: error\tError Type: {error_type}", log[hook + 1]
        )

    run(scenario())


@pytest.mark.case("LC-41")
@pytest.mark.case("SS-13")
def test_hooks_that_take_too_long(held, run):
    async def scenario():
        async def runtime(actor):
            await waits_for_restore(actor)
            await asyncio.Event().wait()

        async with held({"runtime": runtime}, budgets=SHORT) as its:
            await its.it.restore()
            assert its.it.failure == Failure(
                "Runtime.RestoreHookUserTimeout", "Task timed out after 0.20 seconds"
            )
            await its.it.closed()
            (report,) = [line for _, line in await its.it.log() if line.startswith("RESTORE_REPORT")]
            assert re.fullmatch(r"RESTORE_REPORT Restore Duration: 2\d\d\.\d\d ms\tStatus: timeout", report)

    run(scenario())


@pytest.mark.case("SS-25")
def test_an_extension_that_crashes_in_the_restore(held, run):
    async def scenario():
        restored = asyncio.Event()

        async def runtime(actor):
            await waits_for_restore(actor)
            restored.set()
            await asyncio.Event().wait()

        async def crashes(actor):
            await actor.register("INVOKE")
            listening = asyncio.create_task(actor.next_event())
            await restored.wait()
            listening.cancel()
            actor.exit(signal=9)

        async with held({"runtime": runtime, "extension:a": crashes}) as its:
            await its.it.restore()
            assert its.it.failure == Failure("Extension.Crash", "signal: killed")

    run(scenario())


def test_an_init_that_fails_is_not_repeated(held, run):
    async def scenario():
        async def runtime(actor):
            headers = {"Lambda-Runtime-Function-Error-Type": "Runtime.BeforeSnapshotError"}
            await actor.call("POST", "/2018-06-01/runtime/init/error", headers, b"{}")
            actor.exit(64)

        async with held({"runtime": runtime}) as its:
            assert its.it.failure == Failure(
                "Runtime.BeforeSnapshotError", "Runtime exited with error: exit status 64"
            )
            assert not its.it.is_held
            await its.it.closed()
            log = [line for _, line in await its.it.log()]
        assert its.sandbox.started == ["runtime"]
        assert re.fullmatch(
            r"INIT_REPORT Init Duration: \d+\.\d\d ms\tPhase: init\t"
            r"Status: error\tError Type: Runtime.BeforeSnapshotError",
            log[-1],
        )

    run(scenario())


def test_what_is_held_ends_without_a_word_to_its_extensions(held, run):
    async def scenario():
        heard = []

        async def listens(actor):
            await actor.register("SHUTDOWN")
            heard.append(await actor.next_event())

        async with held({"runtime": restores_and_serves, "extension:a": listens}) as its:
            pass
        assert heard == []
        assert its.it.failure is None
        assert its.it.is_closed

    run(scenario())


def test_what_fails_later_ends_it(held, run):
    async def scenario():
        async def runtime(actor):
            await waits_for_restore(actor)
            await actor.next()
            actor.exit(1)

        async with held({"runtime": runtime}) as its:
            await its.it.restore()
            answer = await its.it.invoke()
            assert json.loads(answer.payload)["errorType"] == "Runtime.ExitError"
            await its.it.closed()
        assert its.sandbox.started == ["runtime"]

    run(scenario())


# --- the log, and telemetry -------------------------------------------------------------------------------


@pytest.mark.case("MB-31")
@pytest.mark.case("MB-9")
def test_the_log_of_a_restore(held, run):
    async def scenario():
        async def runtime(actor):
            actor.print("static\n")
            await waits_for_restore(actor)
            actor.print("hook\n")
            await actor.serve()

        async with held({"runtime": runtime}) as its:
            await its.it.restore(loading_us=1_000_000)
            first = await its.it.invoke(tail=True)
            await its.it.invoke()
            await its.it.available()
            log = await its.it.log()
        versions = f"Runtime Version: python:3.12.v1\tRuntime Version ARN: {VERSION_ARN}"
        report = (
            "REPORT RequestId: I\tDuration: D\tBilled Duration: N ms\t"
            "Memory Size: 128 MB\tMax Memory Used: 32 MB\t"
        )
        expected = [
            f"INIT_START {versions}",
            "static",
            "INIT_REPORT Init Duration: D\tPhase: init",
            f"RESTORE_START {versions}",
            "hook",
            "RESTORE_REPORT Restore Duration: D",
            "START RequestId: I Version: $LATEST",
            "END RequestId: I",
            f"{report}Restore Duration: D\tBilled Restore Duration: N ms\t",
            "START RequestId: I Version: $LATEST",
            "END RequestId: I",
            report,
        ]
        lines = [line for _, line in log]
        assert [plain(line) for line in lines] == expected
        # The numbers agree: what is billed of the restore is what the runtime took, not the loading.
        restore_ms = float(re.search(r"Restore Duration: ([\d.]+)", lines[5])[1])
        duration_ms, billed, restored_ms, billed_restore = (
            float(number) for number in re.findall(r"(?<!Max Memory )Duration: ([\d.]+)", lines[8])
        )
        assert restore_ms == restored_ms > 1000 > billed_restore + 1
        assert 0 <= billed - (duration_ms + billed_restore) < 1.01
        # The init has a stream of its own, and the tail of the first invocation nothing of it.
        init, restored = {stream for stream, _ in log[:3]}, {stream for stream, _ in log[3:]}
        assert len(init) == len(restored) == len(init ^ restored) - 1 == 1
        assert b"INIT_REPORT" not in first.log_tail
        assert b"static" not in first.log_tail

    run(scenario())


def plain(line):
    """Return a line of the log without what differs each time."""
    line = re.sub(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", "I", line)
    line = re.sub(r"\d+\.\d\d ms", "D", line)
    return re.sub(r"(Billed \w*? ?Duration): \d+ ms", r"\1: N ms", line)


def test_a_json_log_has_the_records_of_a_restore(held, run):
    async def scenario():
        logging = {"LoggingConfig": {"LogFormat": "JSON", "SystemLogLevel": "DEBUG"}}
        async with held({"runtime": restores_and_serves}, extra=logging) as its:
            await its.it.restore()
            await its.it.invoke()
            await its.it.available()
            log = await its.it.log()
        records = [json.loads(line) for _, line in log]
        assert [record["type"].removeprefix("platform.") for record in records] == [
            "initStart",
            "initRuntimeDone",
            "initReport",
            "restoreStart",
            "restoreRuntimeDone",
            "restoreReport",
            "start",
            "runtimeDone",
            "report",
        ]
        assert records[3]["record"]["instanceId"] == log[3][0] != log[0][0]

    run(scenario())


def told_of_a_restore(held, path, version):
    """Return a coroutine for the events that an extension gets which subscribed to those of the platform."""

    async def scenario():
        async with listening() as listener:

            async def subscribes(actor):
                await actor.register("INVOKE", "SHUTDOWN")
                body = wish(listener, "platform", schemaVersion=version)
                assert (await subscribe(actor, body, path=path)).status == 200
                await actor.follow()

            async with held({"runtime": restores_and_serves, "extension:a": subscribes}) as its:
                await its.it.restore()
                await its.it.invoke()
                await its.it.available()
            await listener.told("platform.report")
            return listener.events

    return scenario()


@pytest.mark.parametrize("version", ["2022-07-01", "2025-01-29"])
@pytest.mark.case("SS-24")
def test_telemetry_of_a_restore(held, run, version):
    events = run(told_of_a_restore(held, TELEMETRY, version))
    names = [event["type"].removeprefix("platform.") for event in events]
    start = names.index("initStart")
    assert names[start:] == [
        "initStart",
        "initRuntimeDone",
        "initReport",
        "restoreStart",
        "restoreRuntimeDone",
        "restoreReport",
        "start",
        "runtimeDone",
        "report",
    ]
    records = {event["type"].removeprefix("platform."): event["record"] for event in events}
    assert records["initStart"]["initializationType"] == "snap-start"
    assert records["restoreRuntimeDone"] == {"status": "success"}
    metrics = records["report"]["metrics"]
    assert "initDurationMs" not in metrics
    assert metrics["restoreDurationMs"] == records["restoreReport"]["metrics"]["durationMs"]
    is_oldest = version == "2022-07-01"
    assert ("billedRestoreDurationMs" in metrics) is not is_oldest
    assert ("status" in records["restoreReport"]) is not is_oldest
    known = {"runtimeVersion", "runtimeVersionArn"}
    if not is_oldest:
        known |= {"functionName", "functionVersion", "instanceId", "instanceMaxMemory"}
    assert records["restoreStart"].keys() == known


def test_the_logs_api_hears_of_a_restore_in_its_newer_schema(held, run):
    events = run(told_of_a_restore(held, LOGS, "2021-03-18"))
    records = {event["type"].removeprefix("platform."): event["record"] for event in events}
    assert records["initRuntimeDone"] == {"initializationType": "snap-start", "status": "success"}
    assert records["initReport"].keys() == {"initializationType", "metrics"}
    assert records["restoreStart"] == {}
    assert records["restoreReport"].keys() == {"metrics"}
    assert records["restoreReport"]["metrics"].keys() == {"durationMs", "billedDurationMs"}
    assert not {"restoreRuntimeDone", "initStart"} & records.keys()
    assert "restoreDurationMs" not in records["report"]["metrics"]


def test_the_logs_api_hears_nothing_of_it_in_its_older_schema(held, run):
    events = run(told_of_a_restore(held, LOGS, "2020-08-15"))
    types = [event["type"].removeprefix("platform.") for event in events]
    assert not [kind for kind in types if kind.startswith(("restore", "init"))]


# --- variables and credentials ----------------------------------------------------------------------------


@pytest.mark.case("SS-26")
@pytest.mark.case("SS-27")
def test_credentials_are_asked_for(held, run):
    async def scenario():
        seen = {}

        async def asks(actor, token):
            headers = {} if token is None else {"Authorization": token}
            return await actor.call("GET", CREDENTIALS, headers)

        async def runtime(actor):
            env = seen["runtime"] = actor.plan.env
            token = env["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
            seen["init"] = (await asks(actor, token)).json
            seen["wrong"] = [await asks(actor, each) for each in ("wrong", "", None, token[:-1], token + "x")]
            seen["method"] = await actor.call("POST", CREDENTIALS, {"Authorization": token})
            await waits_for_restore(actor)
            seen["restored"] = (await asks(actor, token)).json
            await actor.serve()

        async def extension(actor):
            seen["extension"] = actor.plan.env
            await actor.extend("INVOKE")

        async with held({"runtime": runtime, "extension:a": extension}) as its:
            credentials = await its.it.restore()
            address = its.sandbox.api_address
        assert seen["init"].keys() == {"AccessKeyId", "SecretAccessKey", "Token", "Expiration"}
        assert seen["restored"]["AccessKeyId"] == credentials.access_key_id != seen["init"]["AccessKeyId"]
        assert seen["restored"]["SecretAccessKey"] == credentials.secret_access_key
        assert seen["restored"]["Token"] == credentials.session_token
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", seen["restored"]["Expiration"])
        assert seen["method"].status == 405
        for answer in seen["wrong"]:
            assert answer.status == 404
            assert answer.body == b"cannot get credentials for the provided token\n"
        for who in ("runtime", "extension"):
            env = seen[who]
            assert env["AWS_LAMBDA_INITIALIZATION_TYPE"] == "snap-start"
            assert env["AWS_CONTAINER_CREDENTIALS_FULL_URI"] == f"http://{address}{CREDENTIALS}"
            assert re.fullmatch(
                r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", env["AWS_CONTAINER_AUTHORIZATION_TOKEN"]
            )
            absent = {"AWS_ACCESS_KEY", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
            assert not env.keys() & (absent | {"AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME"})

    run(scenario())
