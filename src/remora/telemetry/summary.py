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
    Numbers that were seen: whole ones.

    A negative one (of a clock that was set back) falls into the bin of 0, and counts as it is otherwise.
    """

    __slots__ = ("bins", "count", "greatest", "least", "total")

    def __init__(self) -> None:
        self.count = 0
        self.total = 0
        self.least = 0
        self.greatest = 0
        self.bins: dict[int, int] = {}

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
        place = _PLACES[number] if 0 <= number < _PLACES_MAX else _place(number)
        self.bins[place] = self.bins.get(place, 0) + 1

    def add_many(self, number: int, count: int) -> None:
        """Take in the same number `count` times."""
        if count:
            self.add(number)
            self.count += count - 1
            self.total += number * (count - 1)
            self.bins[_place(number)] += count - 1

    def merge(self, other: Summary) -> None:
        """Take in everything that another one has seen."""
        if not other.count:
            return
        self.least = min(self.least, other.least) if self.count else other.least
        self.greatest = max(self.greatest, other.greatest)
        self.count += other.count
        self.total += other.total
        for place, count in other.bins.items():
            self.bins[place] = self.bins.get(place, 0) + count

    def mean(self) -> float:
        """Return the average; 0 of nothing."""
        return self.total / self.count if self.count else 0.0

    def percentile(self, percent: float) -> float:
        """Return the number that so many percent of all numbers do not exceed, true to half a percent."""
        rank = max(1, math.ceil(percent * self.count / 100))
        seen = 0
        for place in sorted(self.bins):
            seen += self.bins[place]
            if seen >= rank:
                return min(max(_middle(place), self.least), self.greatest)
        return float(self.greatest)

    def at_most(self, bound: float) -> int:
        """Return how many numbers were no greater than `bound`, true to half a percent of it."""
        if self.greatest <= bound:
            return self.count
        return sum(count for place, count in self.bins.items() if _middle(place) <= bound)


def _place(number: int) -> int:
    """Return the bin of a number."""
    return int(math.log(number) / _BIN) if number > 0 else -1


_PLACES_MAX: Final = 4_096
_PLACES: Final = tuple(_place(number) for number in range(_PLACES_MAX))
"""The bins of small numbers, looked up faster than reckoned."""


def _middle(place: int) -> float:
    """Return the number in the middle of a bin."""
    return math.exp(place * _BIN) * _HALF_BIN if place >= 0 else 0.0
