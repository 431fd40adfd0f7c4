"""Whether differences are beyond the noise, against brute force and against chance."""

from __future__ import annotations

import itertools
import random
from collections import Counter
from math import comb
from statistics import median

import pytest

from remora.cli import comparison
from remora.cli.comparison import ROUNDS_MIN, Sample, compare, difference_of, spread


def sample(duration_ms, init_ms=None, post_ms=None, *, memory_mb=10, billed_ms=1):
    return Sample(duration_ms, init_ms, post_ms, billed_ms, memory_mb, billed_ms * 1e-7)


@pytest.mark.parametrize(("first", "second"), [(1, 1), (3, 4), (5, 5), (2, 6)])
def test_the_null_distribution_is_that_of_all_orders(first, second):
    expected = Counter()
    for places in itertools.combinations(range(first + second), first):
        others = set(range(first + second)) - set(places)
        expected[sum(other > place for place in places for other in others)] += 1
    counts = comparison._orders(first, second)
    assert counts == [expected[u] for u in range(first * second + 1)]
    assert sum(counts) == comb(first + second, first)


def test_beyond_exact_numbers_the_normal_distribution_says_the_same(monkeypatch):
    exact = comparison._place(40, 45)
    monkeypatch.setattr(comparison, "EXACT_MAX", 10)
    comparison._place.cache_clear()
    assert abs(comparison._place(40, 45) - exact) <= 3
    comparison._place.cache_clear()


def test_equals_rarely_differ_and_unequals_do():
    chance = random.Random(7)
    draw = lambda shift: [chance.gauss(shift, 1) for _ in range(10)]
    assert sum(difference_of(draw(0), draw(0)).is_beyond_noise for _ in range(1000)) < 20
    assert sum(difference_of(draw(0), draw(3)).is_beyond_noise for _ in range(100)) > 95


def test_a_shift_is_estimated_with_its_interval():
    first = [10.0, 11.0, 12.0, 13.0, 14.0]
    second = [value + 5 for value in first]
    found = difference_of(first, second)
    pairwise = [two - one for one in first for two in second]
    assert (found.estimate, found.low, found.high) == (median(pairwise), min(pairwise), max(pairwise))
    assert found.is_beyond_noise
    assert found.percent == pytest.approx(100 * 5 / 12)
    assert difference_of(second, first).estimate == -5


def test_overlap_is_noise_and_so_is_nothing():
    assert not difference_of([1.0, 2.0, 3.0, 4.0, 9.0], [8.0, 10.0, 11.0, 12.0, 13.0]).is_beyond_noise
    same = difference_of([7.0] * 9, [7.0] * 9)
    assert (same.estimate, same.low, same.high, same.is_beyond_noise) == (0, 0, 0, False)
    assert difference_of([0.0] * 5, [1.0] * 5).percent is None


def test_too_few_values_say_nothing():
    assert difference_of([1.0] * (ROUNDS_MIN - 1), [2.0] * 50) is None
    assert difference_of([], []) is None


def test_quartiles():
    found = spread([4.0, 1.0, 3.0, 2.0, 5.0])
    assert (found.low, found.median, found.high) == (2, 3, 4)
    assert spread([7.0]).low == spread([7.0]).high == 7
    assert spread([]) is None


def test_each_environment_is_one_value_of_each_metric():
    one = [[sample(9, 100, memory_mb=10, billed_ms=109), sample(2), sample(1), sample(3)] for _ in range(5)]
    two = [[sample(8, 150, 1), sample(4, None, 0.5), sample(5, None, 0.6, memory_mb=12)] for _ in range(5)]
    found = {each.name: each for each in compare(one, two)}
    assert found["cold start"].difference.estimate == 50
    assert found["duration, cold"].difference.estimate == -1
    assert found["duration, warm"].first.values == [2] * 5
    assert found["duration, warm"].difference.estimate == 2.5
    assert found["post-runtime, warm"].first is None
    assert found["post-runtime, warm"].difference is None
    assert found["post-runtime, warm"].second.median == 0.55
    assert found["max memory used"].difference.estimate == 2
    assert found["cost of 1M, cold"].first.median == pytest.approx(10.9)


def test_what_neither_has_is_left_out():
    rounds = [[sample(9, 100)] for _ in range(5)]
    assert [each.name for each in compare(rounds, rounds)] == [
        "cold start",
        "duration, cold",
        "max memory used",
        "cost of 1M, cold",
    ]
