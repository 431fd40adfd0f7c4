"""
The gate of a node that asks for signatures: who calls, and whether they may.

The owner of a key may do everything, unless the key has policies. Who has policies may do what they allow,
and what the policy of a function or layer allows; nothing else, and nothing that is denied or beyond a limit.
What a request needs is said by `permissions`, what a caller's policies say by `rights`.

Source: AWS IAM user guide, "Policy evaluation logic"; service authorization reference, "AWS Lambda".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remora.auth.sigv4 import SignatureError
from remora.control.callers import Caller
from remora.control.front_door import LAMBDA
from remora.control.permissions.functions import may_need_role, needs_of_lambda
from remora.control.permissions.neighbours import needs_of_neighbour
from remora.control.refusals import refuse
from remora.control.rights import context_of, refusal
from remora.spec.errors import ApiError
from remora.spec.lambda_api import Route

if TYPE_CHECKING:
    from remora.control.callers import Callers
    from remora.control.context import Control
    from remora.control.permissions.base import Need
    from remora.http.exchange import Exchange

_OPEN: Final = ("sts:GetCallerIdentity",)
"""What needs no permission."""


class Gate:
    """
    Lets requests in.

    Args:
        callers: Tells who signed a request.
        control: Records and names.
    """

    def __init__(self, callers: Callers, control: Control) -> None:
        self._callers = callers
        self._control = control

    def __repr__(self) -> str:
        return f"<Gate {self._callers!r}>"

    async def admits(self, exchange: Exchange, service: str) -> Caller | None:
        """Return who sent a complete request, if it may be answered; if not, None: it has been refused."""
        try:
            _check_size(exchange)
            caller = await self._callers.identify(exchange, service)
        except SignatureError as error:
            refuse(exchange, service, self._control, error.code, error.message)
            return None
        except ApiError as error:
            refuse(exchange, service, self._control, error.code, error.message or "")
            return None
        return caller if await self.permits(caller, exchange, service) else None

    async def permits(self, caller: Caller, exchange: Exchange, service: str) -> bool:
        """Tell if a request of somebody who is known may be answered; if not, it has been refused."""
        try:
            await self._authorise(caller, exchange, service)
        except ApiError as error:
            refuse(exchange, service, self._control, error.code, error.message or "")
            return False
        if service != LAMBDA:
            exchange.slot = caller  # for services that tell callers apart
        return True

    async def _authorise(self, caller: Caller, exchange: Exchange, service: str) -> None:
        """
        Check that the caller may do what a request asks for.

        Raises:
            ApiError: AccessDeniedException; what is wrong with the name of a function, or with the request.
        """
        if service == LAMBDA:
            if not caller.is_limited and not may_need_role(exchange):
                return
            needs = await needs_of_lambda(self._control, exchange)
        elif caller.is_limited:
            needs = await needs_of_neighbour(self._control, exchange, service)
        else:
            return
        for need in needs:
            if need.action not in _OPEN:
                self.judge(caller, need, exchange)

    def judge(self, caller: Caller, need: Need, exchange: Exchange) -> None:
        """
        Check that the caller has one permission, or the role that needs it in the caller's place.

        Raises:
            ApiError: AccessDeniedException; InvalidParameterValueException if the role has not.
        """
        if need.role:
            caller = Caller(need.role, need.role)
        if not caller.is_limited:
            return
        context = self._context(caller, exchange)
        text = refusal(self._control.state.view, self._control.place, caller, need, context)
        if text:
            raise ApiError("InvalidParameterValueException" if need.role else "AccessDeniedException", text)

    def _context(self, caller: Caller, exchange: Exchange) -> dict[str, str]:
        """Return the condition keys that every request over HTTP has."""
        context = context_of(caller, self._control.place, self._control.clock.wall_ms())
        context["aws:useragent"] = (exchange.header(b"user-agent") or b"").decode("latin-1")
        if exchange.peer:
            context["aws:sourceip"] = exchange.peer
        return context


def _check_size(exchange: Exchange) -> None:
    """
    Refuse a body that was too long to be kept, before its signature, which covers it.

    Raises:
        ApiError: RequestEntityTooLargeException.
    """
    if exchange.is_oversized:
        route = exchange.slot
        what = f" for the {route.operation.name} operation" if isinstance(route, Route) else ""
        text = f"Request must be smaller than {exchange.body_bytes_max} bytes{what}"
        raise ApiError("RequestEntityTooLargeException", text)
