"""
What an environment says and does: written into its journal, and told to extensions that subscribed.

What happens in each invocation is noted at once and written down in the event loop's next turn, while the
runtime is at work: nobody who waits for an answer waits for the log. Things are written in their order.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

import msgspec

from remora.lifecycle.messages import RUNTIME_PROCESS, Happened, Kind
from remora.telemetry.broadcast import Broadcast, BroadcastState
from remora.telemetry.facts import Subject, Teller, TellerState
from remora.telemetry.meter import MeterState  # noqa: TC001 - a record is read by its annotations

if TYPE_CHECKING:
    import socket
    from collections.abc import Awaitable, Callable

    from remora.environment.base import Deployment
    from remora.kit.clock import Clock
    from remora.kit.tasks import TaskSet
    from remora.telemetry.broadcast import Answer
    from remora.telemetry.journal import Journal
    from remora.telemetry.meter import Meter
    from remora.telemetry.subscriptions import Api


_EACH_INVOCATION = (Kind.INVOKE_STARTED, Kind.RUNTIME_RESPONDED, Kind.RUNTIME_DONE)


class _Invoked(msgspec.Struct, frozen=True, gc=False):
    """An invocation follows, of the function called by that ARN, with this trace header, or none."""

    invoked_arn: str
    trace_id: str


class WitnessState(msgspec.Struct, frozen=True):
    """What goes into a snapshot; written with `msgspec.msgpack`."""

    broadcast: BroadcastState
    system_log: TellerState | None
    meter: MeterState | None


class Witness:
    """
    Sees everything in one environment.

    Args:
        deployment: What it runs.
        journal: Where it is written down.
        initialization_type: Why the environment was made, `on-demand`.
        make_socket: Returns a socket of the environment's network.
        memory_peak: Returns the highest memory use of all its processes together so far, bytes.
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
        memory_peak: Callable[[], int],
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
        self._memory_peak = memory_peak
        recorder = meter.recorder if meter is not None else None
        self._recording = recorder.open(subject, journal.timeline) if recorder is not None else None
        self._broadcast = Broadcast(
            Teller(subject), make_socket=make_socket, clock=clock, tasks=tasks, has_objects=has_objects
        )
        self.resume = self._broadcast.resume
        self.has_room = journal.has_room
        """See `remora.environment.output.Printers`."""
        self._loop = asyncio.get_running_loop()
        self._noted: deque[Happened | _Invoked | None] = deque()
        """What is still to be written down; None stands for the tail of a log that nobody wants."""

    def happened(self, happened: Happened) -> None:
        """Something happened; see `Journal.happened`."""
        if not self._noted:
            self._loop.call_soon(self._catch_up)
        self._noted.append(happened)
        if happened.kind not in _EACH_INVOCATION:
            self._catch_up()

    def invoked(self, invoked_arn: str, trace_id: str) -> None:
        """An invocation follows, of the function called by that ARN, with this trace header, or none."""
        if not self._noted:
            self._loop.call_soon(self._catch_up)
        self._noted.append(_Invoked(invoked_arn, trace_id))

    def ended(self, happened: Happened) -> None:
        """An invocation ended, and nobody wants the tail of its log."""
        if not self._noted:
            self._loop.call_soon(self._catch_up)
        self._noted += happened, None

    def ended_with_tail(self, happened: Happened) -> bytes:
        """An invocation ended; return the tail of its log, see `Journal.take_tail`."""
        self._noted.append(happened)
        self._catch_up()
        return self._journal.take_tail()

    def begun(self, phase: str, version: str, version_arn: str) -> None:
        """A phase begins, of a managed runtime; see `Journal.begin`."""
        self._catch_up()
        self._journal.begin(phase, version, version_arn)

    def _catch_up(self) -> None:
        """Write down what was noted."""
        while self._noted:
            noted = self._noted.popleft()
            if noted is None:
                self._journal.take_tail()
            elif isinstance(noted, Happened):
                self._write_happened(noted)
            else:
                self._write_invoked(noted.invoked_arn, noted.trace_id)

    def _write_happened(self, happened: Happened) -> None:
        memory_peak_bytes = self._memory_peak() if happened.kind is Kind.INVOKE_ENDED else 0
        self._journal.happened(happened, memory_peak_bytes)
        self._broadcast.happened(happened, memory_peak_bytes)
        if self._meter is not None:
            self._meter.happened(happened, memory_peak_bytes)
        if self._recording is not None:
            self._recording.happened(happened, memory_peak_bytes)

    def _write_invoked(self, invoked_arn: str, trace_id: str) -> None:
        self._journal.invoked(trace_id)
        self._broadcast.teller.trace_id = trace_id
        if self._meter is not None:
            self._meter.invoked(invoked_arn)
        if self._recording is not None:
            self._recording.invoked(invoked_arn, trace_id)

    def moved(self, log_stream: str) -> None:
        """It goes on in another log stream, as whoever is restored does."""
        self._catch_up()
        self._journal.move(log_stream)
        self._broadcast.teller.moved(log_stream)
        if self._recording is not None:
            self._recording.moved(log_stream)

    async def release(self) -> None:
        """Deliver nothing until `resume`, and let go of all connections; see `Broadcast.release`."""
        self._catch_up()
        await self._broadcast.release()

    def state(self) -> WitnessState:
        """Return what an environment that is ready for its snapshot goes on with."""
        self._catch_up()
        meter = self._meter.state() if self._meter is not None else None
        return WitnessState(self._broadcast.state(), self._journal.state(), meter)

    def adopt(self, state: WitnessState) -> None:
        """Go on as another one; nobody hears of that, and subscribers hear nothing until `resume`."""
        self._broadcast.adopt(state.broadcast)
        self._journal.adopt(state.system_log)
        if self._meter is not None and state.meter is not None:
            self._meter.adopt(state.meter)

    def exited(self, process: str, cpu_us: int, memory_peak_kib: int) -> None:
        """A process ended; see `remora.sandbox.base.Exit`."""
        self._catch_up()
        if self._meter is not None:
            self._meter.exited(process, cpu_us, memory_peak_kib)

    def subscribe(self, name: str, api: Api, body: bytes) -> Answer:
        """An extension asks for telemetry."""
        self._catch_up()
        answer = self._broadcast.subscribe(name, api, body)
        if answer.state:
            self._journal.subscribed(api.value.upper(), name, answer.state, answer.types)
        return answer

    def printed(self, process: str, lines: list[str], end: str) -> None:
        """See `remora.environment.output.Printers`."""
        self._catch_up()
        is_function = process == RUNTIME_PROCESS
        self._journal.printed(lines, is_function=is_function)
        self._broadcast.printed("function" if is_function else "extension", lines, end)

    def logged(self, text: str, time_ms: int, level: str) -> None:
        """See `remora.environment.output.Printers`."""
        self._catch_up()
        self._journal.printed([text.removesuffix("\n")], time_ms, level)
        self._broadcast.logged(text, time_ms)

    def pause(self) -> None:
        """Deliver nothing: nobody inside can run."""
        self._catch_up()
        self._broadcast.pause()

    def flush(self, call: Callable[[], None]) -> None:
        """Call when subscribers have what there is; see `Broadcast.flush`."""
        self._catch_up()
        self._broadcast.flush(call)

    def close(self) -> None:
        """Deliver nothing any more. Repeated calls: no effect."""
        self._catch_up()
        self._broadcast.close()
