"""
One living environment: events go into its lifecycle machine, and here its orders are performed.

Everything runs in the event loop without a task: what takes time (a process that starts, a deadline, a parked
call) comes back as an event. An event that arises while orders are being performed waits its turn.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from collections import deque
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

from remora.environment.answers import (
    JSON,
    OK,
    answer_event,
    error_body,
    invocation_headers,
    invoke_event,
    registration_body,
    shutdown_event,
)
from remora.environment.api import EnvironmentApi
from remora.environment.copies import Scene, acknowledged, adopt_connections, take_connections
from remora.environment.invocation import Invocation
from remora.environment.output import STREAMS, Outputs
from remora.environment.posting import Posted, posted_by
from remora.environment.programs import are_extensions_disabled, external_extensions, find_bootstrap
from remora.environment.snapshots import Vault
from remora.environment.story import Recorder, StoryError, read_story, restore_machine
from remora.environment.variables import (
    Place,
    extension_variables,
    has_log_channel,
    runtime_variables,
    shared_variables,
)
from remora.environment.witness import Witness
from remora.http.known import KnownRequests
from remora.http.limits import Limits
from remora.http.moving import CannotMoveError
from remora.http.server import Server
from remora.kit.alarms import Alarm
from remora.kit.tasks import TaskSet
from remora.lifecycle import messages as m
from remora.lifecycle.machine import Budgets, Machine
from remora.sandbox.base import ProcessPlan, SandboxError
from remora.sandbox.restoration import Belongings
from remora.spec.signals import exit_text

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from remora.environment.base import Deployment, InvokeRequest, InvokeResult
    from remora.environment.copies import CopyingDriver
    from remora.environment.output import Output
    from remora.environment.snapshots import Snapshots
    from remora.environment.variables import Credentials
    from remora.http.exchange import Exchange
    from remora.kit.clock import Clock
    from remora.sandbox.base import Exit, Sandbox, SandboxMaker, SandboxPlan
    from remora.sandbox.supervised import SupervisedSandbox
    from remora.telemetry.journal import Journal
    from remora.telemetry.meter import Meter

_log = logging.getLogger("remora.environment")

FREEZE_AFTER_S = 0.005
"""How long an environment must be idle to be frozen (ADR-0003)."""

_API_LIMITS = Limits()
_KNOWN = KnownRequests()
_PHASES = {m.Kind.INIT_STARTED: "INIT", m.Kind.RESTORE_STARTED: "RESTORE"}
_LAUNCH_ERRORS = {errno.EACCES: "PermissionDenied"}


class Owner(Protocol):
    """Who is told what becomes of an environment."""

    def environment_available(self, environment: Environment) -> None:
        """It can take an invocation."""

    def environment_closed(self, environment: Environment) -> None:
        """Nothing runs in it any more; `close` must still be called."""


class Environment:
    """
    One environment.

    Args:
        identifier: Unique in the node; also the last part of the log stream's name.
        deployment: What it runs.
        place: Region, log stream, credentials.
        journal: Where it writes.
        clock: The node's clock.
        owner: Who is told when it is available or has ended.
        budgets: Time limits.
        meter: What counts; None if nothing does.
        snapshots: Who takes its snapshot, if it is made for one (initialisation type `snap-start`).
    """

    def __init__(
        self,
        identifier: str,
        deployment: Deployment,
        place: Place,
        *,
        journal: Journal,
        clock: Clock,
        owner: Owner,
        budgets: Budgets,
        meter: Meter | None = None,
        snapshots: Snapshots | None = None,
    ) -> None:
        assert place.is_for_snapshot == (snapshots is not None), "a snapshot needs somebody who takes it"
        self.identifier = identifier
        self.deployment = deployment
        self.journal = journal
        self.machine = Machine(
            external_extensions(deployment), budgets, is_for_snapshot=place.is_for_snapshot
        )
        self.recorder = Recorder(self.machine) if place.is_for_snapshot else None
        self._handle = (self.recorder or self.machine).handle
        self.invocations = 0
        self._timeout_us = int(deployment.function.timeout_s * 1_000_000)
        self._place = place
        self._sandbox: Sandbox | None = None
        self._clock = clock
        self._owner = owner
        self._snapshots = snapshots
        self._vault = Vault(place.credentials_token, place.credentials) if place.is_for_snapshot else None
        self._loop = asyncio.get_running_loop()
        self._server: Server | None = None
        self._invocation: Invocation | None = None
        self.runtime_release = ""
        self._tasks = TaskSet(f"environment {identifier}")
        self.witness = Witness(
            deployment,
            journal,
            place.initialization_type,
            make_socket=self._make_socket,
            memory_peak=self.memory_peak_bytes,
            clock=clock,
            tasks=self._tasks,
            meter=meter,
        )
        self._outputs = Outputs(self.witness)
        self._alarms = {timer: Alarm(self._loop, partial(self._deadline_reached, timer)) for timer in m.Timer}
        self._freezing = Alarm(self._loop, self._freeze)
        self._is_frozen = False
        self._events: deque[m.Event] = deque()
        self._now_us = 0  # when the present event came in, monotonic
        self._is_performing = False
        self._is_broken = False
        self._extension_env: dict[str, str] = {}
        self._runtime_env: dict[str, str] = {}
        self._performers: dict[type, Callable[[Any], None]] = {
            m.StartProcess: self._start_process,
            m.Signal: self._signal,
            m.KillAll: self._kill_all,
            m.SetTimer: self._set_timer,
            m.CancelTimer: self._cancel_timer,
            m.Accept: self._accept,
            m.Refuse: self._refuse,
            m.StreamBody: self._stream_body,
            m.AnswerRegistered: self._answer_registered,
            m.AnswerRestored: self._answer_restored,
            m.AnswerInvocation: self._answer_invocation,
            m.AnswerInvoke: self._answer_invoke,
            m.AnswerShutdown: self._answer_shutdown,
            m.Complete: self._complete,
            m.Thaw: self._thaw,
            m.Available: self._available,
            m.SnapshotReady: self._snapshot_ready,
            m.Abandoned: self._abandoned,
            m.Closed: self._closed,
            m.Happened: self._happened,
        }

    def __repr__(self) -> str:
        """Show identifier and joint state."""
        return f"<Environment {self.identifier} of {self.deployment.function.name}: {self.machine!r}>"

    @property
    def sandbox(self) -> Sandbox:
        """Its sandbox; there is one from `start` on."""
        assert self._sandbox is not None, "an environment was used before it was started"
        return self._sandbox

    async def start(self, driver: SandboxMaker, plan: SandboxPlan) -> None:
        """
        Make the sandbox, open the APIs, begin the init; the owner hears when the environment is available.

        Raises:
            SandboxError: If the sandbox could not be made; then nothing is left of it.

        **Cancellation:** `close` removes what there is.
        """
        sandbox = self._sandbox = await driver.create(plan, self)
        self.journal.timeline.mark("sandbox.created", self._clock.monotonic_us())
        shared = shared_variables(self.deployment, self._place, sandbox.paths, sandbox.api_address)
        self._extension_env = extension_variables(shared)
        self._runtime_env = runtime_variables(shared, self.deployment, self._place, sandbox.paths)
        self._server = Server(self._api(), sandbox.listener, _API_LIMITS, known=_KNOWN)
        await self._server.start()
        self.feed(m.Initialise())

    def _api(self) -> EnvironmentApi:
        return EnvironmentApi(
            self,
            has_extensions=not are_extensions_disabled(self.deployment),
            has_telemetry=self._place.has_telemetry,
            vault=self._vault,
        )

    async def leave(self, driver: CopyingDriver, images: str) -> Scene:
        """
        Write an environment that is held down, processes and all; nothing runs in it afterwards.

        Args:
            driver: Who made its sandbox.
            images: Where its processes are written down.

        Raises:
            SandboxError: If that cannot be done now.
        """
        assert self._vault is not None, "a snapshot is taken of an environment that is not made for one"
        assert self.recorder is not None, "a snapshot is taken of an environment that has been restored"
        assert self._server is not None, "an environment is held that was never started"
        await self.witness.release()
        self._outputs.drain()
        recorder, sandbox = self.recorder, self.sandbox
        try:
            await acknowledged(self._server)
            story = recorder.story().to_bytes()
            connections = take_connections(self._server, recorder)
        except (CannotMoveError, StoryError) as error:
            raise SandboxError(f"no snapshot can be taken of what goes on: {error}") from error
        return Scene(
            token=self._vault.token,
            runtime_release=self.runtime_release,
            story=story,
            witness=self.witness.state(),
            connections=connections,
            pipes=self._outputs.numbers(),
            sandbox=await driver.dump(cast("SupervisedSandbox", sandbox), images),
        )

    async def copy(self, driver: CopyingDriver, plan: SandboxPlan, scene: Scene, images: str) -> None:
        """
        Begin where another one left; then it is held as that one was.

        Args:
            driver: Who makes the sandbox.
            plan: Of the sandbox.
            scene: What the other one was like.
            images: Where its processes are written down.

        Raises:
            SandboxError: If the sandbox could not be made; then nothing is left of it.

        **Cancellation:** `close` removes what there is.
        """
        assert self._vault is not None, "an environment begins as a copy that has no snapshot"
        assert self._snapshots is not None, "an environment begins as a copy that has no snapshot"
        self._vault.expect(scene.token)
        self.runtime_release = scene.runtime_release
        pipes: dict[int, int] = {}
        outputs: list[Output] = []
        for process, numbers in scene.pipes.items():
            made = self._outputs.open(process, has_log_channel=len(numbers) > STREAMS)
            pipes |= {number: output.writer for number, output in zip(numbers, made, strict=True)}
            outputs += made
        # What happens meanwhile is heard when the machine knows what came before.
        self._is_performing = True
        try:
            own = Belongings(images, pipes, [each.tcp for each in scene.connections])
            made_copy = await driver.copy(plan, self, scene.sandbox, own)
        finally:
            for output in outputs:
                output.close_writer()
        self._sandbox = made_copy.sandbox
        self.journal.timeline.mark("sandbox.created", self._clock.monotonic_us())
        self._server = Server(self._api(), made_copy.sandbox.listener, _API_LIMITS, known=_KNOWN)
        await self._server.start()
        calls = await adopt_connections(self._server, scene.connections, made_copy.connections)
        self.machine = restore_machine(read_story(scene.story), self.machine.state.budgets, calls)
        self._handle, self.recorder = self.machine.handle, None
        self.witness.adopt(scene.witness)
        self._is_frozen, self._is_performing = True, False
        self._snapshots.environment_held(self)

    def invoke(self, request_id: str, request: InvokeRequest, answer: Callable[[InvokeResult], None]) -> None:
        """
        Run one invocation; the environment must be available.

        Args:
            request_id: Identifier of the invocation, a UUID.
            request: What to run.
            answer: Called exactly once, as soon as the answer is known.
        """
        deadline_ms = self._clock.wall_ms() + self._timeout_us // 1000
        version = self.deployment.function.version
        self._invocation = Invocation(request_id, request, deadline_ms, version, answer)
        self.invocations += 1
        self.witness.invoked(request.invoked_arn, request.trace_id)
        self.feed(m.Invoke(request_id, self._timeout_us))

    def restore(self, log_stream: str, credentials: Credentials, loading_us: int = 0) -> None:
        """
        Let an environment go on that is held; its owner hears when it is available, or `Snapshots` otherwise.

        Args:
            log_stream: Where it writes from now on.
            credentials: What its processes get from now on.
            loading_us: How long it took to load its snapshot, microseconds.
        """
        assert self._vault is not None, "an environment was restored that has no snapshot"
        self._outputs.drain()
        self._vault.renew(credentials)
        self.witness.moved(log_stream)
        self.feed(m.Restore(loading_us))

    def stop(self, reason: m.Reason) -> None:
        """Shut down; the owner hears `environment_closed`. Repeated calls: no effect."""
        self.feed(m.Stop(reason))

    async def close(self) -> None:
        """
        End everything at once and remove every trace. Repeated calls: no effect.

        **Cancellation:** the sandbox is removed all the same.
        """
        for alarm in (*self._alarms.values(), self._freezing):
            alarm.close()
        self.witness.close()
        try:
            await self._tasks.close()
            if self._server is not None:
                await self._server.close()
        finally:
            if self._sandbox is not None:
                await self._sandbox.close()
            self._outputs.close()

    async def _make_socket(self) -> socket.socket:
        return await self.sandbox.make_socket()

    def memory_peak_bytes(self) -> int:
        """Return the highest memory use of all its processes together so far."""
        return self._sandbox.memory_peak_bytes() if self._sandbox is not None else 0

    def feed(self, event: m.Event) -> None:
        """Hand an event to the machine and perform what it orders; within an order, after it."""
        events, performers = self._events, self._performers
        events.append(event)
        if self._is_performing or self._is_broken:
            return
        self._is_performing = True
        try:
            while events:
                now_us = self._now_us = self._clock.monotonic_us()
                for effect in self._handle(events.popleft(), now_us):
                    performers[type(effect)](effect)
        except Exception:  # noqa: BLE001 - the boundary "environment": it dies, the node lives
            self._broke()
        finally:
            self._is_performing = False

    def _broke(self) -> None:
        """Give this environment up, whose machine or shell has failed."""
        _log.exception("environment %s broke: %r", self.identifier, self.machine)
        self._is_broken = True
        invocation, self._invocation = self._invocation, None
        if invocation is not None:
            invocation.break_down()
        self._owner.environment_closed(self)

    # --- what the sandbox tells (sandbox.base.Watcher) ----------------------------------------------------

    def process_started(self, name: str, pid: int) -> None:  # noqa: ARG002 - the watcher's signature
        """A process was executed."""
        self.feed(m.ProcessStarted(name))

    def process_failed(self, name: str, errno: int) -> None:
        """A process could not be executed."""
        reason = os.strerror(errno).lower()
        message = f"fork/exec {self._program(name)}: {reason}"
        self.feed(m.ProcessFailed(name, message, _LAUNCH_ERRORS.get(errno, "UnknownError")))

    def process_exited(self, name: str, how: Exit) -> None:
        """A process ended."""
        self._outputs.drain_process(name)
        self.witness.exited(name, how.cpu_us, how.memory_peak_kib)
        text = exit_text(how.code, how.signal)
        self.feed(m.ProcessExited(name, text, how.code == 0, how.is_out_of_memory))

    def emptied(self) -> None:
        """Nothing runs any more; what the dead still had to say is not for the next generation."""
        self._outputs.close()
        if self._server is not None:
            self._server.drop_connections()
        self.feed(m.Emptied())

    def sandbox_lost(self, reason: str) -> None:
        """The sandbox broke down."""
        self.feed(m.SandboxLost(reason))

    # --- orders of the machine ----------------------------------------------------------------------------

    def _start_process(self, order: m.StartProcess) -> None:
        is_runtime = order.process == m.RUNTIME_PROCESS
        paths = self.sandbox.paths
        program = self._program(order.process)
        if not program:
            searched = " ".join(self.deployment.runtime.bootstraps)
            text = f"Couldn't find valid bootstrap(s): [{searched}]"
            self.feed(m.ProcessFailed(order.process, text, ""))
            return
        has_channel = is_runtime and has_log_channel(self.deployment)
        outputs = self._outputs.open(order.process, has_log_channel=has_channel)
        writers = [output.writer for output in outputs]
        self.sandbox.start(
            ProcessPlan(
                name=order.process,
                argv=(paths.translate(program),),
                env=self._runtime_env if is_runtime else self._extension_env,
                cwd=paths.task if is_runtime else "/",
                output=writers[0],
                error=writers[1],
                passed=tuple(writers[2:]),
            )
        )
        for output in outputs:
            output.close_writer()

    def _program(self, process: str) -> str:
        """Return the path (inside) of a process's program; empty if the runtime has none."""
        if process == m.RUNTIME_PROCESS:
            return find_bootstrap(self.deployment)
        return f"/opt/extensions/{process.removeprefix('extension:')}"

    def _signal(self, order: m.Signal) -> None:
        self.sandbox.kill(order.process, order.number)

    def _kill_all(self, _: m.KillAll) -> None:
        self.sandbox.kill_all()

    def _set_timer(self, order: m.SetTimer) -> None:
        self._alarms[order.timer].set_in((order.at_us - self._now_us) / 1_000_000)

    def _deadline_reached(self, timer: m.Timer) -> None:
        self.feed(m.DeadlineReached(timer))

    def _cancel_timer(self, order: m.CancelTimer) -> None:
        self._alarms[order.timer].cancel()

    def _accept(self, order: m.Accept) -> None:
        _exchange(order.call).respond(202, JSON, OK)

    def _refuse(self, order: m.Refuse) -> None:
        _exchange(order.call).respond(order.status, JSON, error_body(order.error_type, order.message))

    def _answer_registered(self, order: m.AnswerRegistered) -> None:
        exchange = _exchange(order.call)
        headers = [*JSON, (b"Lambda-Extension-Identifier", order.identifier.encode())]
        exchange.respond(200, headers, registration_body(self.deployment.function, exchange))

    def _answer_restored(self, order: m.AnswerRestored) -> None:
        _exchange(order.call).respond(200, (), b"")

    def _answer_invocation(self, order: m.AnswerInvocation) -> None:
        invocation = self._invocation
        assert invocation is not None, "the machine answered next without an invocation"
        request = invocation.request
        headers = invocation_headers(invocation.request_id, invocation.deadline_ms, request)
        _exchange(order.call).respond(200, headers, request.payload)

    def _answer_invoke(self, order: m.AnswerInvoke) -> None:
        invocation = self._invocation
        assert invocation is not None, "the machine announced an invocation that is none"
        event = invoke_event(invocation.request_id, invocation.deadline_ms, invocation.request)
        answer_event(_exchange(order.call), event)

    def _answer_shutdown(self, order: m.AnswerShutdown) -> None:
        """Let subscribers have what there is before extensions hear of the end."""
        self.witness.flush(lambda: self._tell_shutdown(order))

    def _tell_shutdown(self, order: m.AnswerShutdown) -> None:
        left_ms = (order.deadline_us - self._clock.monotonic_us()) // 1000
        event = shutdown_event(order.reason.value, self._clock.wall_ms() + left_ms)
        answer_event(_exchange(order.call), event)

    def _stream_body(self, order: m.StreamBody) -> None:
        assert self._invocation is not None, "the machine took a response to an invocation that is none"
        self._invocation.begin_stream(_exchange(order.call))

    def _complete(self, order: m.Complete) -> None:
        assert self._invocation is not None, "the machine completed an invocation that is none"
        posted = Posted() if order.posted is None else posted_by(_exchange(order.posted))
        self._invocation.complete(posted, order.failure, is_error=order.is_error)

    def _thaw(self, _: m.Thaw) -> None:
        self._freezing.cancel()
        if self._is_frozen:
            self._is_frozen = False
            self.sandbox.thaw()
            self.witness.resume()
            self.journal.timeline.mark("environment.thawed", self._clock.monotonic_us())

    def _available(self, order: m.Available) -> None:
        self._owner.environment_available(self)
        if order.is_initialised and not self._events:  # else it goes on at once
            self._freezing.set_in(FREEZE_AFTER_S)

    def _freeze(self) -> None:
        self._is_frozen = True
        self.witness.pause()
        self.sandbox.freeze()
        self.journal.timeline.mark("environment.frozen", self._clock.monotonic_us())

    def _snapshot_ready(self, _: m.SnapshotReady) -> None:
        """Hold it as it is: nobody inside may run between the snapshot and the restore."""
        assert self._snapshots is not None, "an environment is held that has nobody who takes its snapshot"
        self._freeze()
        self._snapshots.environment_held(self)

    def _abandoned(self, order: m.Abandoned) -> None:
        assert self._snapshots is not None, "an environment was abandoned that has no snapshot"
        self._snapshots.environment_abandoned(self, order.failure)

    def _closed(self, _: m.Closed) -> None:
        self._owner.environment_closed(self)

    def _happened(self, happened: m.Happened) -> None:
        kind = happened.kind
        if kind is m.Kind.INVOKE_ENDED:
            self._outputs.drain()
            self._invocation_ended(happened)
            return
        if kind is m.Kind.INIT_ENDED or kind is m.Kind.RESTORE_ENDED:
            self._outputs.drain()
        elif kind in _PHASES and (runtime := self.deployment.runtime).version:
            self.witness.begun(_PHASES[kind], runtime.version, runtime.version_arn)
        self.witness.happened(happened)

    def _invocation_ended(self, happened: m.Happened) -> None:
        invocation, self._invocation = self._invocation, None
        if invocation is not None and invocation.request.tail:
            invocation.finish(self.witness.ended_with_tail(happened))
        else:
            self.witness.ended(happened)


def _exchange(call: m.Call) -> Exchange:
    """Return the request behind a call: here, calls are exchanges."""
    return call  # type: ignore[return-value]
