"""Who signed a request to a function URL, and whether they may use it, on a node that asks for keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.auth.sigv4 import SignatureError
from remora.control.addresses.access import INVOKE_URL, context_of
from remora.control.addresses.requests import Signer
from remora.control.permissions.base import Need
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remora.control.callers import Callers
    from remora.control.gate import Gate
    from remora.http.exchange import Exchange


class UrlGuard:
    """
    Lets signed requests in.

    Args:
        callers: Tells who signed a request.
        gate: Tells what they may do.
    """

    def __init__(self, callers: Callers, gate: Gate) -> None:
        self._callers = callers
        self._gate = gate

    def __repr__(self) -> str:
        return f"<UrlGuard {self._gate!r}>"

    async def admits(
        self, exchange: Exchange, resource: str, policy: Sequence[dict[str, Any]]
    ) -> Signer | None:
        """Return who may use the URL of `resource`; None if the request is not to be answered."""
        try:
            caller = await self._callers.identify(exchange, "lambda")
            need = Need(INVOKE_URL, resource, policy, context_of("AWS_IAM", exchange.peer))
            self._gate.judge(caller, need, exchange)
        except (SignatureError, ApiError):
            return None
        return Signer(caller.access_key, caller.arn, caller.user_id, caller.account)
