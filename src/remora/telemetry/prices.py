"""
What AWS asks for Lambda in us-east-1, as dated data, for estimates: prices differ by region and by contract.

Source: https://aws.amazon.com/lambda/pricing/ and the AWS Price List API, as published from 2024 to 2026;
collected 2026-09. The third tier of arm64 was not checked against a second source.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Tier(NamedTuple):
    """A price per GB-second, up to so many GB-seconds in a month in total."""

    gb_s_max: float
    per_gb_s: float


class Prices(NamedTuple):
    """
    Prices in US dollars.

    Args:
        region: Where they hold.
        as_of: The month in which they were read.
        source: Where they are published.
        per_request: For one request.
        duration: Tiers by architecture, the cheapest last.
        storage_per_gb_s: For ephemeral storage above 512 MB.
        free_requests: Requests per month that are free.
        free_gb_s: GB-seconds per month that are free.
    """

    region: str
    as_of: str
    source: str
    per_request: float
    duration: dict[str, tuple[Tier, ...]]
    storage_per_gb_s: float
    free_requests: int
    free_gb_s: int


PRICES: Final = Prices(
    region="us-east-1",
    as_of="2026-09",
    source="https://aws.amazon.com/lambda/pricing/",
    per_request=0.20 / 1_000_000,
    duration={
        "x86_64": (
            Tier(6e9, 0.0000166667),
            Tier(15e9, 0.0000150000),
            Tier(float("inf"), 0.0000133334),
        ),
        "arm64": (
            Tier(7.5e9, 0.0000133334),
            Tier(18.75e9, 0.0000120001),
            Tier(float("inf"), 0.0000106667),
        ),
    },
    storage_per_gb_s=0.0000000309,
    free_requests=1_000_000,
    free_gb_s=400_000,
)
