"""A stage of real processes, in the default sandbox."""

from __future__ import annotations

from contextlib import asynccontextmanager
from pathlib import Path
from textwrap import dedent

import pytest

from remora.node.drivers import sandbox_driver
from remora.testing.stage import open_stage

PRELUDE = Path(__file__).with_name("inside.py").read_text()


@pytest.fixture
def real(tmp_path: Path):
    """
    Make a stage of programs: `async with real("serve()", {"ext.sh": "Extension().follow()"}) as it`.

    Programs are Python after the prelude `inside.py`, or anything else that begins with `#!`.
    """

    @asynccontextmanager
    async def make(runtime, extensions=None, *, files=None, **members):
        programs = {"task/bootstrap": runtime}
        programs |= {f"opt/extensions/{name}": text for name, text in (extensions or {}).items()}
        texts = {path: written(text) for path, text in programs.items()} | (files or {})
        driver = sandbox_driver("bubblewrap", tmp_path / "environments", "spec")
        async with open_stage(tmp_path, driver, texts, **members) as it:
            yield it

    return make


def written(text):
    if text is None or text.startswith("#!"):
        return text
    return f"#!/usr/bin/python3 -BIS\n{PRELUDE}\n{dedent(text)}"
