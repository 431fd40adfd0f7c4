"""The vocabulary between the Lambda API and the pool: what to run, and what came of it."""

from __future__ import annotations

from collections.abc import Callable

from remora.environment.base import Deployment, InvokeRequest, InvokeResult
from remora.environment.streaming import ResponseStream, StreamEnd

__all__ = [
    "Answer",
    "Deployment",
    "InvokeRequest",
    "InvokeResult",
    "PoolError",
    "ProvisioningFailed",
    "ResponseStream",
    "StreamEnd",
    "Throttled",
]


class Throttled(Exception):  # noqa: N818 - the word of the API
    """
    No environment may be made for this invocation now.

    Args:
        reason: One of the API's throttle reasons, `ConcurrentInvocationLimitExceeded`.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"invocation refused: {reason}")
        self.reason = reason


class ProvisioningFailed(Exception):  # noqa: N818 - the word of the API
    """
    An environment could not be provisioned.

    Args:
        reason: The word that the service's log and status have for it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"provisioning failed: {reason}")
        self.reason = reason


class PoolError(Exception):
    """No environment could be made for an invocation, and another one would fare no better."""


Answer = Callable[[InvokeResult | PoolError | Throttled], None]
"""Who is told what came of an invocation."""
