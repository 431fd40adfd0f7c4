"""
What a runtime says about the cause of an error, for traces: read, checked, cropped.

Source: runtime-api specification, section 5.
"""

from __future__ import annotations

from typing import Final, NamedTuple

import msgspec

from remora.spec.limits import ERROR_CAUSE_BYTES_MAX, ERROR_CAUSE_TEXT_BYTES_MAX

ERROR_WITH_CAUSE: Final = "application/vnd.aws.lambda.error.cause+json"
"""Content type of an error whose body has a member `errorCause`."""

_INVALID: Final = b'"Invalid error body"'
_FIFTHS_KEPT: Final = (4, 3, 2, 1)
_ELLIPSIS: Final = "..."


class _Frame(msgspec.Struct):
    """One line of a stack trace."""

    path: str = ""
    line: int = 0
    label: str = ""


class _Exception(msgspec.Struct):
    """One exception."""

    message: str = ""
    type: str = ""
    stack: list[_Frame] | None = None


class _Cause(msgspec.Struct):
    """The cause of an error."""

    exceptions: list[_Exception] | None = None
    working_directory: str | None = None
    paths: list[str] | None = None
    message: str | None = None


class _Error(msgspec.Struct):
    """An error that comes with its cause."""

    errorMessage: str = ""  # noqa: N815 - the wire's spelling
    errorType: str = ""  # noqa: N815 - the wire's spelling
    stackTrace: list[str] | None = None  # noqa: N815 - the wire's spelling
    errorCause: msgspec.Raw = msgspec.Raw(b"null")  # noqa: N815 - the wire's spelling


class ErrorBody(NamedTuple):
    """An error as the invoker gets it, and its cause if it has a valid one."""

    body: bytes
    content_type: str
    cause: bytes | None


_decode_cause = msgspec.json.Decoder(_Cause).decode
_decode_error = msgspec.json.Decoder(_Error).decode
_encode = msgspec.json.Encoder().encode


def read_cause(text: bytes) -> bytes | None:
    """
    Return a cause as compact JSON of at most 65,536 bytes; None if `text` is none.

    One that is too long loses exceptions and paths from their ends, a fifth at a time, at last all of them.
    """
    try:
        cause = _decode_cause(text)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if not (cause.exceptions or cause.working_directory or cause.paths or cause.message):
        return None
    return _fit(cause)


def _fit(cause: _Cause) -> bytes:
    written = _encode(cause)
    exceptions, paths = cause.exceptions or [], cause.paths or []
    for fifths in _FIFTHS_KEPT:
        if len(written) <= ERROR_CAUSE_BYTES_MAX:
            return written
        cause.exceptions = exceptions[: len(exceptions) * fifths // 5]
        cause.paths = paths[: len(paths) * fifths // 5]
        written = _encode(cause)
    if len(written) <= ERROR_CAUSE_BYTES_MAX:
        return written
    texts = (_cut(text or "") for text in (cause.message, cause.working_directory))
    message, working_directory = texts
    return _encode(_Cause([], working_directory, [], message))


def _cut(text: str) -> str:
    """Return `text` so short that it takes no more than its share when written as JSON."""
    most = ERROR_CAUSE_TEXT_BYTES_MAX
    if len(_encode(text)) - 2 <= most:
        return text
    kept = text.encode()[: most - len(_ELLIPSIS)].decode(errors="ignore")
    while len(_encode(kept)) - 2 > most - len(_ELLIPSIS):
        kept = kept[: len(kept) * 4 // 5]  # escapes made it longer
    return kept + _ELLIPSIS


def split_error(body: bytes) -> ErrorBody:
    """Take an error that comes with its cause apart; a body that is none becomes a text that says so."""
    try:
        error = _decode_error(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ErrorBody(_INVALID, "application/octet-stream", None)
    members: dict[str, object] = {"errorMessage": error.errorMessage, "errorType": error.errorType}
    if error.stackTrace:
        members["stackTrace"] = error.stackTrace
    return ErrorBody(_encode(members), "application/json", read_cause(bytes(error.errorCause)))
