"""`remora logs`: what a function and its extensions wrote."""

from __future__ import annotations

import datetime as dt
import re

import click
import msgspec

from remora.cli.client import endpoint_option, lines
from remora.kit.clock import SystemClock

_UNITS_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


class Line(msgspec.Struct, frozen=True):
    """One log event; the message has no newline at its end."""

    timestamp_ms: int
    stream: str
    message: str


def _milliseconds(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    """Read a duration such as `30s`, `10m`, `2h`, `1d`."""
    if value is None:
        return None
    match = re.fullmatch(r"(\d{1,9})(ms|s|m|h|d)", value.strip())
    if match is None:
        raise click.BadParameter(f"{value!r} is not a duration such as 30s, 10m, 2h or 1d")
    return int(match[1]) * _UNITS_MS[match[2]]


@click.command("logs")
@click.argument("function")
@click.option(
    "--follow", "-f", is_flag=True, help="Go on with new lines as they are written, until interrupted."
)
@click.option(
    "--since",
    "since_ms",
    callback=_milliseconds,
    metavar="DURATION",
    help="Only lines this young: 30s, 10m, 2h, 1d.",
)
@click.option(
    "--filter",
    "pattern",
    metavar="PATTERN",
    help='Only lines that match, as CloudWatch Logs does: words, "a phrase", ?either ?or, -not, '
    "{ $.level = ERROR }.",
)
@click.option("--request-id", metavar="ID", help="Only lines of this invocation.")
@click.option("--timestamps", "-t", is_flag=True, help="Begin each line with its time (UTC) and log stream.")
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per line.")
def command(
    function: str,
    since_ms: int | None,
    pattern: str | None,
    request_id: str | None,
    endpoint: str,
    *,
    follow: bool,
    timestamps: bool,
    as_json: bool,
) -> None:
    """Print what FUNCTION (a name or an ARN) wrote."""
    query = {"function": _name(function)}
    if since_ms is not None:
        query["since_ms"] = str(max(0, SystemClock().wall_ms() - since_ms))
    if pattern:
        query["filter"] = pattern
    if request_id:
        query["request_id"] = request_id
    if follow:
        query["follow"] = "1"
    is_empty = True
    for raw in lines(endpoint, "/_remora/logs", query, is_endless=follow):
        is_empty = False
        click.echo(raw if as_json else _text(raw, with_time=timestamps))
    if is_empty:
        click.echo(f"no log lines of {query['function']}", err=True)


def _name(function: str) -> str:
    """Return the name in what the Lambda API takes for a function: a name or an ARN, perhaps qualified."""
    parts = function.split(":")
    return parts[6] if function.startswith("arn:") and len(parts) > 6 else parts[0]


def _text(raw: bytes, *, with_time: bool) -> str:
    line = msgspec.json.decode(raw, type=Line)
    if not with_time:
        return line.message
    time = dt.datetime.fromtimestamp(line.timestamp_ms / 1_000, dt.UTC)
    return f"{time:%Y-%m-%dT%H:%M:%S}.{line.timestamp_ms % 1_000:03d}Z {line.stream} {line.message}"
