"""Which network policy a function has."""

from pathlib import Path

from remora.pool.settings import PoolSettings


def test_the_first_pattern_that_matches_decides():
    settings = PoolSettings(
        Path("/x"), "us-east-1", network="nat", networks=(("bill*", "none"), ("*", "host"), ("b", "nat"))
    )
    assert settings.network_of("billing") == "none"
    assert settings.network_of("b") == "host"
    assert PoolSettings(Path("/x"), "us-east-1", network="nat").network_of("b") == "nat"
