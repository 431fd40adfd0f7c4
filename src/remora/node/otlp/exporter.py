"""
Takes what was recorded, logged and counted to a collector, off every path that somebody waits on.

Invocations and lines wait in bounded queues and leave them in batches, a moment after the first has come;
metrics leave by the minute. What a slow or dead collector does not take in time is dropped and counted.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Final

from remora.kit.tasks import TaskSet
from remora.node.otlp.destination import destinations, pairs
from remora.node.otlp.lane import Lane
from remora.node.otlp.messages import Lines, log_message, trace_message
from remora.node.otlp.metrics import MetricMessage
from remora.node.settings import NodeError
from remora.telemetry.recording import Recorder

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from remora.kit.clock import Clock
    from remora.telemetry.log_files import LogLine
    from remora.telemetry.meter import Meters

BATCH_INVOCATIONS: Final = 256
BATCH_LINES: Final = 4_096
BATCH_BYTES: Final = 2 * 1024 * 1024
"""Of log lines in one message, unless a single piece is longer: collectors refuse what is too long."""
LINES_MAX: Final = 200_000
LINE_BYTES_MAX: Final = 32 * 1024 * 1024
"""Lines that wait for export; of more, the newest are dropped."""
CLOSE_S: Final = 2.0
"""How long the end of a node waits for what is still to be sent."""
HURRY_S: Final = 1.0
"""How much longer, when nothing is repeated any more."""


class Exporter:
    """
    The export of a node.

    Args:
        variables: OpenTelemetry's environment variables.
        meters: What the node counts.
        clock: The node's clock.

    Raises:
        NodeError: If the variables ask for what is not offered.
    """

    def __init__(self, variables: Mapping[str, str], meters: Meters, clock: Clock) -> None:
        self._lanes = {
            signal: Lane(signal, destination) for signal, destination in destinations(variables).items()
        }
        self._extra = pairs(variables.get("OTEL_RESOURCE_ATTRIBUTES", ""))
        self._trace_delay_s = _milliseconds(variables, "OTEL_BSP_SCHEDULE_DELAY", 1_000)
        self._log_delay_s = _milliseconds(variables, "OTEL_BLRP_SCHEDULE_DELAY", 1_000)
        self._metric_interval_s = _milliseconds(variables, "OTEL_METRIC_EXPORT_INTERVAL", 60_000)
        self._meters = meters
        self._clock = clock
        self._tasks = TaskSet("otlp")
        self._has_traces, self._has_lines, self._is_closing = (
            asyncio.Event(),
            asyncio.Event(),
            asyncio.Event(),
        )
        self._lines: deque[Lines] = deque()
        self._line_count = self._line_bytes = 0
        self.recorder = Recorder(self._has_traces.set)
        """Records invocations."""

    def __repr__(self) -> str:
        return f"<Exporter {list(self._lanes.values())!r} lines={self._line_count} {self.recorder!r}>"

    def start(self) -> None:
        """Begin to export."""
        work: dict[str, Callable[[Lane], Coroutine[None, None, None]]] = {
            "traces": self._export_traces,
            "logs": self._export_lines,
            "metrics": self._export_metrics,
        }
        for signal, lane in self._lanes.items():
            self._tasks.spawn(work[signal](lane), f"export {signal}")

    def logged(self, pending: Mapping[tuple[str, str], Sequence[LogLine]]) -> None:
        """Take lines as they go to disk; see `LogStore.tap`."""
        lane = self._lanes.get("logs")
        if lane is None:
            return
        for (group, stream), lines in pending.items():
            size = sum(len(line.message) for line in lines)
            if self._line_count + len(lines) > LINES_MAX or self._line_bytes + size > LINE_BYTES_MAX:
                lane.dropped += len(lines)
                continue
            self._line_count += len(lines)
            self._line_bytes += size
            self._lines.append(Lines(group, stream, lines, self.recorder.subject(stream)))
        self._has_lines.set()

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return how many items of each signal were exported, and dropped."""
        counts: dict[str, tuple[int, int]] = {
            signal: (lane.exported, lane.dropped) for signal, lane in self._lanes.items()
        }
        if "traces" in counts:
            exported, dropped = counts["traces"]
            counts["traces"] = exported, dropped + self.recorder.dropped
        return counts

    async def close(self) -> None:
        """
        Send what there is, for a moment; then end. Repeated calls: no effect.

        **Cancellation:** what was not sent is lost.
        """
        self._is_closing.set()
        self._has_traces.set()
        self._has_lines.set()
        await self._join(CLOSE_S)
        for lane in self._lanes.values():
            lane.hurry()
        await self._join(HURRY_S)
        await self._tasks.close()
        for lane in self._lanes.values():
            lane.close()

    async def _join(self, seconds: float) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._tasks.join()

    # --- signals ------------------------------------------------------------------------------------------

    async def _export_traces(self, lane: Lane) -> None:
        while not self._is_closing.is_set():
            await self._arrived(self._has_traces, self._trace_delay_s)
            while taken := self.recorder.take(BATCH_INVOCATIONS):
                await lane.deliver(partial(trace_message, taken, self._extra), len(taken))

    async def _export_lines(self, lane: Lane) -> None:
        while not self._is_closing.is_set():
            await self._arrived(self._has_lines, self._log_delay_s)
            while taken := self._take_lines():
                build = partial(
                    log_message, taken, self.recorder.trace_id, self._clock.wall_ms(), self._extra
                )
                await lane.deliver(build, sum(len(each.lines) for each in taken))

    async def _arrived(self, arrived: asyncio.Event, delay_s: float) -> None:
        """Wait for the first thing, and a moment for others; or for the end of the node."""
        await arrived.wait()
        await self._pause(delay_s)
        arrived.clear()

    async def _pause(self, seconds: float) -> None:
        """Wait; the end of the node ends it."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._is_closing.wait()

    def _take_lines(self) -> list[Lines]:
        taken: list[Lines] = []
        count = size = 0
        while self._lines and count < BATCH_LINES and size < BATCH_BYTES:
            each = self._lines.popleft()
            part, rest = _cut(each, BATCH_LINES - count, BATCH_BYTES - size)
            if rest is not None:
                self._lines.appendleft(rest)
            taken.append(part)
            count += len(part.lines)
            size += sum(len(line.message) for line in part.lines)
        self._line_count -= count
        self._line_bytes -= size
        return taken

    async def _export_metrics(self, lane: Lane) -> None:
        while not self._is_closing.is_set():
            await self._pause(self._metric_interval_s)
            message = await self._metrics()
            if message.points:
                await lane.deliver(message.serialise, message.points)

    async def _metrics(self) -> MetricMessage:
        meters = self._meters
        message = MetricMessage(meters.usage.started_ms, self._clock.wall_ms(), self._extra)
        in_flight = meters.metrics.in_flight()
        for (function, version), use in meters.usage.all().items():
            message.add(function, version, use, in_flight.get(function, 0))
            await asyncio.sleep(0)  # invocations go first
        return message


def _cut(lines: Lines, count_max: int, bytes_max: int) -> tuple[Lines, Lines | None]:
    """Return as many lines as fit, at least one, and the rest."""
    size = 0
    for number, line in enumerate(lines.lines):
        size += len(line.message)
        if number and (number >= count_max or size > bytes_max):
            return lines._replace(lines=lines.lines[:number]), lines._replace(lines=lines.lines[number:])
    return lines, None


def _milliseconds(variables: Mapping[str, str], name: str, usual: int) -> float:
    """Read a time in milliseconds; returns seconds."""
    text = variables.get(name, "").strip() or str(usual)
    if not text.isascii() or not text.isdigit() or int(text) == 0:
        raise NodeError(f"{name} is {text!r}", f"give milliseconds, such as {usual}")
    return int(text) / 1000
