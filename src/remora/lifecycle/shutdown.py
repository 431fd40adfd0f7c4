"""
Shutdown, and the reset between two generations: ask the runtime, tell the extensions, kill what remains.

Source: lifecycle specification, sections 5 and 6; snapstart specification, section 4.1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle.messages import (
    RUNTIME_PROCESS,
    AnswerShutdown,
    Available,
    Closed,
    KillAll,
    Kind,
    Signal,
    Thaw,
    Timer,
    extension_process,
)
from remora.lifecycle.tables import STOPPING, ExtensionMove, Phase

if TYPE_CHECKING:
    from remora.lifecycle.messages import Call, Reason
    from remora.lifecycle.parties import Extension
    from remora.lifecycle.state import State

SIGTERM = 15
SIGKILL = 9


def begin(s: State, reason: Reason) -> None:
    """
    End this generation; whatever was under way in it must have been ended before.

    "none: runtime is SIGKILLed at once, no SIGTERM; only internal: 500 ms, all of it the runtime's;
    at least one external: 2000 ms, of which the runtime has up to 300 ms".
    """
    generation, budgets = s.generation, s.budgets
    s.reason = reason
    s.is_closing = s.is_closing or s.is_for_snapshot  # it is not initialised a second time: ADR-0010
    generation.is_registration_open = False
    for extension in generation.extensions():
        extension.due = ""
    s.effects.append(Thaw())
    s.happened(Kind.SHUTDOWN_STARTED, detail=reason.value)
    if s.phase is Phase.SNAPSHOT_READY:
        kill_all(s)  # who is held for a snapshot hears nothing: what is in the snapshot goes on waiting
        return
    if any(e.is_registered for e in generation.externals.values()):
        total_us, share_us = budgets.external_us, budgets.external_runtime_us
    elif generation.internals:
        total_us = share_us = budgets.internal_us
    else:
        kill_all(s)
        return
    s.enter(Phase.STOPPING_RUNTIME)
    s.shutdown_deadline_us = s.now_us + total_us
    s.set_timer(Timer.SHUTDOWN, s.shutdown_deadline_us)
    if generation.runtime.is_alive:
        s.set_timer(Timer.RUNTIME_EXIT, s.now_us + share_us)
        s.effects.append(Signal(RUNTIME_PROCESS, SIGTERM))
        s.happened(Kind.RUNTIME_TERMINATED)
    proceed(s)


def proceed(s: State) -> None:
    """Take the next step of a shutdown, if those who were waited for are gone."""
    generation = s.generation
    if s.phase is Phase.STOPPING_RUNTIME and not generation.runtime.is_alive:
        s.cancel_timer(Timer.RUNTIME_EXIT)
        s.enter(Phase.STOPPING_EXTENSIONS)
        for extension in generation.externals.values():
            if extension.is_alive:
                _ask(s, extension)
    if s.phase is Phase.STOPPING_EXTENSIONS and not any(e.is_alive for e in generation.externals.values()):
        kill_all(s)


def _ask(s: State, extension: Extension) -> None:
    """Tell an external extension to shut down; one that did not ask to be told is killed."""
    if not extension.can_listen or "SHUTDOWN" not in extension.events:
        s.effects.append(Signal(extension_process(extension.name), SIGKILL))
    elif extension.parked is not None:
        give_shutdown(s, extension, extension.parked)
    else:
        extension.due = "SHUTDOWN"


def give_shutdown(s: State, extension: Extension, call: Call) -> None:
    """Answer an extension's next with the SHUTDOWN event."""
    extension.parked = None
    extension.due = ""
    extension.move(ExtensionMove.RELEASE)
    s.effects.append(AnswerShutdown(call, s.reason, s.shutdown_deadline_us))
    s.happened(Kind.EXTENSION_NOTIFIED, name=extension.name)


def kill_all(s: State) -> None:
    """Kill what is left, background processes included, and wait for the confirmation."""
    s.cancel_timer(Timer.RUNTIME_EXIT)
    s.cancel_timer(Timer.SHUTDOWN)
    s.enter(Phase.KILLING)
    s.set_timer(Timer.EMPTY, s.now_us + s.budgets.confirm_us)
    s.effects.append(KillAll())


def emptied(s: State) -> None:
    """Nothing runs any more: the environment is ready for another generation, or has ended."""
    if s.phase is not Phase.KILLING:
        return
    if s.is_closing:
        close(s)
        return
    s.cancel_timer(Timer.EMPTY)
    s.happened(Kind.SHUTDOWN_ENDED)
    s.forget_generation()
    s.enter(Phase.UNINITIALISED)
    s.effects.append(Available(is_initialised=False))


def close(s: State) -> None:
    """End the environment for good. Repeated calls: no effect."""
    if s.phase is Phase.CLOSED:
        return
    for timer in tuple(s.timers):
        s.cancel_timer(timer)
    if s.phase in STOPPING:
        s.happened(Kind.SHUTDOWN_ENDED)
    s.forget_generation()
    s.enter(Phase.CLOSED)
    s.effects.append(Closed())
