"""
One AWS service next to Lambda, called by the name of an operation: requests read, answers and errors written.

Source: Smithy 2.0 specification, "AWS JSON 1.0 protocol" and "awsQueryCompatible trait".
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.control.failures import explain
from remora.spec import limits
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from remora.http.exchange import Exchange, Header
    from remora.spec.rpc_api import RpcApi


Handler = Callable[[dict[str, Any]], Awaitable[Mapping[str, Any]]]
"""Performs one operation: members of the request in, members of the reply out."""

_encode: Final = msgspec.json.Encoder().encode


class ServiceError(Exception):
    """
    The caller's fault, in the words of the service.

    Args:
        code: The error's shape in the model, `ResourceNotFoundException`.
        message: The text as the caller sees it.
        status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


class Neighbour:
    """
    The application behind one service.

    Args:
        name: Its name in the scope of signatures, `logs`; for messages.
        api: Its model.
        handlers: What performs each operation that is offered, by name.
        new_id: Makes a UUID.
        invalid: What the service calls a request that its model does not allow.
    """

    body_bytes_max: Final = limits.OTHER_BODY_BYTES_MAX

    def __init__(
        self,
        name: str,
        api: RpcApi,
        handlers: Mapping[str, Handler],
        new_id: Callable[[], str],
        *,
        invalid: str = "ValidationException",
    ) -> None:
        unknown = set(handlers) - set(api.operations)
        assert not unknown, f"{name} has no operations {sorted(unknown)}"
        self._name = name
        self._api = api
        self._handlers = handlers
        self._new_id = new_id
        self._invalid = invalid

    def __repr__(self) -> str:
        return f"<Neighbour {self._name} operations={sorted(self._handlers)}>"

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request, whatever is wrong with it."""
        try:
            reply = await self._perform(exchange)
        except ApiError as error:
            code = self._invalid if error.code == "ValidationException" else error.code
            self._refuse(exchange, ServiceError(code, error.message or "", error.status))
        except ServiceError as error:
            self._refuse(exchange, error)
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            text = explain(f"a request to {self._name}", error)
            self._refuse(exchange, ServiceError("InternalServiceError", text, 500))
        else:
            self._write(exchange, 200, reply, ())

    async def _perform(self, exchange: Exchange) -> dict[str, Any]:
        target = (exchange.header(b"x-amz-target") or b"").decode("latin-1")
        prefix, _, name = target.partition(".")
        operation = self._api.operations.get(name) if prefix == self._api.target_prefix else None
        handler = self._handlers.get(name)
        if operation is None or handler is None:
            raise ServiceError(
                "UnknownOperationException",
                f"This node offers of {self._name}: {', '.join(sorted(self._handlers))}; "
                f"not {target or 'a request without X-Amz-Target'}.",
            )
        if exchange.is_oversized:
            text = f"Request must be smaller than {exchange.body_bytes_max} bytes."
            raise ServiceError("RequestEntityTooLargeException", text, 413)
        request = self._api.parse(operation, read_json(exchange.body))
        return self._api.plain(operation, await handler(request))

    def _refuse(self, exchange: Exchange, error: ServiceError) -> None:
        headers: list[Header] = []
        former = self._api.query_errors.get(error.code)
        if former is not None:
            who = "Sender" if error.status < 500 else "Receiver"
            headers.append((b"x-amzn-query-error", f"{former};{who}".encode()))
        body = {"__type": error.code, "message": error.message}
        self._write(exchange, error.status, body, headers)

    def _write(
        self, exchange: Exchange, status: int, document: Mapping[str, Any], more: list[Header] | tuple[()]
    ) -> None:
        headers: list[Header] = [
            (b"Content-Type", f"application/x-amz-json-{self._api.json_version}".encode()),
            (b"x-amzn-RequestId", self._new_id().encode()),
            *more,
        ]
        exchange.respond(status, headers, _encode(document))


def read_json(body: bytes) -> Any:
    """
    Read a request's document; an empty one is an empty object.

    Raises:
        ServiceError: SerializationException.
    """
    if not body.strip():
        return {}
    try:
        return msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ServiceError(
            "SerializationException", f"Could not parse request body into json: {error}"
        ) from error
