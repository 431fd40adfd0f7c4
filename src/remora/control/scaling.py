"""Tells the pool what the records say of concurrency: what is reserved, what is provisioned."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

from remora.pool.base import ProvisionedStatus
from remora.pool.provisioning import Provisioning, ProvisioningPool
from remora.resources import concurrency, versions

if TYPE_CHECKING:
    from collections.abc import Callable

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
        self._provisioning = Provisioning(pool, self._tell)
        self._listeners: list[Callable[[], object]] = []
        self._control: Control | None = None
        self._reserved: dict[str, int] = {}
        self._wishes: dict[str, _Wish] = {}
        self._parts: dict[str, list[str]] = {}
        """The keys of wishes by the qualified ARN that they are for: one for each version behind it."""

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
        arn = self._control.place.function_arn(function, qualifier)
        found = [self._provisioning.status(key) for key in self._parts.get(arn, ())]
        return _together([status for status in found if status is not None])

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Let `listener` be called whenever a status may have changed."""
        self._listeners.append(listener)

    def _tell(self) -> None:
        for listener in self._listeners:
            listener()

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
        wishes, self._parts = _wishes(control, view) if view.provisioned or self._wishes else ({}, {})
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


def _wishes(control: Control, view: View) -> tuple[dict[str, _Wish], dict[str, list[str]]]:
    """Return what is to be provisioned, by keys of its own, and the keys by qualified ARN."""
    wishes: dict[str, _Wish] = {}
    parts: dict[str, list[str]] = {}
    for name, configs in view.provisioned.items():
        for qualifier, config in configs.items():
            arn = control.place.function_arn(name, qualifier)
            for number, share in concurrency.provisioned_shares(view, config).items():
                version = versions.lookup(view, name, number)
                if version is not None and version.state == "Active":
                    key = f"{arn}@{number}"
                    # A revision changes with a policy, which is no reason to do anything.
                    wishes[key] = _Wish(version.without_state(), share, config.last_modified)
                    parts.setdefault(arn, []).append(key)
    return wishes, parts


def _together(parts: list[ProvisionedStatus]) -> ProvisionedStatus:
    """Return what has become of several versions' parts of one configuration."""
    allocated, available = sum(each.allocated for each in parts), sum(each.available for each in parts)
    failed = next((each for each in parts if each.status == "FAILED"), None)
    if failed is not None:
        return ProvisionedStatus("FAILED", allocated, available, failed.reason)
    is_complete = parts and all(each.status == "READY" for each in parts)
    return ProvisionedStatus("READY" if is_complete else "IN_PROGRESS", allocated, available)
