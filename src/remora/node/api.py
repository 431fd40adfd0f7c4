"""
The node's own API under /_remora: health, environments, timelines, logs. For the command line and for people.

`GET /_remora/health`, `/_remora/environments`, `/_remora/timelines`, `/_remora/timelines/{environment}`,
`/_remora/report?function=NAME[&version=]`, `/metrics` (for Prometheus),
`/_remora/logs?function=NAME[&since_ms=][&request_id=][&follow=1]` (JSON lines, for ever when following).
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from remora.node.prometheus import CONTENT_TYPE, Page

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.http.exchange import Exchange
    from remora.kit.tasks import TaskSet
    from remora.telemetry.logs import Follower, LogStore, StreamLine
    from remora.telemetry.meter import Meters
    from remora.telemetry.timeline import Timelines

PREFIX = b"/_remora/"
METRICS_PATH = b"/metrics"
_JSON = [(b"Content-Type", b"application/json")]
_LINES = [(b"Content-Type", b"application/x-ndjson")]


class NodeApi:
    """
    The application behind /_remora.

    Args:
        health: Returns the node's health, a JSON object.
        environments: Returns the node's environments, JSON objects.
        timelines: The node's timelines.
        logs: The node's logs.
        tasks: Owner of the tasks that read and follow logs.
        meters: What the node counts.
    """

    def __init__(
        self,
        *,
        health: Callable[[], dict[str, object]],
        environments: Callable[[], list[dict[str, object]]],
        timelines: Timelines,
        logs: LogStore,
        tasks: TaskSet,
        meters: Meters,
    ) -> None:
        self._health = health
        self._environments = environments
        self._timelines = timelines
        self._logs = logs
        self._tasks = tasks
        self._usage = meters.usage
        self._page = Page(meters, environments)

    def began(self, exchange: Exchange) -> None:
        """Nothing here takes a body."""
        exchange.body_bytes_max = 0

    def ended(self, exchange: Exchange) -> None:
        """Answer a request."""
        if exchange.path == METRICS_PATH:
            name, rest = METRICS_PATH, b""
        else:
            name, _, rest = exchange.path[len(PREFIX) :].partition(b"/")
        if exchange.method != b"GET":
            _answer(exchange, 405, {"message": "only GET is offered here"})
        elif name == b"health":
            _answer(exchange, 200, self._health())
        elif name == b"environments":
            _answer(exchange, 200, {"environments": self._environments()})
        elif name == b"timelines":
            self._answer_timelines(exchange, rest.decode("latin-1"))
        elif name == b"logs":
            self._answer_logs(exchange)
        elif name == b"report":
            self._answer_report(exchange)
        elif name == METRICS_PATH:
            exchange.respond(200, [(b"Content-Type", CONTENT_TYPE)], self._page.write())
        else:
            _answer(exchange, 404, {"message": f"there is no {name.decode('latin-1')!r} here"})

    def aborted(self, exchange: Exchange) -> None:
        """The peer left; a follower that feeds it ends now."""
        if isinstance(exchange.slot, _Following):
            exchange.slot.cancel()

    def _answer_timelines(self, exchange: Exchange, environment: str) -> None:
        if not environment:
            known = [timeline.to_json() for timeline in self._timelines.all()]
            _answer(exchange, 200, {"timelines": known})
            return
        timeline = self._timelines.get(environment)
        if timeline is None:
            _answer(exchange, 404, {"message": f"no timeline is kept of an environment {environment!r}"})
        else:
            _answer(exchange, 200, timeline.to_json())

    def _answer_report(self, exchange: Exchange) -> None:
        query = parse_qs(exchange.query.decode("latin-1"))
        function, version = query.get("function", [""])[0], query.get("version", [""])[0]
        report = self._usage.report(function, version)
        if report is None:
            whose = f"{function}:{version}" if version else function
            _answer(exchange, 404, {"message": f"{whose!r} was not invoked since the node started"})
        else:
            _answer(exchange, 200, report)

    def _answer_logs(self, exchange: Exchange) -> None:
        query = parse_qs(exchange.query.decode("latin-1"))
        function = query.get("function", [""])[0]
        since = query.get("since_ms", ["0"])[0]
        if not function or not since.isdigit():
            _answer(exchange, 400, {"message": "give function=NAME, and since_ms as a whole number"})
            return
        request_id = query.get("request_id", [""])[0]
        is_following = query.get("follow", [""])[0] == "1"
        group = f"/aws/lambda/{function}"
        work = self._write_logs(exchange, group, int(since), request_id, is_following=is_following)
        task = self._tasks.spawn(work, f"logs of {function}")
        exchange.slot = _Following(task.cancel)

    async def _write_logs(
        self, exchange: Exchange, group: str, since_ms: int, request_id: str, *, is_following: bool
    ) -> None:
        follower = self._logs.follow(group) if is_following else None
        try:
            exchange.begin(200, _LINES)
            written = await self._logs.read(group, since_ms=since_ms, request_id=request_id)
            for line in written:
                _write_line(exchange, line)
                await exchange.drain()
            if follower is not None:
                await self._follow(exchange, follower, Counter(written), request_id)
            exchange.finish()
        finally:
            if follower is not None:
                self._logs.unfollow(follower)

    async def _follow(
        self, exchange: Exchange, follower: Follower, written: Counter[StreamLine], request_id: str
    ) -> None:
        """Write what comes; `written` are lines that may come a second time, since they came meanwhile."""
        async for line in follower.lines():
            if written[line] > 0:
                written[line] -= 1
            elif request_id in ("", line.request_id):
                _write_line(exchange, line)
                await exchange.drain()


class _Following:
    """The note on an exchange that a task answers."""

    def __init__(self, cancel: Callable[[], object]) -> None:
        self.cancel = cancel


def _write_line(exchange: Exchange, line: StreamLine) -> None:
    exchange.write(msgspec.json.encode(line) + b"\n")


def _answer(exchange: Exchange, status: int, body: dict[str, object]) -> None:
    exchange.respond(status, _JSON, msgspec.json.encode(body) + b"\n")
