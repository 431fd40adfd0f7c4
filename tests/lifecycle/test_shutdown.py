"""Shutdown and reset: who is asked, who is told, who is killed, and by when."""

from __future__ import annotations

import pytest

from remora.lifecycle import messages as m
from remora.lifecycle.state import Budgets
from remora.lifecycle.tables import ExtensionState, Phase
from remora.testing.story import MS, Story

KILL, TERM = 9, 15


def idle(*names: str, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN"), internal: bool = False) -> Story:
    story = Story(*names)
    story.tell(m.Initialise())
    story.starts_extensions(*events)
    story.starts("runtime")
    for name in names:
        story.extension_next(name)
    if internal:
        story.registers("in", "INVOKE")
        story.extension_next("in")
    story.runtime_next()
    return story


def timers(story: Story) -> dict[m.Timer, int]:
    """Return the deadlines that the last event set, in milliseconds from now."""
    return {order.timer: (order.at_us - story.now_us) // MS for order in story.ordered(m.SetTimer)}


@pytest.mark.case("LC-24")
def test_without_extensions_everything_is_killed_at_once() -> None:
    story = idle()
    story.stops()
    assert not story.ordered(m.Signal)
    assert story.ordered(m.KillAll)
    story.exits("runtime", "signal: killed")
    story.tell(m.Emptied())
    assert story.ordered(m.Closed)


@pytest.mark.case("LC-27")
def test_with_an_internal_extension_the_runtime_has_500_ms() -> None:
    story = idle(internal=True)
    story.stops()
    assert story.ordered(m.Signal) == [m.Signal("runtime", TERM)]
    assert timers(story) == {m.Timer.SHUTDOWN: 500, m.Timer.RUNTIME_EXIT: 500}


@pytest.mark.case("LC-25")
@pytest.mark.case("LC-29")
@pytest.mark.case("LC-30")
@pytest.mark.case("EXT-37")
def test_with_an_external_extension() -> None:
    # Given an environment with an extension that wants to know
    story = idle("a")
    story.stops()
    started_us = story.now_us
    assert story.ordered(m.Signal) == [m.Signal("runtime", TERM)]
    assert story.happened(m.Kind.RUNTIME_TERMINATED)
    assert timers(story) == {m.Timer.SHUTDOWN: 2_000, m.Timer.RUNTIME_EXIT: 300}
    assert not story.ever(m.AnswerShutdown)
    # When the runtime is gone, the extension is told
    story.exits("runtime", "exit status 0")
    (answer,) = story.ordered(m.AnswerShutdown)
    assert answer.reason is m.Reason.SPINDOWN
    assert answer.deadline_us - started_us == 2_000 * MS
    assert story.extension("a").state is ExtensionState.RUNNING
    assert [h.name for h in story.happened(m.Kind.EXTENSION_NOTIFIED)] == ["a"]
    # Then its exit ends the shutdown, long before the budget does
    story.exits("extension:a", "exit status 0")
    assert story.ordered(m.KillAll)
    story.tell(m.Emptied())
    assert story.ordered(m.Closed)
    assert not story.machine.state.timers


@pytest.mark.case("LC-26")
def test_a_runtime_that_ignores_sigterm_is_killed_after_its_share() -> None:
    story = idle("a")
    story.stops()
    started_us = story.now_us
    story.deadline(m.Timer.RUNTIME_EXIT)
    assert story.now_us - started_us == 300 * MS
    assert story.ordered(m.Signal) == [m.Signal("runtime", KILL)]
    assert not story.ever(m.AnswerShutdown)
    story.exits("runtime", "signal: killed")
    assert story.ordered(m.AnswerShutdown)


@pytest.mark.case("LC-28")
@pytest.mark.case("EXT-39")
def test_an_extension_that_ignores_shutdown_is_killed_at_the_deadline() -> None:
    story = idle("a")
    story.stops()
    started_us = story.now_us
    story.exits("runtime", "exit status 0")
    story.deadline(m.Timer.SHUTDOWN)
    assert story.now_us - started_us == 2_000 * MS
    assert story.ordered(m.KillAll)
    assert all(signal.process == "runtime" for signal in story.ever(m.Signal))


@pytest.mark.case("LC-31")
@pytest.mark.case("EXT-40")
def test_an_extension_that_did_not_ask_is_killed_once_the_runtime_is_gone() -> None:
    story = idle("a", events=("INVOKE",))
    story.stops()
    assert story.ordered(m.Signal) == [m.Signal("runtime", TERM)]
    story.exits("runtime", "exit status 0")
    assert story.ordered(m.Signal) == [m.Signal("extension:a", KILL)]
    assert not story.ever(m.AnswerShutdown)


@pytest.mark.case("LC-32")
@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("exit status 0", ExtensionState.EXITED),
        ("exit status 1", ExtensionState.SHUTDOWN_FAILED),
        ("signal: killed", ExtensionState.SHUTDOWN_FAILED),
    ],
)
def test_how_an_extension_ends_in_a_shutdown_is_reported_to_nobody(text: str, state: ExtensionState) -> None:
    story = idle("a")
    story.stops()
    story.exits("runtime", "exit status 0")
    story.exits("extension:a", text)
    assert story.extension("a").state is state
    assert not story.ever(m.Complete)


@pytest.mark.case("LC-19")
@pytest.mark.case("EXT-38")
def test_the_reason_is_timeout_after_a_timeout() -> None:
    story = idle("a")
    story.invokes()
    story.deadline(m.Timer.INVOKE)
    # The extension is still busy: it hears of it when it calls next, after the runtime's end.
    story.extension_next("a")
    assert not story.ordered(m.AnswerShutdown)
    story.exits("runtime", "signal: terminated")
    (answer,) = story.ordered(m.AnswerShutdown)
    assert answer.reason is m.Reason.TIMEOUT


@pytest.mark.case("EXT-38")
def test_the_reason_is_failure_after_a_crash_and_a_busy_extension_hears_it_with_its_next() -> None:
    story = idle("a")
    story.invokes()
    story.exits("runtime", "exit status 1")
    assert not story.ordered(m.AnswerShutdown)
    story.extension_next("a")
    (answer,) = story.ordered(m.AnswerShutdown)
    assert answer.reason is m.Reason.FAILURE
    # Calling next once more is allowed, and waits until the end.
    story.extension_next("a")
    assert story.last == []


def test_a_stop_during_a_reset_makes_it_the_last() -> None:
    story = idle("a")
    story.invokes()
    story.exits("runtime")
    story.stops()
    assert story.last == []
    story.deadline(m.Timer.SHUTDOWN)
    story.stops()
    story.tell(m.Emptied())
    assert story.ordered(m.Closed)
    assert not story.ordered(m.Available)


def test_a_stop_during_an_invocation_answers_it() -> None:
    story = idle()
    story.invokes()
    story.stops()
    (complete,) = story.ordered(m.Complete)
    assert complete.failure is not None
    assert complete.failure.error_type == "Sandbox.Failure"
    assert story.happened(m.Kind.INVOKE_ENDED)


def test_a_stop_before_anything_was_started() -> None:
    story = Story("a")
    story.stops()
    assert story.last == [m.Closed()]
    story.stops()
    assert story.last == []


def test_processes_that_cannot_be_killed_are_not_waited_for_for_ever() -> None:
    story = idle()
    story.stops()
    story.deadline(m.Timer.EMPTY)
    assert story.ordered(m.Closed)
    assert story.happened(m.Kind.SHUTDOWN_ENDED)
    story.tell(m.Emptied())
    assert story.last == []


def test_a_process_that_starts_or_fails_late_is_part_of_the_shutdown() -> None:
    # Given an extension whose start has been ordered when the environment stops
    story = Story("a", "b")
    story.tell(m.Initialise())
    story.starts("extension:a")
    story.registers("a", "SHUTDOWN")
    story.stops()
    assert m.Signal("extension:b", KILL) in story.last
    # When it runs after all, and ends
    story.starts("extension:b")
    assert not story.ordered(m.StartProcess)
    story.exits("extension:b", "signal: killed")
    assert story.machine.phase is Phase.STOPPING_EXTENSIONS
    story.exits("extension:a", "exit status 0")
    assert story.machine.phase is Phase.KILLING


def test_a_runtime_that_fails_to_start_late_is_gone() -> None:
    story = Story("a")
    story.tell(m.Initialise())
    story.starts_extensions("SHUTDOWN")
    story.stops()
    assert story.machine.phase is Phase.STOPPING_RUNTIME
    story.tell(m.ProcessFailed("runtime", "no such file", ""))
    assert story.machine.phase is Phase.STOPPING_EXTENSIONS


def test_budgets_can_be_chosen() -> None:
    story = Story("a", budgets=Budgets(init_us=1, external_us=40 * MS, external_runtime_us=10 * MS))
    story.initialises("SHUTDOWN")
    story.stops()
    assert timers(story) == {m.Timer.SHUTDOWN: 40, m.Timer.RUNTIME_EXIT: 10}


def test_processes_that_nobody_ordered_change_nothing() -> None:
    story = idle()
    story.invokes()
    story.exits("extension:ghost")
    story.tell(m.ProcessFailed("extension:ghost", "no such file", "UnknownError"))
    assert story.machine.phase is Phase.INVOKING


def test_parties_are_thawed_before_they_are_asked() -> None:
    story = idle("a")
    story.stops()
    thaw = next(i for i, e in enumerate(story.last) if isinstance(e, m.Thaw))
    term = next(i for i, e in enumerate(story.last) if isinstance(e, m.Signal))
    assert thaw < term


def test_the_end_of_the_budget_may_come_before_the_end_of_the_runtimes_share() -> None:
    story = idle(internal=True)
    story.stops()
    story.deadline(m.Timer.SHUTDOWN)
    assert story.ordered(m.CancelTimer) == [m.CancelTimer(m.Timer.RUNTIME_EXIT)]
    assert set(story.machine.state.timers) == {m.Timer.EMPTY}


def test_whoever_calls_when_the_environment_has_ended_is_refused() -> None:
    # Given an environment whose sandbox was lost while its runtime and its extension waited
    story = idle("a")
    story.tell(m.SandboxLost("pid 1 ended"))
    assert len(story.ordered(m.Refuse)) == 2
    story.tell(m.SandboxLost("pid 1 ended"))
    story.tell(m.Emptied())
    assert len(story.ever(m.Closed)) == 1
    # When somebody calls after that
    story.runtime_next()
    # Then nobody waits
    assert story.refusal()[1] == "InvalidStateTransition"
    story.extension_next("a")
    assert story.refusal()[1] == "Extension.UnknownExtensionIdentifier"
    story.registers("a")
    assert story.refusal()[1] == "Extension.RegistrationClosed"


def test_an_event_that_was_due_is_not_given_out_after_the_end_of_its_invocation() -> None:
    # Given an extension that could not be told of an invocation
    story = idle("a")
    story.tell(m.CallDropped(story.extension("a").parked))
    story.invokes()
    # When it calls next while the environment is being reset
    story.deadline(m.Timer.INVOKE)
    story.extension_next("a")
    # Then it waits, and is told of the shutdown
    assert story.last == []
    story.exits("runtime", "exit status 0")
    assert story.ordered(m.AnswerShutdown)


def test_an_extension_that_fails_to_start_late_is_not_waited_for() -> None:
    story = Story("a", "b")
    story.tell(m.Initialise())
    story.starts("extension:a")
    story.registers("a", "SHUTDOWN")
    story.stops()
    story.tell(m.ProcessFailed("extension:b", "no such file", "UnknownError"))
    story.exits("extension:a", "exit status 0")
    assert story.machine.phase is Phase.KILLING
