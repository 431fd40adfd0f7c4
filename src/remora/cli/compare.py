"""`remora compare`: two variants of a function side by side, and whether they differ beyond the noise."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec
import uvloop
from rich.console import Console

from remora.cli.client import endpoint_option
from remora.cli.comparison import CONFIDENCE, METHOD, ROUNDS_MIN, compare
from remora.cli.errors import FAILED, CommandError
from remora.cli.local_function import LocalOptions, event_option, local_options, read_event, run_request
from remora.cli.measuring import LocalFunction, NodeFunctions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Unpack

    from remora.cli.comparison import Compared, Difference, Sample, Spread
    from remora.cli.measuring import Variant

Pair = tuple["Variant", "Variant"]
Rounds = tuple[list[list["Sample"]], list[list["Sample"]]]


@click.command("compare")
@click.argument("first", metavar="FUNCTION")
@click.argument("second", metavar="[OTHER]", required=False)
@click.option(
    "--without",
    multiple=True,
    metavar="LAYER",
    help="Compare with the same function without this layer; repeat for more.",
)
@event_option
@click.option(
    "--rounds",
    type=click.IntRange(ROUNDS_MIN),
    default=10,
    show_default=True,
    help="Fresh environments of each; more rounds show smaller differences.",
)
@click.option(
    "--warm",
    type=click.IntRange(0, 1_000),
    default=10,
    show_default=True,
    help="Invocations of each environment after its cold one.",
)
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print everything that was measured as one object.")
@local_options
def command(
    *,
    first: str,
    second: str | None,
    without: tuple[str, ...],
    event: BinaryIO | None,
    rounds: int,
    warm: int,
    endpoint: str,
    as_json: bool,
    **options: Unpack[LocalOptions],
) -> int:
    """
    Compare FUNCTION with OTHER, or with itself without a layer, on the same event.

    A function is one of a node (name, name:version, name:alias or ARN), or a directory (./function), which
    is run without a node; the options from --handler on are for directories. In each round both get a fresh
    environment, in turn, each with a cold invocation and warm ones. Told is the effect on cold start,
    duration, time after the runtime, memory and cost, and whether it exceeds the noise. The exit code is 1
    if a function failed.
    """
    if (second is None) == (not without):
        raise click.UsageError("name either another function, or a layer with --without")
    payload = read_event(event.read() if event else b"{}")
    with _terminable(), ExitStack() as stack:
        one, two = _variants(stack, first, second, without, endpoint=endpoint, options=options)
        measured = _measure((one, two), payload, rounds, warm)
    compared = compare(*measured)
    if as_json:
        click.echo(msgspec.json.encode(_document((one, two), measured, compared, warm)))
    else:
        for line in _text((one.label, two.label), measured, compared, warm):
            click.echo(line)
    return FAILED if any(_errors(each) for each in measured) else 0


@contextmanager
def _terminable() -> Iterator[None]:
    """Let SIGTERM end the command as Ctrl-C does: what was made for it is removed."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _variants(
    stack: ExitStack,
    first: str,
    second: str | None,
    without: Sequence[str],
    *,
    endpoint: str,
    options: LocalOptions,
) -> Pair:
    """Return what is compared; what had to be made for it is removed with the stack."""
    if _is_directory(first):
        runner = stack.enter_context(asyncio.Runner(loop_factory=uvloop.new_event_loop))

        def local(directory: str) -> LocalFunction:
            return LocalFunction(directory, run_request(Path(directory), b"{}", 1, options), runner)

        one = local(first)
        if second is not None and not _is_directory(second):
            raise click.UsageError(f"{first} is a directory, {second} is not: compare two of one kind")
        return one, one.without(without) if second is None else local(second)
    if second is not None and _is_directory(second):
        raise click.UsageError(f"{second} is a directory, {first} is not: compare two of one kind")
    node = NodeFunctions(endpoint)
    function = node.find(first)
    if second is not None:
        return function, node.find(second)
    return function, stack.enter_context(node.without(function, without))


def _is_directory(function: str) -> bool:
    """Tell directories from names: they have a separator, or are the present one."""
    if os.sep not in function and function not in {".", ".."}:
        return False
    if not Path(function).is_dir():
        raise CommandError(f"{function} is no directory", "a function of a node has no / in its name")
    return True


def _measure(pair: Pair, payload: bytes, rounds: int, warm: int) -> Rounds:
    """Measure both in turn; who goes first changes from round to round."""
    measured: Rounds = ([], [])
    console = Console(stderr=True, highlight=False)
    with console.status("") as status:
        for number in range(rounds):
            status.update(f"round {number + 1} of {rounds}")
            for which in (0, 1) if number % 2 == 0 else (1, 0):
                measured[which].append(pair[which].block(payload, warm))
    return measured


def _errors(rounds: Sequence[Sequence[Sample]]) -> int:
    return sum(sample.is_error for invocations in rounds for sample in invocations)


def _document(pair: Pair, measured: Rounds, compared: list[Compared], warm: int) -> dict[str, object]:
    return {
        "functions": [
            {"name": variant.label, "errors": _errors(rounds), "rounds": rounds}
            for variant, rounds in zip(pair, measured, strict=True)
        ],
        "rounds": len(measured[0]),
        "warm": warm,
        "confidence": CONFIDENCE,
        "method": METHOD,
        "metrics": compared,
    }


# --- text -------------------------------------------------------------------------------------------------


def _text(
    labels: tuple[str, str], measured: Rounds, compared: Sequence[Compared], warm: int
) -> Iterator[str]:
    """Lay a comparison out as lines."""
    rounds = len(measured[0])
    yield f"{labels[0]}  against  {labels[1]}"
    yield f"{rounds} rounds: a fresh environment of each, one cold and {warm} warm invocations"
    for label, of in zip(labels, measured, strict=True):
        if errors := _errors(of):
            yield f"{label}: {errors} of {sum(map(len, of))} invocations failed"
    yield ""
    rows: list[tuple[str, ...]] = [("", *labels, "difference", f"{CONFIDENCE:.0%} interval", "")]
    rows += [_row(each) for each in compared]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        name, *numbers, verdict = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join((name.strip().ljust(widths[0]), *numbers, verdict.strip())).rstrip()
    yield ""
    yield "Medians and quartiles, one value per environment; * larger than the noise (Mann-Whitney)."


def _row(each: Compared) -> tuple[str, ...]:
    difference = each.difference
    spreads = (_spread(each.first, each.unit), _spread(each.second, each.unit))
    if difference is None:
        return (each.name, *spreads, "-", "-", "")
    return (
        each.name,
        *spreads,
        _signed(difference.estimate, each.unit) + _percent(difference),
        f"{_signed(difference.low)} .. {_signed(difference.high)}",
        "*" if difference.is_beyond_noise else "",
    )


def _spread(spread: Spread | None, unit: str) -> str:
    if spread is None:
        return "-"
    return f"{_number(spread.median)} {unit} [{_number(spread.low)} {_number(spread.high)}]"


def _percent(difference: Difference) -> str:
    return "" if difference.percent is None else f" ({difference.percent:+.1f} %)"


def _signed(value: float, unit: str = "") -> str:
    sign = "+" if value > 0 else "-" if value < 0 else ""
    return f"{sign}{_number(abs(value))}{' ' if unit else ''}{unit}"


def _number(value: float) -> str:
    """Write a number with about four digits that matter."""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.{1 if value >= 100 else 2 if value >= 1 else 3}f}"
