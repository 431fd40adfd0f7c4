"""Init: the order of starts, who is waited for, and how it fails."""

from __future__ import annotations

import pytest

from remora.lifecycle import messages as m
from remora.lifecycle.tables import Phase
from remora.testing.story import Story


def started(story: Story) -> list[str]:
    return [order.process for order in story.ever(m.StartProcess)]


def ended(story: Story) -> tuple[str, str, str]:
    init = story.happened(m.Kind.INIT_ENDED)[-1]
    return init.phase, init.detail, init.error_type


def states(story: Story) -> list[tuple[str, str, str]]:
    return [(h.name, h.detail, h.error_type) for h in story.happened(m.Kind.EXTENSION_STATE)]


@pytest.mark.case("LC-1")
@pytest.mark.case("EXT-30")
def test_without_extensions_the_runtime_starts_at_once() -> None:
    story = Story()
    story.tell(m.Initialise())
    assert started(story) == ["runtime"]
    story.starts("runtime")
    assert story.machine.phase is Phase.STARTING_RUNTIME
    story.runtime_next()
    assert story.machine.phase is Phase.IDLE
    assert story.ordered(m.Available) == [m.Available(is_initialised=True)]


@pytest.mark.case("LC-2")
@pytest.mark.case("LC-3")
@pytest.mark.case("EXT-28")
def test_extensions_start_in_parallel_and_the_runtime_after_all_have_registered() -> None:
    # Given two external extensions
    story = Story("a", "b")
    story.tell(m.Initialise())
    assert started(story) == ["extension:a"]
    # When the first is executed, the second is, too; none has registered yet
    story.starts("extension:a")
    assert started(story) == ["extension:a", "extension:b"]
    # Then the runtime starts when the last one has registered, whatever the order
    story.starts("extension:b")
    story.registers("b", "INVOKE")
    assert "runtime" not in started(story)
    story.registers("a", "INVOKE")
    assert story.ordered(m.StartProcess) == [m.StartProcess("runtime")]


@pytest.mark.case("LC-4")
@pytest.mark.case("EXT-27")
@pytest.mark.parametrize("events", [(), ("SHUTDOWN",), ("INVOKE",)])
def test_init_lasts_until_every_extension_is_at_next(events: tuple[str, ...]) -> None:
    story = Story("a")
    story.tell(m.Initialise())
    story.starts_extensions(*events)
    story.starts("runtime")
    story.runtime_next()
    assert story.machine.phase is Phase.STARTING_RUNTIME
    story.extension_next("a")
    assert story.machine.phase is Phase.IDLE


def test_init_lasts_until_an_internal_extension_is_at_next() -> None:
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    story.registers("in", "INVOKE")
    story.runtime_next()
    assert story.machine.phase is Phase.STARTING_RUNTIME
    story.extension_next("in")
    assert story.machine.phase is Phase.IDLE


@pytest.mark.case("EXT-45")
def test_every_extension_is_reported_once() -> None:
    story = Story("a")
    story.initialises("INVOKE", "SHUTDOWN")
    (state,) = story.happened(m.Kind.EXTENSION_STATE)
    assert (state.name, state.detail, state.events) == ("a", "Ready", ("INVOKE", "SHUTDOWN"))


@pytest.mark.case("LC-5")
def test_only_the_first_invocation_is_billed_for_the_init() -> None:
    story = Story()
    story.initialises()
    (init,) = story.happened(m.Kind.INIT_ENDED)
    for number in (1, 2):
        story.invokes(f"r{number}")
        story.responds(f"r{number}")
        story.runtime_next()
    first, second = story.happened(m.Kind.INVOKE_ENDED)
    assert first.init_us == init.duration_us
    assert second.init_us == -1


@pytest.mark.case("LC-6")
def test_an_init_that_takes_too_long_is_tried_again_in_the_invocation() -> None:
    # Given a runtime that never gets ready
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    # When ten seconds have passed
    story.deadline(m.Timer.INIT)
    assert story.now_us == 10_000_000 + 1_000
    assert ended(story) == ("init", "timeout", "")
    story.exits("runtime", "signal: killed")
    story.tell(m.Emptied())
    assert story.ordered(m.Available) == [m.Available(is_initialised=False)]
    # Then the invocation begins with another init, and is billed for it as part of its duration
    story.invokes()
    accepted_us = story.now_us
    assert story.ordered(m.StartProcess) == [m.StartProcess("runtime")]
    story.starts("runtime")
    story.runtime_next()
    assert ended(story) == ("invoke", "success", "")
    assert story.ordered(m.AnswerInvocation)
    story.responds()
    story.runtime_next()
    (invocation,) = story.happened(m.Kind.INVOKE_ENDED)
    assert invocation.duration_us == story.now_us - accepted_us
    assert invocation.init_us == -1
    assert invocation.detail == "success"


@pytest.mark.case("LC-7")
def test_the_function_timeout_covers_an_init_inside_the_invocation() -> None:
    story = Story()
    story.invokes(timeout_ms=3_000)
    story.starts("runtime")
    story.deadline(m.Timer.INVOKE)
    assert ended(story) == ("invoke", "timeout", "")
    assert story.happened(m.Kind.INIT_ENDED)[-1].duration_us == 3_000_000
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Sandbox.Timedout", "Task timed out after 3.00 seconds")
    kinds = [e.kind for e in story.last if isinstance(e, m.Happened)]
    assert kinds == [
        m.Kind.INIT_ENDED,
        m.Kind.INVOKE_STARTED,
        m.Kind.INVOKE_ENDED,
        m.Kind.SHUTDOWN_STARTED,
    ]


@pytest.mark.case("LC-8")
@pytest.mark.case("LC-10")
@pytest.mark.case("LC-40")
@pytest.mark.case("RT-21")
def test_a_failing_init_is_tried_again_with_every_invocation() -> None:
    # Given a runtime that exits while it initialises
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    story.exits("runtime", "exit status 1")
    assert ended(story) == ("init", "error", "Runtime.ExitError")
    assert not story.ever(m.Complete)
    story.tell(m.Emptied())
    # When it fails within two invocations, too
    for number in (1, 2):
        story.invokes(f"r{number}")
        story.starts("runtime")
        story.exits("runtime", "exit status 1")
        # Then each is told how
        (complete,) = story.ordered(m.Complete)
        assert complete.failure == m.Failure("Runtime.ExitError", "Runtime exited with error: exit status 1")
        assert ended(story) == ("invoke", "error", "Runtime.ExitError")
        story.tell(m.Emptied())
    assert len(story.happened(m.Kind.INIT_STARTED)) == 3


@pytest.mark.case("LC-9")
def test_an_init_that_works_the_second_time_serves_its_invocation() -> None:
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    story.exits("runtime")
    story.tell(m.Emptied())
    story.invokes()
    story.finishes_init()
    story.responds()
    (complete,) = story.ever(m.Complete)
    assert complete.failure is None
    assert not complete.is_error


@pytest.mark.case("RT-19")
def test_a_posted_init_error_answers_the_invocation_that_waits() -> None:
    # Given an init error ahead of any invocation: it is not kept
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    story.posts_init_error()
    assert story.machine.phase is Phase.STARTING_RUNTIME
    story.exits("runtime")
    assert ended(story) == ("init", "error", "Runtime.ImportModuleError")
    story.tell(m.Emptied())
    # When it is posted again inside the invocation
    story.invokes()
    story.starts("runtime")
    story.posts_init_error()
    # Then its body is the answer, at once
    (complete,) = story.ordered(m.Complete)
    assert complete.failure is None
    assert complete.is_error
    # And when the process ends, only the log hears of it
    story.exits("runtime")
    assert not story.ordered(m.Complete)
    (invocation,) = story.happened(m.Kind.INVOKE_ENDED)
    assert (invocation.detail, invocation.error_type) == ("error", "Runtime.ImportModuleError")


def test_a_stale_init_error_does_not_answer_a_later_invocation() -> None:
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    story.posts_init_error()
    story.exits("runtime")
    story.tell(m.Emptied())
    story.invokes()
    story.starts("runtime")
    story.exits("runtime", "exit status 2")
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Runtime.ExitError", "Runtime exited with error: exit status 2")


def test_a_runtime_that_posts_an_init_error_and_lingers_keeps_init_open() -> None:
    story = Story()
    story.tell(m.Initialise())
    story.starts("runtime")
    story.posts_init_error()
    story.deadline(m.Timer.INIT)
    assert ended(story) == ("init", "timeout", "")


@pytest.mark.case("RT-41")
def test_no_usable_bootstrap() -> None:
    story = Story()
    story.invokes()
    story.tell(m.ProcessFailed("runtime", "fork/exec /var/task/bootstrap: permission denied", ""))
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure(
        "Runtime.InvalidEntrypoint", "fork/exec /var/task/bootstrap: permission denied"
    )


@pytest.mark.case("EXT-31")
def test_an_extension_that_cannot_be_executed_fails_init_and_none_after_it_is_started() -> None:
    story = Story("a", "b", "c")
    story.invokes()
    story.starts("extension:a")
    message = "fork/exec /opt/extensions/b: permission denied"
    story.tell(m.ProcessFailed("extension:b", message, "PermissionDenied"))
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Extension.LaunchError", message)
    assert states(story) == [("a", "Started", ""), ("b", "LaunchError", "PermissionDenied")]
    assert started(story) == ["extension:a", "extension:b"]


@pytest.mark.case("EXT-32")
def test_the_eleventh_extension_fails_init() -> None:
    names = tuple(f"e{number:02}" for number in range(11))
    story = Story(*names)
    story.invokes()
    for name in names[:10]:
        story.starts(m.extension_process(name))
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Extension.LaunchError", "ErrTooManyExtensions")
    assert states(story)[10] == ("e10", "LaunchError", "TooManyExtensions")
    assert len(started(story)) == 10


@pytest.mark.case("EXT-33")
@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("exit status 1", "exit status 1"),
        ("exit status 0", "exit code 0"),
        ("signal: killed", "signal: killed"),
    ],
)
@pytest.mark.parametrize("is_registered", [False, True])
def test_an_extension_that_exits_during_init(*, text: str, message: str, is_registered: bool) -> None:
    story = Story("a")
    story.invokes()
    story.starts("extension:a")
    if is_registered:
        story.registers("a", "INVOKE")
    story.exits("extension:a", text)
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Extension.Crash", message)


@pytest.mark.case("EXT-34")
def test_an_extension_that_posts_an_init_error_and_exits() -> None:
    story = Story("a")
    story.invokes()
    story.starts_extensions("INVOKE")
    story.extension_error("a", "Extension.Foo")
    assert not story.ordered(m.Complete)
    story.exits("extension:a", "exit status 3")
    (complete,) = story.ordered(m.Complete)
    assert complete.failure == m.Failure("Extension.InitError", "exit status 3")
    assert states(story) == [("a", "InitError", "Extension.Foo")]


@pytest.mark.case("EXT-50")
def test_two_extensions_fail_and_one_failure_is_reported() -> None:
    story = Story("a", "b")
    story.invokes()
    story.starts_extensions()
    story.extension_error("b", "Extension.B")
    story.extension_error("a", "Extension.A")
    story.exits("extension:a", "exit status 1")
    story.exits("extension:b", "exit status 2")
    (complete,) = story.ever(m.Complete)
    assert complete.failure == m.Failure("Extension.InitError", "exit status 1")


def test_an_extension_that_never_registers_keeps_the_runtime_from_starting() -> None:
    story = Story("a")
    story.tell(m.Initialise())
    story.starts("extension:a")
    story.deadline(m.Timer.INIT)
    assert started(story) == ["extension:a"]
    assert states(story) == [("a", "Started", "")]


@pytest.mark.case("EXT-15")
def test_a_misspelt_name_is_taken_for_an_internal_extension() -> None:
    story = Story("ext.sh")
    story.tell(m.Initialise())
    story.starts("extension:ext.sh")
    story.registers("ext", "INVOKE")
    assert story.ordered(m.AnswerRegistered)
    story.extension_next("ext")
    story.deadline(m.Timer.INIT)
    assert states(story) == [("ext.sh", "Started", ""), ("ext", "Ready", "")]


def test_calls_left_over_from_before_a_reset_do_not_pass_for_the_new_runtime() -> None:
    # Given an environment that was reset and initialises again, extensions first
    story = Story("a")
    story.initialises("INVOKE")
    story.invokes()
    story.exits("runtime")
    story.exits("extension:a", "exit status 0")
    story.tell(m.Emptied())
    story.invokes("r2")
    # When a call of the former runtime and one of the former extension are read only now
    story.runtime_next()
    assert story.refusal()[1] == "InvalidStateTransition"
    story.extension_next("a")
    assert story.refusal()[1] == "Extension.UnknownExtensionIdentifier"
    # Then the new ones are not disturbed
    story.finishes_init("INVOKE")
    assert story.machine.phase is Phase.INVOKING


def test_whoever_waits_when_a_generation_ends_is_answered() -> None:
    story = Story("a")
    story.initialises("INVOKE")
    story.invokes()
    body = story.begins_response()
    story.exits("runtime")
    waiting = story.extension_next("a")
    story.exits("extension:a")
    story.tell(m.Emptied())
    refusals = {refusal.call: refusal.error_type for refusal in story.ordered(m.Refuse)}
    assert refusals == {body: "InvalidRequestID", waiting: "Extension.InvalidExtensionState"}
