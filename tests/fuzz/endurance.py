"""How long fuzzers run: a few hundred fixed examples as a rule, for minutes with fresh ones if asked to."""

from __future__ import annotations

import os
import time
import warnings
from typing import TYPE_CHECKING, Any

from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis.errors import HypothesisWarning

if TYPE_CHECKING:
    from collections.abc import Callable

MINUTES = float(os.environ.get("FUZZ_MINUTES", "10"))
"""How long each fuzzer of the slow run goes on."""
FIRST_SEED = int(os.environ.get("FUZZ_SEED", "0"))
"""Where the slow run begins; a failure names the seed that it began with."""
ROUND = 200
"""Examples per seed."""
PATIENCE_S = MINUTES * 60 + 300

_CHECKS = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large]


def examples(count: int) -> settings:
    """Return settings for so many examples, the same ones each time."""
    return settings(deadline=None, max_examples=count, derandomize=True, suppress_health_check=_CHECKS)


def endure(make: Callable[[], Callable[..., Any]]) -> None:
    """Run what `make` returns (a test that hypothesis feeds) with one seed after the other for `MINUTES`."""
    warnings.filterwarnings("ignore", category=HypothesisWarning)  # a failing example may be long
    fresh = settings(
        deadline=None,
        max_examples=ROUND,
        database=None,
        suppress_health_check=_CHECKS,
        phases=[Phase.generate, Phase.shrink],
    )
    end = time.monotonic() + MINUTES * 60
    number = FIRST_SEED
    while time.monotonic() < end:
        try:
            seed(number)(fresh(make()))()
        except BaseException as error:
            error.add_note(f"FUZZ_SEED={number} begins with this")
            raise
        number += 1
