"""Has environments made, in turn: at most a few at once, and not before there is memory for one more."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Protocol

from remora.pool.group import Member, Order
from remora.pool.memory import MIB
from remora.pool.starts import StartQueue
from remora.resources.snapshots import starts_from_snapshot
from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from remora.environment.environment import Environment
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.pool.group import Group, Provisioned
    from remora.pool.making import Maker
    from remora.pool.settings import PoolSettings
    from remora.pool.snapshots import Snapshots

_log = logging.getLogger("remora.pool")


class Customer(Protocol):
    """For whom environments are made; the owner of each."""

    def environment_available(self, environment: Environment) -> None:
        """It can take an invocation."""

    def environment_closed(self, environment: Environment) -> None:
        """Nothing runs in it any more."""

    def is_needed(self, order: Order) -> bool:
        """Tell whether an order is still to be carried out, now that its turn has come."""

    def dropped(self, order: Order) -> None:
        """An order is not carried out."""

    def not_made(self, member: Member, message: str) -> None:
        """There is no sandbox for an environment."""

    def make_room(self, shortage_bytes: int) -> None:
        """Give memory back."""


class Supply:
    """
    Makes the environments of a pool.

    Args:
        maker: Makes each.
        settings: What the operator chose.
        customer: Who orders them.
        clock: The node's clock.
        tasks: Owner of the tasks that make environments.
        memory_left: Tells how much memory the machine has left, bytes.
        snapshots: Restores those that begin from snapshots.
    """

    def __init__(
        self,
        maker: Maker,
        settings: PoolSettings,
        customer: Customer,
        *,
        clock: Clock,
        tasks: TaskSet,
        memory_left: Callable[[], int],
        snapshots: Snapshots,
    ) -> None:
        self.members: dict[str, Member] = {}
        """Every environment that was made and is not gone, by identifier."""
        self._maker = maker
        self._settings = settings
        self._customer = customer
        self._clock = clock
        self._tasks = tasks
        self._memory_left = memory_left
        self._snapshots = snapshots
        self._starts: StartQueue[Order] = StartQueue(settings.starts_at_once)

    def __repr__(self) -> str:
        return f"<Supply {len(self.members)} environments, {self._starts!r}>"

    def order(self, group: Group, provisioned: Provisioned | None = None) -> None:
        """Have an environment made when it is its function's turn."""
        if provisioned is None:
            group.starting += 1
        else:
            group.provisioned += 1
        self._starts.put(group.deployment.function.arn, Order(group, provisioned))
        self._start_next()

    def free_slot(self, member: Member) -> None:
        """Let the next environment in line be made. Repeated calls: no effect."""
        if member.slot is not None:
            member.slot.cancel()
            member.slot = None
            self._starts.free()
            self._start_next()

    def clear(self) -> None:
        """Drop every order whose turn has not come."""
        for order in self._starts.clear():
            self._customer.dropped(order)

    def _start_next(self) -> None:
        """Make environments as long as there are orders and slots."""
        while (order := self._starts.take()) is not None:
            if self._customer.is_needed(order):
                self._begin(order)
            else:
                self._starts.free()
                self._customer.dropped(order)

    def relieve(self) -> None:
        """Give memory back if less is left than is to be kept."""
        shortage_bytes = self._settings.memory_reserve_mib * MIB - self._memory_left()
        if shortage_bytes > 0:
            self._customer.make_room(shortage_bytes)

    def _begin(self, order: Order) -> None:
        self.relieve()
        group, provisioned = order.group, order.provisioned
        is_restored = starts_from_snapshot(group.deployment.function)
        environment = self._maker.make(
            group.deployment,
            self._customer,
            is_provisioned=provisioned is not None,
            snapshots=self._snapshots if is_restored else None,
        )
        lifetime_us = int(self._settings.lifetime_s * 1_000_000)
        member = Member(
            environment,
            group,
            self._clock.wall_ms(),
            expires_us=self._clock.monotonic_us() + lifetime_us,
            provisioned=provisioned,
        )
        if provisioned is not None:
            provisioned.member = member
        group.members[environment.identifier] = self.members[environment.identifier] = member
        loop = asyncio.get_running_loop()
        member.slot = loop.call_later(self._settings.start_hold_s, self.free_slot, member)
        start = self._snapshots.restore if is_restored else self._maker.start
        making = self._start(member, start)
        member.making = self._tasks.spawn(making, f"start environment {environment.identifier}")

    async def _start(self, member: Member, start: Callable[[Environment], Awaitable[None]]) -> None:
        try:
            await start(member.environment)
        except Exception as error:  # noqa: BLE001 - the boundary "environment": who waits for it is answered
            function = member.group.deployment.function
            log = _log.warning if isinstance(error, SandboxError) else _log.exception
            log("no environment of %s:%s could be made: %s", function.name, function.version, error)
            self._customer.not_made(member, f"no environment could be made: {error}")
