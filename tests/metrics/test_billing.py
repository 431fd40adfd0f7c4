"""Bills: every worked example of the specification, and what may not change."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.telemetry.billing import Rates, bill, bill_one, duration_usd, snapstart_billed_ms, total
from remora.telemetry.prices import PRICES
from remora.telemetry.report import billed_ms


@pytest.mark.parametrize(
    ("duration_ms", "init_ms", "billed"),
    [
        (1233.96, 463.512, 1698),
        (3.10, 542.01, 546),
        (1655.10, 322.04, 1978),
        (1005.219, 576.96, 1583),
        (1002.38, 116.34, 1119),
        (1.055, None, 2),
        (2000.0, 428.869, 2429),
        (1049.63, 1293.83, 2344),
        (383.30, None, 384),
        (1406.45, None, 1407),
        (0.0, None, 1),
    ],
)
def test_the_billed_duration_is_one_ceiling_over_the_sum(duration_ms, init_ms, billed):
    init_us = -1 if init_ms is None else round(init_ms * 1000)
    assert bill_one(Rates(), round(duration_ms * 1000), init_us).billed_ms == billed


@pytest.mark.case("SS-11")
def test_after_a_restore_the_raw_restore_is_not_added():
    assert snapstart_billed_ms(147_156, 53) == 201
    assert snapstart_billed_ms(2_338_660, 182) == 2521


def test_a_millisecond_of_the_smallest_function_costs_what_the_page_says():
    one = bill(Rates("x86_64", 128), 0, 1)
    assert f"{one.usd:.10f}" == "0.0000000021"


def test_a_million_requests_cost_twenty_cents():
    assert bill(Rates(), 1_000_000, 0).usd == pytest.approx(0.20)


def test_arm_is_cheaper():
    x86, arm = (bill(Rates(each, 1024), 1, 1000) for each in ("x86_64", "arm64"))
    assert x86.gb_seconds == arm.gb_seconds == 1.0
    assert x86.usd == pytest.approx(0.2e-6 + 0.0000166667)
    assert arm.usd == pytest.approx(0.2e-6 + 0.0000133334)


def test_storage_costs_beyond_512_megabytes():
    assert bill(Rates("x86_64", 128, 512), 1, 1000).storage_gb_seconds == 0
    more = bill(Rates("x86_64", 128, 512 + 1024), 1, 1000)
    assert more.storage_gb_seconds == 1.0
    assert more.usd - bill(Rates(), 1, 1000).usd == pytest.approx(PRICES.storage_per_gb_s)


def test_tiers_apply_one_after_the_other():
    assert duration_usd(1.0, "x86_64") == pytest.approx(0.0000166667)
    assert duration_usd(7e9, "x86_64") == pytest.approx(6e9 * 0.0000166667 + 1e9 * 0.0000150000)
    assert duration_usd(16e9, "x86_64") == pytest.approx(
        6e9 * 0.0000166667 + 9e9 * 0.0000150000 + 1e9 * 0.0000133334
    )


@given(st.integers(0, 900_000_000), st.integers(-1, 10_000_000))
def test_no_invocation_is_billed_less_than_it_took_or_a_millisecond_more(duration_us, init_us):
    billed = billed_ms(duration_us, init_us)
    taken_us = duration_us + max(0, init_us)
    assert billed >= 1
    assert taken_us <= billed * 1000 < max(taken_us, 1) + 1000


@given(st.lists(st.tuples(st.integers(1, 100), st.integers(1, 10_000)), max_size=20))
def test_bills_add_up(parts):
    rates = Rates("arm64", 512, 2048)
    whole = bill(rates, sum(part[0] for part in parts), sum(part[1] for part in parts))
    assert total([bill(rates, *part) for part in parts]) == pytest.approx(whole)
