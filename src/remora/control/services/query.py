"""
One AWS service next to Lambda that is called with forms and answers in XML.

Source: Smithy 2.0 specification, "AWS Query protocol".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from remora.control.failures import explain
from remora.control.services.neighbour import ServiceError
from remora.spec import limits, xml
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from remora.http.exchange import Exchange, Header
    from remora.spec.xml_api import XmlApi


QueryHandler = Callable[[dict[str, Any], "Exchange"], Awaitable[Mapping[str, Any]]]
"""Performs one operation: members of the request in, members of the reply out."""

_FIELDS_MAX: Final = 10_000


class QueryService:
    """
    The application behind one service.

    Args:
        name: Its name in the scope of signatures, `iam`; for messages.
        api: Its model.
        handlers: What performs each operation that is offered, by name.
        new_id: Makes a UUID.
    """

    body_bytes_max: Final = limits.OTHER_BODY_BYTES_MAX

    def __init__(
        self, name: str, api: XmlApi, handlers: Mapping[str, QueryHandler], new_id: Callable[[], str]
    ) -> None:
        self._name = name
        self._api = api
        self._handlers = handlers
        self._new_id = new_id

    def __repr__(self) -> str:
        return f"<QueryService {self._name} operations={sorted(self._handlers)}>"

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request, whatever is wrong with it."""
        request_id = self._new_id()
        try:
            status, document = 200, await self._perform(exchange, request_id)
        except ApiError as error:
            code = "ValidationError" if error.code == "ValidationException" else "MalformedInput"
            status, document = self._refusal(ServiceError(code, error.message or ""), request_id)
        except ServiceError as error:
            status, document = self._refusal(error, request_id)
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            text = explain(f"a request to {self._name}", error)
            status, document = self._refusal(ServiceError("InternalFailure", text, 500), request_id)
        headers: list[Header] = [
            (b"Content-Type", b"text/xml"),
            (b"x-amzn-RequestId", request_id.encode()),
        ]
        exchange.respond(status, headers, document)

    async def _perform(self, exchange: Exchange, request_id: str) -> bytes:
        if exchange.is_oversized:
            text = f"Request must be smaller than {exchange.body_bytes_max} bytes."
            raise ServiceError("RequestEntityTooLarge", text, 413)
        form = read_form(exchange.body or exchange.query)
        name = form.get("Action", "")
        operation, handler = self._api.operations.get(name), self._handlers.get(name)
        if operation is None or handler is None:
            raise ServiceError(
                "InvalidAction",
                f"This node offers of {self._name}: {', '.join(sorted(self._handlers))}; "
                f"not {name or 'a request without Action'}.",
            )
        reply = await handler(self._api.parse_form(operation, form), exchange)
        return self._api.write_reply(operation, reply, request_id)

    def _refusal(self, error: ServiceError, request_id: str) -> tuple[int, bytes]:
        who = "Sender" if error.status < 500 else "Receiver"
        document = (
            f'<ErrorResponse xmlns="{self._api.namespace}"><Error><Type>{who}</Type><Code>{error.code}</Code>'
            f"<Message>{xml.text(error.message)}</Message></Error><RequestId>{request_id}</RequestId>"
            "</ErrorResponse>"
        )
        return error.status, document.encode()


def is_form(exchange: Exchange) -> bool:
    """Tell if a request carries a form."""
    kind = exchange.header(b"content-type") or b""
    return kind.startswith(b"application/x-www-form-urlencoded")


def read_form(form: bytes) -> dict[str, str]:
    """
    Read a form; of a name that comes twice the last value counts.

    Raises:
        ServiceError: MalformedQueryString.
    """
    try:
        pairs = parse_qsl(form.decode(), keep_blank_values=True, max_num_fields=_FIELDS_MAX)
    except ValueError as error:
        raise ServiceError("MalformedQueryString", f"The form could not be read: {error}") from error
    return dict(pairs)
