"""What is made for a snapshot: held when it is initialised, restored, then an environment like any other."""

from __future__ import annotations

import pytest

from remora.lifecycle import messages as m
from remora.lifecycle.state import Budgets
from remora.lifecycle.tables import Phase
from remora.testing.story import MS, Story


def held(*names: str, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN")) -> Story:
    story = Story(*names, is_for_snapshot=True)
    story.is_held(*events)
    return story


def restoring(*names: str) -> Story:
    story = held(*names)
    story.restores()
    return story


def restored(*names: str) -> Story:
    story = restoring(*names)
    story.runtime_next()
    return story


def restore_ended(story: Story) -> m.Happened:
    (ended,) = story.happened(m.Kind.RESTORE_ENDED)
    return ended


def abandoned(story: Story) -> m.Failure:
    (effect,) = story.ever(m.Abandoned)
    return effect.failure


def closes(story: Story) -> None:
    """Nothing is left of it but to confirm that it is empty."""
    while story.machine.phase is not Phase.KILLING:
        story.deadline(min(story.machine.state.timers, key=lambda timer: story.machine.state.timers[timer]))
    story.tell(m.Emptied())
    assert story.ever(m.Closed)
    assert story.machine.phase is Phase.CLOSED


# --- init, and what is held -------------------------------------------------------------------------------


def test_it_is_held_when_everybody_waits() -> None:
    # Given a runtime in restore/next, and an extension that is not at next yet
    story = Story("a", is_for_snapshot=True)
    story.tell(m.Initialise())
    story.starts_extensions("INVOKE")
    story.starts("runtime")
    story.restore_next()
    assert [mark.detail for mark in story.happened(m.Kind.RUNTIME_READY)] == [""]
    assert not story.ever(m.SnapshotReady)
    # When it is
    story.extension_next("a")
    # Then the snapshot can be taken: nothing runs, and nobody was answered
    assert story.last[-1] == m.SnapshotReady()
    assert story.machine.state.timers == {}
    assert not story.ever(m.Available)
    assert not story.machine.is_initialised
    assert not story.machine.is_initialising
    (ended,) = story.happened(m.Kind.INIT_ENDED)
    assert (ended.detail, ended.phase) == ("success", "init")


def test_restore_next_closes_the_registration_of_internal_extensions() -> None:
    story = Story(is_for_snapshot=True)
    story.tell(m.Initialise())
    story.starts("runtime")
    story.registers("inner", "INVOKE")
    story.restore_next()
    assert not story.ever(m.SnapshotReady)
    story.registers("late", "INVOKE")
    assert story.refusal() == (
        403,
        "Extension.RegistrationClosed",
        "Extension registration closed already",
    )
    story.extension_next("inner")
    assert story.ordered(m.SnapshotReady)


@pytest.mark.case("SS-7", partly="shown by the limits; no real init of twenty seconds")
def test_the_init_may_take_as_long_as_that_of_provisioned_concurrency() -> None:
    assert Budgets().provisioned(3).init_us == 130_000_000
    assert Budgets().provisioned(900).init_us == 900_000_000
    assert Budgets().provisioned(900).restore_us == 10_000_000


@pytest.mark.parametrize("how", ["posts and exits", "exits", "too long", "extension", "sandbox"])
def test_an_init_that_fails_is_not_repeated(how: str) -> None:
    story = Story("a", is_for_snapshot=True)
    story.tell(m.Initialise())
    story.starts_extensions("SHUTDOWN")
    story.starts("runtime")
    if how == "posts and exits":
        story.posts_init_error("Runtime.BeforeSnapshotError")
        story.exits("runtime", "exit status 64")
    elif how == "exits":
        story.exits("runtime")
    elif how == "extension":
        story.exits("extension:a")
    elif how == "sandbox":
        story.tell(m.SandboxLost("gone"))
    else:
        story.deadline(m.Timer.INIT)
    assert (
        abandoned(story).error_type
        == {
            "posts and exits": "Runtime.BeforeSnapshotError",
            "exits": "Runtime.ExitError",
            "extension": "Extension.Crash",
            "sandbox": "Sandbox.Failure",
            "too long": "Sandbox.Timedout",
        }[how]
    )
    if how == "too long":
        assert abandoned(story).message == "Task timed out after 10.00 seconds"
    if how != "sandbox":
        closes(story)
    assert not story.ever(m.Available)


def test_a_process_that_dies_while_it_is_held_spoils_the_snapshot() -> None:
    story = held("a")
    story.exits("runtime", "signal: killed")
    assert abandoned(story) == m.Failure("Runtime.ExitError", "Runtime exited with error: signal: killed")
    assert not story.ever(m.AnswerShutdown)
    closes(story)


def test_what_is_held_is_stopped_without_a_word() -> None:
    """Its extensions are in the snapshot, too: there they go on waiting."""
    story = held("a")
    story.stops()
    assert story.ordered(m.KillAll)
    closes(story)
    assert not story.ever(m.AnswerShutdown)
    assert not story.ever(m.Signal)
    assert not story.ever(m.Abandoned)


def test_an_invocation_is_not_taken_before_the_restore() -> None:
    for story in (Story(is_for_snapshot=True), held(), restoring()):
        with pytest.raises(AssertionError, match="invocation given while"):
            story.invokes()


def test_a_restore_is_not_taken_twice() -> None:
    for story in (Story(is_for_snapshot=True), restoring(), restored()):
        with pytest.raises(AssertionError, match="restore ordered while"):
            story.restores()


# --- restore ----------------------------------------------------------------------------------------------


@pytest.mark.case("LC-41")
@pytest.mark.case("RT-39")
def test_the_runtime_goes_on() -> None:
    # Given a runtime in restore/next and an extension at next
    story = Story("a", is_for_snapshot=True)
    call = story.is_held("INVOKE")
    # When it is restored
    story.restores(loading_us=40 * MS)
    # Then only the runtime hears of it, and has what is left of ten seconds
    assert story.last[0] == m.Thaw()
    assert story.ordered(m.AnswerRestored) == [m.AnswerRestored(call)]
    assert not story.ordered(m.AnswerInvoke)
    assert story.machine.state.timers == {m.Timer.RESTORE: story.now_us - 40 * MS + 10_000_000}
    # And when it calls next after its hooks, an invocation can be given
    story.tell(m.RuntimeNext(story.call()), after_us=25 * MS)
    assert story.last[-1] == m.Available(is_initialised=True)
    assert story.machine.state.timers == {}
    assert (restore_ended(story).detail, restore_ended(story).duration_us) == ("success", 65 * MS)


@pytest.mark.case("LC-42")
def test_a_runtime_that_waits_in_next_is_restored_at_once() -> None:
    story = Story("a", is_for_snapshot=True)
    story.tell(m.Initialise())
    story.finishes_init("INVOKE")
    assert story.ordered(m.SnapshotReady)
    story.restores(loading_us=40 * MS)
    assert story.ordered(m.Available)
    assert not story.ever(m.AnswerRestored)
    assert restore_ended(story).duration_us == 40 * MS
    # And its next, which waits since before the snapshot, gets the first invocation.
    story.invokes()
    assert story.ordered(m.AnswerInvocation)
    assert story.ordered(m.AnswerInvoke)


def test_the_first_invocation_reports_the_restore_and_no_init() -> None:
    story = held()
    story.restores(loading_us=40 * MS)
    story.tell(m.RuntimeNext(story.call()), after_us=25 * MS)
    for request_id in ("r1", "r2"):
        story.invokes(request_id)
        story.responds(request_id)
        story.runtime_next()
    first, second = story.happened(m.Kind.INVOKE_ENDED)
    assert (first.restore_us, first.restore_runtime_us, first.init_us) == (65 * MS, 25 * MS, -1)
    assert (second.restore_us, second.restore_runtime_us, second.init_us) == (-1, -1, -1)


def test_a_runtime_that_did_not_wait_is_billed_for_nothing() -> None:
    story = Story(is_for_snapshot=True)
    story.initialises()
    story.invokes()
    story.responds()
    story.runtime_next()
    (ended,) = story.happened(m.Kind.INVOKE_ENDED)
    assert (ended.restore_us, ended.restore_runtime_us) == (0, 0)


@pytest.mark.case("LC-43")
@pytest.mark.parametrize("post", ["restore/error", "init/error", ""])
def test_a_runtime_that_fails_while_it_is_restored(post: str) -> None:
    story = restoring("a")
    # When it posts its error, if it does
    if post == "restore/error":
        story.posts_restore_error("Runtime.AfterRestoreError")
    elif post:
        story.posts_init_error("Runtime.AfterRestoreError")
    if post:
        assert story.ordered(m.Accept)
        assert story.machine.phase is Phase.RESTORING
    # And exits
    story.exits("runtime", "exit status 65")
    # Then the environment will never serve, and what was posted is the reason
    expected = "Runtime.AfterRestoreError" if post else "Runtime.ExitError"
    assert abandoned(story) == m.Failure(expected, "Runtime exited with error: exit status 65")
    assert (restore_ended(story).detail, restore_ended(story).error_type) == ("error", expected)
    (told,) = story.ordered(m.AnswerShutdown)
    assert told.reason is m.Reason.FAILURE
    closes(story)
    assert not story.ever(m.Available)


def test_an_extension_that_crashes_while_it_is_restored() -> None:
    story = restoring("a")
    story.exits("extension:a", "signal: killed")
    assert abandoned(story) == m.Failure("Extension.Crash", "signal: killed")
    assert restore_ended(story).error_type == "Extension.Crash"
    closes(story)


@pytest.mark.case("LC-41")
def test_hooks_that_take_too_long() -> None:
    story = restoring("a")
    story.deadline(m.Timer.RESTORE)
    assert abandoned(story) == m.Failure(
        "Runtime.RestoreHookUserTimeout", "Task timed out after 10.00 seconds"
    )
    assert (restore_ended(story).detail, restore_ended(story).error_type) == ("timeout", "")
    assert story.happened(m.Kind.SHUTDOWN_STARTED)[0].detail == "timeout"
    closes(story)


def test_a_runtime_that_posts_and_does_not_exit() -> None:
    story = restoring()
    story.posts_restore_error("Function.Odd")
    story.deadline(m.Timer.RESTORE)
    assert abandoned(story).error_type == "Function.Odd"
    assert (restore_ended(story).detail, restore_ended(story).error_type) == ("error", "Function.Odd")
    closes(story)


def test_a_runtime_that_hung_up_before_the_restore_has_its_ten_seconds() -> None:
    story = Story(is_for_snapshot=True)
    call = story.is_held()
    story.tell(m.CallDropped(call))
    story.restores()
    assert not story.ordered(m.AnswerRestored)
    story.runtime_next()
    assert story.ordered(m.Available)


def test_a_stop_while_it_is_restored() -> None:
    story = restoring("a")
    story.stops()
    assert restore_ended(story).detail == "error"
    assert not story.ever(m.Abandoned)
    closes(story)


# --- afterwards -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "timeout", "idle"])
def test_what_fails_later_is_not_initialised_again(how: str) -> None:
    story = restored("a")
    if how == "idle":
        story.exits("runtime")
        assert not story.ever(m.Abandoned)
    story.invokes()
    if how == "exit":
        story.exits("runtime")
    elif how == "timeout":
        story.deadline(m.Timer.INVOKE)
    (complete,) = story.ever(m.Complete)
    assert complete.failure is not None
    closes(story)
    assert len(story.ever(m.Available)) == 1
    assert not story.ever(m.Abandoned)


def test_a_stop_afterwards_is_told_to_extensions() -> None:
    story = restored("a")
    story.stops()
    story.exits("runtime", "exit status 0")
    (told,) = story.ordered(m.AnswerShutdown)
    assert told.reason is m.Reason.SPINDOWN
