"""
What the runtime's calls mean: next, response, error, init/error, restore/next, restore/error.

Source: runtime-api specification, sections 2 to 7; snapstart specification, section 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle import init, invoke, restore
from remora.lifecycle.messages import Accept, AnswerInvocation, Failure, Kind, Refuse, StreamBody, Transfer
from remora.lifecycle.state import INVALID_REQUEST_ID
from remora.lifecycle.tables import INITIALISING, Phase, RuntimeMove, RuntimeState

if TYPE_CHECKING:
    from remora.lifecycle.messages import (
        BodyEnded,
        Call,
        ErrorBegan,
        InitError,
        ResponseBegan,
        RestoreError,
        RestoreNext,
        RuntimeNext,
    )
    from remora.lifecycle.state import State

_TRUNCATED = "HTTP request detected as truncated"
_INVALID_MODE = "Invalid function response mode"


def on_next(s: State, event: RuntimeNext) -> None:
    """GET /runtime/invocation/next: wait for an invocation, or get the present one (again)."""
    generation, invocation = s.generation, s.invocation
    runtime = generation.runtime
    before = runtime.state
    if not runtime.move(RuntimeMove.NEXT):
        s.effects.append(runtime.refusal(event.call, RuntimeMove.NEXT))
    elif before is RuntimeState.RESPONSE_SENT:
        runtime.parked.append(event.call)
        if invocation is not None:
            invoke.runtime_done(s, invocation)
    elif before is RuntimeState.RUNNING and invocation is not None:
        s.effects.append(AnswerInvocation(event.call))
    elif before is RuntimeState.STARTED:
        runtime.parked.append(event.call)
        generation.is_registration_open = False
        s.happened(Kind.RUNTIME_READY)
        init.proceed(s)
    elif before is RuntimeState.RESTORING:
        runtime.parked.append(event.call)
        restore.on_runtime_next(s)
    elif s.phase is Phase.INVOKING and invocation is not None and invocation.runtime_done_us < 0:
        # The call that waited when the invocation came had been dropped.
        runtime.move(RuntimeMove.RELEASE)
        s.effects.append(AnswerInvocation(event.call))
    else:
        runtime.parked.append(event.call)  # nothing to do, or it is being shut down and will never have


def on_response_began(s: State, event: ResponseBegan) -> None:
    """POST /runtime/invocation/{id}/response, headers complete."""
    if not _may_post(s, event.call, event.request_id, RuntimeMove.RESPONSE):
        return
    runtime = s.generation.runtime
    if event.is_mode_valid:
        runtime.posting = event.call
        assert s.invocation is not None, "a response was accepted without an invocation"
        s.invocation.response_began_us = s.now_us
        if event.is_streamed:
            s.effects.append(StreamBody(event.call))
        return
    runtime.move(RuntimeMove.RECEIVED)
    invoke.answer_invoker(s, Failure("Runtime.InvalidResponseModeHeader", _INVALID_MODE), is_error=True)
    s.effects.append(Refuse(event.call, 400, "InvalidFunctionResponseMode", _INVALID_MODE))


def on_error_began(s: State, event: ErrorBegan) -> None:
    """POST /runtime/invocation/{id}/error, headers complete."""
    if _may_post(s, event.call, event.request_id, RuntimeMove.ERROR):
        assert s.invocation is not None, "an error was accepted without an invocation"
        s.generation.runtime.posting = event.call
        s.invocation.error_type = event.error_type


def _may_post(s: State, call: Call, request_id: str, move: RuntimeMove) -> bool:
    """Check, in this order, that the identifier is that of the open invocation, and the state."""
    runtime = s.generation.runtime
    if s.invocation is None or s.invocation.request_id != request_id:
        s.effects.append(Refuse(call, *INVALID_REQUEST_ID))
        return False
    if not runtime.move(move):
        s.effects.append(runtime.refusal(call, move))
        return False
    return True


def on_body_ended(s: State, event: BodyEnded) -> None:
    """The body of a response or error ended, one way or another; the invoker gets its answer."""
    runtime, call = s.generation.runtime, event.call
    if runtime.posting is not call:
        return  # begun before a reset, and refused by it
    runtime.posting = None
    is_error = runtime.state is RuntimeState.REPORTING_ERROR
    runtime.move(RuntimeMove.RECEIVED)
    if s.invocation is None:
        s.effects.append(Refuse(call, *INVALID_REQUEST_ID))
    elif event.transfer is Transfer.COMPLETE:
        if not is_error:
            s.invocation.response_ended_us = s.now_us
            s.invocation.produced_bytes = event.size_bytes
        invoke.answer_invoker(s, call, is_error=is_error)
        s.effects.append(Accept(call))
    elif event.transfer is Transfer.OVERSIZED:
        limit = f"maximum allowed payload size ({event.bytes_max} bytes)."
        message = f"Response payload size exceeded {limit}"
        failure = Failure("Function.ResponseSizeTooLarge", message, names_request=False)
        invoke.answer_invoker(s, failure, is_error=True)
        s.effects.append(Refuse(call, 413, "RequestEntityTooLarge", f"Exceeded {limit}"))
    else:
        invoke.answer_invoker(s, Failure("Runtime.TruncatedResponse", _TRUNCATED), is_error=True)
        s.effects.append(Refuse(call, 400, "TruncatedHTTPRequest", _TRUNCATED))


def on_init_error(s: State, event: InitError) -> None:
    """
    POST /runtime/init/error: inside an invocation the body is the answer; init ends when the process does.

    A body that was posted ahead of any invocation is not kept: the init is tried again inside the first one.
    While restoring it is taken for a restore/error, as older clients mean it.
    """
    generation = s.generation
    runtime = generation.runtime
    if not runtime.move(RuntimeMove.INIT_ERROR):
        s.effects.append(runtime.refusal(event.call, RuntimeMove.INIT_ERROR))
        return
    generation.fatal_type = generation.fatal_type or event.error_type
    if s.invocation is not None and s.phase in INITIALISING:
        s.invocation.error_type = event.error_type
        invoke.answer_invoker(s, event.call, is_error=True)
    s.effects.append(Accept(event.call))


def on_restore_next(s: State, event: RestoreNext) -> None:
    """GET /runtime/restore/next: initialised, hooks and all; wait for the restore."""
    assert s.is_for_snapshot, "restore/next is offered only where there will be a snapshot"
    generation = s.generation
    runtime = generation.runtime
    if not runtime.move(RuntimeMove.RESTORE_NEXT):
        s.effects.append(runtime.refusal(event.call, RuntimeMove.RESTORE_NEXT))
        return
    runtime.parked.append(event.call)
    generation.is_registration_open = False
    s.happened(Kind.RUNTIME_READY)
    init.proceed(s)


def on_restore_error(s: State, event: RestoreError) -> None:
    """POST /runtime/restore/error: noted; the restore fails when the process ends, or its time."""
    assert s.is_for_snapshot, "restore/error is offered only where there is a restore"
    generation = s.generation
    runtime = generation.runtime
    if not runtime.move(RuntimeMove.RESTORE_ERROR):
        s.effects.append(runtime.refusal(event.call, RuntimeMove.RESTORE_ERROR))
        return
    generation.fatal_type = generation.fatal_type or event.error_type
    s.effects.append(Accept(event.call))
