"""
The environment's HTTP API: which request is which event.

Requests are only translated here: the lifecycle machine decides, the environment answers.

Source: runtime-api specification, section 1.1; extensions-api specification, sections 1 to 3.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol
from uuid import UUID

import msgspec

from remora.environment.answers import JSON, NOT_FOUND, TEXT, error_body, to_json
from remora.environment.posting import (
    ERROR_TYPE,
    RESPONSE_MODE,
    read_error,
    read_init_error,
    read_release,
    read_response,
    sanitise_error_type,
)
from remora.environment.snapshots import CREDENTIALS
from remora.kit.ids import new_uuid
from remora.lifecycle import messages as m
from remora.spec.limits import INVOKE_RESPONSE_BYTES_MAX
from remora.telemetry.subscriptions import Api

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.environment.posting import Posted
    from remora.environment.snapshots import Vault
    from remora.environment.witness import Witness
    from remora.http.exchange import Exchange
    from remora.lifecycle.machine import Machine

INVOCATION = b"/2018-06-01/runtime/invocation/"
NEXT = b"/2018-06-01/runtime/invocation/next"
INIT_ERROR = b"/2018-06-01/runtime/init/error"
RESTORE_NEXT = b"/2018-06-01/runtime/restore/next"
RESTORE_ERROR = b"/2018-06-01/runtime/restore/error"
PING = b"/2018-06-01/ping"
EXTENSION = b"/2020-01-01/extension/"
REGISTER = b"/2020-01-01/extension/register"
EXTENSION_NEXT = b"/2020-01-01/extension/event/next"
EXTENSION_INIT_ERROR = b"/2020-01-01/extension/init/error"
EXTENSION_EXIT_ERROR = b"/2020-01-01/extension/exit/error"
LOGS = b"/2020-08-15/logs"
TELEMETRY = b"/2022-07-01/telemetry"
TOO_LARGE = f"Exceeded maximum allowed payload size ({INVOKE_RESPONSE_BYTES_MAX} bytes)."


class Port(Protocol):
    """What the API needs of its environment."""

    runtime_release: str
    """Which runtime it is that calls, as it says itself; empty until it has said it."""

    def feed(self, event: m.Event) -> None:
        """Hand an event to the lifecycle machine and perform what it orders."""

    @property
    def machine(self) -> Machine:
        """Who is registered, and what the environment is doing."""

    @property
    def witness(self) -> Witness:
        """Who delivers telemetry."""


class _Registration(msgspec.Struct):
    """Body of a registration."""

    events: list[str] | None = None
    configurationKeys: list[str] | None = None  # noqa: N815 - the wire's spelling


_decode_registration = msgspec.json.Decoder(_Registration).decode


class EnvironmentApi:
    """
    The application behind one environment's listener.

    Args:
        port: The environment.
        has_extensions: False if extensions are switched off: then the Extensions API is not found, nor the
            Telemetry and Logs APIs.
        has_telemetry: False if the Telemetry and Logs APIs shall say that they are not supported.
        vault: The credentials of an environment that is made for a snapshot; for all others these are not
            found, nor is what a runtime calls around its snapshot.
    """

    def __init__(
        self,
        port: Port,
        *,
        has_extensions: bool = True,
        has_telemetry: bool = True,
        vault: Vault | None = None,
    ) -> None:
        self._port = port
        self._has_telemetry = has_telemetry
        self._has_extensions = has_extensions
        self._routes: dict[bytes, tuple[bytes, Callable[[Exchange], None]]] = {
            NEXT: (b"GET", self._runtime_next),
            INIT_ERROR: (b"POST", self._init_error),
            PING: (b"GET", self._ping),
            REGISTER: (b"POST", self._register),
            EXTENSION_NEXT: (b"GET", self._extension_next),
            EXTENSION_INIT_ERROR: (b"POST", self._extension_error),
            EXTENSION_EXIT_ERROR: (b"POST", self._extension_error),
            LOGS: (b"PUT", self._logs),
            LOGS + b"/": (b"PUT", self._logs),
            TELEMETRY: (b"PUT", self._telemetry),
            TELEMETRY + b"/": (b"PUT", self._telemetry),
        }
        if vault is not None:
            self._routes |= {
                RESTORE_NEXT: (b"GET", self._restore_next),
                RESTORE_ERROR: (b"POST", self._restore_error),
                CREDENTIALS.encode(): (b"GET", vault.answer),
            }
        self._postings = (self._response_ended, self._error_ended)

    def began(self, exchange: Exchange) -> None:
        """Check the route, and for responses and errors also identifier and state, before the body."""
        exchange.body_bytes_max = INVOKE_RESPONSE_BYTES_MAX
        path = exchange.path
        if not self._has_extensions and path.startswith((EXTENSION, LOGS, TELEMETRY)):
            exchange.respond(404, (), b"")
            return
        route = self._routes.get(path)
        if route is not None:
            if exchange.method == route[0]:
                exchange.slot = route[1]
            else:
                exchange.respond(405, (), b"")
            return
        if path.startswith(INVOCATION):
            identifier, _, verb = path[len(INVOCATION) :].partition(b"/")
            if verb in (b"response", b"error"):
                if exchange.method != b"POST":
                    exchange.respond(405, (), b"")
                else:
                    self._posting_began(exchange, identifier.decode("latin-1"), is_error=verb == b"error")
                return
        exchange.respond(404, TEXT, NOT_FOUND)

    def ended(self, exchange: Exchange) -> None:
        """The body is complete."""
        handle = exchange.slot
        if handle is not None:
            handle(exchange)  # type: ignore[operator] # the slot of an open exchange is its handler

    def aborted(self, exchange: Exchange) -> None:
        """The peer left: a body was cut short, or nobody waits for the answer any more."""
        if exchange.slot in self._postings:
            how = m.Transfer.OVERSIZED if exchange.is_oversized else m.Transfer.TRUNCATED
            self._port.feed(m.BodyEnded(exchange, how, exchange.body_bytes_max))
        self._port.feed(m.CallDropped(exchange))

    # --- Runtime API --------------------------------------------------------------------------------------

    def _ping(self, exchange: Exchange) -> None:
        exchange.respond(200, TEXT, b"pong")

    def _note_release(self, exchange: Exchange) -> None:
        if not self._port.runtime_release:
            self._port.runtime_release = read_release(exchange)

    def _runtime_next(self, exchange: Exchange) -> None:
        if not self._port.runtime_release:
            self._note_release(exchange)
        self._port.feed(m.RuntimeNext(exchange))

    def _posting_began(self, exchange: Exchange, request_id: str, *, is_error: bool) -> None:
        if is_error:
            exchange.slot = self._error_ended
            error_type = sanitise_error_type(exchange.header(ERROR_TYPE))
            self._port.feed(m.ErrorBegan(exchange, request_id, error_type))
        else:
            exchange.slot = self._response_ended
            mode = exchange.header(RESPONSE_MODE) or b""
            is_streamed = mode == b"streaming"
            self._port.feed(m.ResponseBegan(exchange, request_id, is_streamed or not mode, is_streamed))

    def _response_ended(self, exchange: Exchange) -> None:
        self._posting_ended(exchange, read_response)

    def _error_ended(self, exchange: Exchange) -> None:
        self._posting_ended(exchange, read_error)

    def _posting_ended(self, exchange: Exchange, read: Callable[[Exchange], Posted]) -> None:
        exchange.slot = None
        if exchange.is_oversized:
            self._port.feed(m.BodyEnded(exchange, m.Transfer.OVERSIZED, exchange.body_bytes_max))
            return
        exchange.slot = read(exchange)
        self._port.feed(m.BodyEnded(exchange, m.Transfer.COMPLETE, size_bytes=exchange.received_bytes))

    def _init_error(self, exchange: Exchange) -> None:
        self._note_release(exchange)
        if exchange.is_oversized:
            exchange.respond(413, JSON, error_body("RequestEntityTooLarge", TOO_LARGE))
            return
        exchange.slot = read_init_error(exchange)
        self._port.feed(m.InitError(exchange, sanitise_error_type(exchange.header(ERROR_TYPE))))

    def _restore_next(self, exchange: Exchange) -> None:
        self._note_release(exchange)
        self._port.feed(m.RestoreNext(exchange))

    def _restore_error(self, exchange: Exchange) -> None:
        if exchange.is_oversized:
            exchange.respond(413, JSON, error_body("RequestEntityTooLarge", TOO_LARGE))
            return
        self._port.feed(m.RestoreError(exchange, sanitise_error_type(exchange.header(ERROR_TYPE))))

    # --- Extensions API -----------------------------------------------------------------------------------

    def _register(self, exchange: Exchange) -> None:
        name = exchange.header(b"lambda-extension-name")
        if not name:
            self._forbid(exchange, "Extension.InvalidExtensionName", "Empty extension name")
            return
        try:
            body = _decode_registration(exchange.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            text = str(error) if exchange.body else "unexpected end of JSON input"
            self._forbid(exchange, "InvalidRequestFormat", text)
            return
        if body.configurationKeys:
            text = "configurationKeys are deprecated; use environment variables instead"
            self._forbid(exchange, "InvalidRequestFormat", text)
            return
        events = tuple(body.events or ())
        self._port.feed(m.Register(exchange, name.decode("latin-1"), events, new_uuid()))

    def _extension_next(self, exchange: Exchange) -> None:
        identifier = self._identifier(exchange)
        if identifier is not None:
            self._port.feed(m.ExtensionNext(exchange, identifier))

    def _extension_error(self, exchange: Exchange) -> None:
        identifier = self._identifier(exchange)
        if identifier is None:
            return
        error_type = exchange.header(b"lambda-extension-function-error-type")
        if not error_type:
            text = "Lambda-Extension-Function-Error-Type not found"
            self._forbid(exchange, "Extension.MissingHeader", text)
            return
        is_exit = exchange.path == EXTENSION_EXIT_ERROR
        self._port.feed(m.ExtensionError(exchange, identifier, is_exit, error_type.decode("latin-1")))

    def _identifier(self, exchange: Exchange) -> str | None:
        """Return the caller's identifier; None if there is none (then the request has been refused)."""
        header = exchange.header(b"lambda-extension-identifier")
        if not header:
            text = "Missing Lambda-Extension-Identifier header"
            self._forbid(exchange, "Extension.MissingExtensionIdentifier", text)
            return None
        try:
            return str(UUID(header.decode("latin-1")))
        except ValueError:
            text = "Invalid Lambda-Extension-Identifier"
            self._forbid(exchange, "Extension.InvalidExtensionIdentifier", text)
            return None

    def _forbid(self, exchange: Exchange, error_type: str, message: str) -> None:
        exchange.respond(403, JSON, error_body(error_type, message))

    # --- Telemetry API and Logs API -----------------------------------------------------------------------

    def _logs(self, exchange: Exchange) -> None:
        self._subscribe(exchange, Api.LOGS)

    def _telemetry(self, exchange: Exchange) -> None:
        self._subscribe(exchange, Api.TELEMETRY)

    def _subscribe(self, exchange: Exchange, api: Api) -> None:
        """Check, in this order, the identifier and the moment; then what is asked for."""
        if not self._has_telemetry:
            message = f"{api.value} API is not supported"
            error = {"errorMessage": message, "errorType": f"{api.value}.NotSupported"}
            exchange.respond(202, JSON, to_json(error))
            return
        identifier = self._identifier(exchange)
        if identifier is None:
            return
        name = self._port.machine.extension_name(identifier)
        if name is None:
            self._forbid(exchange, "Extension.UnknownExtensionIdentifier", f"Unknown extension {identifier}")
        elif not self._port.machine.is_initialising:
            message = f"{api.value} API subscription is closed already"
            self._forbid(exchange, f"{api.value}.SubscriptionClosed", message)
        elif exchange.is_oversized:
            exchange.respond(500, JSON, error_body("InternalServerError", "Internal Server Error"))
        else:
            answer = self._port.witness.subscribe(name, api, exchange.body)
            exchange.respond(answer.status, JSON, answer.body)
