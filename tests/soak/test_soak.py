"""
Tens of thousands of invocations over fifty environments whose processes fail in every way.

Every invocation is answered exactly once, with what is right for it; the node serves on; nothing grows;
nothing is left. `SOAK_SEED` in the environment chooses another course than the usual one.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from remora.environment.base import InvokeRequest, InvokeResult
from remora.pool.base import PoolError
from remora.testing import loops
from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import ARN, open_stage

from .fates import PERISHED, UNBORN, Told, draw, inherited, problem_with
from .scripts import Cast

if TYPE_CHECKING:
    from remora.testing.stage import Stage

    from .fates import Fate

SEED = int(os.environ.get("SOAK_SEED", "1"))
ENVIRONMENTS = 50
TIMEOUT_S = 3
SOAK_S = 1_500.0
"""A soak that takes longer hangs."""
OBJECTS_MAX = 3_000
"""How many more objects there may be after four laps: the log keeps five a stream, up to its limits."""
RESIDENT_BYTES_MAX = 16 * 1024 * 1024


@dataclass(frozen=True)
class Weight:
    """What a process holds."""

    descriptors: int
    resident_bytes: int
    objects: int = 0


def weigh() -> Weight:
    """Return what this process holds."""
    gc.collect()
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return Weight(sum(1 for _ in Path("/proc/self/fd").iterdir()), resident, len(gc.get_objects()))


class Clerk:
    """Takes every answer down."""

    def __init__(self) -> None:
        self.answers: Counter[int] = Counter()
        self.inherited = 0
        self.problems: list[str] = []

    def take(self, fate: Fate, outcome: InvokeResult | PoolError) -> None:
        self.answers[fate.number] += 1
        if isinstance(outcome, PoolError):
            self.problems.append(f"{fate} was told {outcome}")
            return
        told = Told(outcome.function_error or "", outcome.payload)
        if problem := problem_with(fate, told):
            if inherited(told):
                self.inherited += 1
            else:
                self.problems.append(problem)


async def invoke_all(it: Stage, clerk: Clerk, fates: list[Fate]) -> None:
    """Make all invocations, as many at once as there are environments."""
    coming = iter(fates)

    async def caller() -> None:
        for fate in coming:
            answered = asyncio.get_running_loop().create_future()

            def take(outcome: InvokeResult | PoolError, fate=fate, answered=answered) -> None:
                clerk.take(fate, outcome)
                if not answered.done():
                    answered.set_result(None)

            request = InvokeRequest(payload=fate.payload, invoked_arn=ARN, trace_id=fate.trace)
            it.pool.begin(it.deployment, request, take)
            await answered

    async with asyncio.TaskGroup() as group:
        for _ in range(ENVIRONMENTS):
            group.create_task(caller())


async def settle(it: Stage) -> None:
    """Let every environment go, and forget what is kept for people to look at."""
    it.pool.retire(ARN)
    await it.pool._wait_until(lambda: not it.pool._members)
    assert repr(it.pool) == "<Pool 0 environments, 0 in flight>"
    assert [failure for sandbox in it.driver.sandboxes for failure in sandbox.failures] == []
    it.driver.sandboxes.clear()
    it.timelines._timelines.clear()
    await it.logs.flush()


async def soak(directory: Path, *, laps: int, count: int) -> None:
    """Run `laps` times `count` invocations; all environments go between two laps."""
    cast, clerk = Cast(SEED), Clerk()
    driver = ScriptedDriver({"runtime": cast.runtime, "extension:e": cast.extension})
    files = dict.fromkeys(["task/bootstrap", "opt/extensions/e"])
    fates = draw(SEED, laps * count)
    weights = []
    stage = open_stage(
        directory, driver, files, timeout_s=TIMEOUT_S, settings={"linger_s": 60.0}, scene_s=SOAK_S
    )
    async with stage as it:
        it.logs.unfollow(it._follower)
        for lap in range(laps):
            await invoke_all(it, clerk, fates[lap * count : (lap + 1) * count])
            assert len(driver.sandboxes) >= ENVIRONMENTS
            await settle(it)
            weights.append(weigh())
    # Then: every invocation was answered once, and with the right answer.
    assert clerk.problems == []
    assert clerk.answers == Counter(fate.number for fate in fates)
    assert max(cast.ran.values()) == 1
    assert clerk.inherited <= cast.ended[PERISHED] + cast.ended[UNBORN]
    # And nothing has grown since the first laps.
    middle, last = weights[len(weights) // 2], weights[-1]
    assert last.descriptors == middle.descriptors, weights
    assert last.objects - middle.objects < OBJECTS_MAX, weights
    assert last.resident_bytes - middle.resident_bytes < RESIDENT_BYTES_MAX, weights
    assert list((directory / "environments").iterdir()) == []


@pytest.mark.slow
def test_hundreds_of_scripted_invocations(tmp_path, caplog):
    loops.run(soak(tmp_path, laps=2, count=150))
    assert caplog.text == ""


@pytest.mark.slow_soak
@pytest.mark.timeout(1800)
def test_twenty_thousand_scripted_invocations(tmp_path, caplog):
    loops.run(soak(tmp_path, laps=8, count=2500))
    assert caplog.text == ""
