"""What a payload must be: JSON, and not too large."""

from __future__ import annotations

import json
from typing import Final, NoReturn

import msgspec

from remora.spec.errors import ApiError

_RAW: Final = msgspec.json.Decoder(msgspec.Raw)


def check_json(payload: bytes) -> None:
    """
    Check that a payload is JSON of any kind.

    Raises:
        ApiError: InvalidRequestContentException with the parser's text.
    """
    try:
        _RAW.decode(payload)
        if not payload.isascii():
            payload.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        _check_slowly(payload, str(error))


def _check_slowly(payload: bytes, reason: str) -> None:
    """Look again at what the fast parser refused: lone surrogates, for one, are JSON all the same."""
    try:
        json.loads(payload.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise ApiError(
            "InvalidRequestContentException",
            f"Could not parse request body into json: Could not parse payload into json: {reason}",
        ) from error


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


def too_large(count: str, invocation_type: str, most: int) -> ApiError:
    """Make the error of a payload of `count` bytes that may have `most`."""
    return ApiError(
        "RequestEntityTooLargeException",
        f"{count} byte payload is too large for the {invocation_type} invocation type (limit {most} bytes)",
    )
