"""The vocabulary between the Lambda API and the pool: what to run, and what came of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, NamedTuple

from remora.environment.base import Deployment, InvokeRequest, InvokeResult
from remora.environment.streaming import ResponseStream, StreamEnd

__all__ = [
    "Answer",
    "Deployment",
    "InvokeRequest",
    "InvokeResult",
    "PoolError",
    "ProvisionedStatus",
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
        retry_after_s: After how many seconds another try may succeed.
    """

    def __init__(self, reason: str, retry_after_s: int = 1) -> None:
        super().__init__(f"invocation refused: {reason}")
        self.reason = reason
        self.retry_after_s = retry_after_s


class ProvisioningFailed(Exception):  # noqa: N818 - the word of the API
    """
    An environment could not be provisioned.

    Args:
        reason: The word that the service's log and status have for it.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(f"provisioning failed: {reason}")
        self.reason = reason


class ProvisionedStatus(NamedTuple):
    """
    What has become of provisioned concurrency.

    Args:
        status: In the API's words.
        allocated: Environments that are there.
        available: Those of them that have been initialised.
        reason: Why it has FAILED, `FUNCTION_ERROR_INIT_FAILURE`; None otherwise.

    Source: shape GetProvisionedConcurrencyConfigResponse of the Lambda API model.
    """

    status: Literal["IN_PROGRESS", "READY", "FAILED"]
    allocated: int
    available: int
    reason: str | None = None


class PoolError(Exception):
    """No environment could be made for an invocation, and another one would fare no better."""


Answer = Callable[[InvokeResult | PoolError | Throttled], None]
"""Who is told what came of an invocation."""
