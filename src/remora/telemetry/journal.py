"""One environment's journal: its log stream, the tail of the present invocation, its timeline."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle.messages import Happened, Kind
from remora.spec.limits import LOG_TAIL_BYTES_MAX
from remora.telemetry.log_files import LogLine
from remora.telemetry.report import platform_lines, start_line, xray
from remora.telemetry.system_log import write_record

if TYPE_CHECKING:
    from remora.kit.clock import Clock
    from remora.telemetry.application_log import ApplicationLog
    from remora.telemetry.facts import TellerState
    from remora.telemetry.logs import LogStore
    from remora.telemetry.system_log import SystemLog
    from remora.telemetry.timeline import Timeline

_TAIL_KEPT_BYTES = 16 * LOG_TAIL_BYTES_MAX
"""The tail is cut back only when it grew to this size."""


class Journal:
    """
    Where everything that one environment says and does is written down.

    Args:
        store: The node's log groups.
        group: Log group, `/aws/lambda/<function>`.
        stream: Log stream, `YYYY/MM/DD/[<version>]<32 hex>`.
        timeline: Its timeline.
        clock: The node's clock.
        version: The function's version.
        memory_mib: The function's memory size.
        reports_every_init: True if the log tells of an init that succeeded, too.
        system_log: Writes the platform's lines in a log of format JSON; None for format Text.
        application_log: Writes the function's lines in a log of format JSON; None for format Text.
    """

    def __init__(
        self,
        store: LogStore,
        group: str,
        stream: str,
        *,
        timeline: Timeline,
        clock: Clock,
        version: str,
        memory_mib: int,
        reports_every_init: bool = False,
        system_log: SystemLog | None = None,
        application_log: ApplicationLog | None = None,
    ) -> None:
        self.group = group
        self.stream = stream
        self.timeline = timeline
        self._store = store
        self.has_room = store.has_room
        self._clock = clock
        self._version = version
        self._memory_mib = memory_mib
        self._reports_every_init = reports_every_init
        self._system_log = system_log
        self._application_log = application_log
        self._request_id = ""
        self._xray = ""
        """What follows the report of the present invocation; empty unless its trace is sampled."""
        self._tail = bytearray()

    def invoked(self, trace_id: str) -> None:
        """An invocation follows, with this trace header, or none."""
        self._xray = xray(trace_id) if "Sampled=1" in trace_id else ""
        if self._system_log is not None:
            self._system_log.invoked(trace_id)

    def begin(self, phase: str, version: str, version_arn: str) -> None:
        """Write the first line of a phase, `INIT` or `RESTORE`; it is not part of the tail."""
        if self._system_log is None:
            self._append(start_line(phase, version, version_arn))

    def move(self, stream: str) -> None:
        """Go on in another log stream, with an empty tail: so does an environment that is restored."""
        self.stream = stream
        self._tail.clear()
        if self._system_log is not None:
            self._system_log.moved(stream)

    def state(self) -> TellerState | None:
        """Return what its system log knows after an init; None for format Text."""
        return self._system_log.state() if self._system_log is not None else None

    def adopt(self, state: TellerState | None) -> None:
        """Know what another one knew."""
        if self._system_log is not None and state is not None:
            self._system_log.adopt(state, self._clock.monotonic_us())

    def happened(self, happened: Happened, memory_peak_bytes: int = 0) -> None:
        """
        Write down an event: a mark in the timeline, and its log lines if it has any.

        Args:
            happened: The event.
            memory_peak_bytes: Highest memory use so far; needed when an invocation ends.
        """
        self.timeline.add(happened)
        kind = happened.kind
        if kind is Kind.INVOKE_STARTED:
            self._request_id = happened.request_id
        peak_mib = -(-memory_peak_bytes // (1024 * 1024))
        self._write_platform_lines(happened, peak_mib)
        if kind is Kind.INVOKE_ENDED:
            self._request_id = ""

    def _write_platform_lines(self, happened: Happened, peak_mib: int) -> None:
        if self._system_log is not None:
            now_ms = self._clock.wall_ms()
            for line, is_logged in self._system_log.lines(happened, now_ms, peak_mib):
                if is_logged:
                    self._append(line)
                if happened.kind is not Kind.INIT_STARTED and happened.kind is not Kind.RESTORE_STARTED:
                    self._to_tail(line)
            return
        lines = platform_lines(
            happened,
            self._version,
            self._memory_mib,
            peak_mib,
            reports_every_init=self._reports_every_init,
        )
        if self._xray and happened.kind is Kind.INVOKE_ENDED:
            lines[-1] = f"{lines[-1]}\n{self._xray}"
        if lines:
            now_ms, request_id = self._clock.wall_ms(), self._request_id
            self._store.extend(self.group, self.stream, [LogLine(now_ms, line, request_id) for line in lines])
            self._to_tail("\n".join(lines))

    def printed(
        self, lines: list[str], time_ms: int = 0, level: str = "", *, is_function: bool = True
    ) -> None:
        """
        Write down lines of a process.

        Args:
            lines: Without newlines at their ends; what a log channel brings may have some within.
            time_ms: When, if not now.
            level: What the log channel says about it; empty if they came otherwise.
            is_function: False if an extension printed them: they belong to no invocation, and are left as
                they are.
        """
        time_ms = time_ms or self._clock.wall_ms()
        request_id = self._request_id if is_function else ""
        logged = lines
        if self._application_log is not None and is_function:
            record = self._application_log.record
            records = [record(line, time_ms, request_id, level) for line in lines]
            lines = [text for text, _ in records]
            logged = [text for text, is_logged in records if is_logged]
        self._store.extend(self.group, self.stream, [LogLine(time_ms, text, request_id) for text in logged])
        self._to_tail("\n".join(lines))

    def subscribed(self, api: str, name: str, state: str, types: tuple[str, ...]) -> None:
        """Write down that an extension subscribed; `api` is `TELEMETRY` or `LOGS`."""
        if self._system_log is not None:
            record = {"name": name, "state": state, "types": list(types)}
            line = write_record(f"platform.{api.lower()}Subscription", self._clock.wall_ms(), record)
            if self._system_log.is_logged("INFO"):
                self._append(line)
            self._to_tail(line)
            return
        shown = ", ".join(each.capitalize() for each in types)
        self._write(f"{api}\tName: {name}\tState: {state}\tTypes: [{shown}]")

    def take_tail(self) -> bytes:
        """Return the last 4096 bytes written since the last call, and begin a new tail."""
        tail = bytes(self._tail[-LOG_TAIL_BYTES_MAX:])
        is_cut_within = len(self._tail) > len(tail) and self._tail[-len(tail) - 1] != ord("\n")
        self._tail.clear()
        if is_cut_within and self._system_log is not None:
            return tail.partition(b"\n")[2]  # records are whole or not there
        return tail

    def _write(self, line: str) -> None:
        self._append(line)
        self._to_tail(line)

    def _to_tail(self, text: str) -> None:
        self._tail += text.encode()
        self._tail += b"\n"
        if len(self._tail) > _TAIL_KEPT_BYTES:
            del self._tail[:-LOG_TAIL_BYTES_MAX]

    def _append(self, line: str) -> None:
        self._store.append(self.group, self.stream, LogLine(self._clock.wall_ms(), line, self._request_id))
