"""What a caller is told when a request failed for no fault of the caller: the same by every service."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from remora.control.answers import write_error
from remora.control.front_door import LAMBDA
from remora.spec.errors import ApiError
from remora.store.base import StoreError

if TYPE_CHECKING:
    from remora.http.exchange import Exchange

_S3: Final = "s3"
_SLOW_DOWN: Final = (
    b'<?xml version="1.0" encoding="UTF-8"?>\n'
    b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"
)

_log = logging.getLogger("remora.control")


def explain(what: str, error: Exception) -> str:
    """
    Log a failure and return what the caller is told of it (called while it is handled).

    Args:
        what: Which request, for the log.
        error: What went wrong.
    """
    if isinstance(error, StoreError):
        _log.error("%s failed: %s", what, error)
        return f"The change was not kept: {error}"
    if isinstance(error, OSError):
        _log.exception("%s failed", what)
        return f"The disk could not be used: {error.strerror}"
    _log.exception("%s failed", what)
    return "An internal error occurred; see the node's log."


def crowd_out(exchange: Exchange, service: str, request_id: str) -> None:
    """
    Answer a request whose body found no room next to those of others; its sender may try again.

    Args:
        exchange: It is left to the server if the service has no words of its own for this.
        service: Whom it is for.
        request_id: For the answer.
    """
    if service == LAMBDA:
        error = ApiError(
            "TooManyRequestsException",
            "Rate Exceeded.",
            headers={"Retry-After": "1"},
            Reason="CallerRateLimitExceeded",
        )
        write_error(exchange, request_id, error)
    elif service == _S3:
        headers = [(b"Content-Type", b"application/xml"), (b"x-amz-request-id", request_id.encode())]
        exchange.respond(503, headers, _SLOW_DOWN)
