"""Summaries are exact where they say so, and near enough elsewhere."""

from __future__ import annotations

import math
import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.telemetry.summary import Summary

NUMBERS = st.lists(st.integers(0, 90_000_000), min_size=1, max_size=200)


def summed(numbers):
    summary = Summary()
    for number in numbers:
        summary.add(number)
    return summary


@given(NUMBERS)
def test_count_sum_and_bounds_are_exact(numbers):
    it = summed(numbers)
    assert (it.count, it.total, it.least, it.greatest) == (
        len(numbers),
        sum(numbers),
        min(numbers),
        max(numbers),
    )
    assert it.mean() == pytest.approx(statistics.fmean(numbers))


@given(NUMBERS, st.floats(0, 100))
def test_a_percentile_is_true_to_half_a_percent(numbers, percent):
    exact = sorted(numbers)[max(1, math.ceil(percent * len(numbers) / 100)) - 1]
    assert summed(numbers).percentile(percent) == pytest.approx(exact, rel=0.006)


@given(NUMBERS, NUMBERS)
def test_merging_is_as_if_one_had_seen_all(first, second):
    merged, whole = summed(first), summed(first + second)
    merged.merge(summed(second))
    assert repr(merged) == repr(whole)
    assert merged.bins == whole.bins


@given(st.lists(st.integers(-90_000_000, 5_000), min_size=1))
def test_negative_numbers_fall_into_the_bin_of_0(numbers):
    it = summed(numbers)
    assert (it.count, it.total, it.least) == (len(numbers), sum(numbers), min(numbers))
    assert it.bins == summed([max(0, number) for number in numbers]).bins


def test_nothing_merges_with_anything():
    empty, one = Summary(), summed([7])
    one.merge(empty)
    empty.merge(one)
    assert (one.least, empty.least, empty.count) == (7, 7, 1)
    assert Summary().mean() == 0.0


def test_a_histogram_counts_what_is_below_a_bound():
    it = summed([0, 10, 20, 30, 1000])
    assert [it.at_most(bound) for bound in (0, 15, 25, 500, 1000)] == [1, 2, 3, 4, 5]
