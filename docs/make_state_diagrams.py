"""
Draws the state diagrams in docs/lifecycle.md from the tables of the machine.

Run it from anywhere after a change of `remora.lifecycle.tables`; a test fails until the drawings are right.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from remora.lifecycle.tables import EXTENSION, PHASES, RUNTIME, Phase

if TYPE_CHECKING:
    from collections.abc import Iterable
    from enum import Enum

DOCUMENT = Path(__file__).with_name("lifecycle.md")


def diagram(edges: Iterable[tuple[Enum, str, Enum]], first: Enum) -> str:
    """Return a Mermaid diagram of edges (from, label, to); edges between the same states share a line."""
    joined: dict[tuple[Enum, Enum], list[str]] = {}
    for source, label, target in edges:
        joined.setdefault((source, target), []).append(label)
    states = {state: None for pair in joined for state in pair}
    lines = ["```mermaid", "stateDiagram-v2"]
    lines += [f'    state "{state.value}" as {state.name}' for state in states]
    lines.append(f"    [*] --> {first.name}")
    lines += [f"    {a.name} --> {b.name}: {', '.join(labels)}" for (a, b), labels in joined.items()]
    return "\n".join([*lines, "```"])


def moves(table: dict[tuple[Enum, Enum], Enum]) -> list[tuple[Enum, str, Enum]]:
    """Return the edges of a party's table."""
    return [(state, move.name.lower().replace("_", " "), target) for (state, move), target in table.items()]


def phases() -> list[tuple[Enum, str, Enum]]:
    """Return the edges between phases, without those of a sandbox that breaks down."""
    drawn = (Phase.UNINITIALISED, Phase.KILLING)
    return [
        (phase, why, following)
        for phase, targets in PHASES.items()
        for following, why in targets.items()
        if following is not Phase.CLOSED or phase in drawn
    ]


def filled(text: str) -> str:
    """Return the document with its drawings made anew."""
    drawings = {
        "phases": diagram(phases(), Phase.UNINITIALISED),
        "runtime": diagram(moves(RUNTIME), next(iter(RUNTIME))[0]),
        "extension": diagram(moves(EXTENSION), next(iter(EXTENSION))[0]),
    }
    for name, drawing in drawings.items():
        pattern = re.compile(rf"(<!-- {name}: drawn .*?-->\n).*?(<!-- end -->)", re.DOTALL)
        text, count = pattern.subn(lambda match, new=drawing: f"{match[1]}{new}\n{match[2]}", text)
        if count != 1:
            raise SystemExit(f"the place of the drawing {name} is not marked, once, in {DOCUMENT.name}")
    return text


if __name__ == "__main__":
    DOCUMENT.write_text(filled(DOCUMENT.read_text()))
