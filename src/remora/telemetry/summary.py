"""
A summary of many numbers: count, sum, least, greatest, and percentiles that are true to half a percent.

Numbers fall into bins that grow by one percent each, so that summaries of any size take little room and can
be merged. Whole numbers in, so that sums are exact.
"""

from __future__ import annotations

import math
from typing import Final

_BIN: Final = math.log(1.01)
_HALF_BIN: Final = math.sqrt(1.01)


class Summary:
    """
    Numbers that were seen: whole ones, not negative.

    Args:
        has_bins: False if percentiles are not wanted.
    """

    __slots__ = ("bins", "count", "greatest", "least", "total")

    def __init__(self, *, has_bins: bool = False) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.greatest = 0
        self.bins: dict[int, int] | None = {} if has_bins else None

    def __repr__(self) -> str:
        return f"<Summary count={self.count} total={self.total} {self.least}..{self.greatest}>"

    def add(self, number: int) -> None:
        """Take in a number; cheap, it is on the warm path."""
        if not self.count or number < self.least:
            self.least = number
        if number > self.greatest:  # noqa: PLR1730 - half the time of max()
            self.greatest = number
        self.count += 1
        self.total += number
        bins = self.bins
        if bins is not None:
            place = int(math.log(number) / _BIN) if number > 0 else -1
            bins[place] = bins.get(place, 0) + 1

    def merge(self, other: Summary) -> None:
        """Take in everything that another one has seen."""
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.greatest = max(self.greatest, other.greatest)
        self.count += other.count
        self.total += other.total
        if self.bins is not None and other.bins is not None:
            for place, count in other.bins.items():
                self.bins[place] = self.bins.get(place, 0) + count

    def mean(self) -> float:
        """Return the average; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """
        Return the number that so many percent of all numbers do not exceed, to half a percent.

        Raises:
            AssertionError: If it has no bins (our bug).
        """
        assert self.bins is not None, "a percentile was asked of a summary without bins"
        rank = max(1, math.ceil(percent * self.count / 100))
        seen = 0
        for place in sorted(self.bins):
            seen += self.bins[place]
            if seen >= rank:
                middle = math.exp(place * _BIN) * _HALF_BIN if place >= 0 else 0.0
                return min(max(middle, self.least), self.greatest)
        return float(self.greatest)

    def at_most(self, bound: float) -> int:
        """Return how many numbers were no greater than `bound`, to half a percent of it."""
        assert self.bins is not None, "a histogram was asked of a summary without bins"
        if self.greatest <= bound:
            return self.count
        return sum(
            count
            for place, count in self.bins.items()
            if place < 0 or math.exp(place * _BIN) * _HALF_BIN <= bound
        )
