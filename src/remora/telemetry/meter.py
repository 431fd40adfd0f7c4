"""One environment's meter: turns what happens in it into metrics, and into what everybody in it used."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from remora.lifecycle.messages import RUNTIME_PROCESS, Happened, Kind
from remora.telemetry.metrics import Metrics
from remora.telemetry.report import billed_ms_of
from remora.telemetry.usage import LAST_MAX, Invocation, Usage

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.kit.clock import Clock
    from remora.telemetry.billing import Rates
    from remora.telemetry.recording import Recorder
    from remora.telemetry.usage import ExtensionUse, Use

_EXTENSION: Final = "extension:"


class Meters:
    """
    What a node counts.

    Args:
        clock: The node's clock.
        last_max: Invocations of a version that are remembered one by one.
    """

    def __init__(self, clock: Clock, last_max: int = LAST_MAX) -> None:
        self.clock = clock
        self.recorder: Recorder | None = None
        """Who records invocations for export; environments made before there is one are not recorded."""
        self.metrics = Metrics()
        self.usage = Usage(clock.wall_ms(), last_max)
        self.entered = self.metrics.entered
        self.left = self.metrics.left
        """See `Metrics`; on the warm path, so called directly."""

    def throttled(self, function: str, version: str, invoked_arn: str) -> None:
        """An invocation was refused."""
        self.metrics.throttled(invoked_arn, self.clock.wall_ms())
        self.usage.of(function, version).throttles += 1

    def add(self, name: str, invoked_arn: str, number: int) -> None:
        """Take in a number of a metric that few functions have, `ProvisionedConcurrencyInvocations`."""
        self.metrics.add(name, invoked_arn, self.clock.wall_ms(), number)

    def open(self, function: str, version: str, rates: Rates) -> Meter:
        """Make the meter of an environment."""
        return Meter(self, self.usage.of(function, version), rates)


class MeterState(msgspec.Struct, frozen=True):
    """Which extensions a meter reckons with after an init."""

    has_extensions: bool
    invoked: tuple[str, ...]


class Meter:
    """
    Counts what happens in one environment.

    Args:
        meters: Those of the node.
        use: Where its version's use is added up.
        rates: What the version is billed by.
    """

    def __init__(self, meters: Meters, use: Use, rates: Rates) -> None:
        self.use = use
        self.recorder = meters.recorder
        self._metrics = meters.metrics
        self._clock = meters.clock
        self._rates = rates
        self._counted = use.billed.setdefault(rates, [0, 0])
        self._invoked_arn = ""
        self._start_ms = 0
        self._done_us = -1
        self._started_us: dict[str, int] = {}
        """When each process was started whose init is not over."""
        self._invoked: set[str] = set()
        """Extensions that hear of invocations."""
        self._has_extensions = False
        self._dones_us: dict[str, int] = {}
        """When each extension was done with the present invocation."""
        self._hear: dict[Kind, Callable[[Happened], None]] = {
            Kind.INIT_STARTED: self._init_started,
            Kind.PROCESS_STARTED: self._process_started,
            Kind.EXTENSION_REGISTERED: self._extension_registered,
            Kind.EXTENSION_READY: self._ready,
            Kind.RUNTIME_READY: self._ready,
            Kind.EXTENSION_STATE: self._extension_state,
            Kind.INIT_ENDED: self._init_ended,
            Kind.RUNTIME_DONE: self._runtime_done,
            Kind.EXTENSION_DONE: self._extension_done,
        }

    def invoked(self, invoked_arn: str) -> None:
        """An invocation begins; `invoked_arn` names the function as it was called."""
        self._invoked_arn = invoked_arn
        self._start_ms = self._clock.wall_ms()
        self._done_us = -1
        self._dones_us.clear()

    def happened(self, happened: Happened, memory_peak_bytes: int = 0) -> None:
        """Count what happened; the peak is read only when an invocation ends."""
        if happened.kind is Kind.INVOKE_ENDED:
            self._invoke_ended(happened, memory_peak_bytes)
            return
        hear = self._hear.get(happened.kind)
        if hear is not None:
            hear(happened)

    def state(self) -> MeterState:
        """Return what later invocations are reckoned with."""
        return MeterState(self._has_extensions, tuple(sorted(self._invoked)))

    def adopt(self, state: MeterState) -> None:
        """Reckon with the same extensions as another one."""
        self._has_extensions, self._invoked = state.has_extensions, set(state.invoked)

    def exited(self, process: str, cpu_us: int, memory_peak_kib: int) -> None:
        """A process ended, having used that much CPU (microseconds) and memory at its peak."""
        took = self._of(process)
        if took is not None:
            took.cpu_us += cpu_us
            took.memory_peak_kib = max(took.memory_peak_kib, memory_peak_kib)
            took.processes_ended += 1

    def _of(self, process: str) -> ExtensionUse | None:
        if process == RUNTIME_PROCESS:
            return self.use.runtime
        return self.use.extension(process.removeprefix(_EXTENSION))

    # --- init ---------------------------------------------------------------------------------------------

    def _init_started(self, _: Happened) -> None:
        self._started_us.clear()
        self._invoked.clear()
        self._has_extensions = False

    def _process_started(self, happened: Happened) -> None:
        self._started_us.setdefault(happened.name, happened.at_us)

    def _extension_registered(self, happened: Happened) -> None:
        self._has_extensions = True
        self._started_us.setdefault(_EXTENSION + happened.name, happened.at_us)

    def _ready(self, happened: Happened) -> None:
        is_extension = happened.kind is Kind.EXTENSION_READY
        process = _EXTENSION + happened.name if is_extension else RUNTIME_PROCESS
        started_us = self._started_us.pop(process, -1)
        took = self._of(process)
        if took is not None and started_us >= 0:
            took.init.add(happened.at_us - started_us)

    def _extension_state(self, happened: Happened) -> None:
        if "INVOKE" in happened.events:
            self._invoked.add(happened.name)

    def _init_ended(self, happened: Happened) -> None:
        if happened.detail != "success":
            self.use.inits_failed += 1

    # --- invoke -------------------------------------------------------------------------------------------

    def _runtime_done(self, happened: Happened) -> None:
        self._done_us = happened.at_us

    def _extension_done(self, happened: Happened) -> None:
        self._dones_us[happened.name] = happened.at_us

    def _invoke_ended(self, happened: Happened, memory_peak_bytes: int) -> None:
        use = self.use
        is_error = happened.detail != "success"
        post_runtime_us = happened.post_runtime_us
        if self._has_extensions and post_runtime_us < 0:
            post_runtime_us = 0
        self._metrics.ended(
            self._invoked_arn,
            self._start_ms,
            happened.duration_us,
            post_runtime_us,
            is_error=is_error,
        )
        billed = billed_ms_of(happened)
        use.invocations += 1
        if is_error:
            use.errors += 1
            use.timeouts += happened.detail == "timeout"
        use.duration.add(happened.duration_us)
        if happened.init_us >= 0:
            use.init.add(happened.init_us)
        if happened.restore_us >= 0:
            use.restore.add(happened.restore_us)
        use.memory_peak_bytes = max(use.memory_peak_bytes, memory_peak_bytes)
        self._counted[0] += 1
        self._counted[1] += billed
        use.last.append(
            Invocation(
                happened.request_id,
                self._start_ms,
                happened.detail,
                happened.duration_us,
                happened.init_us,
                post_runtime_us,
                billed,
                memory_peak_bytes,
                self._rates,
            )
        )
        if post_runtime_us >= 0:
            use.post_runtime.add(post_runtime_us)
            self._count_extensions(happened.at_us)

    def _count_extensions(self, ended_us: int) -> None:
        """Tell how long each extension kept the environment after the runtime was done."""
        if self._done_us < 0:
            return
        for name in self._invoked:
            took = self.use.extension(name)
            if took is not None:
                took.post_runtime.add(max(0, self._dones_us.get(name, ended_us) - self._done_us))
