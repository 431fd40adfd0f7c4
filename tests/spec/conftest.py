"""A stage of real processes, in the sandboxes of the driver under test."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest
from tests.chosen import chosen_driver

from remora.node.drivers import sandbox_driver
from remora.testing.stage import open_stage

PRELUDE = Path(__file__).with_name("inside.py").read_text()
PATIENCE_S = 120
"""How long an invocation may take on a busy machine."""


def written(program):
    """Return the text of a program's file."""
    if program is None or program.startswith(("#!", "\0")):
        return program
    return f"#!/usr/bin/python3 -BIS\n{PRELUDE}\n{dedent(program)}"


@pytest.fixture
def limited(tmp_path: Path):
    """Tell what cgroups limit for this user, of `memory` and `pids`: else limits of each process stand in."""
    missing = "\n".join(sandbox_driver(chosen_driver(), tmp_path / "environments", "spec").check())
    texts = {"memory": "memory sizes are not enforced", "pids": "number of processes is not limited"}
    return {control for control, text in texts.items() if text not in missing}


@pytest.fixture
def real(tmp_path: Path):
    """
    Make a stage of programs: `async with real("serve()", {"ext.sh": "Extension().follow()"}) as it`.

    Programs are Python after the prelude `inside.py`, or anything that begins with `#!` or a zero; so are
    `more`, by their paths. An extension that is None is a file that nobody may execute.
    """

    @asynccontextmanager
    async def make(runtime, extensions=None, *, more=None, **members):
        programs = {"task/bootstrap": runtime, **(more or {})}
        programs |= {f"opt/extensions/{name}": text for name, text in (extensions or {}).items()}
        texts = {path: written(text) for path, text in programs.items()}
        driver = sandbox_driver(chosen_driver(), tmp_path / "environments", "spec")
        async with open_stage(tmp_path, driver, texts, **{"timeout_s": PATIENCE_S, **members}) as it:
            yield it

    return make
