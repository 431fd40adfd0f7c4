"""
What invocations cost: billed milliseconds, GB-seconds and US dollars, by AWS's rules and public prices.

Source: logs-metrics-billing specification, section 7; AWS Lambda pricing page; AWS Compute Blog, "AWS Lambda
standardizes billing for INIT Phase" (since 2025-08-01 the init of every function is billed).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from remora.telemetry.prices import PRICES
from remora.telemetry.report import billed_ms

if TYPE_CHECKING:
    from remora.telemetry.prices import Prices

_MIB_MS_PER_GB_S: Final = 1024 * 1000
FREE_STORAGE_MIB: Final = 512


class Bill(NamedTuple):
    """
    What one or many invocations cost.

    Args:
        requests: How many they were.
        billed_ms: Milliseconds, each invocation rounded up.
        gb_seconds: Memory size times billed time.
        storage_gb_seconds: Ephemeral storage above 512 MB times billed time.
        usd: All of it at the price of the first tier, without the free tier, US dollars.
    """

    requests: int
    billed_ms: int
    gb_seconds: float
    storage_gb_seconds: float
    usd: float


class Rates(NamedTuple):
    """What a function is billed by: its architecture, memory (MiB) and ephemeral storage (MiB)."""

    architecture: str = "x86_64"
    memory_mib: int = 128
    ephemeral_mib: int = FREE_STORAGE_MIB


def bill(rates: Rates, requests: int, billed: int, prices: Prices = PRICES) -> Bill:
    """
    Compute what invocations of one function cost.

    Args:
        rates: What it is billed by.
        requests: How many invocations.
        billed: Their billed durations together, milliseconds.
        prices: Prices; those of the node's data unless told otherwise.
    """
    gb_seconds = rates.memory_mib * billed / _MIB_MS_PER_GB_S
    storage = max(0, rates.ephemeral_mib - FREE_STORAGE_MIB) * billed / _MIB_MS_PER_GB_S
    tiers = prices.duration[rates.architecture]
    usd = requests * prices.per_request + gb_seconds * tiers[0].per_gb_s + storage * prices.storage_per_gb_s
    return Bill(requests, billed, gb_seconds, storage, usd)


def bill_one(rates: Rates, duration_us: int, init_us: int = -1) -> Bill:
    """
    Compute what one invocation costs.

    Args:
        rates: What it is billed by.
        duration_us: Its duration as reported, microseconds.
        init_us: The init that is billed with it, microseconds; negative if there is none.
    """
    return bill(rates, 1, billed_ms(duration_us, init_us))


def snapstart_billed_ms(duration_us: int, billed_restore_ms: int) -> int:
    """Return the billed duration of an invocation after a restore: one ceiling, the raw restore not in it."""
    return billed_ms(duration_us, billed_restore_ms * 1000)


def duration_usd(gb_seconds: float, architecture: str, prices: Prices = PRICES) -> float:
    """Return what so many GB-seconds of one month cost with all tiers, without the free tier."""
    usd, below = 0.0, 0.0
    for tier in prices.duration[architecture]:
        part = max(0.0, min(gb_seconds, tier.gb_s_max) - below)
        usd += part * tier.per_gb_s
        below = tier.gb_s_max
    return usd


def total(bills: list[Bill]) -> Bill:
    """Add bills up."""
    return Bill(
        sum(each.requests for each in bills),
        sum(each.billed_ms for each in bills),
        sum(each.gb_seconds for each in bills),
        sum(each.storage_gb_seconds for each in bills),
        sum(each.usd for each in bills),
    )
