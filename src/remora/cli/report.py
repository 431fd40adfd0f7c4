"""`remora report`: what a function did and cost, and what each of its extensions took."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import click
import msgspec

from remora.cli.client import endpoint_option, get
from remora.kit.words import count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HEADINGS = ("PROCESS", "INIT p50", "p99", "POST-RUNTIME p50", "p99", "SHARE", "CPU", "PEAK MEMORY")


class Spread(msgspec.Struct, frozen=True):
    """Durations, milliseconds."""

    count: int
    mean: float
    p50: float
    p99: float
    max: float
    sum: float


class Took(msgspec.Struct, frozen=True):
    """What one extension, or the runtime, took."""

    init_ms: Spread | None
    post_runtime_ms: Spread | None
    cpu_ms: float
    memory_peak_bytes: int
    processes_ended: int
    name: str = "runtime"


class Price(msgspec.Struct, frozen=True):
    """What the costs are computed by."""

    region: str
    as_of: str
    source: str


class Report(msgspec.Struct, frozen=True):
    """What a function did since the node started, as the node tells of it."""

    function: str
    versions: list[str]
    since_ms: int
    invocations: int
    errors: int
    timeouts: int
    throttles: int
    cold_starts: int
    restores: int
    inits_failed: int
    duration_ms: Spread | None
    init_ms: Spread | None
    restore_ms: Spread | None
    post_runtime_ms: Spread | None
    memory_mib: list[int]
    memory_peak_bytes: int
    billed_ms: int
    gb_seconds: float
    usd: float
    prices: Price
    extensions: list[Took]
    runtime: Took


@click.command("report")
@click.argument("function")
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print the node's JSON answer.")
def command(function: str, endpoint: str, *, as_json: bool) -> None:
    """
    Tell what FUNCTION did and cost since the node started.

    FUNCTION is its name, or name:version for one of its versions. POST-RUNTIME is how long an extension kept
    the environment after the runtime was done, SHARE its part of all durations. CPU and memory are known of
    processes that have ended.
    """
    name, _, version = function.partition(":")
    path = f"/_remora/report?{urlencode({'function': name, 'version': version})}"
    if as_json:
        told = get(endpoint, path, dict[str, Any])
        click.echo(msgspec.json.format(msgspec.json.encode(told)).decode())
        return
    for line in text(get(endpoint, path, Report)):
        click.echo(line)


def text(report: Report) -> Iterator[str]:
    """Lay out a report as lines."""
    since = datetime.fromtimestamp(report.since_ms / 1000, UTC)
    yield f"{report.function} ({', '.join(report.versions)}) since {since:%Y-%m-%d %H:%M:%S} UTC"
    yield ""
    yield (
        f"{count(report.invocations, 'invocation')}, {count(report.cold_starts, 'cold start')}, "
        f"{count(report.errors, 'error')} ({count(report.timeouts, 'timeout')}), "
        f"{count(report.throttles, 'throttle')}"
    )
    if report.restores:
        yield f"{count(report.restores, 'restore')} from snapshots"
    if report.inits_failed:
        yield f"{count(report.inits_failed, 'failed init')}"
    for title, spread in (
        ("duration", report.duration_ms),
        ("init", report.init_ms),
        ("restore", report.restore_ms),
        ("post-runtime", report.post_runtime_ms),
    ):
        if spread is not None:
            yield (
                f"{title:<13} p50 {_ms(spread.p50)}  p99 {_ms(spread.p99)}  "
                f"max {_ms(spread.max)}  mean {_ms(spread.mean)}"
            )
    sizes = ", ".join(str(size) for size in report.memory_mib)
    yield f"memory        {_mib(report.memory_peak_bytes)} at most of {sizes} MB"
    yield (
        f"billed        {report.billed_ms:,} ms, {report.gb_seconds:,.4f} GB-s, ${report.usd:.8f} "
        f"({report.prices.region}, prices of {report.prices.as_of}, without the free tier)"
    )
    yield ""
    rows: list[Sequence[str]] = [_HEADINGS]
    whole_ms = report.duration_ms.sum if report.duration_ms is not None else 0.0
    rows += [_row(took, whole_ms) for took in (report.runtime, *report.extensions)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_HEADINGS))]
    for row in rows:
        first, *others = (cell.rjust(width) for cell, width in zip(row, widths, strict=True))
        yield "  ".join((first.strip().ljust(widths[0]), *others)).rstrip()


def _row(took: Took, whole_ms: float) -> tuple[str, ...]:
    init, post = took.init_ms, took.post_runtime_ms
    has_ended = took.processes_ended > 0
    return (
        took.name,
        _ms(init.p50) if init is not None else "-",
        _ms(init.p99) if init is not None else "-",
        _ms(post.p50) if post is not None else "-",
        _ms(post.p99) if post is not None else "-",
        f"{100 * post.sum / whole_ms:.1f} %" if post is not None and whole_ms else "-",
        _ms(took.cpu_ms) if has_ended else "-",
        _mib(took.memory_peak_bytes) if has_ended else "-",
    )


def _ms(duration_ms: float) -> str:
    return f"{duration_ms:,.2f} ms"


def _mib(size_bytes: int) -> str:
    return f"{size_bytes / 2**20:.0f} MB"
