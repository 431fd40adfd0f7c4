"""
What functions used since the node started, version by version: for reports and for Prometheus.

Kept apart from metrics, which are AWS's own and know neither inits nor memory nor extensions.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import Any, Final, NamedTuple

from remora.telemetry.billing import Bill, Rates, bill, total
from remora.telemetry.prices import PRICES
from remora.telemetry.summary import Summary

VERSIONS_MAX: Final = 2_000
"""Versions remembered; the one that was used first is forgotten first."""
LAST_MAX: Final = 20
"""Invocations of a version that are remembered one by one."""
EXTENSIONS_MAX: Final = 50
"""Extensions remembered per version: an internal one may choose any name."""


class Invocation(NamedTuple):
    """
    One invocation that ended.

    `init_us` and `post_runtime_us` are negative if it had no init, or no extensions; `memory_peak_bytes` is
    the highest use of its environment so far.
    """

    request_id: str
    start_ms: int
    status: str
    duration_us: int
    init_us: int
    post_runtime_us: int
    billed_ms: int
    memory_peak_bytes: int
    rates: Rates


class ExtensionUse:
    """What one extension took, microseconds; CPU and memory are known of processes that have ended."""

    __slots__ = ("cpu_us", "init", "memory_peak_kib", "post_runtime", "processes_ended")

    def __init__(self) -> None:
        self.init = Summary()
        self.post_runtime = Summary()
        self.cpu_us = 0
        self.memory_peak_kib = 0
        self.processes_ended = 0

    def merge(self, other: ExtensionUse) -> None:
        """Add what another one took."""
        self.init.merge(other.init)
        self.post_runtime.merge(other.post_runtime)
        self.cpu_us += other.cpu_us
        self.memory_peak_kib = max(self.memory_peak_kib, other.memory_peak_kib)
        self.processes_ended += other.processes_ended


class Use:
    """
    What one version, or several, used; durations in microseconds.

    Args:
        last_max: Invocations that are remembered one by one.
    """

    def __init__(self, last_max: int = LAST_MAX) -> None:
        self.invocations = 0
        self.errors = 0
        self.timeouts = 0
        self.throttles = 0
        self.inits_failed = 0
        self.duration = Summary()
        self.init = Summary()
        self.restore = Summary()
        self.post_runtime = Summary()
        self.memory_peak_bytes = 0
        self.billed: dict[Rates, list[int]] = {}
        """Requests and billed milliseconds, by what the function was billed by."""
        self.extensions: dict[str, ExtensionUse] = {}
        self.runtime = ExtensionUse()
        """The runtime's processes, as if they were an extension."""
        self.last: deque[Invocation] = deque(maxlen=last_max)

    def __repr__(self) -> str:
        return f"<Use invocations={self.invocations} extensions={sorted(self.extensions)}>"

    def extension(self, name: str) -> ExtensionUse | None:
        """Return what is known of an extension; None if there are too many."""
        found = self.extensions.get(name)
        if found is None and len(self.extensions) < EXTENSIONS_MAX:
            found = self.extensions[name] = ExtensionUse()
        return found

    def bill(self) -> Bill:
        """Return what all of it costs."""
        return total(
            [bill(rates, requests, milliseconds) for rates, (requests, milliseconds) in self.billed.items()]
        )

    def merge(self, other: Use) -> None:
        """Add what another version used."""
        self.invocations += other.invocations
        self.errors += other.errors
        self.timeouts += other.timeouts
        self.throttles += other.throttles
        self.inits_failed += other.inits_failed
        self.duration.merge(other.duration)
        self.init.merge(other.init)
        self.restore.merge(other.restore)
        self.post_runtime.merge(other.post_runtime)
        self.memory_peak_bytes = max(self.memory_peak_bytes, other.memory_peak_bytes)
        for rates, (requests, milliseconds) in other.billed.items():
            counted = self.billed.setdefault(rates, [0, 0])
            counted[0] += requests
            counted[1] += milliseconds
        for name, use in other.extensions.items():
            mine = self.extension(name)
            if mine is not None:
                mine.merge(use)
        self.runtime.merge(other.runtime)
        last = sorted((*self.last, *other.last), key=lambda each: each.start_ms)
        self.last = deque(last, self.last.maxlen)


class Usage:
    """
    What all functions of a node used.

    Args:
        started_ms: Since when, milliseconds since 1970.
        last_max: Invocations of a version that are remembered one by one.
    """

    def __init__(self, started_ms: int = 0, last_max: int = LAST_MAX) -> None:
        self.started_ms = started_ms
        self._last_max = last_max
        self._uses: OrderedDict[tuple[str, str], Use] = OrderedDict()

    def of(self, function: str, version: str) -> Use:
        """Return what a version has used, to be added to."""
        found = self._uses.get((function, version))
        if found is None:
            found = self._uses[function, version] = Use(self._last_max)
            if len(self._uses) > VERSIONS_MAX:
                self._uses.popitem(last=False)
        return found

    def all(self) -> dict[tuple[str, str], Use]:
        """Return everything, by function and version."""
        return dict(self._uses)

    def report(self, function: str, version: str = "") -> dict[str, Any] | None:
        """
        Return what a function used as a JSON object; None if nothing is known of it.

        Args:
            function: Its name.
            version: `$LATEST` or a number; all versions together if it is empty.
        """
        found = {
            key[1]: use for key, use in self._uses.items() if key[0] == function and version in ("", key[1])
        }
        if not found:
            return None
        whole = Use()
        for use in found.values():
            whole.merge(use)
        return {
            "function": function,
            "versions": sorted(found),
            "since_ms": self.started_ms,
            **_described(whole),
        }


def _described(use: Use) -> dict[str, Any]:
    costs = use.bill()
    return {
        "invocations": use.invocations,
        "errors": use.errors,
        "timeouts": use.timeouts,
        "throttles": use.throttles,
        "cold_starts": use.init.count,
        "restores": use.restore.count,
        "inits_failed": use.inits_failed,
        "duration_ms": spread(use.duration),
        "init_ms": spread(use.init),
        "restore_ms": spread(use.restore),
        "post_runtime_ms": spread(use.post_runtime),
        "memory_mib": sorted({rates.memory_mib for rates in use.billed}),
        "memory_peak_bytes": use.memory_peak_bytes,
        "billed_ms": costs.billed_ms,
        "gb_seconds": costs.gb_seconds,
        "usd": costs.usd,
        "prices": {"region": PRICES.region, "as_of": PRICES.as_of, "source": PRICES.source},
        "extensions": [{"name": name, **_took(each)} for name, each in sorted(use.extensions.items())],
        "runtime": _took(use.runtime),
        "last": [described(each) for each in use.last],
    }


def _took(use: ExtensionUse) -> dict[str, Any]:
    return {
        "init_ms": spread(use.init),
        "post_runtime_ms": spread(use.post_runtime),
        "cpu_ms": use.cpu_us / 1000,
        "memory_peak_bytes": use.memory_peak_kib * 1024,
        "processes_ended": use.processes_ended,
    }


def described(each: Invocation) -> dict[str, Any]:
    """Return one invocation and its bill as a JSON object."""
    costs = bill(each.rates, 1, each.billed_ms)
    return {
        "request_id": each.request_id,
        "start_ms": each.start_ms,
        "status": each.status,
        "duration_ms": each.duration_us / 1000,
        "init_ms": each.init_us / 1000 if each.init_us >= 0 else None,
        "post_runtime_ms": each.post_runtime_us / 1000 if each.post_runtime_us >= 0 else None,
        "memory_mib": each.rates.memory_mib,
        "memory_peak_bytes": each.memory_peak_bytes,
        "billed_ms": each.billed_ms,
        "gb_seconds": costs.gb_seconds,
        "usd": costs.usd,
    }


def spread(summary: Summary) -> dict[str, float] | None:
    """Describe durations (microseconds) in milliseconds; None of nothing."""
    if not summary.count:
        return None
    return {
        "count": summary.count,
        "mean": round(summary.mean() / 1000, 3),
        "p50": round(summary.percentile(50) / 1000, 3),
        "p99": round(summary.percentile(99) / 1000, 3),
        "max": summary.greatest / 1000,
        "sum": summary.total / 1000,
    }
