"""Chains of invocations, as trace headers carry them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.resources import lineage

ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
OTHER = f"{ARN}2"
ROOT = "Root=1-5759e988-bd862e3fe1be46a994272793;Parent=53995c3f42cd8ad8;Sampled=1"


def test_a_chain_begins_with_the_first_function():
    assert lineage.follow("", ARN) == lineage.first(ARN)
    assert lineage.follow(ROOT, ARN) == f"{ROOT};{lineage.first(ARN)}"
    assert lineage.first(ARN) == "Lineage=1:9be734d8:0"


def test_what_the_header_says_else_stays():
    header = lineage.follow(f"Self=a;{lineage.first(ARN)};{ROOT};x", ARN)
    assert header == f"Self=a;{ROOT};x;Lineage=1:9be734d8:1"


@pytest.mark.parametrize("ring", [[ARN], [ARN, OTHER], [ARN, OTHER, f"{OTHER}:live"], [f"{ARN}:1", ARN]])
def test_each_function_is_counted_by_itself(ring):
    header, runs = ROOT, dict.fromkeys((":".join(arn.split(":")[:7]) for arn in ring), 0)
    for turn in range(100):
        arn = ring[turn % len(ring)]
        header = lineage.follow(header, arn)
        name = ":".join(arn.split(":")[:7])
        assert lineage.is_loop(header, arn) == (runs[name] >= 16)
        runs[name] += 1


def test_a_long_chain_keeps_a_header_short():
    header = ROOT
    for turn in range(1000):
        header = lineage.follow(header, f"{ARN}{turn % 500}")
    assert len(header) < 700
    for _ in range(17):
        header = lineage.follow(header, ARN)
    assert lineage.is_loop(header, ARN)


@given(st.text(max_size=200) | st.text("Lineage=:,;0123456789abc²", max_size=200).map("Lineage=".__add__))
def test_whatever_a_header_says_it_is_followed(header):
    once = lineage.follow(header, ARN)
    assert not lineage.is_loop(once, OTHER) or "Lineage=" in header
    twice = lineage.follow(once, ARN)
    assert twice.count("Lineage=") == 1 or ";Lineage=" not in header
    lineage.is_loop(header, ARN)


def test_a_huge_lineage_is_passed_over():
    assert lineage.follow(f"Lineage={'1:9be734d8:9,' * 100}", ARN) == lineage.first(ARN)
