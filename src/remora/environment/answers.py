"""
The bodies that the environment's APIs and the invoker get from the platform.

Source: runtime-api specification, sections 1 and 8.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from remora.lifecycle.messages import Failure

JSON = [(b"Content-Type", b"application/json")]
TEXT = [(b"Content-Type", b"text/plain; charset=utf-8")]
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


def failure_payload(failure: Failure, request_id: str) -> bytes:
    """Return what the invoker gets for a failure that the platform words itself."""
    if not failure.names_request:
        return msgspec.json.encode({"errorMessage": failure.message, "errorType": failure.error_type})
    message = f"RequestId: {request_id} Error: {failure.message}"
    return msgspec.json.encode({"errorType": failure.error_type, "errorMessage": message})
