"""
What the environment's APIs and the invoker get from the platform, written down.

Source: runtime-api specification, sections 1 and 8; extensions-api specification, sections 3 and 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from remora.http.answers import block
from remora.kit.ids import new_uuid

if TYPE_CHECKING:
    from remora.environment.base import InvokeRequest
    from remora.http.exchange import Exchange
    from remora.lifecycle.messages import Failure
    from remora.resources.records import FunctionVersion

JSON = ((b"Content-Type", b"application/json"),)
TEXT = ((b"Content-Type", b"text/plain; charset=utf-8"),)
OK = b'{"status":"OK"}\n'
NOT_FOUND = b"404 page not found\n"

_ESCAPES = ((b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"))


def to_json(value: object) -> bytes:
    """Write JSON as the environment's APIs do: compact, `<`, `>` and `&` escaped, a newline at the end."""
    text = msgspec.json.encode(value)
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    return text + b"\n"


def error_body(error_type: str, message: str) -> bytes:
    """Return the body of a refusal."""
    return to_json({"errorMessage": message, "errorType": error_type})


def invocation_headers(request_id: str, deadline_ms: int, request: InvokeRequest) -> bytes:
    """
    Return the headers of an invocation as the runtime gets it, as lines; what was not given is left away.

    Raises:
        ValueError: If something that the invoker sent otherwise than in a header contains a line break.
    """
    lines = (
        b"Content-Type: application/json\r\nLambda-Runtime-Aws-Request-Id: %b\r\n"
        b"Lambda-Runtime-Deadline-Ms: %d\r\nLambda-Runtime-Invoked-Function-Arn: %b\r\n"
    ) % (request_id.encode(), deadline_ms, request.invoked_arn.encode())
    if request.trace_id:
        lines += b"Lambda-Runtime-Trace-Id: %b\r\n" % request.trace_id.encode()
    others = [
        (name, value.encode())
        for name, value in (
            (b"Lambda-Runtime-Client-Context", request.client_context),
            (b"Lambda-Runtime-Cognito-Identity", request.cognito_identity),
            (b"Lambda-Runtime-Aws-Tenant-Id", request.tenant_id),
        )
        if value is not None
    ]
    return lines + block(b"", others) if others else lines


def failure_payload(failure: Failure, request_id: str) -> bytes:
    """Return what the invoker gets for a failure that the platform words itself."""
    if not failure.names_request:
        return msgspec.json.encode({"errorMessage": failure.message, "errorType": failure.error_type})
    message = f"RequestId: {request_id} Error: {failure.message}"
    return msgspec.json.encode({"errorType": failure.error_type, "errorMessage": message})


def registration_body(function: FunctionVersion, exchange: Exchange) -> bytes:
    """Return what an extension learns when it has registered by `exchange`: the account only if it asks."""
    body = {
        "functionName": function.name,
        "functionVersion": function.version,
        "handler": function.handler,
    }
    account = function.arn.split(":")[4]
    wanted = exchange.header(b"lambda-extension-accept-feature") or b""
    if account and b"accountId" in (feature.strip() for feature in wanted.split(b",")):
        body = {"accountId": account, **body}
    return msgspec.json.encode(body) + b"\n"


def invoke_event(request_id: str, deadline_ms: int, request: InvokeRequest) -> dict[str, object]:
    """Return the INVOKE event of an invocation."""
    event: dict[str, object] = {
        "eventType": "INVOKE",
        "deadlineMs": deadline_ms,
        "requestId": request_id,
        "invokedFunctionArn": request.invoked_arn,
    }
    if request.trace_id:
        event["tracing"] = {"type": "X-Amzn-Trace-Id", "value": request.trace_id}
    return event


def shutdown_event(reason: str, deadline_ms: int) -> dict[str, object]:
    """Return the SHUTDOWN event."""
    return {"eventType": "SHUTDOWN", "shutdownReason": reason, "deadlineMs": deadline_ms}


def answer_event(exchange: Exchange, event: dict[str, object]) -> None:
    """Answer an extension's next with an event."""
    headers = [
        *JSON,
        (b"Lambda-Extension-Event-Identifier", new_uuid().encode()),
        (b"Lambda-Extension-Identifier", exchange.header(b"lambda-extension-identifier") or b""),
    ]
    exchange.respond(200, headers, msgspec.json.encode(event))
