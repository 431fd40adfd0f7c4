"""Lets only signed requests through to the node's own pages, on a node that asks for signatures."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from remora.auth.sigv4 import SignatureError
from remora.control.failures import explain
from remora.node.api import HEALTH_PATH, PREFIX

if TYPE_CHECKING:
    from remora.control.callers import Callers
    from remora.http.exchange import Application, Exchange
    from remora.kit.tasks import TaskSet

SCOPE = "remora"
"""What the node's own pages are called in the scope of a signature."""
_OPEN = (HEALTH_PATH, PREFIX + b"health")
"""Open to everybody: those who watch a node have no keys."""


class Guarded:
    """
    An application behind a guard.

    Args:
        application: Who answers.
        callers: Tells who signed a request.
        tasks: Owner of the checks.
    """

    def __init__(self, application: Application, callers: Callers, tasks: TaskSet) -> None:
        self._application = application
        self._callers = callers
        self._tasks = tasks

    def __repr__(self) -> str:
        return f"<Guarded {self._application!r}>"

    def began(self, exchange: Exchange) -> None:
        """Pass on."""
        self._application.began(exchange)

    def ended(self, exchange: Exchange) -> None:
        """Pass on what is signed by the owner of a key."""
        if exchange.path in _OPEN:
            self._application.ended(exchange)
        else:
            self._tasks.spawn(self._check(exchange), "check a signature")

    def aborted(self, exchange: Exchange) -> None:
        """Pass on."""
        self._application.aborted(exchange)

    async def _check(self, exchange: Exchange) -> None:
        try:
            caller = await self._callers.identify(exchange, SCOPE)
        except SignatureError as error:
            _refuse(exchange, error.code, error.message)
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            text = explain("the check of a signature", error)
            _refuse(exchange, "ServiceException", text, status=500)
        else:
            if caller.is_limited:
                text = f"{caller.arn} has no key that may do everything on this node"
                _refuse(exchange, "AccessDeniedException", text)
            else:
                self._application.ended(exchange)


def _refuse(exchange: Exchange, code: str, message: str, *, status: int = 403) -> None:
    body = msgspec.json.encode({"code": code, "message": message}) + b"\n"
    exchange.respond(status, [(b"Content-Type", b"application/json")], body)
