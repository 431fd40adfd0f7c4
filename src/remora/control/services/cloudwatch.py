"""
CloudWatch: the operations that people read Lambda's metrics with.

Source: Amazon CloudWatch API Reference, ListMetrics, GetMetricStatistics and GetMetricData;
logs-metrics-billing specification, section 6.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from remora.control.services.neighbour import Neighbour, ServiceError
from remora.control.services.pages import read_token, write_token
from remora.control.services.query import QueryService, is_form
from remora.spec import limits, rpc_api, xml_api
from remora.telemetry.metrics import METRICS, MINUTE_S, NAMESPACE, Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.services.neighbour import Handler
    from remora.control.services.query import QueryHandler
    from remora.http.exchange import Exchange
    from remora.kit.clock import Clock
    from remora.telemetry.metrics import Metrics
    from remora.telemetry.summary import Summary

SERVICE: Final = "monitoring"
_MODEL: Final = ("cloudwatch", "2010-08-01")

METRICS_PER_PAGE: Final = 500
DATAPOINTS_MAX: Final = 1_440
"""Of one answer to GetMetricStatistics."""
DATA_MAX: Final = 100_800
"""Of one page of GetMetricData."""
QUERIES_MAX: Final = 500
_RECENT_S: Final = 3 * 3600
_PERCENTILE: Final = re.compile(r"p(\d{1,2}(?:\.\d{1,10})?|100)")
_IDENTIFIER: Final = re.compile(r"[a-z][A-Za-z0-9_]*")
_STATISTICS: Final[Mapping[str, Callable[[Summary, int], float]]] = {
    "SampleCount": lambda summary, _: float(summary.count),
    "Sum": lambda summary, divisor: summary.total / divisor,
    "Average": lambda summary, divisor: summary.mean() / divisor,
    "Minimum": lambda summary, divisor: summary.least / divisor,
    "Maximum": lambda summary, divisor: summary.greatest / divisor,
}

Request = dict[str, Any]
Reply = dict[str, Any]


class Wanted(NamedTuple):
    """One metric of one subject, in periods; `start_s` and `end_s` in seconds since 1970."""

    name: str
    subject: Subject | None
    start_s: int
    end_s: int
    period_s: int
    unit: str | None


class CloudWatch:
    """
    Performs the operations.

    Args:
        metrics: The node's metrics.
        clock: The node's clock.
    """

    def __init__(self, metrics: Metrics, clock: Clock) -> None:
        self._metrics = metrics
        self._clock = clock

    def __repr__(self) -> str:
        return f"<CloudWatch of {self._metrics!r}>"

    def handlers(self) -> Mapping[str, Handler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "ListMetrics": self.list_metrics,
            "GetMetricStatistics": self.get_metric_statistics,
            "GetMetricData": self.get_metric_data,
        }

    async def list_metrics(self, request: Request) -> Reply:
        """List what there are numbers of."""
        since_s = self._clock.wall_ms() // 1000 - _RECENT_S if "RecentlyActive" in request else 0
        filters = request.get("Dimensions", [])
        found: list[Reply] = []
        if request.get("Namespace", NAMESPACE) == NAMESPACE:
            for subject in self._metrics.subjects():
                dimensions = _dimensions(subject)
                if all(_is_met(each, dimensions) for each in filters):
                    found += [
                        {"Namespace": NAMESPACE, "MetricName": name, "Dimensions": dimensions}
                        for name in self._metrics.names(subject, since_s)
                        if request.get("MetricName", name) == name
                    ]
        begin = _read_place(request)
        end = begin + METRICS_PER_PAGE
        more = write_token(end) if end < len(found) else None
        return {"Metrics": found[begin:end], "NextToken": more}

    async def get_metric_statistics(self, request: Request) -> Reply:
        """Return statistics of one metric, period by period."""
        plain, extended = request.get("Statistics", []), request.get("ExtendedStatistics", [])
        if not plain and not extended:
            raise ServiceError(
                "MissingRequiredParameterException",
                "At least one of the parameters Statistics and ExtendedStatistics must be specified.",
            )
        wanted = _wanted(request, request, request["Period"])
        count = -(-(wanted.end_s - wanted.start_s) // wanted.period_s)
        if count > DATAPOINTS_MAX:
            raise ServiceError(
                "InvalidParameterCombinationException",
                f"You have requested up to {count:,} datapoints, which exceeds the limit of "
                f"{DATAPOINTS_MAX:,}. You may reduce the datapoints requested by increasing Period, or "
                "decreasing the time range.",
            )
        unit, divisor = _unit(wanted.name)
        for name in extended:
            _check_statistic(name)
        points: list[Reply] = []
        for at_s, summary in self._read(wanted):
            point: Reply = {"Timestamp": at_s, "Unit": unit}
            point |= {name: _STATISTICS[name](summary, divisor) for name in plain}
            if extended:
                point["ExtendedStatistics"] = {name: _statistic(name, summary, divisor) for name in extended}
            points.append(point)
        return {"Label": request["MetricName"], "Datapoints": points}

    async def get_metric_data(self, request: Request) -> Reply:
        """Return one statistic of each of several metrics."""
        queries = request["MetricDataQueries"]
        _check_queries(queries)
        limit = min(max(1, request.get("MaxDatapoints", DATA_MAX)), DATA_MAX)
        is_ascending = request.get("ScanBy") == "TimestampAscending"
        place = _read_place(request)
        end, passed = place + limit, 0
        results: list[Reply] = []
        for query in queries:
            points = self._points(query, request)
            if not is_ascending:
                points.reverse()
            taken = points[max(0, place - passed) : max(0, end - passed)]
            is_complete = passed + len(points) <= end
            passed += len(points)
            if query.get("ReturnData", True):
                results.append(
                    {
                        "Id": query["Id"],
                        "Label": query.get("Label") or query["MetricStat"]["Metric"].get("MetricName", ""),
                        "Timestamps": [at_s for at_s, _ in taken],
                        "Values": [value for _, value in taken],
                        "StatusCode": "Complete" if is_complete else "PartialData",
                    }
                )
        more = write_token(end) if passed > end else None
        return {"MetricDataResults": results, "Messages": [], "NextToken": more}

    def _points(self, query: Request, request: Request) -> list[tuple[int, float]]:
        """Return the values of one query, oldest first."""
        stat = query["MetricStat"]
        name = stat["Stat"]
        if name not in _STATISTICS:
            _check_statistic(name)
        wanted = _wanted({**stat["Metric"], "Unit": stat.get("Unit")}, request, stat["Period"])
        divisor = _unit(wanted.name)[1]
        return [(at_s, _statistic(name, summary, divisor)) for at_s, summary in self._read(wanted)]

    def _read(self, wanted: Wanted) -> list[tuple[int, Summary]]:
        if wanted.subject is None or wanted.unit not in (None, _unit(wanted.name)[0]):
            return []
        return self._metrics.read(wanted.name, wanted.subject, wanted.start_s, wanted.end_s, wanted.period_s)


def _wanted(metric: Request, times: Request, period_s: int) -> Wanted:
    """
    Read which metric is asked for and when.

    Raises:
        ServiceError: If the period is no multiple of a minute, or the time runs backwards.
    """
    if period_s % MINUTE_S:
        raise ServiceError(
            "InvalidParameterValueException",
            f"The parameter Period must be a multiple of {MINUTE_S}: metrics are kept by the minute.",
        )
    start_s, end_s = int(times["StartTime"]), int(times["EndTime"])
    if start_s >= end_s:
        raise ServiceError(
            "InvalidParameterCombinationException",
            "The parameter StartTime must be less than the parameter EndTime.",
        )
    subject = _subject(metric.get("Dimensions", []))
    if metric.get("Namespace") != NAMESPACE:
        subject = None
    start_s -= start_s % MINUTE_S
    return Wanted(metric.get("MetricName", ""), subject, start_s, end_s, period_s, metric.get("Unit"))


def _check_queries(queries: list[Request]) -> None:
    """
    Check what the model does not say.

    Raises:
        ServiceError: ValidationException for the first query that is wrong.
    """
    if len(queries) > QUERIES_MAX:
        raise _invalid(f"The collection MetricDataQueries must not have a size greater than {QUERIES_MAX}.")
    identifiers: set[str] = set()
    for query in queries:
        identifier = query["Id"]
        if not _IDENTIFIER.fullmatch(identifier):
            raise _invalid(f"The value {identifier} for parameter Id must begin with a lower-case letter.")
        if identifier in identifiers:
            raise _invalid(f"The value {identifier} for parameter Id occurs more than once.")
        identifiers.add(identifier)
        if "Expression" in query:
            raise _invalid(
                f"The query {identifier} has an Expression, which this node does not offer: "
                "ask for each metric with MetricStat and compute from the answers."
            )
        if "MetricStat" not in query:
            raise _invalid(f"The query {identifier} must have a MetricStat.")


def _subject(dimensions: list[Request]) -> Subject | None:
    """Return whose metric is asked for; None if the dimensions are none of Lambda's."""
    named = {each["Name"]: each["Value"] for each in dimensions}
    if set(named) <= {"FunctionName", "Resource"} and ("Resource" not in named or "FunctionName" in named):
        return Subject(named.get("FunctionName", ""), named.get("Resource", ""))
    return None


def _dimensions(subject: Subject) -> list[Reply]:
    pairs = (("FunctionName", subject.function), ("Resource", subject.resource))
    return [{"Name": name, "Value": value} for name, value in pairs if value]


def _is_met(wish: Request, dimensions: list[Reply]) -> bool:
    return any(
        each["Name"] == wish["Name"] and wish.get("Value", each["Value"]) == each["Value"]
        for each in dimensions
    )


def _unit(name: str) -> tuple[str, int]:
    metric = METRICS.get(name)
    return (metric.unit, metric.divisor) if metric is not None else ("None", 1)


def _check_statistic(name: str) -> None:
    if not _PERCENTILE.fullmatch(name):
        raise ServiceError(
            "InvalidParameterValueException",
            f"The statistic {name} is not offered by this node: use {', '.join(_STATISTICS)}, "
            "or a percentile such as p99.",
        )


def _statistic(name: str, summary: Summary, divisor: int) -> float:
    compute = _STATISTICS.get(name)
    return compute(summary, divisor) if compute else summary.percentile(float(name[1:])) / divisor


def _read_place(request: Request) -> int:
    if "NextToken" not in request:
        return 0
    try:
        return max(0, read_token(request["NextToken"], int))
    except ServiceError as error:
        raise ServiceError("InvalidNextToken", "The next token specified is invalid.") from error


def _invalid(message: str) -> ServiceError:
    return ServiceError("ValidationException", message)


class CloudWatchService:
    """
    The application: one service in two protocols, that of today's clients and that of former ones.

    Args:
        handlers: What performs each operation, by its name in the model.
        new_id: Makes a UUID.
    """

    body_bytes_max: Final = limits.OTHER_BODY_BYTES_MAX

    def __init__(self, handlers: Mapping[str, Handler], new_id: Callable[[], str]) -> None:
        api = rpc_api.load(*_MODEL, handlers)
        self._present = Neighbour(SERVICE, api, handlers, new_id)
        former = {name: _former(handler, api.query_errors) for name, handler in handlers.items()}
        self._former = QueryService(SERVICE, xml_api.load(*_MODEL, handlers), former, new_id)

    def __repr__(self) -> str:
        return f"<CloudWatchService {self._present!r}>"

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request: a form in XML, anything else as today."""
        await (self._former if is_form(exchange) else self._present).answer(exchange)


def _former(handler: Handler, codes: Mapping[str, str]) -> QueryHandler:
    """Let an operation be called with a form; its errors have other codes there."""

    async def perform(request: Request, _: Exchange) -> Mapping[str, Any]:
        try:
            return await handler(request)
        except ServiceError as error:
            raise ServiceError(codes.get(error.code, error.code), error.message, error.status) from error

    return perform


def cloudwatch_service(metrics: Metrics, clock: Clock, new_id: Callable[[], str]) -> CloudWatchService:
    """Make the service of a node; arguments as for `CloudWatch` and `CloudWatchService`."""
    return CloudWatchService(CloudWatch(metrics, clock).handlers(), new_id)
