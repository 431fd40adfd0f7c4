"""Writes answers of the Lambda API: replies, errors, and what every answer carries."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from remora.http.exchange import Exchange, Header
    from remora.spec.codec import Answer
    from remora.spec.errors import ApiError

_JSON = (b"Content-Type", b"application/json")
_encode = msgspec.json.Encoder().encode


def write_answer(exchange: Exchange, request_id: str, answer: Answer) -> None:
    """Send a reply."""
    headers: list[Header] = [(b"x-amzn-RequestId", request_id.encode())]
    if answer.body:
        headers.append(_JSON)
    headers += [(name.encode(), value.encode("latin-1", "replace")) for name, value in answer.headers]
    exchange.respond(answer.status, headers, answer.body)


def write_error(exchange: Exchange, request_id: str, error: ApiError) -> None:
    """Send an error: its code in a header, its text in the body."""
    headers: list[Header] = [
        _JSON,
        (b"x-amzn-RequestId", request_id.encode()),
        (b"x-amzn-ErrorType", error.code.encode()),
    ]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    exchange.respond(error.status, headers, _encode(error.body()))
