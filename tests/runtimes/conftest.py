"""Prepared runtimes, made once for all workers of a test run."""

from __future__ import annotations

import asyncio
import sys

import pytest

from remora.runtimes.catalog import Runtimes

OWN = f"python3.{sys.version_info[1]}"


def another_name(names):
    """Return an interpreter of this machine that is not our own; our own if there is no other."""
    others = [name for name in names if name.startswith("python3.") and name != OWN]
    return next((name for name in ("python3.13", "python3.12", *reversed(others)) if name in others), OWN)


@pytest.fixture(scope="session")
def cache(tmp_path_factory, worker_id):
    """One cache for all workers: they also try each other's locks."""
    base = tmp_path_factory.getbasetemp()
    return (base if worker_id == "master" else base.parent) / "runtimes"


@pytest.fixture(scope="session", params=["own", "another"])
def layout(request, cache):
    """A prepared Python runtime."""
    runtimes = Runtimes(cache, "eu-central-1")
    name = OWN if request.param == "own" else another_name(runtimes.names())
    return asyncio.run(runtimes.prepare(name))
