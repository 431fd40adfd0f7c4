"""What every test gets: its cases of the specification go with its report; a stage for scripted processes."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from remora.testing import loops
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
    """Make a stage of scripts: `async with stage({"runtime": script, "extension:a": script}) as it`.

    `files` are more files, as `open_stage` takes them. What a script did not expect fails the test.
    """

    @asynccontextmanager
    async def make(scripts, *, files=None, **members):
        names = [name.replace("extension:", "opt/extensions/") for name in scripts if name != "runtime"]
        files = dict.fromkeys(["task/bootstrap", *names]) | (files or {})
        driver = ScriptedDriver(scripts)
        async with open_stage(tmp_path, driver, files, **members) as it:
            yield it
        for failure in [failure for sandbox in driver.sandboxes for failure in sandbox.failures]:
            raise failure

    return make


@pytest.fixture
def run():
    """Run a coroutine, in a loop that forgives the machine its pauses."""
    return loops.run
