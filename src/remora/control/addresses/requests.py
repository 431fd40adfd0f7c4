"""
An HTTP request as the event of payload format 2.0. Pure.

Source: control-plane specification, B.13; AWS Lambda Developer Guide, "Invoking Lambda function URLs".
"""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import parse_qsl

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

_TEXTS: Final = frozenset({"application/json", "application/xml", "application/javascript"})
_encode: Final = msgspec.json.Encoder().encode


class Signer(NamedTuple):
    """Who signed a request: access key, ARN, the identifier that STS has for them, and their account."""

    access_key: str
    arn: str
    user_id: str
    account: str


class UrlRequest(NamedTuple):
    """
    One request to a function URL.

    Args:
        method: `GET`.
        path: Raw, still percent-encoded; begins with a slash.
        query: Raw, without the question mark.
        headers: In order of arrival, names in lower case.
        body: Whole.
        host: Name that the caller used, without the port.
        url_id: Identifier of the URL.
        source_ip: Address of the caller.
        account: Of the node, twelve digits.
        request_id: UUID, that of the invocation.
        now_ms: When it came, milliseconds since 1970.
        signer: Whose signature it has; None without one.
    """

    method: str
    path: str
    query: str
    headers: Iterable[tuple[str, str]]
    body: bytes
    host: str
    url_id: str
    source_ip: str
    account: str
    request_id: str
    now_ms: int
    signer: Signer | None = None


def event_of(request: UrlRequest) -> bytes:
    """Return the event, JSON."""
    headers = _joined(request.headers)
    event: dict[str, Any] = {
        "version": "2.0",
        "routeKey": "$default",
        "rawPath": request.path,
        "rawQueryString": request.query,
    }
    if cookies := headers.get("cookie"):
        event["cookies"] = [cookie.strip() for cookie in cookies.split(";") if cookie.strip()]
    event["headers"] = headers
    if request.query:
        event["queryStringParameters"] = _joined(parse_qsl(request.query, keep_blank_values=True))
    event["requestContext"] = _context(request, headers)
    if request.body:
        text = _text(request.body, headers.get("content-type", "text/plain"))
        event["body"] = base64.b64encode(request.body).decode() if text is None else text
        event["isBase64Encoded"] = text is None
    else:
        event["isBase64Encoded"] = False
    return _encode(event)


def _context(request: UrlRequest, headers: dict[str, str]) -> dict[str, Any]:
    at = datetime.fromtimestamp(request.now_ms / 1000, UTC)
    context: dict[str, Any] = {
        "accountId": "anonymous" if request.signer is None else request.account,
        "apiId": request.url_id,
        "domainName": request.host,
        "domainPrefix": request.url_id,
        "http": {
            "method": request.method,
            "path": request.path,
            "protocol": "HTTP/1.1",
            "sourceIp": request.source_ip,
            "userAgent": headers.get("user-agent", ""),
        },
        "requestId": request.request_id,
        "routeKey": "$default",
        "stage": "$default",
        "time": f"{at:%d/%b/%Y:%H:%M:%S} +0000",
        "timeEpoch": request.now_ms,
    }
    if request.signer is not None:
        context["authorizer"] = {
            "iam": {
                "accessKey": request.signer.access_key,
                "accountId": request.signer.account,
                "callerId": request.signer.user_id,
                "cognitoIdentity": None,
                "principalOrgId": None,
                "userArn": request.signer.arn,
                "userId": request.signer.user_id,
            }
        }
    return context


def _joined(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Return values by name; those that come more than once are joined by commas."""
    joined: dict[str, str] = {}
    for name, value in pairs:
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined


def _text(body: bytes, content_type: str) -> str | None:
    """Return a body as text; None if its type, or the body, is no text."""
    kind = content_type.partition(";")[0].strip().lower()
    if not (kind.startswith("text/") or kind in _TEXTS or kind.endswith(("+json", "+xml"))):
        return None
    try:
        return body.decode()
    except UnicodeDecodeError:
        return None
