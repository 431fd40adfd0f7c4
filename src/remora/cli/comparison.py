"""
Whether two variants of a function differ by more than the noise: pure statistics.

Each round starts a fresh environment of each variant, and gives one number per metric and variant: what one
environment does is alike within it, so its invocations are no independent observations, but its median is
one. The difference of two variants is estimated by the median of all pairwise differences (Hodges and
Lehmann); its interval is that of the Mann-Whitney test, exact for up to `EXACT_MAX` rounds. They differ if
the interval does not contain zero.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist, median, quantiles
from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CONFIDENCE: Final = 0.99
"""Several metrics are looked at at once; with 95 % every fourth comparison of equals would find something."""
ROUNDS_MIN: Final = 5
"""With fewer rounds no difference, however large, is beyond the noise at this confidence."""
EXACT_MAX: Final = 50
METHOD: Final = (
    "difference: Hodges-Lehmann estimate over one number per fresh environment; interval: Mann-Whitney, 99 %"
)


class Sample(msgspec.Struct, frozen=True):
    """One invocation, durations in milliseconds; None where it had no such part."""

    duration_ms: float
    init_ms: float | None
    post_runtime_ms: float | None
    billed_ms: int
    memory_mb: int
    usd: float
    is_error: bool = False


class Spread(msgspec.Struct, frozen=True):
    """What one variant did, one value per round: median and quartiles."""

    median: float
    low: float
    high: float
    values: list[float]


class Difference(msgspec.Struct, frozen=True):
    """By how much the second variant exceeds the first, and where the truth lies with `CONFIDENCE`."""

    estimate: float
    low: float
    high: float
    is_beyond_noise: bool
    percent: float | None
    """Of the first variant's median; None if that is zero."""


class Compared(msgspec.Struct, frozen=True):
    """One metric of both variants; `difference` is None if one of them has no or too few values."""

    name: str
    unit: str
    first: Spread | None
    second: Spread | None
    difference: Difference | None


@dataclass(frozen=True, slots=True)
class Metric:
    """One number per round, taken from the round's invocations, the cold one first; None if there is none."""

    name: str
    unit: str
    take: Callable[[Sequence[Sample]], float | None]


def _middle(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return median(known) if known else None


METRICS: Final = (
    Metric("cold start", "ms", lambda them: them[0].init_ms),
    Metric("duration, cold", "ms", lambda them: them[0].duration_ms),
    Metric("duration, warm", "ms", lambda them: _middle([it.duration_ms for it in them[1:]])),
    Metric("post-runtime, warm", "ms", lambda them: _middle([it.post_runtime_ms for it in them[1:]])),
    Metric("max memory used", "MB", lambda them: max(it.memory_mb for it in them)),
    Metric("cost of 1M, cold", "USD", lambda them: them[0].usd * 1e6),
    Metric("cost of 1M, warm", "USD", lambda them: _middle([it.usd * 1e6 for it in them[1:]])),
)


def compare(first: Sequence[Sequence[Sample]], second: Sequence[Sequence[Sample]]) -> list[Compared]:
    """
    Compare two variants, metric by metric; metrics that neither has are left out.

    Args:
        first: The rounds of the first variant, each with its invocations in order, the cold one first.
        second: Those of the second.
    """
    compared = []
    for metric in METRICS:
        one, two = (_values(metric, rounds) for rounds in (first, second))
        if one or two:
            difference = difference_of(one, two)
            compared.append(Compared(metric.name, metric.unit, spread(one), spread(two), difference))
    return compared


def _values(metric: Metric, rounds: Sequence[Sequence[Sample]]) -> list[float]:
    taken = (metric.take(invocations) for invocations in rounds if invocations)
    return [value for value in taken if value is not None]


def spread(values: Sequence[float]) -> Spread | None:
    """Return median and quartiles; None of nothing."""
    if not values:
        return None
    low, middle, high = quantiles(values, n=4, method="inclusive") if len(values) > 1 else 3 * [values[0]]
    return Spread(middle, low, high, list(values))


def difference_of(first: Sequence[float], second: Sequence[float]) -> Difference | None:
    """Return by how much the values of `second` exceed those of `first`; None if there are too few."""
    if min(len(first), len(second)) < ROUNDS_MIN:
        return None
    pairwise = sorted(two - one for one in first for two in second)
    place = _place(len(first), len(second))
    estimate, low, high = median(pairwise), pairwise[place], pairwise[-1 - place]
    usual = median(first)
    percent = 100 * estimate / usual if usual else None
    return Difference(estimate, low, high, low > 0 or high < 0, percent)


@lru_cache
def _place(first: int, second: int) -> int:
    """Return how many of the sorted pairwise differences are outside the interval, on either side."""
    tail = (1 - CONFIDENCE) / 2
    if max(first, second) > EXACT_MAX:
        deviation = math.sqrt(first * second * (first + second + 1) / 12)
        normal = first * second / 2 + NormalDist().inv_cdf(tail) * deviation - 0.5
        return max(0, math.floor(normal))
    counts = _orders(first, second)
    allowed, seen, place = tail * math.comb(first + second, first), 0, 0
    for count in counts:
        seen += count
        if seen > allowed:
            break
        place += 1
    assert place > 0, "so few values cannot differ"
    return place - 1


def _orders(first: int, second: int) -> list[int]:
    """
    Return in how many orders of all values U of them exceed, for each U: the null distribution.

    The coefficients of the Gaussian binomial, by multiplying (1 - q^(second+i)) and dividing by (1 - q^i).
    """
    counts = [1] + [0] * (first * second)
    for i in range(1, first + 1):
        for at in range(len(counts) - 1, second + i - 1, -1):
            counts[at] -= counts[at - second - i]
        for at in range(i, len(counts)):
            counts[at] += counts[at - i]
    return counts
