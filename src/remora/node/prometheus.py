"""
The page /metrics: what functions did and used since the node started, for Prometheus.

Numbers are read when the page is asked for; nothing is counted twice. Histograms are true to half a percent
of each bound.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from prometheus_client.core import Metric

    from remora.telemetry.meter import Meters
    from remora.telemetry.summary import Summary
    from remora.telemetry.usage import Use

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4.encode()
BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
    *(60.0, 300.0, 900.0),
)
"""From a warm no-op to the longest timeout."""

_LABELS: Final = ("function", "version")
_COUNTERS: Final[tuple[tuple[str, str, Callable[[Use], float]], ...]] = (
    ("invocations", "Invocations that ended, those that failed included.", lambda use: use.invocations),
    ("errors", "Invocations that failed, timeouts included.", lambda use: use.errors),
    ("timeouts", "Invocations that ran into the function's timeout.", lambda use: use.timeouts),
    ("throttles", "Invocations that were refused for concurrency.", lambda use: use.throttles),
    ("init_failures", "Inits that failed or were cut off.", lambda use: use.inits_failed),
    (
        "billed_seconds",
        "Billed duration, each invocation rounded up.",
        lambda use: use.bill().billed_ms / 1000,
    ),
    ("billed_gb_seconds", "Billed duration times memory size.", lambda use: use.bill().gb_seconds),
    ("cost_usd", "What AWS would ask, first tier, without the free tier.", lambda use: use.bill().usd),
)
_EXPORTS: Final = (
    ("exported", "Invocations, lines and data points that an OpenTelemetry collector took."),
    ("dropped", "Those that it did not take, or not in time."),
)
_HISTOGRAMS: Final[tuple[tuple[str, str, Callable[[Use], Summary]], ...]] = (
    ("duration_seconds", "Duration as reported, extensions included.", lambda use: use.duration),
    ("init_duration_seconds", "Init that was billed with an invocation: cold starts.", lambda use: use.init),
    ("restore_duration_seconds", "Restore from a snapshot before an invocation.", lambda use: use.restore),
    (
        "post_runtime_seconds",
        "From the runtime's end to that of the extensions.",
        lambda use: use.post_runtime,
    ),
)


class Page:
    """
    The page.

    Args:
        meters: What the node counts.
        environments: Returns the node's environments, JSON objects with `function`, `version` and `state`.
        exports: Returns how many items of each signal were exported to OpenTelemetry, and dropped.
    """

    def __init__(
        self,
        meters: Meters,
        environments: Callable[[], list[dict[str, object]]],
        exports: Callable[[], Mapping[str, tuple[int, int]]],
    ) -> None:
        self._meters = meters
        self._exports = exports
        self._environments = environments
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(self)

    def write(self) -> bytes:
        """Return the page as it is now, in Prometheus's text format 0.0.4."""
        return generate_latest(self._registry)

    def describe(self) -> Iterable[Metric]:
        """Nothing: names are known when the page is asked for (a collector's protocol)."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """Yield everything (a collector's protocol)."""
        uses = self._meters.usage.all()
        for name, text, count in _COUNTERS:
            counter = CounterMetricFamily(f"remora_function_{name}", text, labels=_LABELS)
            for labels, use in uses.items():
                counter.add_metric(labels, count(use))
            yield counter
        for name, text, take in _HISTOGRAMS:
            histogram = HistogramMetricFamily(f"remora_function_{name}", text, labels=_LABELS)
            for labels, use in uses.items():
                _add(histogram, labels, take(use))
            yield histogram
        yield from self._extensions(uses)
        yield from self._gauges(uses)
        yield from self._exported()

    def _exported(self) -> Iterator[Metric]:
        counts = self._exports()
        for place, (name, text) in enumerate(_EXPORTS):
            counter = CounterMetricFamily(f"remora_otlp_{name}", text, labels=("signal",))
            for signal, numbers in counts.items():
                counter.add_metric((signal,), numbers[place])
            yield counter

    def _extensions(self, uses: dict[tuple[str, str], Use]) -> Iterator[Metric]:
        labels = (*_LABELS, "extension")
        init = HistogramMetricFamily(
            "remora_extension_init_seconds", "From an extension's start to its first next.", labels=labels
        )
        post_runtime = HistogramMetricFamily(
            "remora_extension_post_runtime_seconds",
            "How long an extension worked after the runtime was done.",
            labels=labels,
        )
        cpu = CounterMetricFamily(
            "remora_extension_cpu_seconds", "CPU of an extension's processes that have ended.", labels=labels
        )
        for whose, use in uses.items():
            for name, took in use.extensions.items():
                _add(init, (*whose, name), took.init)
                _add(post_runtime, (*whose, name), took.post_runtime)
                cpu.add_metric((*whose, name), took.cpu_us / 1_000_000)
        yield from (init, post_runtime, cpu)

    def _gauges(self, uses: dict[tuple[str, str], Use]) -> Iterator[Metric]:
        memory = GaugeMetricFamily(
            "remora_function_memory_peak_bytes", "Highest memory use of an environment.", labels=_LABELS
        )
        for labels, use in uses.items():
            memory.add_metric(labels, use.memory_peak_bytes)
        yield memory
        in_flight = GaugeMetricFamily(
            "remora_function_concurrent_executions", "Invocations under way.", labels=("function",)
        )
        for function, count in self._meters.metrics.in_flight().items():
            in_flight.add_metric((function,), count)
        yield in_flight
        environments = GaugeMetricFamily(
            "remora_environments", "Environments by what they are doing.", labels=(*_LABELS, "state")
        )
        counts: dict[tuple[str, str, str], int] = {}
        for each in self._environments():
            key = (str(each["function"]), str(each["version"]), str(each["state"]))
            counts[key] = counts.get(key, 0) + 1
        for key, count in counts.items():
            environments.add_metric(key, count)
        yield environments


def _add(family: HistogramMetricFamily, labels: tuple[str, ...], summary: Summary) -> None:
    """Add a summary of microseconds as a histogram of seconds."""
    buckets = [(str(bound), float(summary.at_most(bound * 1_000_000))) for bound in BOUNDS_S]
    buckets.append(("+Inf", float(summary.count)))
    family.add_metric(labels, buckets, summary.total / 1_000_000)
