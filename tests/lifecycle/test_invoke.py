"""Invoke: who is told, when the invoker is answered, when it is done, and what goes wrong."""

from __future__ import annotations

import pytest

from remora.lifecycle import messages as m
from remora.lifecycle.tables import Phase
from remora.testing.story import MS, Story


def idle(
    *names: str, events: tuple[str, ...] = ("INVOKE", "SHUTDOWN"), internals: tuple[str, ...] = ()
) -> Story:
    story = Story(*names)
    story.tell(m.Initialise())
    story.starts_extensions(*events)
    story.starts("runtime")
    for name in names:
        story.extension_next(name)
    for name in internals:
        story.registers(name, "INVOKE")
        story.extension_next(name)
    story.runtime_next()
    return story


def ended(story: Story) -> m.Happened:
    (happened,) = story.happened(m.Kind.INVOKE_ENDED)
    return happened


def test_the_runtime_is_told_first_then_external_and_internal_extensions() -> None:
    story = idle("a", "b", internals=("in",))
    waiting = [e.parked for e in story.machine.extensions()]
    runtime = story.machine.state.generation.runtime.parked[0]
    story.invokes()
    answers = [e for e in story.last if isinstance(e, m.AnswerInvoke | m.AnswerInvocation)]
    assert [answer.call for answer in answers] == [runtime, *waiting]
    assert isinstance(answers[0], m.AnswerInvocation)
    started = next(i for i, e in enumerate(story.last) if isinstance(e, m.Happened))
    assert started < story.last.index(answers[0])


@pytest.mark.case("LC-13")
@pytest.mark.case("LC-14")
def test_the_invoker_is_answered_before_extensions_are_done() -> None:
    # Given a runtime that has answered and called next, and an extension that still works
    story = idle("a")
    story.invokes()
    call = story.responds()
    assert story.ordered(m.Complete) == [m.Complete("r1", None, is_error=False, posted=call)]
    story.runtime_next()
    done_us = story.now_us
    assert not story.ever(m.Available)[1:]
    # When the extension calls next
    story.tell(m.ExtensionNext(story.call(), "id-a"), after_us=450 * MS)
    # Then the invocation is over, and the environment can take another
    assert ended(story).post_runtime_us == story.now_us - done_us == 450 * MS
    assert story.ordered(m.Available) == [m.Available(is_initialised=True)]


@pytest.mark.case("LC-15")
@pytest.mark.case("EXT-26")
def test_an_extension_without_invoke_is_not_waited_for() -> None:
    story = idle("a", events=("SHUTDOWN",))
    story.invokes()
    assert not story.ordered(m.AnswerInvoke)
    story.responds()
    story.runtime_next()
    assert story.machine.phase is Phase.IDLE
    assert story.extension("a").parked is not None


@pytest.mark.case("EXT-44")
def test_an_internal_extension_is_waited_for() -> None:
    story = idle("a", internals=("in",))
    story.invokes()
    story.responds()
    story.runtime_next()
    story.extension_next("a")
    assert story.machine.phase is Phase.INVOKING
    story.extension_next("in")
    assert story.machine.phase is Phase.IDLE


def test_extensions_may_be_done_before_the_runtime() -> None:
    story = idle("a")
    story.invokes()
    story.extension_next("a")
    story.responds()
    assert story.machine.phase is Phase.INVOKING
    story.runtime_next()
    assert story.machine.phase is Phase.IDLE


@pytest.mark.case("LC-22")
def test_the_same_processes_serve_one_invocation_after_the_other() -> None:
    story = idle("a")
    for number in range(3):
        story.invokes(f"r{number}")
        story.responds(f"r{number}")
        story.runtime_next()
        story.extension_next("a")
    assert len(story.ever(m.StartProcess)) == 2
    assert [complete.request_id for complete in story.ever(m.Complete)] == ["r0", "r1", "r2"]


@pytest.mark.case("LC-17")
@pytest.mark.case("RT-33")
def test_a_handler_error_keeps_the_environment() -> None:
    story = idle("a")
    story.invokes()
    call = story.posts_error()
    assert story.ever(m.Complete) == [m.Complete("r1", None, is_error=True, posted=call)]
    story.runtime_next()
    story.extension_next("a")
    assert story.machine.phase is Phase.IDLE
    assert (ended(story).detail, ended(story).error_type) == ("failure", "Function.Oops")
    assert not story.happened(m.Kind.SHUTDOWN_STARTED)


@pytest.mark.case("RT-27")
@pytest.mark.case("RT-28")
def test_an_oversized_response() -> None:
    story = idle()
    story.invokes()
    call = story.begins_response()
    story.tell(m.BodyEnded(call, m.Transfer.OVERSIZED))
    text = "maximum allowed payload size (6291556 bytes)."
    assert story.refusal() == (413, "RequestEntityTooLarge", f"Exceeded {text}")
    (complete,) = story.ever(m.Complete)
    assert complete.failure == m.Failure(
        "Function.ResponseSizeTooLarge", f"Response payload size exceeded {text}", names_request=False
    )
    story.runtime_next()
    assert story.machine.phase is Phase.IDLE


@pytest.mark.case("RT-29")
def test_an_invalid_response_mode() -> None:
    story = idle()
    story.invokes()
    story.begins_response(is_mode_valid=False)
    assert story.refusal() == (400, "InvalidFunctionResponseMode", "Invalid function response mode")
    (complete,) = story.ever(m.Complete)
    assert complete.failure is not None
    assert complete.failure.error_type == "Runtime.InvalidResponseModeHeader"
    story.runtime_next()
    assert story.machine.phase is Phase.IDLE


@pytest.mark.case("RT-32")
@pytest.mark.parametrize("is_told_of_the_body", [True, False])
def test_a_truncated_response(*, is_told_of_the_body: bool) -> None:
    story = idle()
    story.invokes()
    call = story.begins_response()
    story.tell(m.BodyEnded(call, m.Transfer.TRUNCATED) if is_told_of_the_body else m.CallDropped(call))
    assert story.refusal() == (400, "TruncatedHTTPRequest", "HTTP request detected as truncated")
    (complete,) = story.ever(m.Complete)
    assert complete.failure is not None
    assert complete.failure.error_type == "Runtime.TruncatedResponse"


@pytest.mark.case("EXT-36")
@pytest.mark.case("LC-16")
@pytest.mark.parametrize("who_hangs", ["runtime", "extension"])
def test_a_timeout_after_the_answer(who_hangs: str) -> None:
    # Given an invoker who has the answer, and somebody who never calls next
    story = idle("a")
    story.invokes(timeout_ms=2_000)
    accepted_us = story.now_us
    call = story.responds()
    if who_hangs == "extension":
        story.runtime_next()
    else:
        story.extension_next("a")
    # When the function's time is up
    story.deadline(m.Timer.INVOKE)
    # Then the environment is reset, and the invoker keeps what it has
    assert story.now_us - accepted_us == 2_000 * MS
    assert story.ever(m.Complete) == [m.Complete("r1", None, is_error=False, posted=call)]
    assert (ended(story).detail, ended(story).error_type) == ("timeout", "")
    assert story.happened(m.Kind.SHUTDOWN_STARTED)[0].detail == "timeout"


@pytest.mark.case("RT-25")
@pytest.mark.case("LC-38")
def test_a_timeout_not_before_its_moment() -> None:
    story = idle()
    story.invokes(timeout_ms=1_000)
    # A deadline that comes half a millisecond early is ordered again, for the same moment.
    at_us = story.machine.state.timers[m.Timer.INVOKE]
    story.tell(m.DeadlineReached(m.Timer.INVOKE), after_us=at_us - story.now_us - 500)
    assert story.last == [m.SetTimer(m.Timer.INVOKE, at_us)]
    story.tell(m.DeadlineReached(m.Timer.INVOKE), after_us=900)
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Sandbox.Timedout", "Task timed out after 1.00 seconds")
    assert ended(story).duration_us == 1_000 * MS


def test_the_deadline_comes_while_the_response_is_being_received() -> None:
    # Given a body that is under way
    story = idle()
    story.invokes()
    call = story.begins_response()
    # When the time is up
    story.deadline(m.Timer.INVOKE)
    (complete,) = story.ordered(m.Complete)
    assert complete.failure is not None
    # Then its end changes nothing
    story.tell(m.BodyEnded(call, m.Transfer.COMPLETE))
    assert story.refusal()[:2] == (400, "InvalidRequestID")
    assert len(story.ever(m.Complete)) == 1


@pytest.mark.case("RT-22")
@pytest.mark.case("RT-23")
@pytest.mark.case("LC-18")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit status 7", "Runtime exited with error: exit status 7"),
        ("exit status 0", "Runtime exited without providing a reason"),
        ("signal: segmentation fault", "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_the_runtime_exits_before_it_answers(text: str, message: str) -> None:
    story = idle("a")
    story.invokes()
    story.exits("runtime", text)
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Runtime.ExitError", message)
    assert (ended(story).detail, ended(story).error_type) == ("error", "Runtime.ExitError")
    assert story.happened(m.Kind.SHUTDOWN_STARTED)[0].detail == "failure"


@pytest.mark.case("RT-24")
def test_the_runtime_runs_out_of_memory() -> None:
    story = idle()
    story.invokes()
    story.tell(m.ProcessExited("runtime", "signal: killed", False, is_out_of_memory=True))
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Runtime.OutOfMemory", "Runtime exited with error: signal: killed")


@pytest.mark.case("LC-47")
def test_the_runtime_exits_after_it_answered() -> None:
    story = idle()
    story.invokes()
    call = story.responds()
    story.exits("runtime", "exit status 1")
    assert story.ever(m.Complete) == [m.Complete("r1", None, is_error=False, posted=call)]
    assert (ended(story).detail, ended(story).error_type) == ("error", "Runtime.ExitError")
    assert story.machine.phase is Phase.KILLING


def test_a_runtime_that_lost_its_invocation_gets_no_other() -> None:
    # Given a runtime whose invocation was ended by the crash of an extension
    story = idle("a")
    story.invokes()
    story.exits("extension:a")
    # When it calls next while it is being shut down
    story.runtime_next()
    # Then it waits
    assert story.last == []


@pytest.mark.case("EXT-35")
@pytest.mark.case("LC-33")
@pytest.mark.case("LC-34")
def test_an_extension_exits_during_an_invocation() -> None:
    story = idle("a", "b")
    story.invokes()
    story.exits("extension:a", "exit status 0")
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Extension.Crash", "exit code 0")
    assert (ended(story).detail, ended(story).error_type) == ("error", "Extension.Crash")
    # What dies in the reset is not news.
    story.exits("extension:b", "exit status 9")
    story.exits("runtime", "exit status 9")
    assert len(story.ever(m.Complete)) == len(story.happened(m.Kind.INVOKE_ENDED)) == 1


@pytest.mark.case("EXT-49")
def test_an_exit_error_gives_the_type_and_the_exit_the_message() -> None:
    story = idle(internals=("in",))
    story.invokes()
    story.extension_error("in", is_exit=True)
    assert not story.ordered(m.Complete)
    story.exits("runtime", "exit status 1")
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Extension.ExitError", "Runtime exited with error: exit status 1")


@pytest.mark.parametrize("process", ["runtime", "extension:a"])
def test_what_dies_idle_fails_the_next_invocation(process: str) -> None:
    # Given two deaths while nothing was asked of the environment
    story = idle("a")
    story.exits(process, "exit status 4")
    assert not story.ordered(m.Signal)
    story.exits("extension:a" if process == "runtime" else "runtime", "exit status 5")
    # When an invocation comes
    story.invokes()
    # Then it hears of the first
    (complete,) = story.ordered(m.Complete)
    assert complete.failure is not None
    assert complete.failure.message.endswith("exit status 4")
    assert story.happened(m.Kind.INVOKE_STARTED)
    assert ended(story).detail == "error"
    assert story.happened(m.Kind.SHUTDOWN_STARTED)[0].detail == "failure"


@pytest.mark.case("LC-46")
def test_the_environment_is_offered_only_after_the_reset() -> None:
    story = idle()
    story.invokes()
    story.exits("runtime")
    assert not story.ordered(m.Available)
    with pytest.raises(AssertionError, match="invocation given while killing"):
        story.invokes("r2")
    story.tell(m.Emptied())
    assert story.ordered(m.Available) == [m.Available(is_initialised=False)]


def test_dropped_calls_can_be_made_again() -> None:
    # Given a runtime and an extension whose connections broke while they waited
    story = idle("a")
    for call in (story.machine.state.generation.runtime.parked[0], story.extension("a").parked):
        story.tell(m.CallDropped(call))
    # When an invocation comes, nobody can be told
    story.invokes()
    assert not story.ordered(m.AnswerInvocation) + story.ordered(m.AnswerInvoke)
    # Then both are told as soon as they call again
    story.runtime_next()
    assert story.ordered(m.AnswerInvocation)
    story.extension_next("a")
    assert story.ordered(m.AnswerInvoke)
    story.responds()
    story.runtime_next()
    story.extension_next("a")
    assert story.machine.phase is Phase.IDLE


def test_every_waiting_next_of_the_runtime_gets_the_invocation() -> None:
    story = idle()
    story.runtime_next()
    story.invokes()
    assert len(story.ordered(m.AnswerInvocation)) == 2


def test_a_lost_sandbox_ends_everything() -> None:
    story = idle("a")
    story.invokes()
    story.tell(m.SandboxLost("pid 1 ended"))
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Sandbox.Failure", "pid 1 ended")
    assert ended(story).detail == "error"
    assert story.ordered(m.Closed)
    assert not story.machine.state.timers
