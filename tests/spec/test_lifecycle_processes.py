"""
"Understanding the Lambda execution environment lifecycle": what only real processes can show.
"""

import json

import pytest

from remora.lifecycle.machine import Budgets

pytestmark = pytest.mark.slow
SERVE = "serve()"
MARGIN_MS = 1_500
"""How late a busy machine may be; tells 300 ms from 2,000. tests/lifecycle/test_shutdown.py is exact."""
GENEROUS = {"budgets": Budgets(external_us=60_000_000, external_runtime_us=60_000_000)}
"""For processes that are to end by themselves, however slow they are."""
EXTENSION = 'Extension("INVOKE", "SHUTDOWN").follow()'


def failure_of(answer):
    assert answer.function_error == "Unhandled"
    return json.loads(answer.payload)


def ended(it, name):
    """Return how a process ended, and how long after the start of the shutdown, milliseconds."""
    marks = {(mark.kind, mark.name): mark for mark in it.timeline()}
    began, end = marks["shutdown.started", None], marks["process.exited", name]
    return end.detail, (end.at_us - began.at_us) / 1000


def lasted_ms(it):
    marks = {mark.kind: mark.at_us for mark in it.timeline()}
    return (marks["shutdown.ended"] - marks["shutdown.started"]) / 1000


# --- memory and files -------------------------------------------------------------------------------------

COUNT_INITS = """
    with open("/tmp/n", "a") as file:
        file.write("x")
    count = str(os.path.getsize("/tmp/n")).encode()
    say(f"init {count.decode()}")
"""


@pytest.mark.case("LC-8")
@pytest.mark.case("LC-10")
def test_files_outlive_a_failed_init(real, run):
    async def scenario():
        async with real(COUNT_INITS + "    sys.exit(1)") as it:
            text = "Error: Runtime exited with error: exit status 1"
            assert failure_of(await it.invoke())["errorMessage"].endswith(text)
            assert failure_of(await it.invoke())["errorType"] == "Runtime.ExitError"
            said = [line for line in await it.log() if line.startswith("init ")]
            assert said == ["init 1", "init 2", "init 3"]

    run(scenario())


@pytest.mark.case("LC-9")
def test_an_init_that_needs_two_goes_succeeds(real, run):
    async def scenario():
        program = COUNT_INITS + "    count == b'1' and sys.exit(1)\n    serve(lambda event: count)"
        async with real(program) as it:
            answer = await it.invoke()
            assert (answer.payload, answer.function_error) == (b"2", None)

    run(scenario())


@pytest.mark.case("LC-20")
@pytest.mark.case("LC-22")
def test_a_reset_keeps_files_and_forgets_memory(real, run):
    program = """
    calls = 0
    def handle(event):
        global calls
        calls += 1
        if event == b'"hang"':
            open("/tmp/a", "w").close()
            time.sleep(60)
        return json.dumps([calls, os.path.exists("/tmp/a")]).encode()
    serve(handle)
    """

    async def scenario():
        async with real(program, timeout_s=1) as it:
            # Given two invocations in succession, memory is kept
            assert [json.loads((await it.invoke()).payload) for _ in range(2)] == [[1, False], [2, False]]
            # When one times out, then files are kept and memory is not
            assert failure_of(await it.invoke(b'"hang"'))["errorType"] == "Sandbox.Timedout"
            assert json.loads((await it.invoke()).payload) == [1, True]
            assert len({line.stream for line in await it.logs.read("/aws/lambda/f")}) == 1

    run(scenario())


@pytest.mark.case("LC-21")
def test_children_die_in_a_reset_whatever_group_they_moved_to(real, run):
    program = """
    def handle(event):
        if event == b'"leave"':
            for detach in (lambda: None, os.setsid):
                if os.fork() == 0:
                    detach()
                    time.sleep(600)
            os._exit(3)
        found = [each for each in os.listdir("/proc") if each.isdigit()]
        return json.dumps(len(found)).encode()
    serve(handle)
    """

    async def scenario():
        async with real(program) as it:
            before = (await it.invoke()).payload
            assert failure_of(await it.invoke(b'"leave"'))["errorType"] == "Runtime.ExitError"
            assert (await it.invoke()).payload == before
            assert len(it.timelines.all()) == 1

    run(scenario())


# --- shutdown ---------------------------------------------------------------------------------------------

TRAP = 'on_sigterm(lambda: say("SIGTERM"))\n'
TRAP_AND_EXIT = 'on_sigterm(lambda: (say("SIGTERM"), sys.exit(0)))\n'


@pytest.mark.case("LC-24")
def test_without_extensions_there_is_no_sigterm(real, run):
    async def scenario():
        async with real(TRAP + SERVE) as it:
            await it.invoke()
        assert "SIGTERM" not in await it.log()
        assert ended(it, "runtime")[0] == "signal: killed"
        assert ended(it, "runtime")[1] < MARGIN_MS

    run(scenario())


@pytest.mark.case("LC-25")
def test_with_an_extension_the_runtime_is_asked_first(real, run):
    async def scenario():
        async with real(TRAP_AND_EXIT + SERVE, {"ext.sh": EXTENSION}, settings=GENEROUS) as it:
            await it.invoke()
        assert "SIGTERM" in await it.log()
        assert ended(it, "runtime")[0] == "exit status 0"
        marks = it.marks()
        assert marks.index(("process.exited", "runtime")) < marks.index(("extension.notified", "ext.sh"))

    run(scenario())


@pytest.mark.case("LC-26")
def test_a_runtime_that_ignores_sigterm_has_300_ms(real, run):
    async def scenario():
        async with real(TRAP + SERVE, {"ext.sh": EXTENSION}) as it:
            await it.invoke()
        assert "SIGTERM" in await it.log()
        how, after_ms = ended(it, "runtime")
        assert how == "signal: killed"
        assert 300 <= after_ms < 300 + MARGIN_MS
        marks = it.marks()
        assert marks.index(("process.exited", "runtime")) < marks.index(("extension.notified", "ext.sh"))
        assert ended(it, "ext.sh")[0] == "exit status 0"

    run(scenario())


@pytest.mark.case("LC-27")
def test_with_internal_extensions_only_the_runtime_has_500_ms(real, run):
    program = """
    import threading
    inside = Extension("INVOKE", name="in")
    threading.Thread(target=inside.follow, daemon=True).start()
    on_sigterm(lambda: say("SIGTERM"))
    serve()
    """

    async def scenario():
        async with real(program) as it:
            await it.invoke()
        assert "SIGTERM" in await it.log()
        how, after_ms = ended(it, "runtime")
        assert how == "signal: killed"
        assert 500 <= after_ms < 500 + MARGIN_MS

    run(scenario())


@pytest.mark.case("LC-28")
@pytest.mark.case("EXT-39")
def test_who_ignores_shutdown_has_2000_ms_and_no_sigterm(real, run):
    stubborn = TRAP + 'Extension("SHUTDOWN").follow()\ntime.sleep(60)'

    async def scenario():
        async with real(SERVE, {"ext.sh": stubborn}) as it:
            await it.invoke()
        assert "SIGTERM" not in await it.log()
        how, after_ms = ended(it, "ext.sh")
        assert how == "signal: killed"
        assert 2000 <= after_ms < 2000 + MARGIN_MS
        assert lasted_ms(it) < 2000 + MARGIN_MS

    run(scenario())


@pytest.mark.case("LC-28")
def test_a_runtime_and_an_extension_that_ignore_everything_share_2000_ms(real, run):
    stubborn = 'Extension("SHUTDOWN").follow()\ntime.sleep(60)'

    async def scenario():
        async with real(TRAP + SERVE, {"ext.sh": stubborn}) as it:
            await it.invoke()
        assert 300 <= ended(it, "runtime")[1] < 300 + MARGIN_MS
        assert 2000 <= ended(it, "ext.sh")[1] < 2000 + MARGIN_MS

    run(scenario())


@pytest.mark.case("LC-29")
def test_a_shutdown_ends_with_the_last_exit(real, run):
    slow = 'Extension("SHUTDOWN").follow()\ntime.sleep(0.2)'

    async def scenario():
        async with real(SERVE, {"ext.sh": slow}, settings=GENEROUS) as it:
            await it.invoke()
        how, after_ms = ended(it, "ext.sh")
        assert how == "exit status 0"
        assert 150 <= after_ms <= lasted_ms(it) < after_ms + MARGIN_MS

    run(scenario())


@pytest.mark.case("LC-31")
def test_who_did_not_subscribe_is_killed_with_the_runtime(real, run):
    async def scenario():
        async with real(SERVE, {"ext.sh": TRAP + 'Extension("INVOKE").follow()'}) as it:
            await it.invoke()
        assert "SIGTERM" not in await it.log()
        assert ended(it, "ext.sh")[0] == "signal: killed"
        assert ended(it, "ext.sh")[1] - ended(it, "runtime")[1] < MARGIN_MS

    run(scenario())


@pytest.mark.case("LC-32")
def test_an_error_during_shutdown_is_told_to_nobody(real, run):
    async def scenario():
        async with real(SERVE, {"ext.sh": EXTENSION + "\nsys.exit(1)"}, settings=GENEROUS) as it:
            answer = await it.invoke(b"1")
        assert (answer.payload, answer.function_error) == (b"1", None)
        assert ended(it, "ext.sh")[0] == "exit status 1"
        assert not [line for line in await it.log() if "rror" in line or "ShutdownFailed" in line]

    run(scenario())
