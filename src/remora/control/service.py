"""
The Lambda API on HTTP: finds the operation of each request, calls its handler, writes the answer.

Every request but a warm invocation runs in a task of its own; an `ApiError` becomes AWS's answer, anything
unexpected is logged and becomes a ServiceException. A client that leaves does not stop what it asked for.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from remora.control.answers import write_answer, write_error
from remora.control.failures import crowd_out, explain
from remora.control.front_door import LAMBDA, service_of
from remora.control.operations.call import Call
from remora.control.operations.downloads import PREFIX, download
from remora.control.operations.invoke import Invocations
from remora.control.operations.offered import HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM
from remora.spec import limits
from remora.spec.errors import ApiError, not_found
from remora.spec.lambda_api import Route

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping
    from typing import Any

    from remora.control.callers import Caller
    from remora.control.context import Control
    from remora.control.gate import Gate
    from remora.http.exchange import Exchange


_BODY_BYTES_MAX: Final = {
    "CreateFunction": limits.CREATE_FUNCTION_BODY_BYTES_MAX,
    "UpdateFunctionCode": limits.CREATE_FUNCTION_BODY_BYTES_MAX,
    "PublishLayerVersion": limits.CREATE_FUNCTION_BODY_BYTES_MAX,
    INVOKE: limits.INVOKE_PAYLOAD_BYTES_MAX,
    INVOKE_WITH_RESPONSE_STREAM: limits.INVOKE_PAYLOAD_BYTES_MAX,
}
_ROUTES_MAX: Final = 1_024
_PATH_BYTES_MAX: Final = 512
"""Where the last so many paths lead, if they are no longer than this, is remembered."""
_LARGE_BODY_BYTES: Final = 256 * 1024
"""From here on a body is parsed in a thread, so that others need not wait."""


class Service(Protocol):
    """Another AWS service behind the same endpoint."""

    @property
    def body_bytes_max(self) -> int:
        """How long a request's body may be, bytes."""

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request, whatever is wrong with it."""


class LambdaService:
    """
    The application behind a node's endpoint.

    Args:
        control: What the operations are given.
        neighbours: Other AWS services behind the same endpoint, by their names in the scope of signatures.
        gate: Who lets requests in; None lets in everybody.
    """

    def __init__(
        self,
        control: Control,
        neighbours: Mapping[str, Service] | None = None,
        *,
        gate: Gate | None = None,
    ) -> None:
        self._control = control
        self._neighbours = neighbours or {}
        self._gate = gate
        self._invocations = Invocations(control)
        self._find = lru_cache(_ROUTES_MAX)(control.api.route)

    def __repr__(self) -> str:
        return f"<LambdaService {self._control.state!r}>"

    def began(self, exchange: Exchange) -> None:
        """Find the operation, and say how much of a body it may have."""
        exchange.body_bytes_max = limits.OTHER_BODY_BYTES_MAX
        is_short = len(exchange.path) + len(exchange.query) <= _PATH_BYTES_MAX
        find = self._find if is_short else self._control.api.route
        route = find(exchange.method, exchange.path, exchange.query)
        if route is not None:
            exchange.slot = route
            exchange.body_bytes_max = _BODY_BYTES_MAX.get(route.operation.name, limits.OTHER_BODY_BYTES_MAX)
        elif (neighbour := self._neighbours.get(service_of(exchange))) is not None:
            exchange.body_bytes_max = neighbour.body_bytes_max

    def ended(self, exchange: Exchange) -> None:
        """Begin what answers."""
        try:
            if self._gate is not None:
                self._control.spawn(self._admit(self._gate, exchange), "admit")
            elif not self._begin_warm(exchange):
                self._control.spawn(self._answer(exchange, None), exchange.path.decode("latin-1"))
        except RuntimeError:
            self._refuse(exchange, ApiError("ServiceException", "The node is shutting down."))

    async def _admit(self, gate: Gate, exchange: Exchange) -> None:
        """Answer one request if it may be; download links carry a signature of their own."""
        caller = None
        try:
            if not exchange.path.startswith(PREFIX):
                caller = await gate.admits(exchange, service_of(exchange))
                if caller is None:
                    return
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            self._fail(exchange, error)
            return
        if not self._begin_warm(exchange):
            await self._answer(exchange, caller)

    async def serve(self, exchange: Exchange, caller: Caller | None) -> None:
        """
        Answer a complete request that was made inside the node in somebody's place.

        Args:
            exchange: Names its service as a signature would; the answer may follow when this has returned.
            caller: Who may do what the request asks for, or may not; None if the node asks nobody for keys.
        """
        self.began(exchange)
        try:
            if self._gate is not None:
                assert caller is not None, "a node that asks for keys knows who calls"
                if not await self._gate.permits(caller, exchange, service_of(exchange)):
                    return
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            self._fail(exchange, error)
            return
        await self._answer(exchange, caller)

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Let `listener` be called after every change of the records, and of what is provisioned."""
        self._control.state.subscribe(listener)
        if self._control.provisioning is not None:
            self._control.provisioning.subscribe(listener)

    def _begin_warm(self, exchange: Exchange) -> bool:
        """Begin an invocation like an earlier one without a task; False if it is something else."""
        route = exchange.slot
        if not isinstance(route, Route) or route.operation.name != INVOKE or service_of(exchange) != LAMBDA:
            return False
        try:
            return self._invocations.begin(exchange)
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            self._fail(exchange, error)
            return True

    def aborted(self, exchange: Exchange) -> None:
        """Tell who was crowded out; what others have asked for is done all the same."""
        if exchange.is_crowded_out:
            crowd_out(exchange, service_of(exchange), self._control.new_id())

    async def _answer(self, exchange: Exchange, caller: Caller | None) -> None:
        """Answer one request."""
        try:
            await self._dispatch(exchange, caller)
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            self._fail(exchange, error)

    def _fail(self, exchange: Exchange, error: Exception) -> None:
        """Answer with what went wrong (called while that is handled)."""
        if not isinstance(error, ApiError):
            what = f"{exchange.method.decode('latin-1')} {exchange.path.decode('latin-1')}"
            error = ApiError("ServiceException", explain(what, error))
        self._refuse(exchange, error)

    def _dispatch(self, exchange: Exchange, caller: Caller | None) -> Coroutine[Any, Any, None]:
        if exchange.path.startswith(PREFIX):
            return download(self._control, exchange)
        service = service_of(exchange)
        neighbour = self._neighbours.get(service)
        if neighbour is not None:
            return neighbour.answer(exchange)
        if service != LAMBDA:
            offered = ", ".join((LAMBDA, *self._neighbours))
            raise not_found(
                f"There is no operation {exchange.method.decode('latin-1')} "
                f"{exchange.path.decode('latin-1')} here: this node offers {offered}, not {service}."
            )
        route = exchange.slot
        if not isinstance(route, Route):
            raise not_found(
                f"There is no operation {exchange.method.decode('latin-1')} "
                f"{exchange.path.decode('latin-1')} in the Lambda API."
            )
        if route.operation.name == INVOKE:
            return self._invocations.invoke(exchange, route)
        if route.operation.name == INVOKE_WITH_RESPONSE_STREAM:
            return self._invocations.invoke_with_response_stream(exchange, route)
        return self._call(exchange, route, caller)

    async def _call(self, exchange: Exchange, route: Route, caller: Caller | None) -> None:
        control, operation = self._control, route.operation
        handler = HANDLERS.get(operation.name)
        if handler is None:
            raise not_found(f"The operation {operation.name} is not offered by this node yet.")
        if exchange.is_oversized:
            raise ApiError(
                "RequestEntityTooLargeException",
                f"Request must be smaller than {exchange.body_bytes_max} bytes "
                f"for the {operation.name} operation",
            )
        parts = (route, exchange.query, exchange.header, exchange.body)
        if len(exchange.body) < _LARGE_BODY_BYTES:
            request = control.api.parse(*parts)
        else:
            request = await asyncio.to_thread(control.api.parse, *parts)
        who = control.place.root_arn if caller is None else caller.arn
        reply = await handler(control, Call(request, _base_url(exchange), who))
        write_answer(exchange, control.new_id(), control.api.answer(operation, reply or {}))

    def _refuse(self, exchange: Exchange, error: ApiError) -> None:
        write_error(exchange, self._control.new_id(), error)


def _base_url(exchange: Exchange) -> str:
    """Return where the caller reached the node, as its Host header says."""
    host = exchange.header(b"host") or b"localhost"
    return f"http://{host.decode('latin-1')}"
