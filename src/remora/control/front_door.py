"""
Which AWS service a request is for: one endpoint stands for all of them.

Source: control-plane specification, section C, in its order.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from remora.http.exchange import Exchange

LAMBDA: Final = "lambda"

_SCOPE: Final = re.compile(rb"Credential=[^/,\s]+/\d{8}/[^/,\s]*/([a-z0-9-]+)/aws4_request")
_PRESIGNED: Final = re.compile(
    rb"(?:^|&)X-Amz-Credential=[^&]*?%2F\d{8}%2F[^&]*?%2F([a-z0-9-]+)%2Faws4_request"
)
_TARGETS: Final = {
    b"Logs_20140328": "logs",
    b"GraniteServiceVersion20100801": "monitoring",
    b"AmazonSSM": "ssm",
    b"AmazonEC2ContainerRegistry_V20150921": "ecr",
}
_LAMBDA_PATH: Final = re.compile(rb"/\d{4}-\d{2}-\d{2}/")


def service_of(exchange: Exchange) -> str:
    """Name the service, in the words of SigV4 scopes: `lambda`, `s3`, `logs`."""
    authorization = target = None
    for name, value in exchange.headers:
        if name == b"authorization" and authorization is None:
            authorization = value
        elif name == b"x-amz-target" and target is None:
            target = value
    if authorization is not None:
        if b"/lambda/aws4_request" in authorization:
            return LAMBDA
        if match := _SCOPE.search(authorization):
            return match[1].decode()
    if exchange.query and (match := _PRESIGNED.search(exchange.query)):
        return match[1].decode()
    if target:
        return _TARGETS.get(target.partition(b".")[0], "unknown")
    if _LAMBDA_PATH.match(exchange.path):
        return LAMBDA
    return "s3"
