"""`remora ps`: the environments of a node."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from remora.cli.client import endpoint_option, get
from remora.kit.clock import SystemClock

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remora.kit.clock import Clock

_PATH = "/_remora/environments"
_HEADINGS = (
    "ENVIRONMENT",
    "FUNCTION",
    "VERSION",
    "STATE",
    "AGE",
    "IDLE",
    "INVOCATIONS",
    "PEAK",
    "EXTENSIONS",
)
_RIGHT = frozenset(("AGE", "IDLE", "INVOCATIONS", "PEAK"))


class Environment(msgspec.Struct, frozen=True):
    """One environment as the node tells of it."""

    id: str
    function: str
    version: str
    state: str
    created_ms: int
    idle_ms: int | None = None
    invocations: int = 0
    memory_peak_bytes: int | None = None
    extensions: tuple[str, ...] = ()


class Environments(msgspec.Struct, frozen=True):
    """All living environments."""

    environments: list[Environment]


@click.command("ps")
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print the node's JSON answer.")
def command(endpoint: str, *, as_json: bool) -> None:
    """
    List the living environments of a node.

    AGE and IDLE are times, PEAK is the most memory that all processes of the environment used together.
    """
    if as_json:
        click.echo(msgspec.json.encode(get(endpoint, _PATH, dict)))
        return
    found = get(endpoint, _PATH, Environments).environments
    if not found:
        click.echo("no environments (a function's first invocation makes one)", err=True)
        return
    for line in table(found, SystemClock()):
        click.echo(line)


def table(environments: Sequence[Environment], clock: Clock) -> list[str]:
    """Lay out environments as lines, oldest first, one heading."""
    now_ms = clock.wall_ms()
    rows: list[tuple[str, ...]] = [_HEADINGS]
    rows += [_row(each, now_ms) for each in sorted(environments, key=lambda each: (each.created_ms, each.id))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    return ["  ".join(_cells(row, widths)).rstrip() for row in rows]


def _row(each: Environment, now_ms: int) -> tuple[str, ...]:
    return (
        each.id,
        each.function,
        each.version,
        each.state,
        span(max(0, now_ms - each.created_ms)),
        "-" if each.idle_ms is None or each.state != "idle" else span(each.idle_ms),
        str(each.invocations),
        "-" if each.memory_peak_bytes is None else f"{each.memory_peak_bytes / 2**20:.0f} MiB",
        ",".join(each.extensions) or "-",
    )


def _cells(row: Sequence[str], widths: Sequence[int]) -> list[str]:
    return [
        cell.rjust(width) if heading in _RIGHT else cell.ljust(width)
        for cell, width, heading in zip(row, widths, _HEADINGS, strict=True)
    ]


def span(duration_ms: int) -> str:
    """Write a duration shortly: `0.3s`, `12s`, `5m`, `3h`, `2d`."""
    seconds = duration_ms / 1_000
    if seconds < 10:
        return f"{seconds:.1f}s"
    for unit, size in (("s", 1), ("m", 60), ("h", 3_600)):
        if seconds < size * 120:
            return f"{seconds / size:.0f}{unit}"
    return f"{seconds / 86_400:.0f}d"
