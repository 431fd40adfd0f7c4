"""
Pages of log streams: one stream in order of arrival, both ways, or a group in order of time.

Everything here reads files and belongs into a thread; a page ends before it would cost too much.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final, NamedTuple

from remora.telemetry.log_files import read_segment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from remora.telemetry.log_files import LogFiles, LogLine, Segment

PAGE_BYTES_MAX: Final = 1024 * 1024
EVENT_BYTES: Final = 26
"""What every event counts for beyond its text. Source: GetLogEvents and PutLogEvents, API Reference."""
PAGE_LINES_MAX: Final = 10_000
SEARCHED_LINES_MAX: Final = 200_000
"""So many lines are looked at for one page of a search; it may be empty and still not be the last."""
END_MS: Final = 1 << 62
"""Later than everything."""


class Position(NamedTuple):
    """Where a line is in its stream."""

    segment: int
    line: int


class Key(NamedTuple):
    """Where a line is in its group, in order of time."""

    timestamp_ms: int
    stream: str
    segment: int
    line: int


class Range(NamedTuple):
    """Which events: from `start_ms` up to, but not including, `end_ms`."""

    start_ms: int = 0
    end_ms: int = END_MS


class StreamPage(NamedTuple):
    """Lines of a stream, and where the first and the last of them are; None if there are none."""

    lines: list[LogLine]
    first: Position | None
    last: Position | None


class GroupPage(NamedTuple):
    """Lines of a group, and where to go on; None if that was all."""

    lines: list[tuple[Key, LogLine]]
    next: Key | None


def read_forward(
    files: LogFiles, group: str, stream: str, when: Range, *, after: Position, limit: int
) -> StreamPage:
    """Read the lines of a stream that follow `after`."""
    found = _within(_stream(files, group, stream, when, after=after), when)
    return _page(_bounded(found, limit))


def read_backward(
    files: LogFiles, group: str, stream: str, when: Range, *, before: Position, limit: int
) -> StreamPage:
    """Read the lines of a stream that come last before `before`; they are returned in their order."""
    found = _within(_stream_backward(files, group, stream, when, before=before), when)
    return _page(_bounded(found, limit)[::-1])


LAST: Final = Position(1 << 62, 0)
FIRST: Final = Position(0, 0)


def _stream(
    files: LogFiles, group: str, stream: str, when: Range, *, after: Position
) -> Iterator[tuple[Position, LogLine]]:
    for _, segment in files.segments(group, [stream]):
        if segment.number >= after.segment and segment.may_hold(when.start_ms):
            for number, line in read_segment(segment):
                position = Position(segment.number, number)
                if position > after:
                    yield position, line


def _stream_backward(
    files: LogFiles, group: str, stream: str, when: Range, *, before: Position
) -> Iterator[tuple[Position, LogLine]]:
    for _, segment in reversed(list(files.segments(group, [stream]))):
        if segment.number <= before.segment and segment.may_hold(when.start_ms):
            for number, line in reversed(read_segment(segment)):
                position = Position(segment.number, number)
                if position < before:
                    yield position, line


def _within(lines: Iterator[tuple[Position, LogLine]], when: Range) -> Iterator[tuple[Position, LogLine]]:
    return ((position, line) for position, line in lines if when.start_ms <= line.timestamp_ms < when.end_ms)


def _bounded(lines: Iterator[tuple[Position, LogLine]], limit: int) -> list[tuple[Position, LogLine]]:
    """Take as many lines as a page may have, at least one."""
    found: list[tuple[Position, LogLine]] = []
    size_bytes = 0
    for position, line in lines:
        size_bytes += size_of(line)
        if found and size_bytes > PAGE_BYTES_MAX:
            break
        found.append((position, line))
        if len(found) >= limit:
            break
    return found


def _page(found: list[tuple[Position, LogLine]]) -> StreamPage:
    positions = [position for position, _ in found]
    lines = sorted((line for _, line in found), key=lambda line: line.timestamp_ms)
    return StreamPage(lines, min(positions, default=None), max(positions, default=None))


def size_of(line: LogLine) -> int:
    """Return what a line counts for in a page, bytes."""
    return len(line.message.encode(errors="replace")) + EVENT_BYTES


def search(
    files: LogFiles,
    group: str,
    streams: Sequence[str] | None,
    when: Range,
    *,
    keeps: Callable[[str, LogLine], bool],
    after: Key | None = None,
    limit: int = PAGE_LINES_MAX,
) -> GroupPage:
    """
    Read lines of a group, in order of time.

    Args:
        files: Where they are.
        group: The group; an unknown one has no lines.
        streams: Names of the streams to look in; None for all.
        when: Which of them.
        keeps: Tells, for stream and line, whether it is wanted.
        after: Where to go on.
        limit: How many lines a page has.
    """
    found: list[tuple[Key, LogLine]] = []
    size_bytes = 0
    for looked_at, (key, line) in enumerate(_merged(files, group, streams, when, after), 1):
        if keeps(key.stream, line):
            size_bytes += size_of(line)
            if found and size_bytes > PAGE_BYTES_MAX:
                return GroupPage(found, found[-1][0])
            found.append((key, line))
        if len(found) >= limit or looked_at >= SEARCHED_LINES_MAX:
            return GroupPage(found, key)
    return GroupPage(found, None)


def _merged(
    files: LogFiles, group: str, streams: Sequence[str] | None, when: Range, after: Key | None
) -> Iterator[tuple[Key, LogLine]]:
    """Yield lines in order of time; a segment is read when its time has come."""
    start_ms = max(when.start_ms, after.timestamp_ms if after is not None else 0)
    waiting: list[tuple[int, str, Segment]] = []
    for stream, segment in files.segments(group, streams):
        if segment.may_hold(start_ms):
            files.know(segment)
            if segment.may_hold(start_ms) and segment.first_ms < when.end_ms:
                waiting.append((segment.first_ms, stream, segment))
    waiting.sort(key=lambda each: each[0], reverse=True)
    heads: list[tuple[Key, LogLine, Iterator[tuple[Key, LogLine]]]] = []
    while waiting or heads:
        while waiting and (not heads or waiting[-1][0] <= heads[0][0].timestamp_ms):
            _, stream, segment = waiting.pop()
            lines = _sorted(stream, segment, Range(start_ms, when.end_ms), after)
            for key, line in lines:
                heapq.heappush(heads, (key, line, lines))
                break
        if not heads:
            continue
        key, line, lines = heads[0]
        yield key, line
        following = next(lines, None)
        if following is None:
            heapq.heappop(heads)
        else:
            heapq.heapreplace(heads, (*following, lines))


def _sorted(stream: str, segment: Segment, when: Range, after: Key | None) -> Iterator[tuple[Key, LogLine]]:
    keys = (
        (Key(line.timestamp_ms, stream, segment.number, number), line)
        for number, line in read_segment(segment)
        if when.start_ms <= line.timestamp_ms < when.end_ms
    )
    return iter(sorted((each for each in keys if after is None or each[0] > after), key=lambda each: each[0]))
