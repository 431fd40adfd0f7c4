"""
The lifecycle of one environment: Init, Restore, Invoke, Shutdown, and the reset between two generations.

Pure: events in, effects out, no I/O, no clock. What one party may do is in `tables`; the rules that join them
are in `init` (done when *everybody* is at next; the runtime starts when *all* external extensions have
registered), `restore` (done when the runtime is at next), `invoke` (done when the runtime *and* every
subscribed extension are at next) and `shutdown`. Here every event is led to the rule that it concerns; what
the platform itself brings about is decided here.

A *generation* is the processes between two resets. The first failure of a generation is the one reported;
what dies in the reset that follows is not news.

Source: lifecycle specification; runtime-api sections 2 to 8; extensions-api sections 2 to 7; snapstart
sections 4 to 6.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.lifecycle import endings, extension_calls, init, invoke, restore, runtime_calls, shutdown
from remora.lifecycle import messages as m
from remora.lifecycle.state import Budgets, Invocation, State
from remora.lifecycle.tables import INITIALISING, STOPPING, ExtensionMove, Phase, RuntimeState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from remora.lifecycle.parties import Extension

__all__ = ["Budgets", "Machine"]


class Machine:
    """
    One environment's state.

    Args:
        extensions: Names of the files in /opt/extensions, in the order of start.
        budgets: Time limits.
        is_for_snapshot: True if it is held when it is initialised, until it is restored.
    """

    __slots__ = ("state",)

    def __init__(
        self,
        extensions: tuple[str, ...] = (),
        budgets: Budgets | None = None,
        *,
        is_for_snapshot: bool = False,
    ) -> None:
        self.state = State(extensions, budgets or Budgets(), is_for_snapshot)

    def __repr__(self) -> str:
        """Show the joint state."""
        extensions = ", ".join(f"{e.name}={e.state.value}" for e in self.extensions())
        runtime = self.state.generation.runtime.state.value
        return f"<Machine {self.phase.value}; runtime={runtime}; {extensions or 'no extensions'}>"

    @property
    def phase(self) -> Phase:
        """What the environment as a whole is doing."""
        return self.state.phase

    @property
    def is_initialised(self) -> bool:
        """True if an invocation would be served without an init."""
        return self.phase is Phase.IDLE and self.state.generation.idle_failure is None

    def handle(self, event: m.Event, now_us: int) -> list[m.Effect]:
        """
        Take in what happened and return what is to be done, in order.

        Raises:
            AssertionError: If the platform breaks the rules (an invocation given to a busy environment).
        """
        state = self.state
        state.now_us = now_us
        effects: list[m.Effect] = []
        state.effects = effects
        _HANDLERS[type(event)](state, event)
        return effects

    def extensions(self) -> Iterator[Extension]:
        """Yield external extensions in order of start, then internal ones in order of registration."""
        return self.state.generation.extensions()

    @property
    def is_initialising(self) -> bool:
        """True from the start of an init until it is done or has failed."""
        return self.state.phase in INITIALISING

    def extension_name(self, identifier: str) -> str | None:
        """Return the name of the extension of this generation that registered as `identifier`."""
        extension = self.state.generation.by_identifier.get(identifier)
        return extension.name if extension is not None else None


# --- orders of the platform -------------------------------------------------------------------------------


def _on_initialise(s: State, _: m.Initialise) -> None:
    assert s.phase is Phase.UNINITIALISED, f"init ordered while {s.phase.value}"
    s.set_timer(m.Timer.INIT, s.now_us + s.budgets.init_us)
    init.begin(s, "init")


def _on_invoke(s: State, event: m.Invoke) -> None:
    assert s.phase is Phase.IDLE or (s.phase is Phase.UNINITIALISED and not s.is_for_snapshot), (
        f"invocation given while {s.phase.value}"
    )
    invocation = s.invocation = Invocation(event.request_id, event.timeout_us, s.now_us)
    s.effects.append(m.Thaw())
    s.set_timer(m.Timer.INVOKE, s.now_us + event.timeout_us)
    if s.phase is Phase.UNINITIALISED:
        init.begin(s, "invoke")
    elif s.generation.idle_failure is None:
        invoke.release(s, invocation)
    else:
        endings.break_off(s, "error", s.generation.idle_failure)
        shutdown.begin(s, m.Reason.FAILURE)


def _on_stop(s: State, event: m.Stop) -> None:
    s.is_closing = True
    if s.phase is Phase.UNINITIALISED:
        shutdown.close(s)
    elif s.phase not in STOPPING and s.phase is not Phase.CLOSED:
        endings.break_off(s, "error", m.Failure("Sandbox.Failure", "The environment is being shut down"))
        shutdown.begin(s, event.reason)


def _on_deadline_reached(s: State, event: m.DeadlineReached) -> None:
    at_us = s.timers.get(event.timer)
    if at_us is None:
        return
    if s.now_us < at_us:
        s.set_timer(event.timer, at_us)
        return
    del s.timers[event.timer]
    if event.timer in (m.Timer.INIT, m.Timer.INVOKE, m.Timer.RESTORE):
        _time_out(s, event.timer)
    elif event.timer is m.Timer.RUNTIME_EXIT:
        s.effects.append(m.Signal(m.RUNTIME_PROCESS, shutdown.SIGKILL))
    elif event.timer is m.Timer.SHUTDOWN:
        shutdown.kill_all(s)
    else:
        shutdown.close(s)


def _time_out(s: State, timer: m.Timer) -> None:
    if timer is m.Timer.RESTORE and s.generation.runtime.state is RuntimeState.RESTORE_ERROR:
        endings.fail(s, "Runtime.Unknown", "The runtime has reported an error and did not exit")
        return
    limit_us = s.budgets.restore_us if timer is m.Timer.RESTORE else s.budgets.init_us
    if s.invocation is not None:
        limit_us = s.invocation.timeout_us
    error_type = "Runtime.RestoreHookUserTimeout" if timer is m.Timer.RESTORE else "Sandbox.Timedout"
    failure = m.Failure(error_type, f"Task timed out after {limit_us / 1_000_000:.2f} seconds")
    endings.break_off(s, "timeout", failure)
    shutdown.begin(s, m.Reason.TIMEOUT)


# --- what becomes of processes ----------------------------------------------------------------------------


def _external_of(s: State, process: str) -> Extension | None:
    return s.generation.externals.get(process.removeprefix("extension:"))


def _on_process_started(s: State, event: m.ProcessStarted) -> None:
    s.happened(m.Kind.PROCESS_STARTED, name=event.process)
    if event.process == s.generation.starting:
        s.generation.starting = ""
        init.proceed(s)


def _on_process_failed(s: State, event: m.ProcessFailed) -> None:
    if event.process == m.RUNTIME_PROCESS:
        s.generation.runtime.is_alive = False
        endings.fail(s, "Runtime.InvalidEntrypoint", event.message)
    else:
        extension = _external_of(s, event.process)
        if extension is not None:
            init.launch_failed(s, extension, event.message, event.error_type)
    shutdown.proceed(s)


def _on_process_exited(s: State, event: m.ProcessExited) -> None:
    s.happened(m.Kind.PROCESS_EXITED, name=event.process, detail=event.text)
    if event.process == m.RUNTIME_PROCESS:
        s.generation.runtime.is_alive = False
        how = "without providing a reason" if event.is_clean else f"with error: {event.text}"
        error_type = "Runtime.OutOfMemory" if event.is_out_of_memory else "Runtime.ExitError"
        endings.fail(s, error_type, f"Runtime exited {how}")
    else:
        extension = _external_of(s, event.process)
        if extension is not None:
            _extension_exited(s, extension, event)
    shutdown.proceed(s)


def _extension_exited(s: State, extension: Extension, event: m.ProcessExited) -> None:
    extension.is_alive = False
    if s.phase in STOPPING:
        extension.move(ExtensionMove.EXIT if event.is_clean else ExtensionMove.EXIT_BADLY)
    else:
        endings.fail(s, "Extension.Crash", "exit code 0" if event.is_clean else event.text)


def _on_emptied(s: State, _: m.Emptied) -> None:
    shutdown.emptied(s)


def _on_sandbox_lost(s: State, event: m.SandboxLost) -> None:
    endings.break_off(s, "error", m.Failure("Sandbox.Failure", event.message))
    shutdown.close(s)


def _on_call_dropped(s: State, event: m.CallDropped) -> None:
    runtime = s.generation.runtime
    if event.call in runtime.parked:
        runtime.parked.remove(event.call)
    elif runtime.posting is event.call:
        runtime_calls.on_body_ended(s, m.BodyEnded(event.call, m.Transfer.TRUNCATED))
    for extension in s.generation.extensions():
        if extension.parked is event.call:
            extension.parked = None


_HANDLERS: dict[type, Callable[[State, Any], None]] = {
    m.Initialise: _on_initialise,
    m.Invoke: _on_invoke,
    m.Restore: restore.on_restore,
    m.Stop: _on_stop,
    m.DeadlineReached: _on_deadline_reached,
    m.ProcessStarted: _on_process_started,
    m.ProcessFailed: _on_process_failed,
    m.ProcessExited: _on_process_exited,
    m.Emptied: _on_emptied,
    m.SandboxLost: _on_sandbox_lost,
    m.CallDropped: _on_call_dropped,
    m.RuntimeNext: runtime_calls.on_next,
    m.RestoreNext: runtime_calls.on_restore_next,
    m.RestoreError: runtime_calls.on_restore_error,
    m.ResponseBegan: runtime_calls.on_response_began,
    m.ErrorBegan: runtime_calls.on_error_began,
    m.BodyEnded: runtime_calls.on_body_ended,
    m.InitError: runtime_calls.on_init_error,
    m.Register: extension_calls.on_register,
    m.ExtensionNext: extension_calls.on_next,
    m.ExtensionError: extension_calls.on_error,
}
