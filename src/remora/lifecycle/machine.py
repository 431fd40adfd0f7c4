"""
The lifecycle of one environment: Init, Invoke, Shutdown, and the reset between two generations of processes.

Pure: events in, effects out, no I/O, no clock. What one party may do is in `tables`; here are the rules that
join them: init is done when *everybody* is at next, an invocation is done when the runtime *and* every
subscribed extension are, the runtime starts when *all* external extensions have registered.

A *generation* is the processes between two resets. The first failure of a generation is the one reported;
what dies in the reset that follows is not news.

Source: lifecycle specification; runtime-api sections 2 to 8; extensions-api sections 2 to 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from remora.lifecycle import messages as m
from remora.lifecycle.parties import Extension, Runtime
from remora.lifecycle.tables import ExtensionMove, ExtensionState, Phase, RuntimeMove, RuntimeState
from remora.spec.limits import INVOKE_RESPONSE_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

SIGTERM = 15
SIGKILL = 9
EXTENSIONS_MAX = 10

INITIALISING = (Phase.STARTING_EXTENSIONS, Phase.STARTING_RUNTIME)
STOPPING = (Phase.STOPPING_RUNTIME, Phase.STOPPING_EXTENSIONS, Phase.KILLING)


@dataclass(frozen=True, slots=True)
class Budgets:
    """
    The time limits of an environment, microseconds.

    Source: lifecycle specification, section 12.
    """

    init_us: int = 10_000_000
    """Init ahead of the first invocation; max(130 s, function timeout) for provisioned concurrency."""
    external_us: int = 2_000_000
    """Shutdown with external extensions."""
    external_runtime_us: int = 300_000
    """The runtime's share of it."""
    internal_us: int = 500_000
    """Shutdown with internal extensions only."""
    confirm_us: int = 2_000_000
    """From the last kill until everything must be gone."""


@dataclass(slots=True)
class Invocation:
    """The invocation that the environment is working on."""

    request_id: str
    timeout_us: int
    accepted_us: int
    released_us: int = -1
    """When the runtime and the extensions were told; -1 before."""
    is_answered: bool = False
    status: str = "success"
    error_type: str = ""
    runtime_done_us: int = -1


class Machine:
    """
    One environment's state.

    Args:
        extensions: Names of the files in /opt/extensions, in the order of start.
        budgets: Time limits.
    """

    def __init__(self, extensions: tuple[str, ...] = (), budgets: Budgets | None = None) -> None:
        self.names = extensions
        self.budgets = budgets or Budgets()
        self.phase = Phase.UNINITIALISED
        self.invocation: Invocation | None = None
        self.runtime = Runtime()
        self.externals: dict[str, Extension] = {}
        self.internals: dict[str, Extension] = {}
        self._by_identifier: dict[str, Extension] = {}
        self._to_start: list[str] = []
        self._starting = ""
        self._is_registration_open = False
        self._init_phase = ""
        self._init_started_us = 0
        self._unbilled_init_us = -1
        self._fatal_type = ""
        self._idle_failure: m.Failure | None = None
        self._reason = m.Reason.SPINDOWN
        self._is_closing = False
        self._shutdown_deadline_us = 0
        self._timers: set[m.Timer] = set()
        self._now = 0
        self._out: list[m.Effect] = []
        self._handlers: dict[type, Callable[[Any], None]] = {
            m.Initialise: self._on_initialise,
            m.Invoke: self._on_invoke,
            m.Stop: self._on_stop,
            m.ProcessStarted: self._on_process_started,
            m.ProcessFailed: self._on_process_failed,
            m.ProcessExited: self._on_process_exited,
            m.Emptied: self._on_emptied,
            m.SandboxLost: self._on_sandbox_lost,
            m.DeadlineReached: self._on_deadline_reached,
            m.RuntimeNext: self._on_runtime_next,
            m.ResponseBegan: self._on_response_began,
            m.ErrorBegan: self._on_error_began,
            m.BodyEnded: self._on_body_ended,
            m.InitError: self._on_init_error,
            m.Register: self._on_register,
            m.ExtensionNext: self._on_extension_next,
            m.ExtensionError: self._on_extension_error,
            m.CallDropped: self._on_call_dropped,
        }

    def __repr__(self) -> str:
        """Show the joint state."""
        extensions = ", ".join(f"{e.name}={e.state.value}" for e in self.extensions())
        runtime = self.runtime.state.value
        return f"<Machine {self.phase.value}; runtime={runtime}; {extensions or 'no extensions'}>"

    def handle(self, event: m.Event, now_us: int) -> list[m.Effect]:
        """
        Take in what happened and return what is to be done, in order.

        Raises:
            AssertionError: If the platform breaks the rules (an invocation given to a busy environment).
        """
        self._now = now_us
        self._out = []
        self._handlers[type(event)](event)
        return self._out

    def extensions(self) -> Iterator[Extension]:
        """Yield external extensions in order of start, then internal ones in order of registration."""
        yield from self.externals.values()
        yield from self.internals.values()

    # --- init ---------------------------------------------------------------------------------------------

    def _on_initialise(self, _: m.Initialise) -> None:
        assert self.phase is Phase.UNINITIALISED, f"init ordered while {self.phase.value}"
        self._set_timer(m.Timer.INIT, self._now + self.budgets.init_us)
        self._begin_init("init")

    def _begin_init(self, phase: str) -> None:
        self._init_phase = phase
        self._init_started_us = self._now
        self._unbilled_init_us = -1
        self._fatal_type = ""
        self._idle_failure = None
        self._is_registration_open = True
        self.runtime = Runtime()
        self.externals = {}
        self.internals = {}
        self._by_identifier = {}
        self._to_start = list(self.names)
        self._happened(m.Kind.INIT_STARTED, phase=phase)
        self.phase = Phase.STARTING_EXTENSIONS
        self._continue_init()

    def _continue_init(self) -> None:
        """Take the next step of init, if everybody who must be ready for it is."""
        if self.phase is Phase.STARTING_EXTENSIONS:
            if self._to_start and not self._starting:
                self._start_extension(self._to_start.pop(0))
            elif not self._to_start and all(e.is_registered for e in self.externals.values()):
                self.phase = Phase.STARTING_RUNTIME
                self.runtime.is_alive = True
                self._out.append(m.StartProcess(m.RUNTIME_PROCESS))
        elif (
            self.phase is Phase.STARTING_RUNTIME
            and self.runtime.state is RuntimeState.READY
            and all(e.state is ExtensionState.READY for e in self.extensions())
        ):
            self._init_succeeded()

    def _start_extension(self, name: str) -> None:
        extension = Extension(name, is_external=True)
        self.externals[name] = extension
        if len(self.externals) > EXTENSIONS_MAX:
            self._launch_failed(extension, "ErrTooManyExtensions", "TooManyExtensions")
            return
        extension.is_alive = True
        self._starting = m.extension_process(name)
        self._out.append(m.StartProcess(self._starting))

    def _launch_failed(self, extension: Extension, message: str, error_type: str) -> None:
        extension.is_alive = False
        extension.error_type = error_type
        extension.move(ExtensionMove.LAUNCH_FAILED)
        self._fail("Extension.LaunchError", message)

    def _init_succeeded(self) -> None:
        duration_us = self._now - self._init_started_us
        self._report_extensions()
        self._happened(m.Kind.INIT_ENDED, phase=self._init_phase, detail="success", duration_us=duration_us)
        if self.invocation is None:
            self._cancel_timer(m.Timer.INIT)
            self._unbilled_init_us = duration_us
            self._become_idle()
        else:
            self._release(self.invocation)

    def _init_failed(self, status: str, error_type: str) -> None:
        self._to_start.clear()
        self._starting = ""
        self._cancel_timer(m.Timer.INIT)
        self._report_extensions()
        self._happened(
            m.Kind.INIT_ENDED,
            phase=self._init_phase,
            detail=status,
            error_type=error_type,
            duration_us=self._now - self._init_started_us,
        )

    def _report_extensions(self) -> None:
        for e in self.extensions():
            self._happened(
                m.Kind.EXTENSION_STATE,
                name=e.name,
                detail=e.state.value,
                events=e.events,
                error_type=e.error_type,
            )

    # --- processes ----------------------------------------------------------------------------------------

    def _external_of(self, process: str) -> Extension | None:
        return (
            self.externals.get(process.removeprefix("extension:")) if process != m.RUNTIME_PROCESS else None
        )

    def _on_process_started(self, event: m.ProcessStarted) -> None:
        self._happened(m.Kind.PROCESS_STARTED, name=event.process)
        if event.process == self._starting:
            self._starting = ""
        if self.phase in INITIALISING:
            self._continue_init()

    def _on_process_failed(self, event: m.ProcessFailed) -> None:
        extension = self._external_of(event.process)
        if extension is not None:
            self._launch_failed(extension, event.message, event.error_type)
        else:
            self.runtime.is_alive = False
            self._fail("Runtime.InvalidEntrypoint", event.message)
        self._continue_stop()

    def _on_process_exited(self, event: m.ProcessExited) -> None:
        self._happened(m.Kind.PROCESS_EXITED, name=event.process, detail=event.text)
        extension = self._external_of(event.process)
        if extension is not None:
            extension.is_alive = False
            extension.parked = None
            if self.phase in STOPPING:
                is_failed = not event.is_clean
                extension.state = ExtensionState.SHUTDOWN_FAILED if is_failed else ExtensionState.EXITED
            else:
                self._fail("Extension.Crash", "exit code 0" if event.is_clean else event.text)
        else:
            self.runtime.is_alive = False
            self.runtime.parked.clear()
            if self.phase not in STOPPING:
                how = "without providing a reason" if event.is_clean else f"with error: {event.text}"
                self._fail(self.runtime.error_type or "Runtime.ExitError", f"Runtime exited {how}")
        self._continue_stop()

    def _on_sandbox_lost(self, event: m.SandboxLost) -> None:
        if self.invocation is not None:
            self._end_invocation("error", m.Failure("Sandbox.Failure", event.message))
        self._close()

    # --- failures -----------------------------------------------------------------------------------------

    def _fail(self, error_type: str, message: str) -> None:
        """Act on the first failure of this generation; the type of an error that was posted goes first."""
        failure = m.Failure(self._fatal_type or error_type, message)
        if self.phase in INITIALISING:
            self._init_failed("error", failure.error_type)
        elif self.phase is Phase.IDLE:
            self._idle_failure = self._idle_failure or failure
            return
        elif self.phase is not Phase.INVOKING:
            return
        if self.invocation is not None:
            self._end_invocation("error", failure)
        self._begin_stop(m.Reason.FAILURE)

    def _on_deadline_reached(self, event: m.DeadlineReached) -> None:
        if event.timer not in self._timers:
            return
        self._timers.discard(event.timer)
        if event.timer is m.Timer.INIT:
            self._init_failed("timeout", "")
            self._begin_stop(m.Reason.TIMEOUT)
        elif event.timer is m.Timer.INVOKE:
            assert self.invocation is not None, "a function timeout without an invocation"
            if self.phase in INITIALISING:
                self._init_failed("timeout", "")
            seconds = self.invocation.timeout_us / 1_000_000
            timed_out = m.Failure("Sandbox.Timedout", f"Task timed out after {seconds:.2f} seconds")
            self._end_invocation("timeout", timed_out)
            self._begin_stop(m.Reason.TIMEOUT)
        elif event.timer is m.Timer.RUNTIME_EXIT:
            self._out.append(m.Signal(m.RUNTIME_PROCESS, SIGKILL))
        elif event.timer is m.Timer.SHUTDOWN:
            self._kill_all()
        else:
            self._close()

    # --- invoke -------------------------------------------------------------------------------------------

    def _on_invoke(self, event: m.Invoke) -> None:
        assert self.phase in (Phase.IDLE, Phase.UNINITIALISED), f"invocation given while {self.phase.value}"
        self.invocation = Invocation(event.request_id, event.timeout_us, self._now)
        self._out.append(m.Thaw())
        self._set_timer(m.Timer.INVOKE, self._now + event.timeout_us)
        if self.phase is Phase.UNINITIALISED:
            self._begin_init("invoke")
        elif self._idle_failure is not None:
            self._end_invocation("error", self._idle_failure)
            self._begin_stop(m.Reason.FAILURE)
        else:
            self._release(self.invocation)

    def _release(self, invocation: Invocation) -> None:
        """Tell everybody concerned that there is an invocation: extensions first, then the runtime."""
        self.phase = Phase.INVOKING
        invocation.released_us = self._now
        self._happened(m.Kind.INVOKE_STARTED, request_id=invocation.request_id)
        for extension in self.extensions():
            if extension.wants("INVOKE"):
                if extension.parked is None:
                    extension.is_event_due = True
                else:
                    self._give_invoke(extension, extension.parked)
        if self.runtime.parked:
            self.runtime.move(RuntimeMove.RELEASE)
            for call in self.runtime.parked:
                self._out.append(m.AnswerInvocation(call))
            self.runtime.parked.clear()

    def _give_invoke(self, extension: Extension, call: m.Call) -> None:
        extension.parked = None
        extension.is_event_due = False
        extension.move(ExtensionMove.RELEASE)
        self._out.append(m.AnswerInvoke(call))

    def _on_runtime_next(self, event: m.RuntimeNext) -> None:
        runtime = self.runtime
        before = runtime.state
        if not runtime.move(RuntimeMove.NEXT):
            self._out.append(runtime.refusal(event.call, RuntimeMove.NEXT))
            return
        if before is RuntimeState.RUNNING:
            self._out.append(m.AnswerInvocation(event.call))
        elif before is RuntimeState.READY and self.phase is Phase.INVOKING and not self._is_runtime_done():
            runtime.move(RuntimeMove.RELEASE)
            self._out.append(m.AnswerInvocation(event.call))
        else:
            runtime.parked.append(event.call)
            if before is RuntimeState.STARTED:
                self._is_registration_open = False
                self._happened(m.Kind.RUNTIME_READY)
                if self.phase in INITIALISING:
                    self._continue_init()
            elif before is RuntimeState.RESPONSE_SENT and self.invocation is not None:
                self._runtime_done(self.invocation)

    def _is_runtime_done(self) -> bool:
        return self.invocation is not None and self.invocation.runtime_done_us >= 0

    def _runtime_done(self, invocation: Invocation) -> None:
        invocation.runtime_done_us = self._now
        self._happened(
            m.Kind.RUNTIME_DONE,
            request_id=invocation.request_id,
            detail=invocation.status,
            error_type=invocation.error_type,
            duration_us=self._now - max(invocation.released_us, invocation.accepted_us),
        )
        self._finish_if_done()

    def _on_response_began(self, event: m.ResponseBegan) -> None:
        if not self._may_post(event.call, event.request_id, RuntimeMove.RESPONSE):
            return
        if event.is_mode_valid:
            self.runtime.posting = event.call
            return
        self.runtime.move(RuntimeMove.RECEIVED)
        message = "Invalid function response mode"
        self._answer_invoker(m.Failure("Runtime.InvalidResponseModeHeader", message), is_error=True)
        self._out.append(m.Refuse(event.call, 400, "InvalidFunctionResponseMode", message))

    def _on_error_began(self, event: m.ErrorBegan) -> None:
        if self._may_post(event.call, event.request_id, RuntimeMove.ERROR):
            self.runtime.posting = event.call
            assert self.invocation is not None, "an error was accepted without an invocation"
            self.invocation.error_type = event.error_type

    def _may_post(self, call: m.Call, request_id: str, move: RuntimeMove) -> bool:
        if self.invocation is None or self.invocation.request_id != request_id:
            self._out.append(m.Refuse(call, 400, "InvalidRequestID", "Invalid request ID"))
            return False
        if not self.runtime.move(move):
            self._out.append(self.runtime.refusal(call, move))
            return False
        return True

    def _on_body_ended(self, event: m.BodyEnded) -> None:
        if self.runtime.posting is not event.call:
            return
        self.runtime.posting = None
        is_error = self.runtime.state is RuntimeState.REPORTING_ERROR
        self.runtime.move(RuntimeMove.RECEIVED)
        if self.invocation is None:
            self._out.append(m.Refuse(event.call, 400, "InvalidRequestID", "Invalid request ID"))
        elif event.transfer is m.Transfer.COMPLETE:
            self._answer_invoker(None, is_error=is_error)
            self._out.append(m.Accept(event.call))
        elif event.transfer is m.Transfer.OVERSIZED:
            limit = f"maximum allowed payload size ({INVOKE_RESPONSE_BYTES_MAX} bytes)."
            too_large = m.Failure(
                "Function.ResponseSizeTooLarge",
                f"Response payload size exceeded {limit}",
                names_request=False,
            )
            self._answer_invoker(too_large, is_error=True)
            self._out.append(m.Refuse(event.call, 413, "RequestEntityTooLarge", f"Exceeded {limit}"))
        else:
            message = "HTTP request detected as truncated"
            self._answer_invoker(m.Failure("Runtime.TruncatedResponse", message), is_error=True)
            self._out.append(m.Refuse(event.call, 400, "TruncatedHTTPRequest", message))

    def _on_init_error(self, event: m.InitError) -> None:
        if not self.runtime.move(RuntimeMove.INIT_ERROR):
            self._out.append(self.runtime.refusal(event.call, RuntimeMove.INIT_ERROR))
            return
        self.runtime.error_type = event.error_type
        if self.invocation is not None:
            self._answer_invoker(None, is_error=True)
        self._out.append(m.Accept(event.call))

    def _answer_invoker(self, failure: m.Failure | None, *, is_error: bool) -> None:
        """Give the invoker its answer unless it has one."""
        invocation = self.invocation
        assert invocation is not None, "an answer without an invocation"
        if invocation.is_answered:
            return
        invocation.is_answered = True
        if is_error:
            invocation.status = "failure"
            invocation.error_type = failure.error_type if failure else invocation.error_type
        self._out.append(m.Complete(invocation.request_id, failure, is_error))
        self._happened(m.Kind.RUNTIME_RESPONDED, request_id=invocation.request_id, detail=invocation.status)

    def _finish_if_done(self) -> None:
        if self.phase is not Phase.INVOKING or not self._is_runtime_done():
            return
        if all(e.is_at_next for e in self.extensions() if e.wants("INVOKE")):
            invocation = self.invocation
            assert invocation is not None, "a finished invocation that is none"
            self._invocation_ended(invocation, invocation.status, "")
            self._become_idle()

    def _end_invocation(self, status: str, failure: m.Failure) -> None:
        """End the invocation by force: the invoker hears of the failure unless it has its answer."""
        invocation = self.invocation
        assert invocation is not None, "no invocation to end"
        if invocation.released_us < 0:
            self._happened(m.Kind.INVOKE_STARTED, request_id=invocation.request_id)
        if not invocation.is_answered:
            invocation.is_answered = True
            self._out.append(m.Complete(invocation.request_id, failure, is_error=True))
        self._invocation_ended(invocation, status, "" if status == "timeout" else failure.error_type)

    def _invocation_ended(self, invocation: Invocation, status: str, error_type: str) -> None:
        self._cancel_timer(m.Timer.INVOKE)
        done_us = invocation.runtime_done_us
        has_extensions = bool(self.externals or self.internals)
        self._happened(
            m.Kind.INVOKE_ENDED,
            request_id=invocation.request_id,
            detail=status,
            error_type=error_type,
            duration_us=min(self._now - invocation.accepted_us, invocation.timeout_us),
            init_us=self._unbilled_init_us,
            post_runtime_us=self._now - done_us if has_extensions and done_us >= 0 else -1,
        )
        self._unbilled_init_us = -1
        self.invocation = None

    def _become_idle(self) -> None:
        self.phase = Phase.IDLE
        self._out.append(m.Available(is_initialised=True))

    # --- extensions ---------------------------------------------------------------------------------------

    def _on_register(self, event: m.Register) -> None:
        extension = self.externals.get(event.name)
        is_external = extension is not None
        for name in event.events:
            if name not in ("INVOKE", "SHUTDOWN"):
                self._refuse_extension(event.call, "InvalidEventType", f"{name}: ErrorInvalidEventType")
                return
            if name == "SHUTDOWN" and not is_external:
                text = "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"
                self._refuse_extension(event.call, "InvalidEventType", text)
                return
        if extension is None:
            extension = self._new_internal(event)
            if extension is None:
                return
        if not extension.move(ExtensionMove.REGISTER):
            self._out.append(extension.refusal(event.call, ExtensionMove.REGISTER))
            return
        extension.identifier = event.identifier
        extension.events = tuple(dict.fromkeys(event.events))
        self._by_identifier[event.identifier] = extension
        self._out.append(m.AnswerRegistered(event.call, event.identifier))
        self._happened(m.Kind.EXTENSION_REGISTERED, name=extension.name)
        if self.phase in INITIALISING:
            self._continue_init()

    def _new_internal(self, event: m.Register) -> Extension | None:
        if not self._is_registration_open:
            text = "Extension registration closed already"
            self._refuse_extension(event.call, "RegistrationClosed", text)
        elif len(self.externals) + len(self._to_start) + len(self.internals) >= EXTENSIONS_MAX:
            text = f"Extension limit ({EXTENSIONS_MAX}) reached"
            self._refuse_extension(event.call, "TooManyExtensions", text)
        elif event.name in self.internals:
            text = "Extension with this name already registered"
            self._refuse_extension(event.call, "InvalidExtensionState", text)
        else:
            extension = Extension(event.name, is_external=False)
            self.internals[event.name] = extension
            return extension
        return None

    def _refuse_extension(self, call: m.Call, error_type: str, message: str) -> None:
        self._out.append(m.Refuse(call, 403, f"Extension.{error_type}", message))

    def _on_extension_next(self, event: m.ExtensionNext) -> None:
        extension = self._by_identifier.get(event.identifier)
        if extension is None:
            text = f"Unknown extension {event.identifier}"
            self._refuse_extension(event.call, "UnknownExtensionIdentifier", text)
            return
        before = extension.state
        is_waiting_again = before is ExtensionState.READY and extension.parked is None
        if not is_waiting_again and not extension.move(ExtensionMove.NEXT):
            self._out.append(extension.refusal(event.call, ExtensionMove.NEXT))
            return
        if extension.is_event_due and self.phase is Phase.STOPPING_EXTENSIONS:
            self._give_shutdown(extension, event.call)
        elif extension.is_event_due and self.phase is Phase.INVOKING:
            self._give_invoke(extension, event.call)
        else:
            extension.parked = event.call
            if before is ExtensionState.REGISTERED:
                self._happened(m.Kind.EXTENSION_READY, name=extension.name)
                if self.phase in INITIALISING:
                    self._continue_init()
            elif before is ExtensionState.RUNNING and self.invocation is not None:
                name, request_id = extension.name, self.invocation.request_id
                self._happened(m.Kind.EXTENSION_DONE, name=name, request_id=request_id)
                self._finish_if_done()

    def _on_extension_error(self, event: m.ExtensionError) -> None:
        extension = self._by_identifier.get(event.identifier)
        if extension is None:
            text = "Unknown Lambda-Extension-Identifier"
            self._refuse_extension(event.call, "UnknownExtensionIdentifier", text)
            return
        move = ExtensionMove.EXIT_ERROR if event.is_exit else ExtensionMove.INIT_ERROR
        if not extension.move(move):
            self._out.append(extension.refusal(event.call, move))
            return
        extension.error_type = extension.error_type or event.error_type
        self._fatal_type = self._fatal_type or f"Extension.{'ExitError' if event.is_exit else 'InitError'}"
        self._out.append(m.Accept(event.call))

    def _on_call_dropped(self, event: m.CallDropped) -> None:
        if event.call in self.runtime.parked:
            self.runtime.parked.remove(event.call)
        for extension in self.extensions():
            if extension.parked is event.call:
                extension.parked = None

    # --- shutdown and reset -------------------------------------------------------------------------------

    def _on_stop(self, event: m.Stop) -> None:
        self._is_closing = True
        if self.phase is Phase.UNINITIALISED:
            self._close()
        elif self.phase not in STOPPING and self.phase is not Phase.CLOSED:
            if self.phase in INITIALISING:
                self._init_failed("error", "Sandbox.Failure")
            if self.invocation is not None:
                self._end_invocation("error", m.Failure("Sandbox.Failure", "The node is shutting down"))
            self._begin_stop(event.reason)

    def _begin_stop(self, reason: m.Reason) -> None:
        """End this generation: ask the runtime, tell the extensions, kill what remains."""
        self._cancel_timer(m.Timer.INVOKE)
        self._cancel_timer(m.Timer.INIT)
        self._reason = reason
        self._is_registration_open = False
        self._out.append(m.Thaw())
        self._happened(m.Kind.SHUTDOWN_STARTED, detail=reason.value)
        budgets = self.budgets
        if any(e.is_registered for e in self.externals.values()):
            total_us, share_us = budgets.external_us, budgets.external_runtime_us
        elif self.internals:
            total_us = share_us = budgets.internal_us
        else:
            self._kill_all()
            return
        self._shutdown_deadline_us = self._now + total_us
        self._set_timer(m.Timer.SHUTDOWN, self._shutdown_deadline_us)
        self.phase = Phase.STOPPING_RUNTIME
        if self.runtime.is_alive:
            self._set_timer(m.Timer.RUNTIME_EXIT, self._now + share_us)
            self._out.append(m.Signal(m.RUNTIME_PROCESS, SIGTERM))
            self._happened(m.Kind.RUNTIME_TERMINATED)
        self._continue_stop()

    def _continue_stop(self) -> None:
        """Take the next step of a shutdown, if those who were waited for are gone."""
        if self.phase is Phase.STOPPING_RUNTIME and not self.runtime.is_alive:
            self._cancel_timer(m.Timer.RUNTIME_EXIT)
            self.phase = Phase.STOPPING_EXTENSIONS
            for extension in self.externals.values():
                self._ask_to_shut_down(extension)
        if self.phase is Phase.STOPPING_EXTENSIONS and not any(e.is_alive for e in self.externals.values()):
            self._kill_all()

    def _ask_to_shut_down(self, extension: Extension) -> None:
        if not extension.is_alive:
            return
        can_listen = extension.state in (
            ExtensionState.REGISTERED,
            ExtensionState.READY,
            ExtensionState.RUNNING,
        )
        if not can_listen or not extension.wants("SHUTDOWN"):
            self._out.append(m.Signal(m.extension_process(extension.name), SIGKILL))
        elif extension.parked is not None:
            self._give_shutdown(extension, extension.parked)
        else:
            extension.is_event_due = True

    def _give_shutdown(self, extension: Extension, call: m.Call) -> None:
        extension.parked = None
        extension.is_event_due = False
        extension.move(ExtensionMove.RELEASE)
        self._out.append(m.AnswerShutdown(call, self._reason, self._shutdown_deadline_us))
        self._happened(m.Kind.EXTENSION_NOTIFIED, name=extension.name)

    def _kill_all(self) -> None:
        for timer in (m.Timer.RUNTIME_EXIT, m.Timer.SHUTDOWN):
            self._cancel_timer(timer)
        self.phase = Phase.KILLING
        self._set_timer(m.Timer.EMPTY, self._now + self.budgets.confirm_us)
        self._out.append(m.KillAll())

    def _on_emptied(self, _: m.Emptied) -> None:
        if self.phase is not Phase.KILLING:
            return
        self._cancel_timer(m.Timer.EMPTY)
        self._happened(m.Kind.SHUTDOWN_ENDED)
        if self._is_closing:
            self._close()
        else:
            self.phase = Phase.UNINITIALISED
            self._out.append(m.Available(is_initialised=False))

    def _close(self) -> None:
        if self.phase is not Phase.CLOSED:
            for timer in tuple(self._timers):
                self._cancel_timer(timer)
            self.phase = Phase.CLOSED
            self._out.append(m.Closed())

    # --- small change -------------------------------------------------------------------------------------

    def _set_timer(self, timer: m.Timer, at_us: int) -> None:
        self._timers.add(timer)
        self._out.append(m.SetTimer(timer, at_us))

    def _cancel_timer(self, timer: m.Timer) -> None:
        if timer in self._timers:
            self._timers.discard(timer)
            self._out.append(m.CancelTimer(timer))

    def _happened(self, kind: m.Kind, **members: Any) -> None:
        self._out.append(m.Happened(kind, self._now, **members))
