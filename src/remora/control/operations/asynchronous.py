"""Invocations that nobody waits for: Invoke with the type Event, and the deprecated InvokeAsync."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.control.operations.payloads import check_json, too_large
from remora.events.base import Event
from remora.kit.ids import new_trace_id
from remora.resources import lineage, versions
from remora.resources.names import resolve_function
from remora.spec.errors import ApiError, invalid
from remora.spec.limits import EVENT_PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call

TYPE: Final = "Event"
_NOTHING: Final = b"{}"


async def accept(control: Control, invoked_arn: str, payload: bytes, trace_id: str) -> str:
    """
    Take an event in; when this returns, it survives whatever happens.

    Args:
        control: The node's parts.
        invoked_arn: The function's ARN exactly as invoked.
        payload: JSON; empty stands for `{}`.
        trace_id: Value of the request's `X-Amzn-Trace-Id`; empty if there was none.

    Returns:
        The request id of all its tries.

    Raises:
        ApiError: If it is too large.
        StoreError: If it could not be kept.
    """
    if control.events is None:
        raise invalid("Asynchronous invocation is not offered by this node: use RequestResponse.")
    if len(payload) > EVENT_PAYLOAD_BYTES_MAX:
        raise too_large(str(len(payload)), TYPE, EVENT_PAYLOAD_BYTES_MAX)
    name, _, qualifier = invoked_arn.split(":", 6)[6].partition(":")
    now_ms = control.clock.wall_ms()
    event = Event(
        request_id=control.new_id(),
        function=name,
        qualifier=qualifier or None,
        invoked_arn=invoked_arn,
        accepted_ms=now_ms,
        trace_id=lineage.follow(trace_id or new_trace_id(now_ms), invoked_arn),
    )
    await control.events.accept(event, payload or _NOTHING)
    return event.request_id


async def invoke_async(control: Control, call: Call) -> dict[str, Any]:
    """Take an event in, the old way."""
    target = resolve_function(control.place, call.request["FunctionName"])
    view = control.state.view
    control.serving(versions.find(view, control.place, target, with_latest=True))
    payload: bytes = call.request["InvokeArgs"]
    check_json(payload or _NOTHING)
    try:
        await accept(control, control.place.function_arn(target.name, target.qualifier), payload, "")
    except ApiError as error:
        # The operation knows no error for a request that is too large.
        raise ApiError("InvalidRequestContentException", error.message) from error
    return {"Status": 202}
