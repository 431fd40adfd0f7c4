"""Draws a lifecycle waterfall and what each extension cost, on a terminal or into a file."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from itertools import groupby
from statistics import fmean
from typing import TYPE_CHECKING

import msgspec
from rich.cells import set_cell_size
from rich.console import Console
from rich.text import Text

from remora.cli.waterfall import Gap, Omission, Row, Section, Timeline, costs, ms, parts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import TextIO

    from remora.cli.waterfall import Part

WIDTH_MIN = 80
WIDTH_MAX = 120
_LABEL = 18
_DURATION = 12
_NOTE = 20
_TABLE_LABEL = 24
BILLS_MAX = 5
"""So many invocations have a line of their own at most: the first three and the last two."""

_STYLES = {"start": "yellow", "work": "green", "beside": "bright_black", "tail": "magenta"}


@dataclass(frozen=True, slots=True)
class _Symbols:
    """What bars are made of: one character per kind of span, and the mark."""

    spans: dict[str, str]
    mark: str
    dot: str


_UNICODE = _Symbols({"start": "▒", "work": "█", "beside": "░", "tail": "▓"}, "◆", "·")
_ASCII = _Symbols({"start": "+", "work": "#", "beside": ".", "tail": "="}, "*", "-")


def console_for(stream: TextIO) -> Console:
    """Make a console that writes to `stream`: in colour on a terminal, 80 to 120 columns wide."""
    console = Console(file=stream, highlight=False, markup=False, emoji=False)
    width = min(max(console.width, WIDTH_MIN), WIDTH_MAX) if console.is_terminal else WIDTH_MIN
    console.width = width
    return console


class Bill(msgspec.Struct, frozen=True):
    """What one invocation took and costs, of what a node or a run tells about it; US dollars."""

    status: str
    duration_ms: float
    init_ms: float | None
    memory_mib: int
    memory_peak_bytes: int
    billed_ms: int
    gb_seconds: float
    usd: float


def draw(timeline: Timeline, console: Console, bills: Sequence[Bill] = ()) -> None:
    """Draw the waterfall of one environment; below it what each extension and each invocation cost."""
    is_unicode = console.encoding.startswith("utf")
    symbols = _UNICODE if is_unicode else _ASCII
    drawn = parts(timeline)
    for line in (*_lines(timeline, drawn, console.width, symbols), *_bills(bills)):
        if not is_unicode:
            line.plain = line.plain.encode("ascii", "replace").decode("ascii")
        console.print(line, no_wrap=True, overflow="crop", crop=True)


def _lines(timeline: Timeline, drawn: Sequence[Part], width: int, symbols: _Symbols) -> Iterator[Text]:
    started = dt.datetime.fromtimestamp(timeline.started_ms / 1_000, dt.UTC)
    title = f"{_plain(timeline.function)} {symbols.dot} {_plain(timeline.environment)}"
    yield Text(f"{title} {symbols.dot} {started:%Y-%m-%d %H:%M:%S} UTC", "bold")
    if not drawn:
        yield Text("  nothing has happened in it yet", "italic")
        return
    for part in drawn:
        if isinstance(part, Section):
            yield from _section(part, width, symbols)
        elif isinstance(part, Gap):
            text = (
                f"{part.kind} {ms(part.duration_us)}"
                if part.duration_us is not None
                else f"{part.kind} since then"
            )
            yield Text(f"{symbols.dot * 2} {text}", "bright_blue")
        else:
            yield _omission(part, symbols)
    yield _legend(symbols)
    yield from _costs(timeline)


def _section(section: Section, width: int, symbols: _Symbols) -> Iterator[Text]:
    line = Text(f"{section.title} {symbols.dot} {ms(section.end_us - section.start_us)}", "bold")
    if section.note:
        line.append(f" {symbols.dot} {_plain(section.note)}", "not bold")
    yield line
    for row in section.rows:
        yield _row(row, section, width, symbols)


def _row(row: Row, section: Section, width: int, symbols: _Symbols) -> Text:
    line = Text("  ")
    line.append(set_cell_size(_plain(row.label), _LABEL))
    line.append(" ")
    line.append_text(_bar(row, section, width - _LABEL - _DURATION - _NOTE - 5, symbols))
    line.append(f"{ms(row.duration_us):>{_DURATION}}")
    note = _plain(row.note)
    if note:
        line.append(f"  {note}", "bright_black")
    return line


def _bar(row: Row, section: Section, cells: int, symbols: _Symbols) -> Text:
    """Draw a row's spans on the section's scale; no span is shorter than one cell, none leaves the scale."""
    kinds: list[str | None] = [None] * cells
    for span in row.spans:
        first, last = _cells(span.start_us, span.end_us, section, cells)
        if span.end_us > span.start_us or len(row.spans) == 1:
            kinds[first : last + 1] = [span.kind] * (last + 1 - first)
    bar = Text()
    for kind, run in groupby(kinds):
        bar.append((symbols.spans[kind] if kind else " ") * len(list(run)), _STYLES[kind] if kind else None)
    if row.mark_us is not None and section.phase == "invoke":
        at, _ = _cells(row.mark_us, row.mark_us, section, cells)
        bar = Text.assemble(bar[:at], (symbols.mark, "bold"), bar[at + 1 :])
    return bar


def _cells(start_us: int, end_us: int, section: Section, cells: int) -> tuple[int, int]:
    """Return the first and the last cell of a stretch of time, both within the bar, integers only."""
    scale_us = max(1, section.end_us - section.start_us)
    first = min(max(0, (start_us - section.start_us) * cells // scale_us), cells - 1)
    last = min(max(first, -((section.start_us - end_us) * cells // scale_us) - 1), cells - 1)
    return first, last


def _omission(part: Omission, symbols: _Symbols) -> Text:
    text = f"{part.count} more invocations: median {ms(part.median_us)}, longest {ms(part.longest_us)}"
    return Text(f"{symbols.dot * 2} {text}", "bright_blue")


def _legend(symbols: _Symbols) -> Text:
    line = Text()
    for kind, meaning in (
        ("start", "registering"),
        ("work", "working"),
        ("beside", "beside the runtime"),
        ("tail", "after the response"),
    ):
        line.append(symbols.spans[kind], _STYLES[kind])
        line.append(f" {meaning}  ", "bright_black")
    line.append(symbols.mark, "bold")
    line.append(" response", "bright_black")
    return line


def _costs(timeline: Timeline) -> Iterator[Text]:
    """Tell what each extension cost, one line each; nothing without extensions."""
    every = costs(timeline)
    if not every:
        return
    columns = ("registered", "ready", "tail, mean", "tail, max", "shutdown")
    yield Text(set_cell_size("what extensions cost", _TABLE_LABEL) + _cells_of(columns), "bold")
    for cost in every:
        tails = cost.tails_us
        values = (
            _ms_or_dash(cost.registered_us),
            _ms_or_dash(cost.ready_us),
            _ms_or_dash(round(fmean(tails)) if tails else None),
            _ms_or_dash(max(tails) if tails else None),
            _ms_or_dash(cost.shutdown_us),
        )
        yield Text(set_cell_size("  " + _plain(cost.name), _TABLE_LABEL) + _cells_of(values))


def _bills(bills: Sequence[Bill]) -> Iterator[Text]:
    """Tell what each invocation is billed, one line each; of many the first and last ones, and the mean."""
    if not bills:
        return
    columns = ("duration", "init", "billed", "memory", "USD per 1M")
    yield Text(set_cell_size("what invocations cost", _TABLE_LABEL) + _cells_of(columns), "bold")
    for number, each in enumerate(bills, 1):
        if not BILLS_MAX - 2 < number <= len(bills) - 2 or len(bills) <= BILLS_MAX:
            yield Text(set_cell_size(f"  invoke {number}", _TABLE_LABEL) + _cells_of(_bill(each)))
    if len(bills) > 1:
        billed_ms, usd = fmean(each.billed_ms for each in bills), fmean(each.usd for each in bills)
        whole = ("", "", f"{billed_ms:,.1f} ms", "", f"{usd * 1e6:,.4f}")
        yield Text(set_cell_size(f"  mean of {len(bills)}", _TABLE_LABEL) + _cells_of(whole))


def _bill(each: Bill) -> tuple[str, ...]:
    return (
        ms(round(each.duration_ms * 1000)),
        "-" if each.init_ms is None else ms(round(each.init_ms * 1000)),
        f"{each.billed_ms:,} ms",
        f"{-(-each.memory_peak_bytes // 2**20)} MB",
        f"{each.usd * 1e6:,.4f}",
    )


def _cells_of(values: Sequence[str]) -> str:
    return "".join(f"{value:>11}" for value in values)


def _ms_or_dash(duration_us: int | None) -> str:
    return "-" if duration_us is None else ms(duration_us)


def _plain(text: str) -> str:
    """Names come from layers: whatever could steer a terminal is shown as a question mark."""
    return "".join(char if char.isprintable() else "?" for char in text)
