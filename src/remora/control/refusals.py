"""
How a request that the gate does not let in is refused: in the words and the form of the service it was for.

Source: IAM user guide, "Troubleshoot AWS API request signing"; Amazon S3 API Reference, "Error responses".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from remora.control.answers import write_error
from remora.control.front_door import LAMBDA
from remora.control.permissions.neighbours import sends_document
from remora.spec import xml
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.http.exchange import Exchange, Header

_IN_XML: Final = {
    "MissingAuthenticationTokenException": "MissingAuthenticationToken",
    "UnrecognizedClientException": "InvalidClientTokenId",
    "InvalidSignatureException": "SignatureDoesNotMatch",
    "IncompleteSignatureException": "IncompleteSignature",
    "ExpiredTokenException": "ExpiredToken",
    "AccessDeniedException": "AccessDenied",
    "RequestEntityTooLargeException": "RequestEntityTooLarge",
}
"""What the services that answer in XML call an error."""
_OF_S3: Final = _IN_XML | {"RequestEntityTooLargeException": "EntityTooLarge"}
_MALFORMED: Final = ("AuthorizationHeaderMalformed", "AuthorizationQueryParametersError")
_STATUSES: Final = {
    **dict.fromkeys(_MALFORMED, 400),
    "EntityTooLarge": 400,
    "IncompleteBody": 400,
    "InvalidArgument": 400,
    "MalformedTrailerError": 400,
    "RequestEntityTooLarge": 413,
    "XAmzContentSHA256Mismatch": 400,
}
"""HTTP statuses of their errors but 403."""


def refuse(exchange: Exchange, service: str, control: Control, code: str, message: str) -> None:
    """
    Refuse a request.

    Args:
        exchange: The request.
        service: What it was for, as in scopes.
        control: The node's parts.
        code: AWS's name of the error, as the Lambda API has it, or as S3 does.
        message: The text.
    """
    request_id = control.new_id()
    if service == LAMBDA:
        write_error(exchange, request_id, ApiError(code, message))
        return
    headers: list[Header] = [(b"x-amzn-RequestId", request_id.encode())]
    if sends_document(exchange, service):
        status = 413 if code == "RequestEntityTooLargeException" else 400
        body = msgspec.json.encode({"__type": code, "message": message})
        exchange.respond(status, [(b"Content-Type", b"application/x-amz-json-1.1"), *headers], body)
        return
    code = (_OF_S3 if service == "s3" else _IN_XML).get(code, code)
    text = f"<Code>{code}</Code><Message>{xml.text(message)}</Message>"
    if service == "s3":
        region = control.place.region  # clients sign anew for it
        headers.append((b"x-amz-bucket-region", region.encode()))
        right = f"<Region>{region}</Region>" if code in _MALFORMED else ""
        document = f"<Error>{text}{right}<RequestId>{request_id}</RequestId></Error>"
    else:
        document = (
            f"<ErrorResponse><Error><Type>Sender</Type>{text}</Error>"
            f"<RequestId>{request_id}</RequestId></ErrorResponse>"
        )
    body = b"" if exchange.method == b"HEAD" else document.encode()
    exchange.respond(_STATUSES.get(code, 403), [(b"Content-Type", b"text/xml"), *headers], body)
