"""
Writes the table of attempts in docs/security.md from tests/security/escapes.py.

Run it from anywhere after a change there; a test fails until the table is right.
"""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

DOCUMENT = Path(__file__).with_name("security.md")
ESCAPES = Path(__file__).parents[1] / "tests" / "security" / "escapes.py"


def load() -> Any:
    """Return the module that lists the attempts."""
    spec = importlib.util.spec_from_file_location("escapes", ESCAPES)
    assert spec is not None, "the file is there"
    assert spec.loader is not None, "and can be loaded"
    module = importlib.util.module_from_spec(spec)
    sys.modules["escapes"] = module  # its dataclasses look themselves up there
    spec.loader.exec_module(module)
    return module


def rows(kind: str, escapes: Iterable[Any]) -> list[str]:
    """Return a line for each attempt."""
    return [
        f"| `{each.name}` | {kind} | {each.tries} | {each.wall} | {', '.join(sorted(each.outcomes))} |"
        for each in escapes
    ]


def table() -> str:
    """Return the whole table."""
    module = load()
    head = ["| attempt | by | what it tries | what stops it | how it ends |", "|---|---|---|---|---|"]
    lines = [*rows("C", module.PROGRAM), *rows("Python", module.SCRIPT), *rows("node", module.ABUSES)]
    return "\n".join([*head, *lines])


def filled(text: str) -> str:
    """Return the document with its table made anew."""
    pattern = re.compile(r"(<!-- attempts: .*?-->\n).*?(<!-- end -->)", re.DOTALL)
    text, count = pattern.subn(lambda match: f"{match[1]}{table()}\n{match[2]}", text)
    assert count == 1, "there is a place for the table"
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text()))
