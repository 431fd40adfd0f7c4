"""Every state times every call, through the machine; and that no entry of the tables can change unnoticed."""

from __future__ import annotations

from itertools import pairwise, product

import pytest

from remora.lifecycle import messages as m
from remora.lifecycle.tables import (
    EXTENSION,
    PHASES,
    RUNTIME,
    ExtensionMove,
    ExtensionState,
    Phase,
    RuntimeMove,
    RuntimeState,
)
from remora.testing.story import Story

R, X = RuntimeState, ExtensionState

# --- the runtime: how each state is reached ---------------------------------------------------------------


def absent(*, is_for_snapshot: bool = False) -> Story:
    story = Story("e", is_for_snapshot=is_for_snapshot)
    story.tell(m.Initialise())
    story.starts("extension:e")
    return story


def started(*, is_for_snapshot: bool = False) -> Story:
    story = Story(is_for_snapshot=is_for_snapshot)
    story.tell(m.Initialise())
    story.starts("runtime")
    return story


def init_error(*, is_for_snapshot: bool = False) -> Story:
    story = started(is_for_snapshot=is_for_snapshot)
    story.posts_init_error()
    return story


def ready(*, is_for_snapshot: bool = False) -> Story:
    story = Story(is_for_snapshot=is_for_snapshot)
    story.initialises()
    return story


def running(*, is_for_snapshot: bool = False) -> Story:
    story = ready(is_for_snapshot=is_for_snapshot)
    story.invokes()
    return story


def responding(*, is_for_snapshot: bool = False) -> Story:
    story = running(is_for_snapshot=is_for_snapshot)
    story.begins_response()
    return story


def reporting_error(*, is_for_snapshot: bool = False) -> Story:
    story = running(is_for_snapshot=is_for_snapshot)
    story.tell(m.ErrorBegan(story.call(), "r1", "Function.Oops"))
    return story


def response_sent(*, is_for_snapshot: bool = False) -> Story:
    story = running(is_for_snapshot=is_for_snapshot)
    story.responds()
    return story


def error_sent() -> Story:
    story = running()
    story.posts_error()
    return story


def started_within_invocation() -> Story:
    story = Story()
    story.invokes()
    story.starts("runtime")
    return story


def absent_within_invocation() -> Story:
    story = Story("e")
    story.invokes()
    story.starts("extension:e")
    return story


def init_error_within_invocation() -> Story:
    story = started_within_invocation()
    story.posts_init_error()
    return story


def ready_but_hung_up() -> Story:
    """Its waiting call was dropped before the invocation came."""
    story = Story()
    story.initialises()
    waiting = story.machine.state.generation.runtime.parked[0]
    story.tell(m.CallDropped(waiting))
    story.invokes()
    return story


def ready_while_extension_works() -> Story:
    story = Story("e")
    story.initialises("INVOKE")
    story.invokes()
    story.responds()
    story.runtime_next()
    return story


def restore_ready(*, is_for_snapshot: bool = True) -> Story:
    story = Story(is_for_snapshot=is_for_snapshot)
    story.is_held()
    return story


def restoring(*, is_for_snapshot: bool = True) -> Story:
    story = restore_ready(is_for_snapshot=is_for_snapshot)
    story.restores()
    return story


def restore_error(*, is_for_snapshot: bool = True) -> Story:
    story = restoring(is_for_snapshot=is_for_snapshot)
    story.posts_restore_error()
    return story


BLOCKS, EVENT, OK = "blocks", "event", "202"
WRONG_ID = "400 InvalidRequestID: Invalid request ID"


def refused(state: RuntimeState, target: str) -> str:
    text = f"State transition from {state.value} to {target} failed for runtime."
    return f"403 InvalidStateTransition: {text} Error: State transition is not allowed"


def never(state: RuntimeState) -> dict[str, str]:
    return {
        "next": refused(state, "Ready"),
        "response": refused(state, "InvocationResponse"),
        "error": refused(state, "InvocationErrorResponse"),
        "init/error": refused(state, "InitError"),
    }


WITHOUT_INVOCATION = {"response": WRONG_ID, "error": WRONG_ID}
RUNTIME_CALLS = {
    absent: (R.ABSENT, {**never(R.ABSENT), **WITHOUT_INVOCATION}, {}),
    absent_within_invocation: (R.ABSENT, never(R.ABSENT), {}),
    init_error_within_invocation: (R.INIT_ERROR, never(R.INIT_ERROR), {}),
    started: (
        R.STARTED,
        {**never(R.STARTED), **WITHOUT_INVOCATION, "next": BLOCKS, "init/error": OK},
        {"next": R.READY, "init/error": R.INIT_ERROR},
    ),
    started_within_invocation: (
        R.STARTED,
        {**never(R.STARTED), "next": EVENT, "init/error": OK},
        {"next": R.RUNNING, "init/error": R.INIT_ERROR},
    ),
    init_error: (R.INIT_ERROR, {**never(R.INIT_ERROR), **WITHOUT_INVOCATION}, {}),
    ready: (R.READY, {**never(R.READY), **WITHOUT_INVOCATION, "next": BLOCKS}, {}),
    ready_but_hung_up: (R.READY, {**never(R.READY), "next": EVENT}, {"next": R.RUNNING}),
    ready_while_extension_works: (R.READY, {**never(R.READY), "next": BLOCKS}, {}),
    running: (
        R.RUNNING,
        {**never(R.RUNNING), "next": EVENT, "response": OK, "error": OK},
        {"response": R.RESPONSE_SENT, "error": R.RESPONSE_SENT},
    ),
    responding: (R.RESPONDING, never(R.RESPONDING), {}),
    reporting_error: (R.REPORTING_ERROR, never(R.REPORTING_ERROR), {}),
    response_sent: (R.RESPONSE_SENT, {**never(R.RESPONSE_SENT), "next": BLOCKS}, {"next": R.READY}),
    error_sent: (R.RESPONSE_SENT, {**never(R.RESPONSE_SENT), "next": BLOCKS}, {"next": R.READY}),
}


def never_restores(state: RuntimeState) -> dict[str, str]:
    return {
        "restore/next": refused(state, "Ready"),
        "restore/error": refused(state, "RuntimeRestoreErrorState"),
    }


def held(state: RuntimeState) -> dict[str, str]:
    return {**never(state), **never_restores(state), **WITHOUT_INVOCATION}


RESTORE_CALLS = {
    absent: (R.ABSENT, never_restores(R.ABSENT), {}),
    started: (
        R.STARTED,
        {**never_restores(R.STARTED), "restore/next": BLOCKS},
        {"restore/next": R.RESTORE_READY},
    ),
    init_error: (R.INIT_ERROR, never_restores(R.INIT_ERROR), {}),
    restore_ready: (R.RESTORE_READY, held(R.RESTORE_READY), {}),
    restoring: (
        R.RESTORING,
        {**held(R.RESTORING), "next": BLOCKS, "init/error": OK, "restore/error": OK},
        {"next": R.READY, "init/error": R.RESTORE_ERROR, "restore/error": R.RESTORE_ERROR},
    ),
    restore_error: (R.RESTORE_ERROR, held(R.RESTORE_ERROR), {}),
    ready: (R.READY, never_restores(R.READY), {}),
    running: (R.RUNNING, never_restores(R.RUNNING), {}),
    responding: (R.RESPONDING, never_restores(R.RESPONDING), {}),
    reporting_error: (R.REPORTING_ERROR, never_restores(R.REPORTING_ERROR), {}),
    response_sent: (R.RESPONSE_SENT, never_restores(R.RESPONSE_SENT), {}),
}
"""In an environment that is made for a snapshot."""


def make_runtime_call(story: Story, name: str) -> str:
    """Make a call and return what became of it."""
    runtime = story.machine.state.generation.runtime
    if name == "next":
        call = story.runtime_next()
    elif name == "init/error":
        call = story.posts_init_error()
    elif name == "restore/next":
        call = story.restore_next()
    elif name == "restore/error":
        call = story.posts_restore_error()
    else:
        call = story.call()
        began = m.ErrorBegan(call, "r1", "T") if name == "error" else m.ResponseBegan(call, "r1", True)
        story.tell(began)
        if runtime.posting is call:
            story.tell(m.BodyEnded(call, m.Transfer.COMPLETE))
    return outcome(story, call, is_parked=call in runtime.parked)


def outcome(story: Story, call: object, *, is_parked: bool) -> str:
    if is_parked:
        return BLOCKS
    (answer,) = [effect for effect in story.last if getattr(effect, "call", None) is call]
    if isinstance(answer, m.Refuse):
        return f"{answer.status} {answer.error_type}: {answer.message}"
    return EVENT if isinstance(answer, m.AnswerInvocation | m.AnswerInvoke) else OK


def snapshot(story: Story) -> str:
    """Write down everything that the machine knows, except the time of day."""
    state = story.machine.state
    members = (name for name in type(state).__slots__ if name not in ("now_us", "effects"))
    return repr([(name, getattr(state, name)) for name in members])


def check_runtime() -> None:
    tables = [(RUNTIME_CALLS, {}), (RESTORE_CALLS, {"is_for_snapshot": True})]
    for table, how in tables:
        check_calls_of_runtime(table, how)


def check_calls_of_runtime(table: dict, how: dict) -> None:
    for reach, (state, answers, moves) in table.items():
        for call, answer in answers.items():
            story = reach(**how)
            runtime = story.machine.state.generation.runtime
            assert runtime.state is state, reach.__name__
            before = snapshot(story)
            assert make_runtime_call(story, call) == answer, f"{call} when {reach.__name__}"
            assert runtime.state is moves.get(call, state), f"{call} when {reach.__name__}"
            if answer[0] == "4":
                assert snapshot(story) == before, f"a refused {call} changed something"


@pytest.mark.case("RT-8")
@pytest.mark.case("RT-11")
@pytest.mark.case("RT-12")
@pytest.mark.case("RT-13")
@pytest.mark.case("RT-14")
@pytest.mark.case("RT-16")
@pytest.mark.case("RT-17")
@pytest.mark.case("RT-18")
@pytest.mark.case("RT-40")
@pytest.mark.case("SS-18")
def test_every_runtime_state_and_call() -> None:
    check_runtime()


def test_all_runtime_states_are_reached() -> None:
    tabled = [*RUNTIME_CALLS.values(), *RESTORE_CALLS.values()]
    assert {state for state, _, _ in tabled} == set(R)
    assert {state for state, _, _ in RESTORE_CALLS.values()} == set(R)


@pytest.mark.case("RT-10")
@pytest.mark.case("RT-15")
def test_identifier_is_checked_before_state() -> None:
    # Given a runtime that has an invocation
    story = running()
    # When it responds to another one
    story.begins_response("other")
    # Then it is told so, and the right one still works, once
    assert story.refusal() == (400, "InvalidRequestID", "Invalid request ID")
    story.responds("r1")
    assert story.ordered(m.Accept)
    story.runtime_next()
    story.begins_response("r1")
    assert story.refusal() == (400, "InvalidRequestID", "Invalid request ID")


# --- extensions -------------------------------------------------------------------------------------------


def x_started() -> Story:
    return absent()


def x_registered() -> Story:
    story = absent()
    story.registers("e", "INVOKE", "SHUTDOWN")
    return story


def x_ready() -> Story:
    story = x_registered()
    story.extension_next("e")
    return story


def x_running() -> Story:
    story = x_ready()
    story.starts("runtime")
    story.runtime_next()
    story.invokes()
    return story


def x_init_error() -> Story:
    story = x_registered()
    story.extension_error("e")
    return story


def x_exit_error() -> Story:
    story = x_registered()
    story.extension_error("e", is_exit=True)
    return story


def x_exit_error_from_ready() -> Story:
    story = x_ready()
    story.extension_error("e", is_exit=True)
    return story


def x_exit_error_from_running() -> Story:
    story = x_running()
    story.extension_error("e", is_exit=True)
    return story


def x_launch_error() -> Story:
    story = Story("e")
    story.tell(m.Initialise())
    story.tell(
        m.ProcessFailed("extension:e", "fork/exec /opt/extensions/e: permission denied", "PermissionDenied")
    )
    return story


def x_refused(state: ExtensionState, target: str, who: str = "id-e") -> str:
    text = f"State transition from {state.value} to {target} failed for extension {who}."
    return f"403 Extension.InvalidExtensionState: {text} Error: State transition is not allowed"


def x_never(state: ExtensionState) -> dict[str, str]:
    return {
        "register": x_refused(state, "Registered", "e"),
        "next": x_refused(state, "Ready"),
        "init/error": x_refused(state, "InitError"),
        "exit/error": x_refused(state, "Exited"),
    }


UNKNOWN = {
    "next": "403 Extension.UnknownExtensionIdentifier: Unknown extension id-e",
    "init/error": "403 Extension.UnknownExtensionIdentifier: Unknown Lambda-Extension-Identifier",
    "exit/error": "403 Extension.UnknownExtensionIdentifier: Unknown Lambda-Extension-Identifier",
}
AGAIN = {"init/error": X.INIT_ERROR}
EXITS = {"exit/error": X.EXIT_ERROR}
EXTENSION_CALLS = {
    x_started: (X.STARTED, {"register": OK, **UNKNOWN}, {"register": X.REGISTERED}),
    x_registered: (
        X.REGISTERED,
        {**x_never(X.REGISTERED), "next": BLOCKS, "init/error": OK, "exit/error": OK},
        {"next": X.READY, "init/error": X.INIT_ERROR, **EXITS},
    ),
    x_ready: (X.READY, {**x_never(X.READY), "exit/error": OK}, EXITS),
    x_running: (
        X.RUNNING,
        {**x_never(X.RUNNING), "next": BLOCKS, "exit/error": OK},
        {"next": X.READY, **EXITS},
    ),
    x_init_error: (X.INIT_ERROR, {**x_never(X.INIT_ERROR), "init/error": OK}, AGAIN),
    x_exit_error: (X.EXIT_ERROR, {**x_never(X.EXIT_ERROR), "exit/error": OK}, EXITS),
    x_exit_error_from_ready: (X.EXIT_ERROR, {**x_never(X.EXIT_ERROR), "exit/error": OK}, EXITS),
    x_exit_error_from_running: (X.EXIT_ERROR, {**x_never(X.EXIT_ERROR), "exit/error": OK}, EXITS),
    x_launch_error: (
        X.LAUNCH_ERROR,
        {"register": x_refused(X.LAUNCH_ERROR, "Registered", "e"), **UNKNOWN},
        {},
    ),
}


def make_extension_call(story: Story, name: str) -> str:
    extension = story.extension("e")
    if name == "register":
        call = story.registers("e", "INVOKE", "SHUTDOWN")
    elif name == "next":
        call = story.extension_next("e")
    else:
        call = story.extension_error("e", "Extension.Bar", is_exit=name == "exit/error")
    return outcome(story, call, is_parked=extension.parked is call)


def check_extension() -> None:
    for reach, (state, answers, moves) in EXTENSION_CALLS.items():
        for call, answer in answers.items():
            story = reach()
            extension = story.extension("e")
            assert extension.state is state, reach.__name__
            before = snapshot(story)
            assert make_extension_call(story, call) == answer, f"{call} when {reach.__name__}"
            assert extension.state is moves.get(call, state), f"{call} when {reach.__name__}"
            if answer[0] == "4":
                assert snapshot(story) == before, f"a refused {call} changed something"
        for is_clean in (True, False):
            check_exit_during_shutdown(reach(), state, is_clean=is_clean)


def check_exit_during_shutdown(story: Story, state: ExtensionState, *, is_clean: bool) -> None:
    extension = story.extension("e")
    story.stops()
    if extension.state is X.RUNNING and state is X.READY:
        state = X.RUNNING  # it was told of the shutdown
    story.exits("extension:e", "exit status 0" if is_clean else "exit status 3")
    if state is not X.LAUNCH_ERROR:
        state = X.EXITED if is_clean else X.SHUTDOWN_FAILED
    assert extension.state is state


@pytest.mark.case("EXT-9")
@pytest.mark.case("EXT-18")
@pytest.mark.case("EXT-19")
@pytest.mark.case("EXT-21")
@pytest.mark.case("EXT-22")
@pytest.mark.case("EXT-23")
def test_every_extension_state_and_call() -> None:
    check_extension()


def test_the_first_error_type_stays() -> None:
    story = x_init_error()
    story.extension_error("e", "Extension.Bar")
    assert story.extension("e").error_type == "Extension.Foo"


def test_a_waiting_next_is_refused_when_its_extension_posts_an_exit_error() -> None:
    # Given an extension whose next waits
    story = absent()
    story.registers("e", "INVOKE")
    waiting = story.extension_next("e")
    # When it posts an exit error on another connection
    story.extension_error("e", is_exit=True)
    # Then the state of the waiting call was changed underneath it
    (refusal,) = story.ordered(m.Refuse)
    assert refusal.call is waiting
    assert refusal.message == (
        "State transition from ExitError to Ready failed for extension id-e."
        " Error: Concurrent state modification"
    )


# --- phases -----------------------------------------------------------------------------------------------


def journeys() -> set[tuple[Phase, Phase]]:
    """Lead environments through every change of phase there is; return those that were seen."""
    seen: set[tuple[Phase, Phase]] = set()

    class Watched(Story):
        def tell(self, event: m.Event, *, after_us: int = 1_000) -> list[m.Effect]:
            steps = [self.machine.phase]
            state = self.machine.state
            enter = type(state).enter

            def watched(state_: object, phase: Phase) -> None:
                enter(state_, phase)
                steps.append(phase)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(type(state), "enter", watched)
                effects = super().tell(event, after_us=after_us)
            seen.update(pairwise(steps))
            return effects

    def held(phase: Phase, *names: str) -> Watched:
        story = Watched(*names, is_for_snapshot=True)
        story.is_held("SHUTDOWN")
        if phase is Phase.RESTORING:
            story.restores()
        assert story.machine.phase is phase
        return story

    def at(phase: Phase, *names: str) -> Watched:
        if phase in (Phase.SNAPSHOT_READY, Phase.RESTORING):
            return held(phase, *names)
        story = Watched(*names)
        if phase is Phase.UNINITIALISED:
            return story
        story.tell(m.Initialise())
        if phase is Phase.STARTING_EXTENSIONS:
            return story
        story.starts_extensions("SHUTDOWN")
        if phase is Phase.STARTING_RUNTIME:
            return story
        story.starts("runtime")
        for name in names:
            story.extension_next(name)
        story.runtime_next()
        if phase is Phase.IDLE:
            return story
        story.invokes()
        if phase is Phase.INVOKING:
            return story
        story.exits("runtime") if phase is Phase.STOPPING_EXTENSIONS else story.deadline(m.Timer.INVOKE)
        if phase is Phase.KILLING and names:
            story.deadline(m.Timer.SHUTDOWN)
        assert story.machine.phase is phase
        return story

    for phase in Phase:
        names = (
            ("e",)
            if phase in (Phase.STARTING_EXTENSIONS, Phase.STOPPING_RUNTIME, Phase.STOPPING_EXTENSIONS)
            else ()
        )
        if phase is Phase.CLOSED:
            continue
        at(phase, *names).tell(m.SandboxLost("gone"))
        at(phase, *names).stops()
    for phase in (Phase.STARTING_RUNTIME, Phase.RESTORING, Phase.IDLE, Phase.INVOKING):
        at(phase, "e").stops()
    at(Phase.RESTORING).runtime_next()
    at(Phase.STOPPING_RUNTIME, "e").exits("runtime")
    at(Phase.STOPPING_RUNTIME, "e").deadline(m.Timer.SHUTDOWN)
    at(Phase.STOPPING_EXTENSIONS, "e").deadline(m.Timer.SHUTDOWN)
    at(Phase.KILLING).tell(m.Emptied())
    # An init inside an invocation, and its end.
    story = at(Phase.UNINITIALISED)
    story.invokes()
    story.starts("runtime")
    story.runtime_next()
    story.responds()
    story.runtime_next()
    # An extension that has registered, while another never does.
    story = at(Phase.STARTING_EXTENSIONS, "a", "b")
    story.starts("extension:a")
    story.registers("a")
    story.stops()
    return seen


def test_every_change_of_phase_is_seen_and_no_other() -> None:
    assert journeys() == {(phase, following) for phase in PHASES for following in PHASES[phase]}


# --- mutations --------------------------------------------------------------------------------------------


def notices(check: object) -> bool:
    """Tell whether a check fails."""
    try:
        check()
    except (AssertionError, KeyError, ValueError, IndexError):
        return True
    return False


@pytest.mark.parametrize("entry", RUNTIME, ids=lambda entry: f"{entry[0].name}-{entry[1].name}")
def test_no_entry_for_the_runtime_can_change_unnoticed(
    entry: tuple[RuntimeState, RuntimeMove], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = RUNTIME[entry]
    with monkeypatch.context() as patch:
        patch.delitem(RUNTIME, entry)
        assert notices(check_runtime)
    for wrong in set(R) - {right}:
        with monkeypatch.context() as patch:
            patch.setitem(RUNTIME, entry, wrong)
            assert notices(check_runtime), f"{wrong} instead of {right}"


@pytest.mark.parametrize("entry", EXTENSION, ids=lambda entry: f"{entry[0].name}-{entry[1].name}")
def test_no_entry_for_extensions_can_change_unnoticed(
    entry: tuple[ExtensionState, ExtensionMove], monkeypatch: pytest.MonkeyPatch
) -> None:
    right = EXTENSION[entry]
    with monkeypatch.context() as patch:
        patch.delitem(EXTENSION, entry)
        assert notices(check_extension)
    for wrong in set(X) - {right}:
        with monkeypatch.context() as patch:
            patch.setitem(EXTENSION, entry, wrong)
            assert notices(check_extension), f"{wrong} instead of {right}"


def test_no_change_of_phase_can_be_forbidden_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    for phase, following in PHASES.items():
        for one in following:
            with monkeypatch.context() as patch:
                patch.setitem(PHASES, phase, tuple(other for other in following if other is not one))
                assert notices(journeys), f"{phase} to {one}"


def test_no_entry_can_be_added_unnoticed(monkeypatch: pytest.MonkeyPatch) -> None:
    platform_only = {RuntimeMove.START, RuntimeMove.RELEASE, RuntimeMove.RECEIVED, RuntimeMove.RESTORE}
    # Before the first invocation there is none that could be answered.
    unused = (R.RESTORE_READY, R.RESTORING, R.RESTORE_ERROR)
    out_of_reach = set(product(unused, (RuntimeMove.RESPONSE, RuntimeMove.ERROR)))
    for state in R:
        for move in set(RuntimeMove) - platform_only:
            if (state, move) not in RUNTIME and (state, move) not in out_of_reach:
                with monkeypatch.context() as patch:
                    patch.setitem(RUNTIME, (state, move), R.RUNNING)
                    assert notices(check_runtime), f"{state} {move}"
