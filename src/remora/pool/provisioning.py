"""
Provisioned concurrency: environments made ahead, as many as are wanted, and kept at that number.

What is wanted is a target under a key (the qualified ARN of a version or alias). A target whose init fails
has failed and stays so until it is set again; an environment that was ready and is lost is replaced.

Source: control-plane specification, B.11; AWS Lambda Developer Guide, "Configuring provisioned concurrency".
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from remora.pool.base import PoolError, ProvisionedStatus, ProvisioningFailed
from remora.pool.group import Provisioned

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.environment.base import Deployment
    from remora.environment.environment import Environment

NO_ENVIRONMENT: Final = "INTERNAL_FAILURE"
"""Why a target failed whose environments could not be made at all."""


class ProvisioningPool(Protocol):
    """Who makes provisioned environments."""

    def set_aside(self, function_arn: str, count: int) -> None:
        """Set concurrency aside for all provisioned environments of a function together."""

    def begin_provisioned(self, deployment: Deployment, provisioned: Provisioned) -> None:
        """
        Begin to make one environment; `provisioned` is told what becomes of it.

        Raises:
            PoolError: If the node is shutting down.
        """

    def release(self, provisioned: Provisioned) -> None:
        """Let go of one; it ends as soon as it is idle."""


@dataclass(slots=True, eq=False)
class _Target:
    """Environments that are wanted, and those there are."""

    function_arn: str
    requested: int
    deployment: Deployment | None = None
    is_current: bool = False
    """True once it is known what it runs."""
    reason: str | None = None
    environments: list[Provisioned] = field(default_factory=list)


def _unheard() -> None:
    """Tell nobody."""


class Provisioning:
    """
    Keeps as many provisioned environments as are wanted.

    Args:
        pool: Makes them and gives them work.
        changed: Called whenever a status may have changed.
    """

    def __init__(self, pool: ProvisioningPool, changed: Callable[[], None] = _unheard) -> None:
        self._pool = pool
        self._changed = changed
        self._targets: dict[str, _Target] = {}

    def __repr__(self) -> str:
        return f"<Provisioning {len(self._targets)} targets>"

    def want(self, key: str, function_arn: str, requested: int) -> None:
        """
        Set concurrency aside for a target; what it runs is said by `run`.

        Args:
            key: Qualified ARN of the version or alias.
            function_arn: Unqualified ARN.
            requested: How many environments, >= 1.
        """
        target = self._targets.setdefault(key, _Target(function_arn, requested))
        target.requested = requested
        target.reason = None
        target.is_current = False
        self._set_aside(function_arn)

    def run(self, key: str, deployment: Deployment) -> None:
        """Make, or keep, the target's environments of `deployment`; those of another one end."""
        target = self._targets[key]
        former = target.deployment
        target.deployment = deployment
        target.is_current = True
        if former is not None and former.key != deployment.key:
            self._release(target, len(target.environments))
        self._fill(target)
        self._changed()

    def fail(self, key: str, reason: str) -> None:
        """The target cannot be run."""
        self._targets[key].reason = reason
        self._changed()

    def unwant(self, key: str) -> None:
        """Let go of a target and its environments. Repeated calls: no effect."""
        target = self._targets.pop(key, None)
        if target is not None:
            self._release(target, len(target.environments))
            self._set_aside(target.function_arn)

    def status(self, key: str) -> ProvisionedStatus | None:
        """Tell what has become of a target; None if there is none."""
        target = self._targets.get(key)
        if target is None:
            return None
        ready = sum(each.is_ready for each in target.environments)
        if target.reason is not None:
            return ProvisionedStatus("FAILED", ready, ready, target.reason)
        is_complete = ready == target.requested and target.is_current
        return ProvisionedStatus("READY" if is_complete else "IN_PROGRESS", ready, ready)

    def _set_aside(self, function_arn: str) -> None:
        total = sum(each.requested for each in self._targets.values() if each.function_arn == function_arn)
        self._pool.set_aside(function_arn, total)

    def _fill(self, target: _Target) -> None:
        """Bring the number of environments to what is wanted."""
        assert target.deployment is not None, "it is known what a target runs before it is filled"
        surplus = len(target.environments) - target.requested
        if surplus > 0:
            self._release(target, surplus)
        while len(target.environments) < target.requested and target.reason is None:
            provisioned = Provisioned(lost=partial(self._lost, target), ready=self._changed)
            target.environments.append(provisioned)
            try:
                self._pool.begin_provisioned(target.deployment, provisioned)
            except PoolError:
                target.environments.remove(provisioned)
                return

    def _release(self, target: _Target, count: int) -> None:
        """Let go of so many environments, those first that are not ready."""
        target.environments.sort(key=lambda each: not each.is_ready)
        for _ in range(count):
            self._pool.release(target.environments.pop())

    def _lost(
        self, target: _Target, provisioned: Provisioned, error: ProvisioningFailed | PoolError | None
    ) -> None:
        """Replace an environment that is gone, unless there is no hope that another would fare better."""
        if provisioned not in target.environments:
            return
        target.environments.remove(provisioned)
        if isinstance(error, ProvisioningFailed):
            target.reason = error.reason
        elif error is not None:
            target.reason = NO_ENVIRONMENT
        else:
            # Its removal is under way: another one is made when the pool has seen to that.
            asyncio.get_running_loop().call_soon(self._replace, target)
        self._changed()

    def _replace(self, target: _Target) -> None:
        if target in self._targets.values() and target.deployment is not None:
            self._fill(target)


async def provision_one(pool: ProvisioningPool, deployment: Deployment) -> None:
    """
    Make one environment ahead of any invocation, and wait for its init.

    Raises:
        ProvisioningFailed: If its init failed; nothing is left of it.
        PoolError: If no environment could be made, or the node is shutting down.

    **Cancellation:** the environment is made all the same.
    """
    made: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def ready() -> None:
        if not made.done():
            made.set_result(None)

    def lost(_: Provisioned, error: ProvisioningFailed | PoolError | None) -> None:
        if error is not None and not made.done():
            made.set_exception(error)

    pool.begin_provisioned(deployment, Provisioned(lost=lost, ready=ready))
    await made


def may_serve(provisioned: Provisioned, environment: Environment) -> bool:
    """Tell who wants a provisioned environment that is available; False if it is not to serve after all."""
    if provisioned.is_unwanted:
        return False
    if not provisioned.is_ready:
        if not environment.machine.is_initialised:
            provisioned.lose(ProvisioningFailed("FUNCTION_ERROR_INIT_FAILURE"))
            return False
        provisioned.is_ready = True
        if provisioned.ready is not None:
            provisioned.ready()
    return True
