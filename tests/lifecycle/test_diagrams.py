"""The drawings in the documentation are those of the tables."""

from __future__ import annotations

import importlib.util
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "docs" / "make_state_diagrams.py"


def test_the_state_diagrams_are_up_to_date() -> None:
    spec = importlib.util.spec_from_file_location("make_state_diagrams", SCRIPT)
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    text = script.DOCUMENT.read_text()
    assert script.filled(text) == text, "run docs/make_state_diagrams.py"
    assert text.count("stateDiagram-v2") == 3
