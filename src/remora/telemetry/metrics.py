"""
The metrics of CloudWatch's namespace AWS/Lambda: buckets of one minute in memory.

One bucket per function, resource (`name` or `name:qualifier`, as it was invoked) and minute; what has fewer
dimensions is added up when it is asked for. After three hours minutes become buckets of five minutes, which
are kept for fifteen days. What outlives the node is in `metric_store`.

Source: logs-metrics-billing specification, section 6; AWS Lambda Developer Guide, "Types of metrics for
Lambda functions"; Amazon CloudWatch User Guide, "Metrics retention".
Deviation: CloudWatch keeps minutes for 15 days.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from remora.telemetry.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NAMESPACE: Final = "AWS/Lambda"
MINUTE_S: Final = 60
COARSE_S: Final = 300
MINUTES_KEPT_S: Final = 3 * 3600
KEPT_S: Final = 15 * 24 * 3600
UTILIZATION_WHOLE: Final = 10_000
"""What full utilisation is counted as."""
BUCKETS_MAX: Final = 100_000
"""Buckets of all functions; beyond that, the function that was idle for longest is forgotten."""


class Bucket:
    """What happened to one resource in one minute, or in five; durations in hundredths of milliseconds."""

    __slots__ = (
        "all_concurrency",
        "concurrency",
        "duration",
        "errors",
        "invocations",
        "others",
        "post",
        "throttles",
    )

    def __init__(self) -> None:
        self.invocations = 0
        self.errors = 0
        self.throttles = 0
        self.duration = Summary()
        self.post = Summary()
        self.concurrency = Summary()
        self.all_concurrency = Summary()
        self.others: dict[str, Summary] | None = None
        """Metrics that few functions have, by name."""

    @property
    def stamp(self) -> int:
        """A number that grows with everything that is counted."""
        counted = self.invocations + self.throttles + self.concurrency.count
        return counted + sum(summary.count for summary in (self.others or {}).values())

    def other(self, name: str) -> Summary:
        """Return one of the metrics that few functions have."""
        found = self.others.get(name) if self.others else None
        return found if found is not None else Summary()

    def add(self, name: str, number: int) -> None:
        """Take in a number of one of the metrics that few functions have."""
        if self.others is None:
            self.others = {}
        summary = self.others.get(name)
        if summary is None:
            summary = self.others[name] = Summary()
        summary.add(number)

    def merge(self, other: Bucket) -> None:
        """Add another one's numbers."""
        self.invocations += other.invocations
        self.errors += other.errors
        self.throttles += other.throttles
        self.duration.merge(other.duration)
        self.post.merge(other.post)
        self.concurrency.merge(other.concurrency)
        self.all_concurrency.merge(other.all_concurrency)
        for name, summary in (other.others or {}).items():
            if self.others is None:
                self.others = {}
            self.others.setdefault(name, Summary()).merge(summary)


def _counted(total: int, count: int) -> Summary:
    """Return what `count` samples of 0 or 1 come to."""
    summary = Summary()
    summary.add_many(0, count - total)
    summary.add_many(1, total)
    return summary


def _unless_set_aside(bucket: Bucket, name: str) -> Summary:
    """Return a metric that is the concurrency of all functions while none has any set aside."""
    found = bucket.other(name)
    return found if found.count else bucket.all_concurrency


class Metric(NamedTuple):
    """
    One metric.

    Args:
        unit: CloudWatch's word.
        divisor: What whole numbers are divided by to be of that unit.
        take: Reads it from a bucket.
        dimensions: How many it can have at least and at most: 0 is all functions, 1 FunctionName, 2 Resource.
    """

    unit: str
    divisor: int
    take: Callable[[Bucket], Summary]
    dimensions: tuple[int, int] = (0, 2)


METRICS: Final = {
    "Invocations": Metric("Count", 1, lambda it: _counted(it.invocations, it.invocations)),
    "Errors": Metric("Count", 1, lambda it: _counted(it.errors, it.invocations)),
    "Throttles": Metric("Count", 1, lambda it: _counted(it.throttles, it.invocations + it.throttles)),
    "Duration": Metric("Milliseconds", 100, lambda it: it.duration),
    "PostRuntimeExtensionsDuration": Metric("Milliseconds", 100, lambda it: it.post),
    "ConcurrentExecutions": Metric("Count", 1, lambda it: it.concurrency, (1, 1)),
    "UnreservedConcurrentExecutions": Metric(
        "Count", 1, lambda it: _unless_set_aside(it, "UnreservedConcurrentExecutions"), (0, 0)
    ),
    "ClaimedAccountConcurrency": Metric(
        "Count", 1, lambda it: _unless_set_aside(it, "ClaimedAccountConcurrency"), (0, 0)
    ),
    "ProvisionedConcurrentExecutions": Metric(
        "Count", 1, lambda it: it.other("ProvisionedConcurrentExecutions"), (1, 2)
    ),
    "ProvisionedConcurrencyUtilization": Metric(
        "None", UTILIZATION_WHOLE, lambda it: it.other("ProvisionedConcurrencyUtilization"), (1, 2)
    ),
    "ProvisionedConcurrencyInvocations": Metric(
        "Count", 1, lambda it: it.other("ProvisionedConcurrencyInvocations")
    ),
    "ProvisionedConcurrencySpilloverInvocations": Metric(
        "Count", 1, lambda it: it.other("ProvisionedConcurrencySpilloverInvocations")
    ),
    "UrlRequestCount": Metric("Count", 1, lambda it: it.other("UrlRequestCount")),
    "UrlRequestLatency": Metric("Milliseconds", 1, lambda it: it.other("UrlRequestLatency")),
    "Url4xxCount": Metric("Count", 1, lambda it: it.other("Url4xxCount")),
    "Url5xxCount": Metric("Count", 1, lambda it: it.other("Url5xxCount")),
    "AsyncEventsReceived": Metric("Count", 1, lambda it: it.other("AsyncEventsReceived")),
    "AsyncEventAge": Metric("Milliseconds", 1, lambda it: it.other("AsyncEventAge")),
    "AsyncEventsDropped": Metric("Count", 1, lambda it: it.other("AsyncEventsDropped")),
    "DestinationDeliveryFailures": Metric("Count", 1, lambda it: it.other("DestinationDeliveryFailures")),
    "DeadLetterErrors": Metric("Count", 1, lambda it: it.other("DeadLetterErrors")),
    "RecursiveInvocationsDropped": Metric("Count", 1, lambda it: it.other("RecursiveInvocationsDropped")),
}
_ALL_CONCURRENCY: Final = Metric("Count", 1, lambda it: it.all_concurrency)
_CONCURRENCY: Final = "ConcurrentExecutions"


class Series:
    """
    The buckets of one resource.

    Args:
        function: The function's name.
        resource: Its name as it was invoked, with the qualifier if there was one.
    """

    __slots__ = ("buckets", "coarse", "function", "resource")

    def __init__(self, function: str, resource: str) -> None:
        self.function = function
        self.resource = resource
        self.buckets: dict[int, Bucket] = {}
        """By the second at which the minute began; the newest last."""
        self.coarse: dict[int, Bucket] = {}

    def __repr__(self) -> str:
        return f"<Series {self.resource} buckets={len(self)}>"

    def __len__(self) -> int:
        return len(self.buckets) + len(self.coarse)

    def age(self, now_s: int) -> None:
        """Make old minutes into buckets of five, and forget old ones of these."""
        for start_s in [start_s for start_s in self.buckets if start_s < now_s - MINUTES_KEPT_S]:
            place = start_s - start_s % COARSE_S
            coarse = self.coarse.get(place)
            if coarse is None:
                coarse = self.coarse[place] = Bucket()
            coarse.merge(self.buckets.pop(start_s))
        for start_s in [start_s for start_s in self.coarse if start_s < now_s - KEPT_S]:
            del self.coarse[start_s]


class Subject(NamedTuple):
    """Whose metric: of all functions, of one, or of one resource; empty texts stand for no dimension."""

    function: str = ""
    resource: str = ""

    @property
    def dimensions(self) -> int:
        """How many there are."""
        return bool(self.function) + bool(self.resource)


class Metrics:
    """The metrics of a node."""

    def __init__(self) -> None:
        self._series: OrderedDict[str, Series] = OrderedDict()
        """By ARN as invoked; the one that was used last is the last, to a minute."""
        self._functions: dict[str, dict[str, Series]] = {}
        """The same, by function."""
        self._loads: dict[str, int] = {}
        """Invocations of each function that are running or wait for an environment."""
        self._in_flight = 0
        self._buckets = 0

    def __repr__(self) -> str:
        return f"<Metrics series={len(self._series)} buckets={self._buckets} in_flight={self._in_flight}>"

    # --- what happens -------------------------------------------------------------------------------------

    def entered(self, function: str, invoked_arn: str, now_ms: int) -> None:
        """An invocation of `function` was accepted; `left` must follow."""
        count = self._loads[function] = self._loads.get(function, 0) + 1
        self._in_flight += 1
        bucket = self._bucket(invoked_arn, now_ms)
        bucket.concurrency.add(count)
        bucket.all_concurrency.add(self._in_flight)

    def left(self, function: str) -> None:
        """An invocation is over, whatever came of it."""
        self._in_flight -= 1
        self._loads[function] -= 1
        if not self._loads[function]:
            del self._loads[function]

    def in_flight(self) -> dict[str, int]:
        """Return how many invocations are running or wait for an environment, by function."""
        return dict(self._loads)

    def throttled(self, invoked_arn: str, now_ms: int) -> None:
        """An invocation was refused."""
        self._bucket(invoked_arn, now_ms).throttles += 1

    def add(self, name: str, invoked_arn: str, now_ms: int, number: int) -> None:
        """Take in a number of a metric that few functions have, by its name in `METRICS`."""
        self._bucket(invoked_arn, now_ms).add(name, number)

    def ended(
        self, invoked_arn: str, start_ms: int, duration_us: int, post_runtime_us: int, *, is_error: bool
    ) -> None:
        """
        An invocation ended.

        Args:
            invoked_arn: Its function, as invoked.
            start_ms: When it began, milliseconds since 1970.
            duration_us: As in its report, microseconds.
            post_runtime_us: How long extensions took after the runtime; negative without extensions.
            is_error: True if the function failed.
        """
        bucket = self._bucket(invoked_arn, start_ms)
        bucket.invocations += 1
        if is_error:
            bucket.errors += 1
        bucket.duration.add((duration_us + 5) // 10)
        if post_runtime_us >= 0:
            bucket.post.add((post_runtime_us + 5) // 10)

    def _bucket(self, invoked_arn: str, at_ms: int) -> Bucket:
        series = self._series.get(invoked_arn)
        if series is None:
            series = self._add_series(invoked_arn)
        start_s = at_ms // 60_000 * MINUTE_S
        bucket = series.buckets.get(start_s)
        if bucket is None:
            bucket = series.buckets[start_s] = Bucket()
            self._added(invoked_arn, series, start_s)
        return bucket

    def _add_series(self, invoked_arn: str) -> Series:
        resource = invoked_arn.partition(":function:")[2]
        series = self._series[invoked_arn] = Series(resource.partition(":")[0], resource)
        self._functions.setdefault(series.function, {})[invoked_arn] = series
        return series

    def _added(self, invoked_arn: str, series: Series, now_s: int) -> None:
        """Count a bucket that was added, and make room for it."""
        self._series.move_to_end(invoked_arn)
        before = len(series)
        series.age(now_s)
        self._buckets += 1 + len(series) - before
        while self._buckets > BUCKETS_MAX and len(self._series) > 1:
            self._forget_oldest()

    def _forget_oldest(self) -> None:
        invoked_arn, series = self._series.popitem(last=False)
        self._buckets -= len(series)
        of_function = self._functions[series.function]
        del of_function[invoked_arn]
        if not of_function:
            del self._functions[series.function]

    # --- what is kept -------------------------------------------------------------------------------------

    def recent(self, since_s: int) -> Iterator[tuple[str, int, Bucket]]:
        """Yield the buckets of minutes that began at `since_s` or later: ARN as invoked, begin, bucket."""
        for invoked_arn, series in self._series.items():
            for start_s in reversed(series.buckets):
                if start_s < since_s:
                    break
                yield invoked_arn, start_s, series.buckets[start_s]

    def restore(self, invoked_arn: str, start_s: int, width_s: int, bucket: Bucket) -> None:
        """
        Take in a bucket of an earlier node; call in order of time.

        Args:
            invoked_arn: Its function, as invoked.
            start_s: When it begins, seconds since 1970.
            width_s: `MINUTE_S` or `COARSE_S`.
            bucket: What was counted; it is not to be used otherwise any more.
        """
        series = self._series.get(invoked_arn) or self._add_series(invoked_arn)
        buckets = series.buckets if width_s == MINUTE_S else series.coarse
        if start_s in buckets:
            buckets[start_s].merge(bucket)
            return
        buckets[start_s] = bucket
        self._buckets += 1
        self._series.move_to_end(invoked_arn)

    # --- what is asked ------------------------------------------------------------------------------------

    def subjects(self) -> Iterator[Subject]:
        """Tell of whom there are metrics: everybody first, then functions, then resources."""
        if self._series:
            yield Subject()
        for function in sorted(self._functions):
            yield Subject(function)
        for function in sorted(self._functions):
            for resource in sorted(each.resource for each in self._functions[function].values()):
                yield Subject(function, resource)

    def names(self, subject: Subject, since_s: int = 0) -> list[str]:
        """Return the metrics that have numbers of `subject`, since a time (seconds since 1970)."""
        missing = {name: metric for name in METRICS if (metric := metric_of(name, subject)) is not None}
        wanted = tuple(missing)
        for _, bucket in self._buckets_of(subject, since_s, 2**63):
            for name in tuple(missing):
                if missing[name].take(bucket).count:
                    del missing[name]
            if not missing:
                break
        return [name for name in wanted if name not in missing]

    def read(
        self, name: str, subject: Subject, start_s: int, end_s: int, period_s: int
    ) -> list[tuple[int, Summary]]:
        """
        Return a metric's numbers, period by period, oldest first; periods without any are left out.

        Args:
            name: The metric, `Duration`; of an unknown one there is nothing.
            subject: Whose.
            start_s: Where the first period begins, seconds since 1970.
            end_s: Where the last one ends at the latest.
            period_s: How long each is, seconds.
        """
        metric = metric_of(name, subject)
        if metric is None:
            return []
        found: dict[int, Summary] = {}
        for at_s, bucket in self._buckets_of(subject, start_s, end_s):
            taken = metric.take(bucket)
            if taken.count:
                place = at_s - (at_s - start_s) % period_s
                total = found.get(place)
                if total is None:
                    total = found[place] = Summary()
                total.merge(taken)
        return sorted(found.items())

    def _buckets_of(self, subject: Subject, start_s: int, end_s: int) -> Iterator[tuple[int, Bucket]]:
        chosen = self._functions.get(subject.function, {}) if subject.function else self._series
        for series in chosen.values():
            if subject.resource in ("", series.resource):
                for buckets in (series.coarse, series.buckets):
                    for at_s, bucket in buckets.items():
                        if start_s <= at_s < end_s:
                            yield at_s, bucket


def metric_of(name: str, subject: Subject) -> Metric | None:
    """Return a metric as it is for `subject`; None if there is none with its dimensions."""
    metric = METRICS.get(name)
    if name == _CONCURRENCY and not subject.function:
        return _ALL_CONCURRENCY
    if metric is None or not metric.dimensions[0] <= subject.dimensions <= metric.dimensions[1]:
        return None
    return metric
