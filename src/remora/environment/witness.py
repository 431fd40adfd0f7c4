"""What an environment says and does: written into its journal, and told to extensions that subscribed."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle.messages import RUNTIME_PROCESS
from remora.telemetry.broadcast import Broadcast
from remora.telemetry.facts import Subject, Teller

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from remora.environment.base import Deployment
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.lifecycle.messages import Happened
    from remora.telemetry.broadcast import Answer
    from remora.telemetry.journal import Journal
    from remora.telemetry.meter import Meter
    from remora.telemetry.subscriptions import Api


class Witness:
    """
    Sees everything in one environment.

    Args:
        deployment: What it runs.
        journal: Where it is written down.
        initialization_type: Why the environment was made, `on-demand`.
        make_socket: Returns a socket of the environment's network.
        clock: The node's clock.
        tasks: Owner of the tasks that connect to subscribers.
        meter: What counts; None if nothing does.
    """

    def __init__(
        self,
        deployment: Deployment,
        journal: Journal,
        initialization_type: str,
        *,
        make_socket: Callable[[], Awaitable[socket.socket]],
        clock: Clock,
        tasks: TaskSet,
        meter: Meter | None = None,
    ) -> None:
        function = deployment.function
        subject = Subject(
            function.name,
            function.version,
            function.arn,
            function.memory_mib,
            journal.stream,
            deployment.runtime.version,
            deployment.runtime.version_arn,
            initialization_type,
        )
        has_objects = function.log_format == "JSON"
        self._journal = journal
        self._meter = meter
        recorder = meter.recorder if meter is not None else None
        self._recording = recorder.open(subject, journal.timeline) if recorder is not None else None
        self._broadcast = Broadcast(
            Teller(subject), make_socket=make_socket, clock=clock, tasks=tasks, has_objects=has_objects
        )
        self.pause = self._broadcast.pause
        self.resume = self._broadcast.resume
        self.flush = self._broadcast.flush
        self.close = self._broadcast.close

    def happened(self, happened: Happened, memory_peak_bytes: int = 0) -> None:
        """Something happened; see `Journal.happened`."""
        self._journal.happened(happened, memory_peak_bytes)
        self._broadcast.happened(happened, memory_peak_bytes)
        if self._meter is not None:
            self._meter.happened(happened, memory_peak_bytes)
        if self._recording is not None:
            self._recording.happened(happened, memory_peak_bytes)

    def invoked(self, invoked_arn: str, trace_id: str) -> None:
        """An invocation follows, of the function called by that ARN, with this trace header, or none."""
        self._journal.invoked(trace_id)
        self._broadcast.teller.trace_id = trace_id
        if self._meter is not None:
            self._meter.invoked(invoked_arn)
        if self._recording is not None:
            self._recording.invoked(invoked_arn, trace_id)

    def exited(self, process: str, cpu_us: int, memory_peak_kib: int) -> None:
        """A process ended; see `remora.sandbox.base.Exit`."""
        if self._meter is not None:
            self._meter.exited(process, cpu_us, memory_peak_kib)

    def subscribe(self, name: str, api: Api, body: bytes) -> Answer:
        """An extension asks for telemetry."""
        answer = self._broadcast.subscribe(name, api, body)
        if answer.state:
            self._journal.subscribed(api.value.upper(), name, answer.state, answer.types)
        return answer

    def printed(self, process: str, lines: list[str], end: str) -> None:
        """See `remora.environment.output.Printers`."""
        is_function = process == RUNTIME_PROCESS
        self._journal.printed(lines, is_function=is_function)
        self._broadcast.printed("function" if is_function else "extension", lines, end)

    def logged(self, text: str, time_ms: int, level: str) -> None:
        """See `remora.environment.output.Printers`."""
        self._journal.printed([text.removesuffix("\n")], time_ms, level)
        self._broadcast.logged(text, time_ms)
