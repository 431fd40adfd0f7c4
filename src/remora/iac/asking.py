"""Who asks for a deployment, and with whose permissions it is done."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.control.callers import Caller
from remora.resources.stacks import Actor

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.http.exchange import Exchange


def caller_of(exchange: Exchange) -> Caller | None:
    """Return who sent a request; None on a node that asks for no keys."""
    return exchange.slot if isinstance(exchange.slot, Caller) else None


def actor_of(caller: Caller | None, role_arn: str) -> Actor | None:
    """Return on whose behalf a stack is deployed: of the role that was given, or of whoever asks."""
    if caller is None:
        return None
    return Actor(role_arn, role_arn) if role_arn else Actor(*caller)


def caller_from(actor: Actor | None) -> Caller | None:
    """Return a caller of the API who may do what an actor may."""
    return None if actor is None else Caller(*(getattr(actor, name) for name in Caller._fields))


def failure_policy(request: Mapping[str, Any]) -> str:
    """Return what becomes of a stack if something fails, as a request without OnFailure says it."""
    return "DO_NOTHING" if request.get("DisableRollback") else "ROLLBACK"
