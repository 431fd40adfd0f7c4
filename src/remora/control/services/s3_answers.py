"""
Answers of S3: documents, headers, refusals.

Source: Amazon S3 API Reference, "Common response headers" and "Error responses".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.spec import xml

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.control.services.s3_requests import Request
    from remora.http.exchange import Exchange, Header
    from remora.resources.buckets import S3Error
    from remora.spec.xml_api import XmlApi

NAMESPACE: Final = "http://s3.amazonaws.com/doc/2006-03-01/"


class Answers:
    """
    Sends answers.

    Args:
        control: The node's parts.
        api: The model's operations whose replies are XML.
    """

    def __init__(self, control: Control, api: XmlApi) -> None:
        self._control = control
        self._api = api

    def __repr__(self) -> str:
        return f"<Answers {self._api}>"

    def reply(self, request: Request, operation: str, name: str, reply: Mapping[str, Any]) -> None:
        """Answer with the reply of an operation; `name` is what its document is called."""
        shape = self._api.operations[operation].output
        assert shape is not None, f"{operation} has an output"
        self.send_xml(request, xml.write(self._api.shapes, shape, reply, name, NAMESPACE))

    def send_xml(
        self, request: Request, document: str, status: int = 200, headers: list[Header] | None = None
    ) -> None:
        """Answer with a document."""
        body = (xml.HEAD + document).encode()
        self.send(request, status, [(b"Content-Type", b"application/xml"), *(headers or ())], body)

    def send(
        self, request: Request, status: int, headers: list[Header] | None = None, body: bytes = b""
    ) -> None:
        """Answer with bytes."""
        request.exchange.respond(status, [*(headers or ()), *self.common()], body)

    def common(self) -> list[Header]:
        """Return the headers that every answer has."""
        return [(b"x-amz-request-id", self._control.new_id().replace("-", "")[:16].upper().encode())]

    def refuse_control(self, exchange: Exchange) -> None:
        """Answer a request to S3 Control so that clients that can do without ask S3 itself, as Terraform."""
        text = "S3 Control is not offered by this node."
        error = f"<Error><Code>MethodNotAllowed</Code><Message>{text}</Message></Error>"
        document = f"{xml.HEAD}<ErrorResponse>{error}</ErrorResponse>"
        headers = [(b"Content-Type", b"application/xml"), *self.common()]
        exchange.respond(405, headers, document.encode())

    def refuse(self, request: Request, error: S3Error) -> None:
        """Answer with an error; HEAD has its status only."""
        if request.exchange.method == b"HEAD":
            self.send(request, error.status)
            return
        document = (
            f"<Error><Code>{error.code}</Code><Message>{xml.text(error.message)}</Message>"
            f"<BucketName>{xml.text(request.bucket)}</BucketName><Key>{xml.text(request.key)}</Key></Error>"
        )
        self.send_xml(request, document, error.status)
