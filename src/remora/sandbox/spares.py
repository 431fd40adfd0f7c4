"""Spare sandboxes: how many of which kind there should be, decided purely; and who hears of one meanwhile."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from remora.sandbox.base import Exit, Sandbox, SandboxPlan, Watcher

WANTED_US = 60_000_000
"""So long a wish makes another one like it likely."""
EXPECTED_US = 300_000_000
"""So long a spare waits for the first wish that was said to come."""
WISHES_MAX = 64
"""How many wishes of one kind are remembered."""
WISHES_PER_SPARE = 2

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


@dataclass(slots=True)
class Demand:
    """
    What is known of the wishes for one kind of sandbox.

    Args:
        plan: One of them; a spare is made after it.
        whose: Of whom the first wish is expected; empty if of nobody.
        expected_us: Until when; 0 once it has come.
        wishes_us: When it was wanted lately.
    """

    plan: SandboxPlan
    whose: str = ""
    expected_us: int = 0
    wishes_us: deque[int] = field(default_factory=lambda: deque(maxlen=WISHES_MAX))

    def wish(self, now_us: int) -> None:
        """One was wanted."""
        self.expected_us = 0
        self.wishes_us.append(now_us)

    def forget(self, now_us: int) -> None:
        """Let go of wishes that are too old to tell anything."""
        while self.wishes_us and now_us - self.wishes_us[0] >= WANTED_US:
            self.wishes_us.popleft()

    def spares(self, now_us: int) -> int:
        """Return how many spares would be used, to judge by the past."""
        recent = sum(now_us - at_us < WANTED_US for at_us in self.wishes_us)
        return max(int(now_us < self.expected_us), -(-recent // WISHES_PER_SPARE))

    def until_us(self, now_us: int) -> int:
        """Return when this answer changes without any event; 0 if it does not."""
        ends = [self.expected_us, *(at_us + WANTED_US for at_us in self.wishes_us)]
        return min((end for end in ends if end > now_us), default=0)


def share_out(
    demands: Iterable[tuple[Likeness, Demand]], now_us: int, spares_max: int
) -> dict[Likeness, int]:
    """
    Decide how many spares of each kind there should be.

    Every kind gets one, then each as many as it would use; where that is too much, the first come first.

    Args:
        demands: The kind that was wanted last comes first.
        now_us: Monotonic time.
        spares_max: How many there may be of all kinds together.
    """
    wanted = {like: count for like, demand in demands if (count := demand.spares(now_us))}
    given = dict.fromkeys(list(wanted)[:spares_max], 1)
    left = spares_max - len(given)
    for like in given:
        more = min(left, wanted[like] - 1)
        given[like] += more
        left -= more
    return given


class Relay:
    """
    The watcher of a spare: passes on to whoever gets the sandbox, and notes if it is lost before.

    Args:
        lost: Called if it is lost.
    """

    def __init__(self, lost: Callable[[], None]) -> None:
        self.watcher: Watcher | None = None
        self.is_lost = False
        self._lost = lost

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
        else:
            self._lost()


@dataclass(frozen=True, slots=True)
class Spare:
    """A sandbox that nobody has yet."""

    sandbox: Sandbox
    relay: Relay
