"""
What becomes of an event, decided purely: tried again, when, or ended, and how.

Source: control-plane specification, B.10; AWS Lambda Developer Guide, "How Lambda handles errors and retries
with asynchronous invocation".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec

from remora.events.base import Condition, Policy, Progress
from remora.resources import lineage
from remora.spec.limits import (
    EVENT_DELAY_S_FIRST,
    EVENT_DELAY_S_MAX,
    EVENT_RETRY_S,
)

if TYPE_CHECKING:
    from remora.events.base import Event


class Again(NamedTuple):
    """It is tried again, when `progress.due_ms` has come."""

    progress: Progress


class Over(NamedTuple):
    """It has ended."""

    condition: Condition
    progress: Progress


Next = Again | Over


class Pace(NamedTuple):
    """
    How fast time runs for events.

    Args:
        scale: Every wait and every age is multiplied by it; 1 as in AWS.
    """

    scale: float = 1.0

    def ms(self, seconds: float) -> int:
        """Return a duration of AWS as it is here, milliseconds."""
        return round(seconds * 1000 * self.scale)


def before_try(event: Event, progress: Progress, policy: Policy, now_ms: int, pace: Pace) -> Over | None:
    """Decide whether an event has ended without another try; None if it is to be tried."""
    if policy.is_blocked:
        return Over(Condition.ZERO_RESERVED, progress)
    if policy.terminates_loops and lineage.is_loop(event.trace_id, event.invoked_arn):
        return Over(Condition.RECURSION, progress)
    if now_ms > event.accepted_ms + pace.ms(policy.age_s):
        return Over(Condition.EVENT_AGE_EXCEEDED, progress)
    return None


def after_success(progress: Progress) -> Over:
    """Decide after the function has succeeded."""
    return Over(Condition.SUCCESS, progress)


def after_error(event: Event, progress: Progress, policy: Policy, now_ms: int, pace: Pace) -> Next:
    """Decide after the function has failed: it is tried again after a minute, then after two."""
    progress = msgspec.structs.replace(progress, errors=progress.errors + 1, delays=0)
    if progress.errors > policy.retries:
        return Over(Condition.RETRIES_EXHAUSTED, progress)
    return _later(event, progress, policy, now_ms + pace.ms(EVENT_RETRY_S * progress.errors), pace)


def after_refusal(event: Event, progress: Progress, policy: Policy, now_ms: int, pace: Pace) -> Next:
    """Decide after the function was not run, throttled or for an error of the system: no try is counted."""
    delay_s = min(EVENT_DELAY_S_MAX, EVENT_DELAY_S_FIRST * 2 ** min(progress.delays, 30))
    progress = msgspec.structs.replace(progress, delays=progress.delays + 1)
    return _later(event, progress, policy, now_ms + pace.ms(delay_s), pace)


def _later(event: Event, progress: Progress, policy: Policy, due_ms: int, pace: Pace) -> Next:
    """An event whose next try would come after its age has ended now."""
    if due_ms >= event.accepted_ms + pace.ms(policy.age_s):
        return Over(Condition.EVENT_AGE_EXCEEDED, progress)
    return Again(msgspec.structs.replace(progress, due_ms=due_ms))
