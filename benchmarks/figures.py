"""Numbers: percentiles of samples, medians over rounds with their spread, tables."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Spread:
    """The median over rounds, and the least and the greatest of them."""

    median: float
    least: float
    greatest: float

    def __str__(self) -> str:
        return f"{self.median:.3g} ({self.least:.3g}-{self.greatest:.3g})"


def spread(values: list[float]) -> Spread:
    """Summarise one number per round."""
    return Spread(statistics.median(values), min(values), max(values))


def percentile(samples: list[int], percent: float) -> float:
    """Return the smallest sample that is not exceeded by `percent` of them."""
    ordered = sorted(samples)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


def ratio(ours: list[float], theirs: list[float]) -> Spread:
    """Divide round by round: what disturbed both in the same round cancels out."""
    return spread([a / b for a, b in zip(ours, theirs, strict=True)])


def table(titles: list[str], rows: list[list[object]]) -> str:
    """Lay out rows as text, the first column to the left, the others to the right."""
    lines = [titles, *([str(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(titles))]
    text = []
    for line in lines:
        cells = [
            cell.ljust(width) if column == 0 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text.append("  ".join(cells).rstrip())
    text.insert(1, "  ".join("-" * width for width in widths))
    return "\n".join(text)


def document(value: object) -> object:
    """Return `value` with its spreads as JSON objects."""
    if isinstance(value, Spread):
        return asdict(value)
    if isinstance(value, dict):
        return {key: document(item) for key, item in value.items()}
    return [document(item) for item in value] if isinstance(value, list) else value
