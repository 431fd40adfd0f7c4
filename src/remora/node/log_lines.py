"""
What a function wrote, as JSON lines: what there is, and for ever what comes.

`GET /_remora/logs?function=NAME[&since_ms=][&request_id=][&filter=PATTERN][&follow=1]`; the pattern is one of
CloudWatch Logs.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs

import msgspec

from remora.resources.records import default_log_group
from remora.telemetry.log_patterns import PatternError, compile_pattern
from remora.telemetry.logs import StreamLine

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.http.exchange import Exchange
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.telemetry.log_files import LogLine
    from remora.telemetry.logs import Follower, LogStore

_LINES: Final = [(b"Content-Type", b"application/x-ndjson")]
_LATE_MS: Final = 60_000
"""A line may be written so much later than its time says, and is still not shown twice."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines are wanted."""

    group: str
    function: str
    since_ms: int
    request_id: str
    matches: Callable[[str], bool]

    def keeps(self, stream: str, line: LogLine | StreamLine) -> bool:
        """Tell whether a line of a stream is wanted; a group of the user's choice may have others' lines."""
        return (
            self.request_id in ("", line.request_id)
            and (self.group == default_log_group(self.function) or f"/{self.function}[" in stream)
            and self.matches(line.message)
        )


class Following:
    """The note on an exchange that a task answers."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel


class LogLines:
    """
    Answers who asks for lines.

    Args:
        logs: The node's logs.
        group_of: Returns the log group of a function, also of one that is gone.
        tasks: Owner of the tasks that read and follow.
        clock: The node's clock.
    """

    def __init__(self, logs: LogStore, group_of: Callable[[str], str], tasks: TaskSet, clock: Clock) -> None:
        self._logs = logs
        self._group_of = group_of
        self._tasks = tasks
        self._clock = clock

    def answer(self, exchange: Exchange) -> str:
        """Begin to answer; returns what is wrong with the request, if something is."""
        query = {name: values[0] for name, values in parse_qs(exchange.query.decode("latin-1")).items()}
        function, since = query.get("function", ""), query.get("since_ms", "0")
        if not function or not (since.isascii() and since.isdigit()):
            return "give function=NAME, and since_ms as a whole number"
        try:
            matches = compile_pattern(query.get("filter", ""))
        except PatternError as error:
            return f"the filter cannot be read: {error}"
        wanted = Wanted(self._group_of(function), function, int(since), query.get("request_id", ""), matches)
        work = self._write(exchange, wanted, is_following=query.get("follow") == "1")
        exchange.slot = Following(self._tasks.spawn(work, f"logs of {function}").cancel)
        return ""

    async def _write(self, exchange: Exchange, wanted: Wanted, *, is_following: bool) -> None:
        follower = self._logs.follow(wanted.group) if is_following else None
        recent_ms = self._clock.wall_ms() - _LATE_MS
        written: Counter[StreamLine] = Counter()
        try:
            exchange.begin(200, _LINES)
            async for page in self._logs.pages(wanted.group, since_ms=wanted.since_ms, keeps=wanted.keeps):
                for line in page:
                    _write_line(exchange, line)
                if follower is not None:
                    written.update(line for line in page if line.timestamp_ms >= recent_ms)
                await exchange.drain()
                if not exchange.is_open:
                    return
            if follower is not None:
                await self._follow(exchange, follower, written, wanted)
            exchange.finish()
        finally:
            if follower is not None:
                self._logs.unfollow(follower)

    async def _follow(
        self, exchange: Exchange, follower: Follower, written: Counter[StreamLine], wanted: Wanted
    ) -> None:
        """Write what comes; `written` are lines that may come a second time, since they came meanwhile."""
        async for line in follower.lines():
            if lost := follower.take_lost():
                text = f"({lost} lines were not shown: they came faster than they were read)"
                _write_line(exchange, StreamLine(line.timestamp_ms, "", text))
            if written[line] > 0:
                written[line] -= 1
            elif wanted.keeps(line.stream, line):
                _write_line(exchange, line)
                await exchange.drain()


def _write_line(exchange: Exchange, line: StreamLine) -> None:
    exchange.write(msgspec.json.encode(line) + b"\n")
