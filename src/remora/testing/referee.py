"""
Watches a lifecycle machine and objects to whatever must never be, after every single step.

The rules: every accepted invocation is completed once and ended once; every start has an end; nothing is
started once a shutdown began; deadlines never move later; nobody waits without the machine knowing of it, and
no phase that waits is without a deadline; the environment is offered only when nothing is open, once; nobody
is told of an invocation that is not open; extensions are told to shut down only when the runtime is gone.
What is held for a snapshot is told nothing until it is restored; if it ends by itself before it could serve,
it is abandoned, and what was abandoned never serves.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.lifecycle import messages as m
from remora.lifecycle.tables import Phase

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.lifecycle.machine import Machine
    from remora.lifecycle.state import State

_TIMERS: dict[Phase, tuple[frozenset[m.Timer], ...]] = {
    Phase.UNINITIALISED: (frozenset(),),
    Phase.STARTING_EXTENSIONS: (frozenset({m.Timer.INIT}), frozenset({m.Timer.INVOKE})),
    Phase.STARTING_RUNTIME: (frozenset({m.Timer.INIT}), frozenset({m.Timer.INVOKE})),
    Phase.SNAPSHOT_READY: (frozenset(),),
    Phase.RESTORING: (frozenset({m.Timer.RESTORE}),),
    Phase.IDLE: (frozenset(),),
    Phase.INVOKING: (frozenset({m.Timer.INVOKE}),),
    Phase.STOPPING_RUNTIME: (
        frozenset({m.Timer.SHUTDOWN}),
        frozenset({m.Timer.SHUTDOWN, m.Timer.RUNTIME_EXIT}),
    ),
    Phase.STOPPING_EXTENSIONS: (frozenset({m.Timer.SHUTDOWN}),),
    Phase.KILLING: (frozenset({m.Timer.EMPTY}),),
    Phase.CLOSED: (frozenset(),),
}
"""The deadlines that run in each phase: whoever waits, waits for something that comes or for one of these."""

_PAIRS = {
    m.Kind.INIT_STARTED: m.Kind.INIT_ENDED,
    m.Kind.RESTORE_STARTED: m.Kind.RESTORE_ENDED,
    m.Kind.INVOKE_STARTED: m.Kind.INVOKE_ENDED,
    m.Kind.SHUTDOWN_STARTED: m.Kind.SHUTDOWN_ENDED,
}
_ENDS = {end: start for start, end in _PAIRS.items()}


def check_state(state: State) -> None:
    """
    Check a state by itself: the deadlines that run are those of its phase.

    Raises:
        AssertionError: If others do.
    """
    running = state.timers.keys()
    assert any(running == allowed for allowed in _TIMERS[state.phase]), (
        f"deadlines while {state.phase.value}: {sorted(timer.value for timer in running)}"
    )


class Referee:
    """
    Objects, with AssertionError, to a step that breaks a rule.

    Args:
        machine: Whom it watches; it must be new.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._open_calls: set[object] = set()
        self._timers: dict[m.Timer, int] = {}
        self._request_id = ""
        self._is_completed = False
        self._begun: set[m.Kind] = set()
        self._is_offered = not machine.state.is_for_snapshot
        """True while an invocation may be given; a new machine takes one, it begins with the init."""
        self._is_closed = False
        self._is_held = False
        """True while a restore may be ordered."""
        self._is_silent = False
        """True from when it is held until it is restored: nobody inside hears anything."""
        self._is_abandoned = False
        self._may_end = not machine.state.is_for_snapshot
        """True once it was offered or told to stop: it need not be abandoned when it ends."""
        self._registered: set[str] = set()
        self._ordered: set[str] = set()
        self._is_runtime_alive = False
        self._checks: dict[type, Callable[[Any], None]] = {
            m.StartProcess: self._check_start,
            m.Signal: self._check_signal,
            m.SetTimer: self._check_timer,
            m.CancelTimer: self._check_cancelled,
            m.Accept: self._check_answer,
            m.Refuse: self._check_answer,
            m.AnswerRegistered: self._check_answer,
            m.AnswerInvocation: self._check_invoke_answer,
            m.AnswerInvoke: self._check_invoke_answer,
            m.AnswerShutdown: self._check_shutdown_answer,
            m.Complete: self._check_complete,
            m.Available: self._check_available,
            m.AnswerRestored: self._check_restored,
            m.SnapshotReady: self._check_held,
            m.Abandoned: self._check_abandoned,
            m.Closed: self._check_closed,
            m.Happened: self._check_happened,
        }
        self._notes: dict[type, Callable[[Any], None]] = {
            m.Initialise: self._note_initialise,
            m.Invoke: self._note_invoke,
            m.Restore: self._note_restore,
            m.Stop: self._note_stop,
            m.ProcessFailed: self._note_end,
            m.ProcessExited: self._note_end,
            m.SandboxLost: self._note_lost,
            m.CallDropped: self._note_dropped,
        }

    @property
    def is_held(self) -> bool:
        """True if a restore may be ordered."""
        return self._is_held

    @property
    def is_offered(self) -> bool:
        """True if an invocation may be given."""
        return self._is_offered

    @property
    def is_closed(self) -> bool:
        """True if the environment has ended."""
        return self._is_closed

    def see_event(self, event: m.Event, now_us: int) -> None:
        """Note what is about to be told to the machine."""
        note = self._notes.get(type(event))
        if note is not None:
            note(event)
        elif type(event) is m.DeadlineReached:
            if self._timers.get(event.timer, now_us + 1) <= now_us:
                del self._timers[event.timer]
        elif type(event) is not m.BodyEnded:
            call = getattr(event, "call", None)
            if call is not None:
                self._open_calls.add(call)

    def see_effects(self, effects: list[m.Effect]) -> None:
        """
        Check what the machine ordered, and the state it is in now.

        Raises:
            AssertionError: If a rule is broken.
        """
        for effect in effects:
            check = self._checks.get(type(effect))
            if check is not None:
                check(effect)
        state = self._machine.state
        assert self._timers == state.timers, "the machine's deadlines are not those that were ordered"
        check_state(state)
        runtime = state.generation.runtime
        waiting = len(runtime.parked) + (runtime.posting is not None)
        for extension in state.generation.extensions():
            if extension.parked is not None:
                waiting += 1
        assert waiting == len(self._open_calls), "somebody waits and the machine does not know of it"
        assert (state.invocation is None) == (not self._request_id), "an invocation was lost or made up"

    # --- events -------------------------------------------------------------------------------------------

    def _note_invoke(self, event: m.Invoke) -> None:
        assert self._is_offered, "an invocation was given without an offer"
        self._is_offered = False
        self._request_id = event.request_id
        self._is_completed = False

    def _note_restore(self, _: m.Restore) -> None:
        assert self._is_held, "a restore was ordered while there was nothing to restore"
        self._is_held = self._is_silent = False

    def _note_initialise(self, _: m.Initialise) -> None:
        self._is_offered = False

    def _note_stop(self, _: m.Stop) -> None:
        self._is_offered = self._is_held = False
        self._may_end = True

    def _note_end(self, event: m.ProcessFailed | m.ProcessExited) -> None:
        if event.process == m.RUNTIME_PROCESS:
            self._is_runtime_alive = False

    def _note_lost(self, _: m.SandboxLost) -> None:
        self._is_runtime_alive = False

    def _note_dropped(self, event: m.CallDropped) -> None:
        if self._machine.state.generation.runtime.posting is not event.call:
            self._open_calls.discard(event.call)

    # --- effects ------------------------------------------------------------------------------------------

    def _check_start(self, effect: m.StartProcess) -> None:
        assert m.Kind.INIT_STARTED in self._begun, "a process was started outside an init"
        assert m.Kind.SHUTDOWN_STARTED not in self._begun, "a process was started during a shutdown"
        assert effect.process not in self._ordered, "a process was started twice"
        if effect.process == m.RUNTIME_PROCESS:
            missing = self._ordered - self._registered
            assert not missing, f"the runtime was started before {sorted(missing)} registered"
            self._is_runtime_alive = True
        self._ordered.add(effect.process)

    def _check_signal(self, effect: m.Signal) -> None:
        is_runtime = effect.process == m.RUNTIME_PROCESS
        assert is_runtime or effect.number == 9, "an extension was sent another signal than SIGKILL"

    def _check_timer(self, effect: m.SetTimer) -> None:
        before_us = self._timers.get(effect.timer)
        assert before_us is None or effect.at_us <= before_us, f"{effect.timer.value} moved later"
        self._timers[effect.timer] = effect.at_us

    def _check_cancelled(self, effect: m.CancelTimer) -> None:
        assert self._timers.pop(effect.timer, None) is not None, f"{effect.timer.value} was not running"

    def _check_answer(self, effect: Any) -> None:
        call = effect.call
        assert call in self._open_calls, "a call was answered twice, or after it was dropped"
        self._open_calls.remove(call)

    def _check_invoke_answer(self, effect: m.AnswerInvocation | m.AnswerInvoke) -> None:
        assert m.Kind.INVOKE_STARTED in self._begun, "an event was given out without an invocation"
        assert m.Kind.INIT_STARTED not in self._begun, "an event was given out during init"
        self._check_answer(effect)

    def _check_shutdown_answer(self, effect: m.AnswerShutdown) -> None:
        assert m.Kind.SHUTDOWN_STARTED in self._begun, "SHUTDOWN without a shutdown"
        assert not self._is_runtime_alive, "an extension was told to shut down while the runtime lived"
        assert not self._is_silent, "an extension was told to shut down that is part of a snapshot"
        self._check_answer(effect)

    def _check_complete(self, effect: m.Complete) -> None:
        assert effect.request_id == self._request_id, "an invocation was completed that is not open"
        assert not self._is_completed, "an invocation was completed twice"
        assert (effect.failure is None) != (effect.posted is None), "an answer is a failure or a post"
        assert effect.posted is None or effect.posted in self._open_calls, "an answer by a call that is over"
        self._is_completed = True

    def _check_restored(self, effect: m.AnswerRestored) -> None:
        assert m.Kind.RESTORE_STARTED in self._begun, "the runtime was let go on without a restore"
        self._check_answer(effect)

    def _check_held(self, _: m.SnapshotReady) -> None:
        assert self._machine.state.is_for_snapshot, "an environment was held that is not for a snapshot"
        assert not self._is_held, "the environment was held twice"
        assert not self._is_abandoned, "the environment was held after it was abandoned"
        assert not self._begun, f"the environment was held while {self._begun} had not ended"
        assert not self._timers, "the environment was held while a deadline runs"
        self._is_held = self._is_silent = True

    def _check_abandoned(self, _: m.Abandoned) -> None:
        assert self._machine.state.is_for_snapshot, "an environment was abandoned that may be tried again"
        assert not self._is_abandoned, "the environment was abandoned twice"
        assert not self._is_offered, "the environment was abandoned while it was offered"
        self._is_abandoned = True
        self._is_held = False

    def _check_available(self, effect: m.Available) -> None:
        assert effect.is_initialised or not self._machine.state.is_for_snapshot, (
            "a snapshot's init was repeated"
        )
        assert not self._is_offered, "the environment was offered twice"
        assert not self._request_id, "the environment was offered while an invocation is open"
        assert not self._begun, f"the environment was offered while {self._begun} had not ended"
        assert not self._timers, "the environment was offered while a deadline runs"
        assert not self._is_held, "the environment was offered while it is held"
        assert not self._is_abandoned, "the environment was offered after it was abandoned"
        self._is_offered = self._may_end = True

    def _check_closed(self, _: m.Closed) -> None:
        assert not self._is_closed, "the environment closed twice"
        assert self._may_end or self._is_abandoned, "the environment ended and nobody was told why"
        assert not self._request_id, "the environment closed while an invocation is open"
        assert not self._begun, f"the environment closed while {self._begun} had not ended"
        self._is_closed = True
        self._is_offered = False

    def _check_happened(self, effect: m.Happened) -> None:
        kind = effect.kind
        if kind in _PAIRS:
            assert kind not in self._begun, f"{kind.value} twice"
            self._begun.add(kind)
            if kind is m.Kind.INIT_STARTED:
                self._registered.clear()
                self._ordered.clear()
        elif kind in _ENDS:
            assert _ENDS[kind] in self._begun, f"{kind.value} without a start"
            self._begun.remove(_ENDS[kind])
            if kind is m.Kind.INVOKE_ENDED:
                assert effect.request_id == self._request_id, "another invocation ended than the open one"
                assert self._is_completed, "an invocation ended without an answer"
                self._request_id = ""
        elif kind is m.Kind.EXTENSION_REGISTERED:
            self._registered.add(m.extension_process(effect.name))
