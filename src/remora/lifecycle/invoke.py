"""
Invoke: everybody concerned is told, the invoker is answered early, done is when all are at next.

Source: lifecycle specification, section 4; extensions-api specification, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle import endings
from remora.lifecycle.messages import (
    AnswerInvocation,
    AnswerInvoke,
    Available,
    Complete,
    Failure,
    Happened,
    Kind,
)
from remora.lifecycle.tables import ExtensionMove, ExtensionState, Phase, RuntimeMove

if TYPE_CHECKING:
    from remora.lifecycle.messages import Call
    from remora.lifecycle.parties import Extension
    from remora.lifecycle.state import Invocation, State


def release(s: State, invocation: Invocation) -> None:
    """
    Tell everybody concerned that there is an invocation, the runtime first: its answer is waited for.

    No order is promised between them, they work in parallel.
    """
    generation = s.generation
    runtime = generation.runtime
    s.enter(Phase.INVOKING)
    invocation.released_us = s.now_us
    s.effects.append(Happened(Kind.INVOKE_STARTED, s.now_us, request_id=invocation.request_id))
    if runtime.parked:
        runtime.move(RuntimeMove.RELEASE)
        for call in runtime.parked:
            s.effects.append(AnswerInvocation(call))
        runtime.parked.clear()
    for extension in generation.invoked:
        if extension.state is ExtensionState.READY:
            if extension.parked is None:
                extension.due = "INVOKE"
            else:
                give_invoke(s, extension, extension.parked)


def give_invoke(s: State, extension: Extension, call: Call) -> None:
    """Answer an extension's next with the INVOKE event."""
    extension.parked = None
    extension.due = ""
    extension.move(ExtensionMove.RELEASE)
    s.effects.append(AnswerInvoke(call))


def answer_invoker(s: State, answer: Call | Failure, *, is_error: bool) -> None:
    """Give the invoker its answer unless it has one: what was posted with a call, or a failure."""
    invocation = s.invocation
    assert invocation is not None, "an answer without an invocation"
    if invocation.is_answered:
        return
    invocation.is_answered = True
    failure, posted = (answer, None) if isinstance(answer, Failure) else (None, answer)
    if is_error:
        invocation.status = "failure"
        if failure is not None:
            invocation.error_type = failure.error_type
    s.effects.append(Complete(invocation.request_id, failure, is_error, posted))
    responded = Happened(
        Kind.RUNTIME_RESPONDED, s.now_us, request_id=invocation.request_id, detail=invocation.status
    )
    s.effects.append(responded)


def runtime_done(s: State, invocation: Invocation) -> None:
    """Note that the runtime called next after its answer."""
    invocation.runtime_done_us = s.now_us
    began_us, ended_us = invocation.response_began_us, invocation.response_ended_us
    done = Happened(
        Kind.RUNTIME_DONE,
        s.now_us,
        request_id=invocation.request_id,
        detail=invocation.status,
        error_type=invocation.error_type,
        duration_us=s.now_us - invocation.released_us,
        latency_us=began_us - invocation.released_us if ended_us >= 0 else -1,
        response_us=ended_us - began_us if ended_us >= 0 else -1,
        produced_bytes=invocation.produced_bytes,
    )
    s.effects.append(done)
    finish_if_done(s)


def finish_if_done(s: State) -> None:
    """End the invocation if the runtime and all subscribed extensions are at next."""
    invocation = s.invocation
    if s.phase is not Phase.INVOKING or invocation is None or invocation.runtime_done_us < 0:
        return
    for extension in s.generation.invoked:
        if not extension.is_at_next:
            return
    endings.end_invocation(s, invocation, invocation.status, invocation.error_type)
    become_idle(s)


def become_idle(s: State) -> None:
    """Offer the environment for the next invocation."""
    s.enter(Phase.IDLE)
    s.effects.append(Available(is_initialised=True))
