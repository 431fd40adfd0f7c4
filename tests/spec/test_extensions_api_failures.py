"""
"Using the Lambda Extensions API to create extensions": who is started, what a failure does, how it ends.

Scripts play the processes; time limits are shortened.
"""

import asyncio
import json

import pytest

from remora.kit.clock import SystemClock
from remora.lifecycle.machine import Budgets
from remora.testing.scripted import SIGKILL, Actor

EXT = "extension:ext.sh"
SHORT = {"budgets": Budgets(external_us=200_000, external_runtime_us=30_000)}
SHORT_INIT = {"budgets": Budgets(init_us=50_000, external_us=200_000, external_runtime_us=30_000)}


def failure_of(answer):
    assert answer.function_error == "Unhandled"
    return json.loads(answer.payload)


def failed(answer, error_type, message):
    text = f"RequestId: {answer.request_id} Error: {message}"
    assert failure_of(answer) == {"errorType": error_type, "errorMessage": text}
    return True


def once(first, then=None):
    """Return a script that is `first` in its first generation and `then` in those that follow."""
    scripts = [first]

    def script(actor):
        return (scripts.pop() if scripts else then or extend)(actor)

    return script


def extend(actor):
    return actor.extend("INVOKE", "SHUTDOWN")


def shutdown_reasons(reasons):
    async def script(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        event = await actor.follow()
        reasons.append(event.json["shutdownReason"])

    return script


# --- start ------------------------------------------------------------------------------------------------


@pytest.mark.case("EXT-28")
def test_extensions_initialise_side_by_side_and_before_the_runtime(stage, run):
    has_b = asyncio.Event()

    async def a(actor):
        await has_b.wait()
        await actor.extend("SHUTDOWN")

    async def b(actor):
        has_b.set()
        await actor.extend("SHUTDOWN")

    async def scenario():
        async with stage({"runtime": Actor.serve, "extension:a": a, "extension:b": b}) as it:
            # Given that a does not register before b runs, when there is an invocation, then it succeeds
            assert (await it.invoke(b"1")).payload == b"1"
            assert it.driver.sandboxes[0].started == ["extension:a", "extension:b", "runtime"]
            kinds = [kind for kind, _ in it.marks()]
            runtime = it.marks().index(("process.started", "runtime"))
            assert kinds[:runtime].count("extension.registered") == 2

    run(scenario())


@pytest.mark.case("EXT-29")
def test_files_and_links_are_started_by_name_and_directories_are_not(stage, run, tmp_path):
    (tmp_path / "opt/extensions/d").mkdir(parents=True)
    (tmp_path / "opt/extensions/c").symlink_to("a")
    scripts = {f"extension:{name}": extend for name in "bac"}

    async def scenario():
        async with stage({"runtime": Actor.serve, **scripts}, files={"opt/extensions/d/x": None}) as it:
            await it.invoke()
            started = ["extension:a", "extension:b", "extension:c", "runtime"]
            assert it.driver.sandboxes[0].started == started

    run(scenario())


@pytest.mark.case("EXT-30")
def test_without_a_directory_there_are_no_extensions(stage, run, tmp_path):
    async def scenario():
        async with stage({"runtime": Actor.serve}) as it:
            assert not (tmp_path / "opt/extensions").exists()
            assert (await it.invoke(b"1")).payload == b"1"

    run(scenario())


@pytest.mark.case("EXT-30")
def test_a_file_in_place_of_the_directory_means_no_extensions(stage, run):
    async def scenario():
        async with stage({"runtime": Actor.serve}, files={"opt/extensions": None}) as it:
            assert (await it.invoke(b"1")).payload == b"1"

    run(scenario())


@pytest.mark.case("EXT-32")
def test_the_eleventh_file_fails_init(stage, run):
    scripts = {f"extension:{number:02}": extend for number in range(11)}

    async def scenario():
        async with stage({"runtime": Actor.serve, **scripts}) as it:
            answer = await it.invoke()
            assert failed(answer, "Extension.LaunchError", "ErrTooManyExtensions")
            # the first ten were started, in the init and in its repetition within the invocation
            assert it.driver.sandboxes[0].started == [f"extension:{number:02}" for number in range(10)] * 2
            eleventh = [line for line in await it.log() if "Name: 10\t" in line]
            line = "EXTENSION\tName: 10\tState: LaunchError\tEvents: []\tError Type: TooManyExtensions"
            assert eleventh == [line] * 2

    run(scenario())


@pytest.mark.case("EXT-45")
def test_one_log_line_tells_of_an_extension_that_is_ready(stage, run):
    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extend}) as it:
            await it.invoke()
            await it.invoke()
            lines = [line for line in await it.log() if line.startswith("EXTENSION")]
            assert lines == ["EXTENSION\tName: ext.sh\tState: Ready\tEvents: [INVOKE, SHUTDOWN]"]

    run(scenario())


# --- failures ---------------------------------------------------------------------------------------------


@pytest.mark.case("EXT-33")
@pytest.mark.parametrize(
    ("members", "message"),
    [({"code": 1}, "exit status 1"), ({"signal": SIGKILL}, "signal: killed"), ({"code": 0}, "exit code 0")],
)
def test_an_exit_before_registration_is_a_crash(stage, run, members, message):
    async def extension(actor):
        actor.exit(**members)

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            assert failed(await it.invoke(), "Extension.Crash", message)
            log = await it.log()
            assert log.count("EXTENSION\tName: ext.sh\tState: Started\tEvents: []") == 2
            report = "Status: error\tError Type: Extension.Crash"
            assert [line.endswith(report) for line in log if line.startswith("INIT_REPORT")] == [True] * 2
            assert log[-1].endswith(report)

    run(scenario())


@pytest.mark.case("EXT-34")
def test_a_posted_init_error_names_the_failure_of_an_exit(stage, run):
    async def extension(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.report("init", "Extension.Mine")
        actor.exit(3)

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            assert failed(await it.invoke(), "Extension.InitError", "exit status 3")

    run(scenario())


@pytest.mark.case("EXT-34")
def test_an_init_error_without_an_exit_lasts_until_the_limit(stage, run):
    async def extension(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.report("init", "Extension.Mine")
        await asyncio.Event().wait()

    async def scenario():
        scripts = {"runtime": Actor.serve, EXT: extension}
        async with stage(scripts, settings=SHORT_INIT, timeout_s=0.1) as it:
            assert failure_of(await it.invoke())["errorType"] == "Sandbox.Timedout"

    run(scenario())


@pytest.mark.case("EXT-35")
def test_an_exit_within_an_invocation_is_a_crash_and_all_begins_anew(stage, run):
    identifiers = []

    async def leaving(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        identifiers.append(actor.identifier)
        await actor.next_event()

    async def staying(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        identifiers.append(actor.identifier)
        await actor.follow()

    async def silent(actor):
        await actor.next()
        await asyncio.Event().wait()

    async def scenario():
        scripts = {"runtime": once(silent, Actor.serve), EXT: once(leaving, staying)}
        async with stage(scripts, settings=SHORT) as it:
            assert failed(await it.invoke(), "Extension.Crash", "exit code 0")
            assert (await it.log())[-1].endswith("Status: error\tError Type: Extension.Crash")
            assert (await it.invoke(b"1")).payload == b"1"
            assert len(it.driver.sandboxes) == 1
            kinds = [kind for kind, _ in it.marks()]
            assert kinds.count("init.started") == 2

    run(scenario())
    assert len(set(identifiers)) == 2


@pytest.mark.slow
@pytest.mark.case("EXT-36")
def test_an_extension_that_is_never_done_costs_the_environment_not_the_answer(stage, run):
    reasons = []

    async def stuck(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.next_event()
        await asyncio.Event().wait()

    async def scenario():
        scripts = {"runtime": Actor.serve, EXT: once(stuck), "extension:other": shutdown_reasons(reasons)}
        async with stage(scripts, settings=SHORT, timeout_s=0.5) as it:
            answer = await it.invoke(b"1")
            # The client has its answer while the invocation is still open
            assert answer.payload == b"1"
            assert "invoke.ended" not in dict(it.marks())
            report = await it.logged("REPORT RequestId")
            assert "\tDuration: 500." in report
            assert report.endswith("Status: timeout")
            await it.marked("shutdown.ended")
            assert reasons == ["timeout"]

    run(scenario())


@pytest.mark.case("EXT-38")
def test_the_reason_of_a_failure_is_failure(stage, run):
    reasons = []

    async def runtime(actor):
        await actor.next()
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": runtime, EXT: shutdown_reasons(reasons)}) as it:
            assert failed(await it.invoke(), "Runtime.ExitError", "Runtime exited with error: exit status 1")
            await it.marked("shutdown.ended")

    run(scenario())
    assert reasons == ["failure"]


@pytest.mark.case("EXT-38")
def test_the_reason_of_a_timeout_is_timeout(stage, run):
    reasons = []

    async def runtime(actor):
        await actor.next()
        await asyncio.Event().wait()

    async def scenario():
        scripts = {"runtime": runtime, EXT: shutdown_reasons(reasons)}
        async with stage(scripts, settings=SHORT, timeout_s=0.1) as it:
            assert failure_of(await it.invoke())["errorType"] == "Sandbox.Timedout"
            await it.marked("shutdown.ended")

    run(scenario())
    assert reasons == ["timeout"]


@pytest.mark.case("EXT-49")
def test_a_posted_exit_error_names_the_failure_of_the_runtime(stage, run):
    async def runtime(actor):
        inside = actor.inside("in")
        await inside.register("INVOKE")
        waiting = asyncio.create_task(inside.next_event())
        await actor.next()
        await waiting
        assert (await inside.report("exit", "Extension.Mine")).status == 202
        actor.exit(1)

    async def scenario():
        async with stage({"runtime": runtime}, settings=SHORT) as it:
            message = "Runtime exited with error: exit status 1"
            assert failed(await it.invoke(), "Extension.ExitError", message)

    run(scenario())


@pytest.mark.case("EXT-50")
def test_of_two_failures_the_first_is_reported(stage, run):
    has_posted = {name: asyncio.Event() for name in "ab"}

    async def a(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await actor.report("init", "Extension.A")
        has_posted["a"].set()
        await has_posted["b"].wait()
        actor.exit(3)

    async def b(actor):
        await actor.register("INVOKE", "SHUTDOWN")
        await has_posted["a"].wait()
        await actor.report("init", "Extension.B")
        has_posted["b"].set()
        await a_is_gone.wait()
        actor.exit(4)

    a_is_gone = asyncio.Event()

    async def scenario():
        scripts = {"runtime": Actor.serve, "extension:a": a, "extension:b": b}
        async with stage(scripts, settings=SHORT) as it:
            call = asyncio.create_task(it.invoke())
            await it.marked("process.exited", "a")
            a_is_gone.set()
            assert failed(await call, "Extension.InitError", "exit status 3")
            log = await it.log()
            assert sum("Status: error" in line for line in log if line.startswith("REPORT")) == 1

    run(scenario())


# --- done, and shutdown -----------------------------------------------------------------------------------


@pytest.mark.case("EXT-44")
def test_an_invocation_is_open_until_the_internal_extension_is_done(stage, run):
    release = asyncio.Event()

    async def runtime(actor):
        inside = actor.inside("in")
        await inside.register("INVOKE")

        async def listen():
            await inside.next_event()
            await release.wait()
            await inside.next_event()

        await asyncio.gather(actor.serve(), listen())

    async def scenario():
        async with stage({"runtime": runtime, EXT: extend}) as it:
            await it.invoke()
            await it.marked("runtime.done")
            await it.marked("extension.done", "ext.sh")
            assert it.pool.environments()[0]["state"] == "finishing"
            release.set()
            await it.logged("REPORT RequestId")
            assert it.pool.environments()[0]["state"] == "idle"

    run(scenario())


@pytest.mark.case("EXT-37")
@pytest.mark.case("LC-30")
def test_the_shutdown_event_tells_how_long_there_is(stage, run):
    told, heard_ms = [], []

    async def extension(actor):
        await actor.register("SHUTDOWN")
        told.append(await actor.follow())
        heard_ms.append(SystemClock().wall_ms())

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            await it.invoke()
            ends_ms = SystemClock().wall_ms()
        assert told[0].headers["content-type"] == "application/json"
        assert set(told[0].json) == {"eventType", "shutdownReason", "deadlineMs"}
        assert told[0].json["shutdownReason"] == "spindown"
        # both readings are whole milliseconds, hence the one
        assert ends_ms - 1 <= told[0].json["deadlineMs"] - 2000 <= heard_ms[0]
        marks = it.marks()
        gone = marks.index(("process.exited", "runtime"))
        assert gone < marks.index(("extension.notified", "ext.sh"))

    run(scenario())


@pytest.mark.case("EXT-39")
def test_an_extension_that_ignores_shutdown_is_killed_at_the_limit_without_sigterm(stage, run):
    actors = []

    async def stubborn(actor):
        actor.traps_sigterm = True
        actors.append(actor)
        await actor.register("SHUTDOWN")
        await actor.follow()
        await asyncio.Event().wait()

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: stubborn}, settings=SHORT) as it:
            await it.invoke()
        times = {(mark.kind, mark.name): mark for mark in it.timeline()}
        began, ended = times["shutdown.started", None], times["process.exited", "ext.sh"]
        assert ended.detail == "signal: killed"
        assert 200_000 <= ended.at_us - began.at_us < 700_000

    run(scenario())
    assert not actors[0].terminated.is_set()


@pytest.mark.case("EXT-40")
@pytest.mark.case("LC-31")
def test_who_did_not_subscribe_to_shutdown_is_killed_when_the_runtime_is_gone(stage, run):
    events = []

    async def extension(actor):
        actor.traps_sigterm = True
        await actor.register("INVOKE")
        while True:
            events.append((await actor.next_event()).json["eventType"])

    async def scenario():
        async with stage({"runtime": Actor.serve, EXT: extension}) as it:
            await it.invoke()
            await it.logged("REPORT RequestId")
        marks = it.marks()
        assert ("extension.notified", "ext.sh") not in marks
        assert marks.index(("process.exited", "runtime")) < marks.index(("process.exited", "ext.sh"))
        times = {(mark.kind, mark.name): mark for mark in it.timeline()}
        assert times["process.exited", "ext.sh"].detail == "signal: killed"
        began, ended = times["shutdown.started", None], times["process.exited", "ext.sh"]
        assert ended.at_us - began.at_us < 1_000_000

    run(scenario())
    assert events == ["INVOKE"]
