"""
The node's own API under /_remora: health, environments, timelines, logs. For the command line and for people.

`GET /health` (also `/_remora/health`), `/_remora/environments`, `/_remora/timelines`,
`/_remora/timelines/{environment}`, `/_remora/report?function=NAME[&version=]`, `/metrics` (for Prometheus),
`/_remora/logs` (see `log_lines`); `POST /_remora/retire?function=NAME&version=VERSION` ends what is idle, so
that the next invocation is a cold start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import parse_qs

import msgspec

from remora.node.log_lines import Following
from remora.node.prometheus import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.http.exchange import Exchange
    from remora.node.log_lines import LogLines
    from remora.node.prometheus import Page
    from remora.telemetry.timeline import Timelines
    from remora.telemetry.usage import Usage

PREFIX = b"/_remora/"
METRICS_PATH = b"/metrics"
HEALTH_PATH = b"/health"
_JSON = [(b"Content-Type", b"application/json")]


class NodeApi:
    """
    The application behind /_remora.

    Args:
        health: Returns the node's health, a JSON object; whoever asks gets 503 unless its `status` is `ok`.
        environments: Returns the node's environments, JSON objects.
        timelines: The node's timelines.
        log_lines: Answers who asks for the lines of a function.
        retire: Called with a function's name and a version: its environments end as they become idle.
        page: The page for Prometheus.
        usage: What functions used.
    """

    def __init__(
        self,
        *,
        health: Callable[[], dict[str, object]],
        environments: Callable[[], list[dict[str, object]]],
        timelines: Timelines,
        log_lines: LogLines,
        retire: Callable[[str, str], None],
        page: Page,
        usage: Usage,
    ) -> None:
        self._health = health
        self._environments = environments
        self._timelines = timelines
        self._log_lines = log_lines
        self._retire = retire
        self._usage = usage
        self._page = page

    def began(self, exchange: Exchange) -> None:
        """Nothing here takes a body."""
        exchange.body_bytes_max = 0

    def ended(self, exchange: Exchange) -> None:
        """Answer a request."""
        if exchange.path in (METRICS_PATH, HEALTH_PATH):
            name, rest = exchange.path, b""
        else:
            name, _, rest = exchange.path[len(PREFIX) :].partition(b"/")
        if name == b"retire":
            self._answer_retire(exchange)
        elif name in (b"health", HEALTH_PATH) and exchange.method in (b"GET", b"HEAD"):
            health = self._health()
            _answer(exchange, 200 if health["status"] == "ok" else 503, health)
        elif exchange.method != b"GET":
            _answer(exchange, 405, {"message": "only GET is offered here"})
        elif name == b"environments":
            _answer(exchange, 200, {"environments": self._environments()})
        elif name == b"timelines":
            self._answer_timelines(exchange, rest.decode("latin-1"))
        elif name == b"logs":
            if problem := self._log_lines.answer(exchange):
                _answer(exchange, 400, {"message": problem})
        elif name == b"report":
            self._answer_report(exchange)
        elif name == METRICS_PATH:
            exchange.respond(200, [(b"Content-Type", CONTENT_TYPE)], self._page.write())
        else:
            _answer(exchange, 404, {"message": f"there is no {name.decode('latin-1')!r} here"})

    def aborted(self, exchange: Exchange) -> None:
        """The peer left; a follower that feeds it ends now."""
        if isinstance(exchange.slot, Following):
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

    def _answer_retire(self, exchange: Exchange) -> None:
        function, version = _whose(exchange)
        if exchange.method != b"POST":
            _answer(exchange, 405, {"message": "only POST is offered here"})
        elif not function or not version:
            _answer(exchange, 400, {"message": "give function=NAME and version=NUMBER or $LATEST"})
        else:
            self._retire(function, version)
            _answer(exchange, 200, {})

    def _answer_report(self, exchange: Exchange) -> None:
        function, version = _whose(exchange)
        report = self._usage.report(function, version)
        if report is None:
            whose = f"{function}:{version}" if version else function
            _answer(exchange, 404, {"message": f"{whose!r} was not invoked since the node started"})
        else:
            _answer(exchange, 200, report)


def _whose(exchange: Exchange) -> tuple[str, str]:
    """Return the function and the version that a query names; each may be empty."""
    query = parse_qs(exchange.query.decode("latin-1"))
    return query.get("function", [""])[0], query.get("version", [""])[0]


def _answer(exchange: Exchange, status: int, body: dict[str, object]) -> None:
    exchange.respond(status, _JSON, msgspec.json.encode(body) + b"\n")
