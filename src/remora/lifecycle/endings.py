"""
How an init, a restore and an invocation end, and what a failure does in each phase.

The first failure of a generation is the one reported; what dies in the reset that follows is not news.

Source: lifecycle specification, sections 2.4, 4.3 and 5; extensions-api specification, section 7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle import restore, shutdown
from remora.lifecycle.messages import Abandoned, Complete, Failure, Happened, Kind, Reason, Timer
from remora.lifecycle.tables import BEFORE_FIRST_USE, INITIALISING, UNDER_WAY, Phase

if TYPE_CHECKING:
    from remora.lifecycle.state import Invocation, State


def fail(s: State, error_type: str, message: str) -> None:
    """
    Act on a failure: it ends what is under way; idle it is kept for the next invocation.

    "The message text is that of the process that exits, the type is that of the post."
    """
    failure = Failure(s.generation.fatal_type or error_type, message)
    if s.phase is Phase.IDLE:
        s.generation.idle_failure = s.generation.idle_failure or failure
    elif s.phase in UNDER_WAY:
        break_off(s, "error", failure)
        shutdown.begin(s, Reason.FAILURE)


def break_off(s: State, status: str, failure: Failure) -> None:
    """
    End whatever is under way: init or invocation or both, or what precedes the first invocation of a clone.

    Args:
        s: The state.
        status: `error` or `timeout`.
        failure: What the invoker hears unless it has its answer already.
    """
    error_type = "" if status == "timeout" else failure.error_type
    if s.phase in INITIALISING:
        end_init(s, status, error_type)
    elif s.phase is Phase.RESTORING:
        restore.end(s, status, error_type)
    if s.is_for_snapshot and s.phase in BEFORE_FIRST_USE and not s.is_closing:
        s.effects.append(Abandoned(failure))
    invocation = s.invocation
    if invocation is None:
        return
    if invocation.released_us < 0:
        s.happened(Kind.INVOKE_STARTED, request_id=invocation.request_id)
    if not invocation.is_answered:
        invocation.is_answered = True
        s.effects.append(Complete(invocation.request_id, failure, is_error=True))
    end_invocation(s, invocation, status, error_type)


def end_init(s: State, status: str, error_type: str = "") -> None:
    """Report every extension's state and the init as a whole; the phase must change now."""
    s.cancel_timer(Timer.INIT)
    for extension in s.generation.extensions():
        s.happened(
            Kind.EXTENSION_STATE,
            name=extension.name,
            detail=extension.state.value,
            events=extension.events,
            error_type=extension.error_type,
        )
    s.happened(
        Kind.INIT_ENDED,
        phase=s.init_phase,
        detail=status,
        error_type=error_type,
        duration_us=s.now_us - s.init_started_us,
    )


def end_invocation(s: State, invocation: Invocation, status: str, error_type: str) -> None:
    """Report the end of an invocation; its invoker must have been answered."""
    assert invocation.is_answered, "an invocation ended without an answer"
    s.cancel_timer(Timer.INVOKE)
    done_us = invocation.runtime_done_us
    has_extensions = bool(s.generation.externals or s.generation.internals)
    ended = Happened(
        Kind.INVOKE_ENDED,
        s.now_us,
        request_id=invocation.request_id,
        detail=status,
        error_type=error_type,
        duration_us=min(s.now_us - invocation.accepted_us, invocation.timeout_us),
        init_us=s.unbilled_init_us,
        restore_us=s.unbilled_restore_us,
        restore_runtime_us=s.unbilled_restore_runtime_us,
        post_runtime_us=s.now_us - done_us if has_extensions and done_us >= 0 else -1,
    )
    s.effects.append(ended)
    s.unbilled_init_us = s.unbilled_restore_us = s.unbilled_restore_runtime_us = -1
    s.invocation = None
