"""
What the runtime posts, read from its requests: responses, errors, and what it says about itself.

Source: runtime-api specification, sections 1 and 4 to 6.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING

import msgspec

from remora.environment.causes import ERROR_WITH_CAUSE, read_cause, split_error
from remora.spec.limits import RUNTIME_RELEASE_CHARACTERS_MAX

if TYPE_CHECKING:
    from remora.http.exchange import Exchange

ERROR_TYPE = b"lambda-runtime-function-error-type"
ERROR_BODY = b"lambda-runtime-function-error-body"
ERROR_CAUSE = b"lambda-runtime-function-xray-error-cause"
RESPONSE_MODE = b"lambda-runtime-function-response-mode"

_SHOWN = re.compile(r"(Runtime|Function)\.[A-Z][a-zA-Z]+")


class Posted(msgspec.Struct, frozen=True):
    """
    What the runtime posted.

    Args:
        body: For the invoker; empty if it was streamed.
        content_type: Of the body.
        cause: The error's cause as JSON, for traces; None if there is none.
        error_code: Type of the error in the trailers of a streamed response; empty if there is none.
        error_details: That error as JSON text.
    """

    body: bytes = b""
    content_type: str = ""
    cause: bytes | None = None
    error_code: str = ""
    error_details: str = ""


def posted_by(exchange: Exchange) -> Posted:
    """Return what was posted with a request, as it was read when its body was complete."""
    posted = exchange.slot
    assert isinstance(posted, Posted), "the answer is to be a body that was not read"
    return posted


def sanitise_error_type(header: bytes | None) -> str:
    """Return the error type as logs show it: kept if it looks like one, else made `Unknown`."""
    text = (header or b"").decode("latin-1")
    if _SHOWN.search(text):
        return text
    return "Function.Unknown" if text.startswith("Function.") else "Runtime.Unknown"


def read_response(exchange: Exchange) -> Posted:
    """Read a response whose body is complete."""
    content_type = exchange.header(b"content-type") or b"application/json"
    if not exchange.trailers:
        return Posted(exchange.body, content_type.decode("latin-1"))
    trailers = dict(exchange.trailers)
    return Posted(
        body=exchange.body,
        content_type=content_type.decode("latin-1"),
        error_code=trailers.get(ERROR_TYPE, b"").decode("latin-1"),
        error_details=_decode_details(trailers.get(ERROR_BODY, b"")),
    )


def _decode_details(encoded: bytes) -> str:
    """Decode the base64 of a trailer; what is none is taken as it is."""
    try:
        return base64.b64decode(encoded, validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return encoded.decode("latin-1")


def read_error(exchange: Exchange) -> Posted:
    """Read an error whose body is complete; the invoker gets its bytes, but for a cause within them."""
    content_type = (exchange.header(b"content-type") or b"application/json").decode("latin-1")
    header = exchange.header(ERROR_CAUSE)
    cause = read_cause(header) if header else None
    if content_type != ERROR_WITH_CAUSE:
        return Posted(exchange.body, content_type, cause)
    error = split_error(exchange.body)
    return Posted(error.body, error.content_type, error.cause or cause)


def read_init_error(exchange: Exchange) -> Posted:
    """Read an error of init; whether it is JSON decides what it is called, not the runtime."""
    try:
        msgspec.json.decode(exchange.body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Posted(exchange.body, "application/octet-stream")
    return Posted(exchange.body, "application/json")


def read_release(exchange: Exchange) -> str:
    """Return which runtime calls: `aws-lambda-python/1.2.3 (features)`; empty if it does not say."""
    agent = (exchange.header(b"user-agent") or b"").decode("latin-1").split()
    features = (exchange.header(b"lambda-runtime-features") or b"").decode("latin-1")
    release = agent[0] if agent else ""
    if features:
        release = f"{release} ({features.replace('(', '').replace(')', '')})".lstrip()
    return release[:RUNTIME_RELEASE_CHARACTERS_MAX]
