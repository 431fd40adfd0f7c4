"""
Sandboxes made ahead: a driver around another that keeps a few spare ones, so that nobody waits for them.

Which ones will be wanted is told by which ones were: whoever gets a sandbox twice within a while will want a
third one like it. A spare has been given to nobody and has run nothing. It is given away only if it would be
made the same: same directories (the very ones: not others of the same name), sizes and network. It is let go
when it was not wanted for a while, or when its pid 1 ended.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from remora.kit.alarms import Alarm
from remora.kit.ids import random_hex
from remora.kit.tasks import TaskSet
from remora.sandbox.base import SandboxError

if TYPE_CHECKING:
    from pathlib import Path

    from remora.kit.clock import Clock
    from remora.sandbox.base import Exit, Sandbox, SandboxDriver, SandboxPlan, Watcher

WANTED_S = 60.0
"""Two wishes for the same within this time make a spare; so long it is kept."""
KINDS_MAX = 256
"""How many kinds of sandboxes are remembered."""

_log = logging.getLogger("remora.sandbox")

Likeness = tuple[object, ...]


def likeness(plan: SandboxPlan) -> Likeness:
    """
    Return what two plans have in common if one's sandbox can be the other's.

    Raises:
        OSError: If a directory is not there.
    """
    sources = [(mount.source.stat(), mount.target) for mount in plan.mounts]
    mounts = tuple((state.st_dev, state.st_ino, target) for state, target in sources)
    return (mounts, plan.mounts, plan.memory_mib, plan.network, plan.ephemeral_mib)


class Relay:
    """The watcher of a spare: passes on to whoever gets the sandbox, and notes if it is lost before."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self.is_lost = False

    def process_started(self, name: str, pid: int) -> None:
        """See `Watcher`."""
        if self.watcher is not None:
            self.watcher.process_started(name, pid)

    def process_failed(self, name: str, errno: int) -> None:
        """See `Watcher`."""
        if self.watcher is not None:
            self.watcher.process_failed(name, errno)

    def process_exited(self, name: str, how: Exit) -> None:
        """See `Watcher`."""
        if self.watcher is not None:
            self.watcher.process_exited(name, how)

    def emptied(self) -> None:
        """See `Watcher`."""
        if self.watcher is not None:
            self.watcher.emptied()

    def sandbox_lost(self, reason: str) -> None:
        """See `Watcher`."""
        self.is_lost = True
        if self.watcher is not None:
            self.watcher.sandbox_lost(reason)


@dataclass(frozen=True, slots=True)
class Spare:
    """A sandbox that nobody has yet; `expiry` rings when it was not wanted for a while."""

    sandbox: Sandbox
    relay: Relay
    expiry: Alarm


class WarmDriver:
    """
    Keeps spares of another driver; see `SandboxDriver`.

    Args:
        driver: Who makes them.
        environments: Parent of their directories.
        clock: The node's clock.
        spares_max: How many are kept at once, of all kinds.
    """

    def __init__(self, driver: SandboxDriver, environments: Path, clock: Clock, *, spares_max: int) -> None:
        self._driver = driver
        self._environments = environments
        self._clock = clock
        self._spares_max = spares_max
        self._spares: dict[Likeness, Spare] = {}
        self._making: set[Likeness] = set()
        self._last_us: OrderedDict[Likeness, int] = OrderedDict()
        self._tasks = TaskSet("spare sandboxes")
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<WarmDriver {self._driver!r} spares={len(self._spares)} making={len(self._making)}>"

    @property
    def name(self) -> str:
        """See `SandboxDriver.name`."""
        return self._driver.name

    def check(self) -> tuple[str, ...]:
        """See `SandboxDriver.check`."""
        return self._driver.check()

    async def sweep(self) -> int:
        """See `SandboxDriver.sweep`."""
        return await self._driver.sweep()

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:
        """See `SandboxDriver.create`; a spare keeps the name and the directory that it was made with."""
        try:
            like = likeness(plan)
        except OSError:
            return await self._driver.create(plan, watcher)  # which says what is missing
        spare = self._take(like)
        self._note(like, plan)
        if spare is None:
            return await self._driver.create(plan, watcher)
        spare.relay.watcher = watcher
        return spare.sandbox

    def _take(self, like: Likeness) -> Spare | None:
        spare = self._spares.pop(like, None)
        if spare is None:
            return None
        spare.expiry.close()
        if spare.relay.is_lost:
            self._tasks.spawn(spare.sandbox.close(), "close a lost spare")
            return None
        return spare

    def _note(self, like: Likeness, plan: SandboxPlan) -> None:
        """Remember that one was wanted; have a spare made if that was not the first time for a while."""
        now_us = self._clock.monotonic_us()
        last_us = self._last_us.pop(like, None)
        self._last_us[like] = now_us
        while len(self._last_us) > KINDS_MAX:
            self._last_us.popitem(last=False)
        is_wanted = last_us is not None and now_us - last_us <= WANTED_S * 1_000_000
        is_room = len(self._spares) + len(self._making) < self._spares_max
        if is_wanted and is_room and not self._is_closing and like not in self._making:
            self._making.add(like)
            self._tasks.spawn(self._make(like, plan), "make a spare sandbox")

    async def _make(self, like: Likeness, plan: SandboxPlan) -> None:
        name = random_hex(32)
        relay = Relay()
        try:
            spare_plan = replace(plan, name=name, directory=self._environments / name)
            sandbox = await self._driver.create(spare_plan, relay)
        except SandboxError as error:
            _log.warning("no spare sandbox could be made: %s", error)
            return
        finally:
            self._making.discard(like)
        expiry = Alarm(asyncio.get_running_loop(), lambda: self._expire(like))
        if self._is_closing or like in self._spares:
            await sandbox.close()
            return
        self._spares[like] = Spare(sandbox, relay, expiry)
        expiry.set_in(WANTED_S)

    def _expire(self, like: Likeness) -> None:
        spare = self._spares.pop(like, None)
        if spare is not None:
            spare.expiry.close()
            self._tasks.spawn(spare.sandbox.close(), "close a spare that was not wanted")

    async def close(self) -> None:
        """
        Let go of all spares; those that were given away are their owners'.

        **Cancellation:** they are let go all the same. Repeated calls: wait for the same.
        """
        self._is_closing = True
        for like in list(self._spares):
            self._expire(like)
        await self._tasks.join()
