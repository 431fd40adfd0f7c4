"""
Init: extensions in parallel, then the runtime, until everybody is at next (the runtime: or restore/next).

Source: lifecycle specification, section 2; extensions-api specification, section 6; snapstart specification,
section 4.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from remora.lifecycle import endings, invoke, restore
from remora.lifecycle.messages import RUNTIME_PROCESS, Kind, StartProcess, extension_process
from remora.lifecycle.parties import Extension
from remora.lifecycle.state import Generation
from remora.lifecycle.tables import ExtensionMove, ExtensionState, Phase, RuntimeMove, RuntimeState
from remora.spec.limits import EXTENSIONS_MAX

if TYPE_CHECKING:
    from remora.lifecycle.state import State


def begin(s: State, phase: Literal["init", "invoke"]) -> None:
    """Start a new generation, ahead of any invocation or inside one."""
    s.init_phase = phase
    s.init_started_us = s.now_us
    s.generation = Generation(to_start=list(s.names), is_registration_open=True)
    s.happened(Kind.INIT_STARTED, phase=phase)
    s.enter(Phase.STARTING_EXTENSIONS)
    proceed(s)


def proceed(s: State) -> None:
    """Take the next step of init, if everybody who must be ready for it is."""
    generation = s.generation
    if s.phase is Phase.STARTING_EXTENSIONS:
        if generation.to_start:
            # One after the other is executed, so that none is after one that cannot be.
            if not generation.starting:
                _start_extension(s, generation.to_start.pop(0))
        elif all(e.is_registered for e in generation.externals.values()):
            s.enter(Phase.STARTING_RUNTIME)
            generation.runtime.is_alive = True
            generation.runtime.move(RuntimeMove.START)
            s.effects.append(StartProcess(RUNTIME_PROCESS))
    elif (
        s.phase is Phase.STARTING_RUNTIME
        and generation.runtime.state in (RuntimeState.READY, RuntimeState.RESTORE_READY)
        and all(e.state is ExtensionState.READY for e in generation.extensions())
    ):
        _succeed(s)


def _start_extension(s: State, name: str) -> None:
    generation = s.generation
    extension = generation.externals[name] = Extension(name, is_external=True)
    if len(generation.externals) > EXTENSIONS_MAX:
        launch_failed(s, extension, "ErrTooManyExtensions", "TooManyExtensions")
        return
    extension.is_alive = True
    generation.starting = extension_process(name)
    s.effects.append(StartProcess(generation.starting))


def launch_failed(s: State, extension: Extension, message: str, error_type: str) -> None:
    """An external extension could not be executed."""
    extension.is_alive = False
    extension.error_type = error_type
    extension.move(ExtensionMove.LAUNCH_FAILED)
    endings.fail(s, "Extension.LaunchError", message)


def _succeed(s: State) -> None:
    endings.end_init(s, "success")
    s.generation.invoked = [e for e in s.generation.extensions() if "INVOKE" in e.events]
    if s.is_for_snapshot:
        restore.hold(s)
    elif s.invocation is None:
        s.unbilled_init_us = s.now_us - s.init_started_us
        invoke.become_idle(s)
    else:
        invoke.release(s, s.invocation)
