"""What an environment is made from, what it is asked, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from pathlib import Path

    from remora.environment.streaming import ResponseStream
    from remora.resources.records import FunctionVersion
    from remora.runtimes.layout import RuntimeLayout


@dataclass(frozen=True, slots=True, weakref_slot=True)
class Deployment:
    """
    A function version with everything on disk: what an environment is made from.

    Two deployments with the same `key` are interchangeable; an environment serves one key for ever.
    Its directories stay on disk while anything refers to the object: whoever runs an environment keeps it.

    Args:
        key: Changes whenever code, layers, runtime or configuration change.
        function: The version's record.
        task: Read-only directory for /var/task.
        opt: Read-only directory for /opt (layers merged); None without layers.
        runtime: The runtime's layout.
    """

    key: str
    function: FunctionVersion
    task: Path
    opt: Path | None
    runtime: RuntimeLayout


class InvokeRequest(msgspec.Struct, frozen=True):
    """
    One invocation as the API accepted it.

    Args:
        payload: The event, unmodified bytes (`{}` if the caller sent none).
        invoked_arn: The function's ARN exactly as invoked, with the qualifier if one was given.
        client_context: The caller's client context, decoded from base64; None if there was none.
        trace_id: Value of `X-Amzn-Trace-Id`; empty if there was none.
        tail: True if the last 4 KB of the log are wanted.
        cognito_identity: JSON with the caller's Cognito identity and pool; None if there was none.
        tenant_id: The tenant of a tenant-isolated function; None for all others.
        streams: True if the caller takes a streamed response as it is produced.
        request_id: Identifier of the invocation (UUID) if it has one already; else it is given one.
    """

    payload: bytes
    invoked_arn: str
    client_context: str | None = None
    trace_id: str = ""
    tail: bool = False
    cognito_identity: str | None = None
    tenant_id: str | None = None
    streams: bool = False
    request_id: str = ""


class InvokeResult(msgspec.Struct, frozen=True):
    """
    The answer to an invocation.

    Args:
        request_id: Identifier of the invocation (UUID), the same in logs and answer headers.
        payload: Bytes of the response, of the error document, or of the platform's own error.
        function_error: `Unhandled` if the function failed, else None.
        executed_version: `$LATEST` or a number.
        content_type: What the runtime declared.
        log_tail: Last 4096 bytes of this invocation's log; None unless asked for.
        stream: The response, which has only begun; None if it is in `payload`. Whoever gets it reads it, or
            abandons it; how it ended, and the log's tail, are told at its end.
    """

    request_id: str
    payload: bytes
    function_error: str | None
    executed_version: str
    content_type: str = "application/json"
    log_tail: bytes | None = None
    stream: ResponseStream | None = None
