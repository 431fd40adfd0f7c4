"""
What a function returns, as the answer to an HTTP request. Pure.

Source: control-plane specification, B.13; AWS Lambda Developer Guide, "Invoking Lambda function URLs" and
"Response streaming".
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final, NamedTuple

import msgspec

PRELUDE_TYPE: Final = "application/vnd.awslambda.http-integration-response"
"""Content type of a stream that begins with status and headers."""
PRELUDE_END: Final = b"\0" * 8
PRELUDE_BYTES_MAX: Final = 128 * 1024

_JSON: Final = "application/json"
_STATUS: Final = re.compile(r"[0-9]{1,9}")
_NAME: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_OF_THE_CONNECTION: Final = frozenset(
    {"connection", "content-length", "date", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade"}
)
"""What the server itself says of an answer."""


class Malformed(Exception):  # noqa: N818 - what it is
    """The function returned what cannot be an answer."""


class HttpReply(NamedTuple):
    """An answer, or its beginning; header values can be sent as they are."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes = b""


def reply_of(payload: bytes) -> HttpReply:
    """
    Return the answer that a function's result stands for: with a status code as it says, else itself.

    Raises:
        Malformed: If status, headers or body cannot be sent.
    """
    try:
        value = msgspec.json.decode(payload) if payload else None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return HttpReply(200, [("Content-Type", _JSON)], payload)
    if isinstance(value, dict) and "statusCode" in value:
        head = _head(value)
        return head._replace(body=_body(value))
    if isinstance(value, str):
        return HttpReply(200, [("Content-Type", _JSON)], value.encode(errors="replace"))
    return HttpReply(200, [("Content-Type", _JSON)], payload)


def split_prelude(begun: bytes) -> tuple[HttpReply, bytes] | None:
    """
    Return the head that a stream begins with, and what is already there of the body; None: more is to come.

    Raises:
        Malformed: If it is no head, or too long.
    """
    end = begun.find(PRELUDE_END)
    if end < 0:
        if len(begun) > PRELUDE_BYTES_MAX:
            raise Malformed(f"no head within the first {PRELUDE_BYTES_MAX} bytes of the stream")
        return None
    try:
        value = msgspec.json.decode(begun[:end])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Malformed(f"the head of the stream is no JSON: {error}") from error
    if not isinstance(value, dict):
        raise Malformed("the head of the stream is no object")
    return _head({"statusCode": 200, **value}), begun[end + len(PRELUDE_END) :]


def _head(value: dict[str, Any]) -> HttpReply:
    status = value["statusCode"]
    if isinstance(status, str) and _STATUS.fullmatch(status):
        status = int(status)
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise Malformed(f"{status!r} is no status code")
    given = {} if value.get("headers") is None else value["headers"]
    if not isinstance(given, dict):
        raise Malformed("headers are no object")
    headers = [
        (name, _header(name, each)) for name, each in given.items() if name.lower() not in _OF_THE_CONNECTION
    ]
    cookies = [] if value.get("cookies") is None else value["cookies"]
    if not isinstance(cookies, list):
        raise Malformed("cookies are no list")
    headers += [("Set-Cookie", _header("Set-Cookie", cookie)) for cookie in cookies]
    if not any(name.lower() == "content-type" for name, _ in headers):
        headers.insert(0, ("Content-Type", _JSON))
    return HttpReply(status, headers)


def _header(name: str, value: Any) -> str:
    if isinstance(value, bool):
        value = "true" if value else "false"
    if isinstance(value, (int, float)):
        value = str(value)
    if not isinstance(value, str) or not _NAME.fullmatch(name) or any(each in value for each in "\r\n\0"):
        raise Malformed(f"the header {name!r} cannot be sent")
    return value


def _body(value: dict[str, Any]) -> bytes:
    body = value.get("body")
    if body is None:
        return b""
    if not isinstance(body, str):
        raise Malformed("the body is no text")
    if not value.get("isBase64Encoded"):
        return body.encode(errors="replace")
    try:
        return base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError) as error:
        raise Malformed("the body is not in base64") from error
