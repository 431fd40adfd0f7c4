"""
Sandboxes made ahead: a driver around another that keeps a few spare ones, so that nobody waits for them.

Which ones will be wanted is told by whoever deploys (`expect`), and by which ones were. A spare has been
given to nobody and has run nothing. It is given away only if it would be made the same: same directories (the
very ones: not others of the same name), sizes and network. It is let go when it is not wanted for a while,
when the machine is short of memory or a sandbox cannot be made, or when its pid 1 ended.

Spares are made a moment after there was a wish, not at once: whoever got a sandbox needs the processors now.
And none is begun while anybody waits for a sandbox: where many are made at once, spares would delay them.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict, deque
from dataclasses import replace
from typing import TYPE_CHECKING

from remora.kit.alarms import Alarm
from remora.kit.ids import random_hex
from remora.kit.tasks import TaskSet
from remora.sandbox.base import SandboxError
from remora.sandbox.spares import EXPECTED_US, Demand, Relay, Spare, likeness, share_out

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from remora.kit.clock import Clock
    from remora.sandbox.base import Sandbox, SandboxDriver, SandboxPlan, Watcher
    from remora.sandbox.spares import Likeness

CALM_S = 0.2
"""Spares are made when nobody has wished for anything for so long,"""
CALM_S_MAX = 1.0
"""or when this time has passed."""
KINDS_MAX = 256
"""How many kinds of sandboxes are remembered."""
SCARCE_S = 10.0
"""There are no spares for so long after a sandbox could not be made."""
MEMORY_BYTES_MIN = 512 * 1024 * 1024
"""With less left on the machine there are no spares."""

_log = logging.getLogger("remora.sandbox")


class WarmDriver:
    """
    Keeps spares of another driver; see `SandboxDriver`.

    Args:
        driver: Who makes them.
        environments: Parent of their directories.
        clock: The node's clock.
        spares_max: How many are kept at once, of all kinds.
        memory_left: Tells how much memory the machine has left, bytes.
    """

    def __init__(
        self,
        driver: SandboxDriver,
        environments: Path,
        clock: Clock,
        *,
        spares_max: int,
        memory_left: Callable[[], int],
    ) -> None:
        self._driver = driver
        self._environments = environments
        self._clock = clock
        self._spares_max = spares_max
        self._memory_left = memory_left
        self._demands: OrderedDict[Likeness, Demand] = OrderedDict()
        """The kind that was wanted last is the last."""
        self._spares: dict[Likeness, deque[Spare]] = {}
        self._making: dict[Likeness, deque[asyncio.Future[Spare | None]]] = {}
        """What nobody waits for yet."""
        self._tasks = TaskSet("spare sandboxes")
        self._review: Alarm | None = None
        self._due_us = 0
        self._scarce_until_us = 0
        self._waiting = 0
        """How many wait for a sandbox of theirs."""
        self._trouble = ""
        """Why the last spare could not be made; empty if it could."""
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<WarmDriver {self._driver!r} spares={self.spares} making={_count(self._making)}>"

    @property
    def name(self) -> str:
        """See `SandboxDriver.name`."""
        return self._driver.name

    @property
    def spares(self) -> int:
        """How many are ready."""
        return _count(self._spares)

    def check(self) -> tuple[str, ...]:
        """See `SandboxDriver.check`."""
        return self._driver.check()

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        return await self._driver.sweep()

    def expect(self, plan: SandboxPlan, whose: str) -> None:
        """
        Say that a sandbox like this will be wanted, possibly soon.

        Args:
            plan: Its name and directory do not matter.
            whose: Who will want it; the same does not want what was said before any more.
        """
        try:
            like = likeness(plan)
        except OSError:
            return  # gone already: nothing like it can be wanted
        for former in [key for key, demand in self._demands.items() if demand.whose == whose]:
            if former != like:
                del self._demands[former]
        demand = self._demand(like, plan)
        demand.whose = whose
        demand.expected_us = self._clock.monotonic_us() + EXPECTED_US
        self._review_soon()

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """See `SandboxDriver.create`; a spare keeps the name and the directory that it was made with."""
        try:
            like = likeness(plan)
        except OSError:
            return await self._driver.create(plan, watcher)  # which says what is missing
        self._demand(like, plan).wish(self._clock.monotonic_us())
        self._waiting += 1
        try:
            return await self._take_or_create(like, plan, watcher)
        finally:
            self._waiting -= 1
            self._review_soon()

    async def _take_or_create(self, like: Likeness, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        spare = self._take(like) or await self._await_one(like)
        if spare is not None and not spare.relay.is_lost:
            spare.relay.watcher = watcher
            return spare.sandbox
        if spare is not None:
            self._let_go([spare])
        try:
            return await self._driver.create(plan, watcher)
        except SandboxError as error:
            if not error.retryable or not self._spares:
                raise
            # Spares may have what this one lacked.
            self._scarce_until_us = self._clock.monotonic_us() + int(SCARCE_S * 1_000_000)
            self._drop_all()
            await self._tasks.join()
            return await self._driver.create(plan, watcher)

    def _demand(self, like: Likeness, plan: SandboxPlan) -> Demand:
        demand = self._demands.pop(like, None) or Demand(plan)
        self._demands[like] = demand
        while len(self._demands) > KINDS_MAX:
            self._demands.popitem(last=False)
        return demand

    # ---- spares are given away

    def _take(self, like: Likeness) -> Spare | None:
        """Take one that is ready and alive."""
        ready = self._spares.pop(like, deque())
        lost = [spare for spare in ready if spare.relay.is_lost]
        alive = deque(spare for spare in ready if not spare.relay.is_lost)
        self._let_go(lost)
        taken = alive.popleft() if alive else None
        if alive:
            self._spares[like] = alive
        return taken

    async def _await_one(self, like: Likeness) -> Spare | None:
        """Wait for one that is being made, if there is one that nobody else waits for; None if it fails."""
        making = self._making.get(like)
        if not making:
            return None
        one = making.popleft()
        if not making:
            del self._making[like]
        try:
            return await asyncio.shield(one)
        except asyncio.CancelledError:
            one.add_done_callback(lambda done: self._keep(like, done.result()))
            raise

    def _keep(self, like: Likeness, spare: Spare | None) -> None:
        if spare is None:
            return
        if self._is_closing:
            self._let_go([spare])
        else:
            self._spares.setdefault(like, deque()).append(spare)
            self._review_soon()

    # ---- spares are made, and let go

    def _review_soon(self) -> None:
        """Review in a moment of calm."""
        if self._is_closing or not self._spares_max:
            return
        now_us = self._clock.monotonic_us()
        if not self._due_us:
            self._due_us = now_us + int(CALM_S_MAX * 1_000_000)
        self._set_review(min(CALM_S, (self._due_us - now_us) / 1_000_000))

    def _set_review(self, in_s: float) -> None:
        if self._review is None:
            self._review = Alarm(asyncio.get_running_loop(), self._carry_out)
        self._review.set_in(in_s)

    def _carry_out(self) -> None:
        """Make what is missing, let go of what is too much, and look again when that changes."""
        self._due_us = 0
        now_us = self._clock.monotonic_us()
        for demand in self._demands.values():
            demand.forget(now_us)
        is_short = now_us < self._scarce_until_us or self._memory_left() < MEMORY_BYTES_MIN
        wanted = share_out(reversed(self._demands.items()), now_us, 0 if is_short else self._spares_max)
        for like in list(self._spares):
            self._trim(like, wanted.get(like, 0))
        for like, count in wanted.items():
            if self._waiting:
                break  # the last of them has this reviewed
            there = len(self._spares.get(like, ())) + len(self._making.get(like, ()))
            for _ in range(count - there):
                self._make(like, self._demands[like].plan)
        changes = [demand.until_us(now_us) for demand in self._demands.values()]
        changes.append(self._scarce_until_us)
        coming = [at_us for at_us in changes if at_us > now_us]
        if coming:
            self._set_review((min(coming) - now_us) / 1_000_000)

    def _trim(self, like: Likeness, count: int) -> None:
        ready = self._spares.pop(like)
        alive = [spare for spare in ready if not spare.relay.is_lost]
        if alive[:count]:
            self._spares[like] = deque(alive[:count])
        self._let_go([spare for spare in ready if spare not in alive[:count]])

    def _make(self, like: Likeness, plan: SandboxPlan) -> None:
        made: asyncio.Future[Spare | None] = asyncio.get_running_loop().create_future()
        self._making.setdefault(like, deque()).append(made)
        self._tasks.spawn(self._fill(like, plan, made), "make a spare sandbox")

    async def _fill(self, like: Likeness, plan: SandboxPlan, made: asyncio.Future[Spare | None]) -> None:
        name, relay = random_hex(32), Relay(self._review_soon)
        spare: Spare | None = None
        try:
            spare_plan = replace(plan, name=name, directory=self._environments / name)
            spare = Spare(await self._driver.create(spare_plan, relay), relay)
            self._trouble = ""
        except SandboxError as error:
            if all(mount.source.exists() for mount in plan.mounts):  # else it was deleted meanwhile
                self._tell(str(error).replace(name, "…"))
        finally:
            unclaimed = self._making.get(like, deque())
            is_claimed = made not in unclaimed
            if not is_claimed:
                unclaimed.remove(made)
                if not unclaimed:
                    del self._making[like]
                self._keep(like, spare)
            made.set_result(spare)

    def _tell(self, trouble: str) -> None:
        """Say why no spare could be made, once until one can or the reason is another."""
        if trouble != self._trouble:
            self._trouble = trouble
            _log.warning("no spare sandbox could be made: %s", trouble)

    def _let_go(self, spares: list[Spare]) -> None:
        for spare in spares:
            self._tasks.spawn(spare.sandbox.close(), "close a spare sandbox")

    def _drop_all(self) -> None:
        for like in list(self._spares):
            self._trim(like, 0)

    async def close(self) -> None:
        """
        Let go of all spares; those that were given away are their owners'.

        **Cancellation:** they are let go all the same. Repeated calls: wait for the same.
        """
        self._is_closing = True
        if self._review is not None:
            self._review.close()
        self._drop_all()
        await self._tasks.join()


def _count(deques: dict[Likeness, deque[Spare]] | dict[Likeness, deque[asyncio.Future[Spare | None]]]) -> int:
    return sum(map(len, deques.values()))
