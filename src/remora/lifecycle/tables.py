"""
The states of the runtime and of an extension, and every move between them, as tables.

A call that has no entry for the present state is refused and changes nothing. State names are those that
appear in error texts and in the log. Moves of the environment as a whole are joint-state rules: they are in
`init`, `invoke` and `shutdown`.

Source: runtime-api specification section 2, snapstart specification section 5.2, extensions-api specification
section 4.
"""

from __future__ import annotations

from enum import Enum


class RuntimeState(Enum):
    """What the runtime is doing, by the calls it made."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is computed in Python, each time

    ABSENT = "Absent"
    """Its process has not been ordered yet: whoever calls is left over from before a reset."""
    STARTED = "Started"
    INIT_ERROR = "InitError"
    READY = "Ready"
    RUNNING = "Running"
    RESPONDING = "InvocationResponse"
    REPORTING_ERROR = "InvocationErrorResponse"
    RESPONSE_SENT = "RuntimeResponseSentState"
    RESTORE_READY = "RestoreReady"
    """It waits in restore/next; the snapshot is taken while it does."""
    RESTORING = "Restoring"
    RESTORE_ERROR = "RuntimeRestoreErrorState"


class RuntimeMove(Enum):
    """A call of the runtime, or what is done to it; the value is the target that a refusal names."""

    __hash__ = object.__hash__

    NEXT = "Ready"
    RESPONSE = "InvocationResponse"
    ERROR = "InvocationErrorResponse"
    INIT_ERROR = "InitError"
    START = "Started"
    RELEASE = "Running"
    RECEIVED = "RuntimeResponseSentState"
    RESTORE_NEXT = "RestoreReady"
    RESTORE = "Restoring"
    RESTORE_ERROR = "RuntimeRestoreErrorState"


RUNTIME: dict[tuple[RuntimeState, RuntimeMove], RuntimeState] = {
    (RuntimeState.ABSENT, RuntimeMove.START): RuntimeState.STARTED,
    (RuntimeState.STARTED, RuntimeMove.NEXT): RuntimeState.READY,
    (RuntimeState.STARTED, RuntimeMove.INIT_ERROR): RuntimeState.INIT_ERROR,
    (RuntimeState.STARTED, RuntimeMove.RESTORE_NEXT): RuntimeState.RESTORE_READY,
    (RuntimeState.RESTORE_READY, RuntimeMove.RESTORE): RuntimeState.RESTORING,
    (RuntimeState.RESTORING, RuntimeMove.NEXT): RuntimeState.READY,
    (RuntimeState.RESTORING, RuntimeMove.RESTORE_ERROR): RuntimeState.RESTORE_ERROR,
    (RuntimeState.RESTORING, RuntimeMove.INIT_ERROR): RuntimeState.RESTORE_ERROR,
    (RuntimeState.READY, RuntimeMove.NEXT): RuntimeState.READY,
    (RuntimeState.READY, RuntimeMove.RELEASE): RuntimeState.RUNNING,
    (RuntimeState.RUNNING, RuntimeMove.NEXT): RuntimeState.RUNNING,
    (RuntimeState.RUNNING, RuntimeMove.RESPONSE): RuntimeState.RESPONDING,
    (RuntimeState.RUNNING, RuntimeMove.ERROR): RuntimeState.REPORTING_ERROR,
    (RuntimeState.RESPONDING, RuntimeMove.RECEIVED): RuntimeState.RESPONSE_SENT,
    (RuntimeState.REPORTING_ERROR, RuntimeMove.RECEIVED): RuntimeState.RESPONSE_SENT,
    (RuntimeState.RESPONSE_SENT, RuntimeMove.NEXT): RuntimeState.READY,
}


class ExtensionState(Enum):
    """What an extension is doing, by the calls it made."""

    __hash__ = object.__hash__

    STARTED = "Started"
    REGISTERED = "Registered"
    READY = "Ready"
    RUNNING = "Running"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "ExitError"
    LAUNCH_ERROR = "LaunchError"
    EXITED = "Exited"
    SHUTDOWN_FAILED = "ShutdownFailed"


class ExtensionMove(Enum):
    """A call of an extension, or what is done to it; the value is the target that a refusal names."""

    __hash__ = object.__hash__

    REGISTER = "Registered"
    NEXT = "Ready"
    INIT_ERROR = "InitError"
    EXIT_ERROR = "Exited"
    RELEASE = "Running"
    LAUNCH_FAILED = "LaunchError"
    EXIT = "exit during shutdown"
    EXIT_BADLY = "exit with an error during shutdown"


EXTENSION: dict[tuple[ExtensionState, ExtensionMove], ExtensionState] = {
    (ExtensionState.STARTED, ExtensionMove.REGISTER): ExtensionState.REGISTERED,
    (ExtensionState.STARTED, ExtensionMove.LAUNCH_FAILED): ExtensionState.LAUNCH_ERROR,
    (ExtensionState.STARTED, ExtensionMove.EXIT): ExtensionState.EXITED,
    (ExtensionState.STARTED, ExtensionMove.EXIT_BADLY): ExtensionState.SHUTDOWN_FAILED,
    (ExtensionState.REGISTERED, ExtensionMove.NEXT): ExtensionState.READY,
    (ExtensionState.REGISTERED, ExtensionMove.INIT_ERROR): ExtensionState.INIT_ERROR,
    (ExtensionState.REGISTERED, ExtensionMove.EXIT_ERROR): ExtensionState.EXIT_ERROR,
    (ExtensionState.REGISTERED, ExtensionMove.EXIT): ExtensionState.EXITED,
    (ExtensionState.REGISTERED, ExtensionMove.EXIT_BADLY): ExtensionState.SHUTDOWN_FAILED,
    (ExtensionState.READY, ExtensionMove.RELEASE): ExtensionState.RUNNING,
    (ExtensionState.READY, ExtensionMove.EXIT_ERROR): ExtensionState.EXIT_ERROR,
    (ExtensionState.READY, ExtensionMove.EXIT): ExtensionState.EXITED,
    (ExtensionState.READY, ExtensionMove.EXIT_BADLY): ExtensionState.SHUTDOWN_FAILED,
    (ExtensionState.RUNNING, ExtensionMove.NEXT): ExtensionState.READY,
    (ExtensionState.RUNNING, ExtensionMove.EXIT_ERROR): ExtensionState.EXIT_ERROR,
    (ExtensionState.RUNNING, ExtensionMove.EXIT): ExtensionState.EXITED,
    (ExtensionState.RUNNING, ExtensionMove.EXIT_BADLY): ExtensionState.SHUTDOWN_FAILED,
    (ExtensionState.INIT_ERROR, ExtensionMove.INIT_ERROR): ExtensionState.INIT_ERROR,
    (ExtensionState.INIT_ERROR, ExtensionMove.EXIT): ExtensionState.EXITED,
    (ExtensionState.INIT_ERROR, ExtensionMove.EXIT_BADLY): ExtensionState.SHUTDOWN_FAILED,
    (ExtensionState.EXIT_ERROR, ExtensionMove.EXIT_ERROR): ExtensionState.EXIT_ERROR,
    (ExtensionState.EXIT_ERROR, ExtensionMove.EXIT): ExtensionState.EXITED,
    (ExtensionState.EXIT_ERROR, ExtensionMove.EXIT_BADLY): ExtensionState.SHUTDOWN_FAILED,
}


class Phase(Enum):
    """What the environment as a whole is doing."""

    __hash__ = object.__hash__

    UNINITIALISED = "uninitialised"
    """Nothing runs: new, or after a reset; the next invocation begins with an init."""
    STARTING_EXTENSIONS = "starting extensions"
    """External extensions are being started and register."""
    STARTING_RUNTIME = "starting runtime"
    """The runtime initialises; everybody's first next is awaited."""
    SNAPSHOT_READY = "snapshot ready"
    """Initialised for a snapshot: all wait, and nothing happens until a restore."""
    RESTORING = "restoring"
    """The runtime goes on after its snapshot; its first next of an invocation is awaited."""
    IDLE = "idle"
    """Initialised and without an invocation."""
    INVOKING = "invoking"
    """An invocation was given out; the runtime or a subscribed extension is not done with it."""
    STOPPING_RUNTIME = "stopping runtime"
    """SIGTERM was sent to the runtime."""
    STOPPING_EXTENSIONS = "stopping extensions"
    """The runtime is gone, external extensions have the SHUTDOWN event."""
    KILLING = "killing"
    """Whatever is left is being killed."""
    CLOSED = "closed"
    """The environment will never serve again."""


INITIALISING = (Phase.STARTING_EXTENSIONS, Phase.STARTING_RUNTIME)
BEFORE_FIRST_USE = (*INITIALISING, Phase.SNAPSHOT_READY, Phase.RESTORING)
UNDER_WAY = (*BEFORE_FIRST_USE, Phase.INVOKING)
"""Phases that a failure ends at once; when idle it waits for the next invocation."""
STOPPING = (Phase.STOPPING_RUNTIME, Phase.STOPPING_EXTENSIONS, Phase.KILLING)

_LOST = "the sandbox breaks down"
_FAILED = "failure, time limit or stop"
_FAILED_ALONE = f"{_FAILED}, no extension registered"

PHASES: dict[Phase, dict[Phase, str]] = {
    Phase.UNINITIALISED: {
        Phase.STARTING_EXTENSIONS: "init ahead, or an invocation",
        Phase.CLOSED: "stop",
    },
    Phase.STARTING_EXTENSIONS: {
        Phase.STARTING_RUNTIME: "all external extensions registered",
        Phase.STOPPING_RUNTIME: _FAILED,
        Phase.KILLING: _FAILED_ALONE,
        Phase.CLOSED: _LOST,
    },
    Phase.STARTING_RUNTIME: {
        Phase.IDLE: "all at next",
        Phase.INVOKING: "all at next, inside an invocation",
        Phase.SNAPSHOT_READY: "all at next or restore/next, for a snapshot",
        Phase.STOPPING_RUNTIME: _FAILED,
        Phase.KILLING: _FAILED_ALONE,
        Phase.CLOSED: _LOST,
    },
    Phase.SNAPSHOT_READY: {
        Phase.RESTORING: "restore",
        Phase.KILLING: "stop, or a process died",
        Phase.CLOSED: _LOST,
    },
    Phase.RESTORING: {
        Phase.IDLE: "the runtime at next",
        Phase.STOPPING_RUNTIME: _FAILED,
        Phase.KILLING: _FAILED_ALONE,
        Phase.CLOSED: _LOST,
    },
    Phase.IDLE: {
        Phase.INVOKING: "an invocation",
        Phase.STOPPING_RUNTIME: "stop, or an invocation after a process died",
        Phase.KILLING: "the same, no extension registered",
        Phase.CLOSED: _LOST,
    },
    Phase.INVOKING: {
        Phase.IDLE: "runtime and subscribed extensions at next",
        Phase.STOPPING_RUNTIME: _FAILED,
        Phase.KILLING: _FAILED_ALONE,
        Phase.CLOSED: _LOST,
    },
    Phase.STOPPING_RUNTIME: {
        Phase.STOPPING_EXTENSIONS: "the runtime is gone",
        Phase.KILLING: "budget used up",
        Phase.CLOSED: _LOST,
    },
    Phase.STOPPING_EXTENSIONS: {
        Phase.KILLING: "all extensions are gone, or budget used up",
        Phase.CLOSED: _LOST,
    },
    Phase.KILLING: {
        Phase.UNINITIALISED: "nothing runs any more, after a failure",
        Phase.CLOSED: "the same, after a stop",
    },
    Phase.CLOSED: {},
}
"""Which phase can follow which, and when; every phase ends in CLOSED at once if the sandbox breaks down."""
