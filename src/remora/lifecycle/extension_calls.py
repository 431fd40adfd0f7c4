"""
What the extensions' calls mean: register, next, init/error, exit/error.

Source: extensions-api specification, sections 2 to 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle import init, invoke, shutdown
from remora.lifecycle.messages import Accept, AnswerRegistered, Kind, Refuse
from remora.lifecycle.parties import Extension
from remora.lifecycle.tables import ExtensionMove, ExtensionState
from remora.spec.limits import EXTENSIONS_MAX

if TYPE_CHECKING:
    from remora.lifecycle.messages import Call, ExtensionError, ExtensionNext, Register
    from remora.lifecycle.state import State


def on_register(s: State, event: Register) -> None:
    """POST /extension/register: events are checked first, then the state (internal: the room left)."""
    generation = s.generation
    extension = generation.externals.get(event.name)
    problem = _problem_with(event.events, is_external=extension is not None)
    if problem:
        _refuse(s, event.call, "InvalidEventType", problem)
        return
    if extension is None:
        extension = _new_internal(s, event)
        if extension is None:
            return
    if not extension.move(ExtensionMove.REGISTER):
        s.effects.append(extension.refusal(event.call, ExtensionMove.REGISTER))
        return
    extension.identifier = event.identifier
    extension.events = tuple(dict.fromkeys(event.events))
    generation.by_identifier[event.identifier] = extension
    s.effects.append(AnswerRegistered(event.call, event.identifier))
    s.happened(Kind.EXTENSION_REGISTERED, name=extension.name)
    init.proceed(s)


def _problem_with(events: tuple[str, ...], *, is_external: bool) -> str:
    for name in events:
        if name not in ("INVOKE", "SHUTDOWN"):
            return f"{name}: ErrorInvalidEventType"
        if name == "SHUTDOWN" and not is_external:
            return "SHUTDOWN: ShutdownEventNotSupportedForInternalExtension"
    return ""


def _new_internal(s: State, event: Register) -> Extension | None:
    generation = s.generation
    count = len(generation.externals) + len(generation.to_start) + len(generation.internals)
    if not generation.is_registration_open:
        _refuse(s, event.call, "RegistrationClosed", "Extension registration closed already")
    elif count >= EXTENSIONS_MAX:
        _refuse(s, event.call, "TooManyExtensions", f"Extension limit ({EXTENSIONS_MAX}) reached")
    elif event.name in generation.internals:
        _refuse(s, event.call, "InvalidExtensionState", "Extension with this name already registered")
    else:
        extension = generation.internals[event.name] = Extension(event.name, is_external=False)
        return extension
    return None


def _refuse(s: State, call: Call, error_type: str, message: str) -> None:
    s.effects.append(Refuse(call, 403, f"Extension.{error_type}", message))


def on_next(s: State, event: ExtensionNext) -> None:
    """GET /extension/event/next: wait for an event, or get the one that is out."""
    extension = s.generation.by_identifier.get(event.identifier)
    if extension is None:
        _refuse(s, event.call, "UnknownExtensionIdentifier", f"Unknown extension {event.identifier}")
        return
    before = extension.state
    is_waiting_again = before is ExtensionState.READY and extension.parked is None
    if not is_waiting_again and not extension.move(ExtensionMove.NEXT):
        s.effects.append(extension.refusal(event.call, ExtensionMove.NEXT))
    elif extension.due == "SHUTDOWN":
        shutdown.give_shutdown(s, extension, event.call)
    elif extension.due == "INVOKE":
        invoke.give_invoke(s, extension, event.call)
    else:
        extension.parked = event.call
        if before is ExtensionState.REGISTERED:
            s.happened(Kind.EXTENSION_READY, name=extension.name)
            init.proceed(s)
        elif before is ExtensionState.RUNNING and s.invocation is not None:
            s.happened(Kind.EXTENSION_DONE, name=extension.name, request_id=s.invocation.request_id)
            invoke.finish_if_done(s)


def on_error(s: State, event: ExtensionError) -> None:
    """
    POST /extension/init/error or /extension/exit/error: noted; acted on when the process ends.

    A next that waits is refused: the state has changed underneath it.
    """
    generation = s.generation
    extension = generation.by_identifier.get(event.identifier)
    if extension is None:
        _refuse(s, event.call, "UnknownExtensionIdentifier", "Unknown Lambda-Extension-Identifier")
        return
    move = ExtensionMove.EXIT_ERROR if event.is_exit else ExtensionMove.INIT_ERROR
    if not extension.move(move):
        s.effects.append(extension.refusal(event.call, move))
        return
    extension.error_type = extension.error_type or event.error_type
    extension.due = ""
    posted = "Extension.ExitError" if event.is_exit else "Extension.InitError"
    generation.fatal_type = generation.fatal_type or posted
    s.effects.append(Accept(event.call))
    s.refuse_parked(extension)
