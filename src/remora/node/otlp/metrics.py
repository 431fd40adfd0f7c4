"""
What functions did and used since the node started, as metrics of OTLP: cumulative, version by version.

The names of OpenTelemetry's semantic conventions ("FaaS metrics") where there are any, else `remora.…`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality

from remora.node.otlp.messages import describe, put, scoped
from remora.node.prometheus import BOUNDS_S
from remora.telemetry.facts import Subject

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.telemetry.summary import Summary
    from remora.telemetry.usage import Use

_CUMULATIVE: Final = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
_US_PER_S: Final = 1_000_000


class _Sum(NamedTuple):
    name: str
    unit: str
    text: str
    take: Callable[[Use], float]


class _Distribution(NamedTuple):
    name: str
    text: str
    take: Callable[[Use], Summary]


_SUMS: Final = (
    _Sum(
        "faas.invocations",
        "{invocation}",
        "Invocations that succeeded.",
        lambda it: it.invocations - it.errors,
    ),
    _Sum("faas.errors", "{error}", "Invocations that failed, timeouts included.", lambda it: it.errors),
    _Sum("faas.timeouts", "{timeout}", "Invocations that ran into the timeout.", lambda it: it.timeouts),
    _Sum("faas.coldstarts", "{coldstart}", "Inits billed with an invocation.", lambda it: it.init.count),
    _Sum("remora.throttles", "{invocation}", "Invocations refused for concurrency.", lambda it: it.throttles),
    _Sum("remora.init_failures", "{init}", "Inits that failed.", lambda it: it.inits_failed),
    _Sum("remora.billed_duration", "s", "Billed duration.", lambda it: it.bill().billed_ms / 1000),
    _Sum(
        "remora.billed_gb_seconds", "GBy.s", "Billed duration times memory.", lambda it: it.bill().gb_seconds
    ),
    _Sum("remora.cost", "USD", "What AWS would ask, without the free tier.", lambda it: it.bill().usd),
)
_DISTRIBUTIONS: Final = (
    _Distribution(
        "faas.invoke_duration", "Duration as reported, extensions included.", lambda it: it.duration
    ),
    _Distribution("faas.init_duration", "Init billed with an invocation.", lambda it: it.init),
    _Distribution("remora.restore_duration", "Restore from a snapshot.", lambda it: it.restore),
    _Distribution(
        "remora.post_runtime_duration",
        "From the runtime's end to that of the extensions.",
        lambda it: it.post_runtime,
    ),
)


class MetricMessage:
    """
    One request, built version by version so that a node with many of them does other things in between.

    Args:
        started_ms: Since when is counted, milliseconds since 1970.
        now_ms: Until when.
        extra: Attributes of every resource.
    """

    def __init__(self, started_ms: int, now_ms: int, extra: Mapping[str, str]) -> None:
        self._request = ExportMetricsServiceRequest()
        self._times = {
            "start_time_unix_nano": started_ms * 1_000_000,
            "time_unix_nano": now_ms * 1_000_000,
        }
        self._extra = extra
        self.points = 0
        """How many data points there are so far."""

    def add(self, function: str, version: str, use: Use, in_flight: int) -> None:
        """Add what a version did, of whose function so many invocations are under way."""
        resource = self._request.resource_metrics.add()
        memory = max((rates.memory_mib for rates in use.billed), default=0)
        describe(resource.resource, Subject(function, version, "", memory, ""), self._extra)
        metrics = scoped(resource.scope_metrics).metrics
        for each in _SUMS:
            self._sum(metrics.add(name=each.name, unit=each.unit, description=each.text), each.take(use))
        for which in _DISTRIBUTIONS:
            self._histogram(
                metrics.add(name=which.name, unit="s", description=which.text), [({}, which.take(use))]
            )
        self._gauge(metrics.add(name="faas.mem_usage.peak", unit="By"), use.memory_peak_bytes)
        self._gauge(metrics.add(name="remora.concurrent_executions", unit="{invocation}"), in_flight)
        took = {name: use.extensions[name] for name in sorted(use.extensions)}
        if took:
            init = [({"extension": name}, each.init) for name, each in took.items()]
            post = [({"extension": name}, each.post_runtime) for name, each in took.items()]
            self._histogram(metrics.add(name="remora.extension.init_duration", unit="s"), init)
            self._histogram(metrics.add(name="remora.extension.post_runtime_duration", unit="s"), post)
            cpu = metrics.add(name="remora.extension.cpu_time", unit="s")
            for name, extension in took.items():
                self._sum(cpu, extension.cpu_us / _US_PER_S, {"extension": name})

    def serialise(self) -> bytes:
        """Return the request's bytes."""
        return bytes(self._request.SerializeToString())

    def _sum(self, metric: Any, value: float, attributes: Mapping[str, str] | None = None) -> None:
        metric.sum.aggregation_temporality = _CUMULATIVE
        metric.sum.is_monotonic = True
        point = metric.sum.data_points.add(**self._times)
        put(point.attributes, attributes or {})
        if isinstance(value, int):
            point.as_int = value
        else:
            point.as_double = value
        self.points += 1

    def _gauge(self, metric: Any, value: int) -> None:
        metric.gauge.data_points.add(as_int=value, **self._times)
        self.points += 1

    def _histogram(self, metric: Any, summaries: list[tuple[dict[str, str], Summary]]) -> None:
        metric.histogram.aggregation_temporality = _CUMULATIVE
        for attributes, summary in summaries:
            point = metric.histogram.data_points.add(
                count=summary.count,
                sum=summary.total / _US_PER_S,
                explicit_bounds=BOUNDS_S,
                bucket_counts=_counts(summary),
                **self._times,
            )
            if summary.count:
                point.min, point.max = summary.least / _US_PER_S, summary.greatest / _US_PER_S
            put(point.attributes, attributes)
            self.points += 1


def _counts(summary: Summary) -> list[int]:
    """Return how many numbers (microseconds) are within each bound and not within the one before."""
    reached = [summary.at_most(bound * _US_PER_S) for bound in BOUNDS_S]
    return [after - before for before, after in zip((0, *reached), (*reached, summary.count), strict=True)]
