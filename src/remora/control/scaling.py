"""Tells the pool what the records say of concurrency: what is reserved, what is provisioned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from remora.pool.base import ProvisionedStatus
from remora.pool.provisioning import Provisioning, ProvisioningPool
from remora.resources import versions

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.resources.records import FunctionVersion
    from remora.resources.view import View

NOT_PREPARED = "INTERNAL_FAILURE"
"""Why nothing could be provisioned of a version whose code or runtime cannot be had."""

_log = logging.getLogger("remora.control")


class ScalablePool(ProvisioningPool, Protocol):
    """Who keeps concurrency for functions."""

    def reserve(self, function_arn: str, count: int | None) -> None:
        """Reserve concurrency for a function; None takes the reservation back."""


class _Wish(NamedTuple):
    """What is to be provisioned: a version, how often, and when that was said."""

    version: FunctionVersion
    requested: int
    last_modified: str


class Scaling:
    """
    Keeps the pool at what the records say; answers what became of what is provisioned.

    Args:
        pool: Is told.
    """

    def __init__(self, pool: ScalablePool) -> None:
        self._pool = pool
        self._provisioning = Provisioning(pool)
        self._control: Control | None = None
        self._reserved: dict[str, int] = {}
        self._wishes: dict[str, _Wish] = {}

    def __repr__(self) -> str:
        return f"<Scaling reserved={len(self._reserved)} {self._provisioning!r}>"

    def begin(self, control: Control) -> None:
        """Carry out what the records say now, and from now on every change of them."""
        self._control = control
        control.state.subscribe(self._changed)
        self._changed()

    def status(self, function: str, qualifier: str) -> ProvisionedStatus:
        """Return what has become of what was provisioned for a version or alias; nothing yet counts too."""
        assert self._control is not None, "nobody can ask before the records are known"
        key = self._control.place.function_arn(function, qualifier)
        return self._provisioning.status(key) or ProvisionedStatus("IN_PROGRESS", 0, 0)

    def _changed(self) -> None:
        assert self._control is not None, "there are no changes before the records are known"
        view = self._control.state.view
        reserved = {
            function.latest.arn: function.reserved_concurrency
            for function in view.functions.values()
            if function.reserved_concurrency is not None
        }
        for arn in self._reserved.keys() - reserved.keys():
            self._pool.reserve(arn, None)
        for arn, count in reserved.items():
            if self._reserved.get(arn) != count:
                self._pool.reserve(arn, count)
        self._reserved = reserved
        self._provision(self._control, view)

    def _provision(self, control: Control, view: View) -> None:
        wishes = _wishes(control, view) if view.provisioned or self._wishes else {}
        for key in self._wishes.keys() - wishes.keys():
            self._provisioning.unwant(key)
        for key, wish in wishes.items():
            if self._wishes.get(key) != wish:
                self._provisioning.want(key, wish.version.arn, wish.requested)
                control.spawn(self._run(control, key, wish), f"provision {key}")
        self._wishes = wishes

    async def _run(self, control: Control, key: str, wish: _Wish) -> None:
        """Begin to provision; this is a boundary: whatever goes wrong becomes the status."""
        try:
            deployment = await control.deployments.make(wish.version)
        except Exception:  # noqa: BLE001 - the boundary
            _log.exception("%s could not be provisioned", key)
            if self._wishes.get(key) == wish:
                self._provisioning.fail(key, NOT_PREPARED)
            return
        if self._wishes.get(key) == wish:
            self._provisioning.run(key, deployment)


def _wishes(control: Control, view: View) -> dict[str, _Wish]:
    """Return what is to be provisioned, by qualified ARN; of an alias with weights its primary version."""
    wishes = {}
    for function, configs in view.provisioned.items():
        for qualifier, config in configs.items():
            version = versions.lookup(view, function, qualifier)
            if version is not None and version.state == "Active":
                key = control.place.function_arn(function, qualifier)
                # A revision changes with a policy, which is no reason to do anything.
                wishes[key] = _Wish(version.without_state(), config.requested, config.last_modified)
    return wishes
