"""What every test gets: its cases of the specification go with its report; a stage for scripted processes."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import open_stage

if TYPE_CHECKING:
    from pathlib import Path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for mark in item.iter_markers("case"):
            for case in mark.args:
                item.user_properties.append(("case", (case, mark.kwargs.get("partly", ""))))


@pytest.fixture
def stage(tmp_path: Path):
    """Make a stage of scripts: `async with stage({"runtime": script, "extension:a": script}) as it`."""

    def make(scripts, **members):
        names = [name.replace("extension:", "opt/extensions/") for name in scripts if name != "runtime"]
        files = dict.fromkeys(["task/bootstrap", *names])
        return open_stage(tmp_path, ScriptedDriver(scripts), files, **members)

    return make


@pytest.fixture
def run():
    def call(coroutine):
        return asyncio.run(coroutine)

    return call
