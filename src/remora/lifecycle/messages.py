"""
What goes into the lifecycle machine (events: what happened) and what comes out (effects: orders).

A `Call` is a request of a process inside that waits for its answer; the machine keeps it but never looks
into it. Times are microseconds of the monotonic clock, given with every event.
"""

from __future__ import annotations

from enum import Enum

import msgspec

from remora.spec.limits import INVOKE_RESPONSE_BYTES_MAX

Call = object

RUNTIME_PROCESS = "runtime"


def extension_process(name: str) -> str:
    """Return the process name of the external extension `name`."""
    return f"extension:{name}"


class Timer(Enum):
    """The deadlines that the machine asks for; at most one of each runs at a time."""

    __hash__ = object.__hash__  # members are singletons; Enum's own hash is computed in Python, each time

    INIT = "init limit"
    RESTORE = "restore limit"
    INVOKE = "function timeout"
    RUNTIME_EXIT = "runtime's share of the shutdown"
    SHUTDOWN = "end of the shutdown"
    EMPTY = "confirmation that nothing runs"


class Reason(Enum):
    """Why an environment is shut down or reset; the value is what extensions are told."""

    SPINDOWN = "spindown"
    TIMEOUT = "timeout"
    FAILURE = "failure"


class Transfer(Enum):
    """How the body of a response or error arrived."""

    COMPLETE = "complete"
    OVERSIZED = "oversized"
    TRUNCATED = "truncated"


class Failure(msgspec.Struct, frozen=True):
    """A failure that the platform words itself; `message` goes without the request's id."""

    error_type: str
    message: str
    names_request: bool = True
    """Whether the invoker's message begins with the request's id."""


# --- events -----------------------------------------------------------------------------------------------


class Initialise(msgspec.Struct, frozen=True):
    """The environment shall initialise ahead of its first invocation."""


class Invoke(msgspec.Struct, frozen=True):
    """An invocation is given to this environment, which is available."""

    request_id: str
    timeout_us: int


class Restore(msgspec.Struct, frozen=True):
    """The environment, held initialised since `SnapshotReady`, shall go on; its first invocation follows."""

    loading_us: int = 0
    """How long it took to load the snapshot, just now, microseconds; it is part of the restore."""


class Stop(msgspec.Struct, frozen=True):
    """The environment shall end."""

    reason: Reason


class ProcessStarted(msgspec.Struct, frozen=True):
    """A process that was ordered runs."""

    process: str


class ProcessFailed(msgspec.Struct, frozen=True):
    """A process that was ordered could not be executed."""

    process: str
    message: str
    """`fork/exec /opt/extensions/x: permission denied`."""
    error_type: str
    """For the log: `PermissionDenied`, `UnknownError`; for the runtime unused."""


class ProcessExited(msgspec.Struct, frozen=True):
    """A process ended."""

    process: str
    text: str
    """`exit status 1`, `signal: killed`."""
    is_clean: bool
    """True for exit code 0."""
    is_out_of_memory: bool = False
    """True if it was killed because the environment's memory was used up."""


class Emptied(msgspec.Struct, frozen=True):
    """Answer to `KillAll`: nothing runs any more."""


class SandboxLost(msgspec.Struct, frozen=True):
    """The sandbox broke down; nothing runs any more."""

    message: str


class DeadlineReached(msgspec.Struct, frozen=True):
    """
    A timer that was set ran out.

    One that comes too early is ordered again for its moment; one that is not running is passed over.
    """

    timer: Timer


class RuntimeNext(msgspec.Struct, frozen=True):
    """GET /runtime/invocation/next."""

    call: Call


class RestoreNext(msgspec.Struct, frozen=True):
    """GET /runtime/restore/next; only in an environment that is made for a snapshot."""

    call: Call


class RestoreError(msgspec.Struct, frozen=True):
    """POST /runtime/restore/error, body complete; only in an environment that is made for a snapshot."""

    call: Call
    error_type: str


class ResponseBegan(msgspec.Struct, frozen=True):
    """POST /runtime/invocation/{id}/response: the headers are here, the body follows."""

    call: Call
    request_id: str
    is_mode_valid: bool
    is_streamed: bool = False
    """True if the body is a stream: the invoker may have it as it is produced."""


class ErrorBegan(msgspec.Struct, frozen=True):
    """POST /runtime/invocation/{id}/error: the headers are here, the body follows."""

    call: Call
    request_id: str
    error_type: str


class BodyEnded(msgspec.Struct, frozen=True):
    """The body of the response or error that was begun by `call` ended."""

    call: Call
    transfer: Transfer
    bytes_max: int = INVOKE_RESPONSE_BYTES_MAX
    """How long it might have been."""
    size_bytes: int = 0
    """How long it was."""


class InitError(msgspec.Struct, frozen=True):
    """POST /runtime/init/error, body complete."""

    call: Call
    error_type: str


class Register(msgspec.Struct, frozen=True):
    """POST /extension/register with a readable body and a name."""

    call: Call
    name: str
    events: tuple[str, ...]
    identifier: str
    """The identifier it gets if it is accepted."""


class ExtensionNext(msgspec.Struct, frozen=True):
    """GET /extension/event/next."""

    call: Call
    identifier: str


class ExtensionError(msgspec.Struct, frozen=True):
    """POST /extension/init/error or /extension/exit/error."""

    call: Call
    identifier: str
    is_exit: bool
    error_type: str


class CallDropped(msgspec.Struct, frozen=True):
    """Whoever made `call` went away before it was answered."""

    call: Call


Event = (
    Initialise
    | Invoke
    | Restore
    | Stop
    | ProcessStarted
    | ProcessFailed
    | ProcessExited
    | Emptied
    | SandboxLost
    | DeadlineReached
    | RuntimeNext
    | RestoreNext
    | RestoreError
    | ResponseBegan
    | ErrorBegan
    | BodyEnded
    | InitError
    | Register
    | ExtensionNext
    | ExtensionError
    | CallDropped
)

# --- effects ----------------------------------------------------------------------------------------------


class StartProcess(msgspec.Struct, frozen=True):
    """Start the runtime or an external extension."""

    process: str


class Signal(msgspec.Struct, frozen=True):
    """Signal the process group of a process."""

    process: str
    number: int


class KillAll(msgspec.Struct, frozen=True):
    """Kill whatever runs; `Emptied` is expected."""


class SetTimer(msgspec.Struct, frozen=True):
    """Report `DeadlineReached(timer)` at `at_us`."""

    timer: Timer
    at_us: int


class CancelTimer(msgspec.Struct, frozen=True):
    """Forget that timer."""

    timer: Timer


class Accept(msgspec.Struct, frozen=True):
    """Answer `call` with 202, status OK."""

    call: Call


class Refuse(msgspec.Struct, frozen=True):
    """Answer `call` with an error."""

    call: Call
    status: int
    error_type: str
    message: str


class StreamBody(msgspec.Struct, frozen=True):
    """Hand the body of `call` on as it arrives, if the invoker takes it so; `Complete` ends it."""

    call: Call


class AnswerRegistered(msgspec.Struct, frozen=True):
    """Answer a registration."""

    call: Call
    identifier: str


class AnswerRestored(msgspec.Struct, frozen=True):
    """Answer a runtime's restore/next: it goes on after its snapshot."""

    call: Call


class AnswerInvocation(msgspec.Struct, frozen=True):
    """Answer a runtime's next with the present invocation."""

    call: Call


class AnswerInvoke(msgspec.Struct, frozen=True):
    """Answer an extension's next with the INVOKE event of the present invocation."""

    call: Call


class AnswerShutdown(msgspec.Struct, frozen=True):
    """Answer an extension's next with the SHUTDOWN event."""

    call: Call
    reason: Reason
    deadline_us: int


class Complete(msgspec.Struct, frozen=True):
    """
    Give the invoker its answer: `failure`, or if that is None what the runtime posted: the body of `posted`.

    Each invocation is completed exactly once.
    """

    request_id: str
    failure: Failure | None
    is_error: bool
    posted: Call | None = None
    """A call that has not been answered yet; None if there is a failure."""


class Thaw(msgspec.Struct, frozen=True):
    """Processes must be able to run."""


class Available(msgspec.Struct, frozen=True):
    """The environment can take an invocation; it may be frozen."""

    is_initialised: bool


class SnapshotReady(msgspec.Struct, frozen=True):
    """Everybody inside is initialised and waits: the snapshot can be taken. `Restore` or `Stop` follows."""


class Abandoned(msgspec.Struct, frozen=True):
    """
    An environment that is made for a snapshot failed before it could serve: in its init, held, or restored.

    It closes; nothing is tried again in it. One that was told to stop is not said to have failed.
    """

    failure: Failure


class Closed(msgspec.Struct, frozen=True):
    """The environment has ended; nothing runs in it."""


class Kind(Enum):
    """
    What a `Happened` tells; the value is its name in timelines.

    Each INIT_STARTED, RESTORE_STARTED, INVOKE_STARTED and SHUTDOWN_STARTED is followed by its end before the
    next of its kind.
    An INVOKE_ENDED without RUNTIME_DONE before it: the runtime was cut off.
    """

    __hash__ = object.__hash__

    INIT_STARTED = "init.started"
    PROCESS_STARTED = "process.started"
    EXTENSION_REGISTERED = "extension.registered"
    EXTENSION_READY = "extension.ready"
    RUNTIME_READY = "runtime.ready"
    EXTENSION_STATE = "extension.state"
    INIT_ENDED = "init.ended"
    RESTORE_STARTED = "restore.started"
    RESTORE_ENDED = "restore.ended"
    INVOKE_STARTED = "invoke.started"
    RUNTIME_RESPONDED = "runtime.responded"
    RUNTIME_DONE = "runtime.done"
    EXTENSION_DONE = "extension.done"
    INVOKE_ENDED = "invoke.ended"
    SHUTDOWN_STARTED = "shutdown.started"
    RUNTIME_TERMINATED = "runtime.terminated"
    EXTENSION_NOTIFIED = "extension.notified"
    PROCESS_EXITED = "process.exited"
    SHUTDOWN_ENDED = "shutdown.ended"


class Happened(msgspec.Struct, frozen=True):
    """
    Something worth a record, a log line or a mark in the timeline.

    Durations in microseconds; `init_us` is the init that this invocation is billed for, -1 if none;
    `restore_us` the restore before it, -1 if none, and `restore_runtime_us` how much of it is billed.
    """

    kind: Kind
    at_us: int
    name: str = ""
    request_id: str = ""
    detail: str = ""
    """Phase, status, reason or exit text, by kind."""
    error_type: str = ""
    duration_us: int = 0
    init_us: int = -1
    restore_us: int = -1
    restore_runtime_us: int = -1
    post_runtime_us: int = -1
    phase: str = ""
    """`init`, or `invoke` for an init inside an invocation."""
    latency_us: int = -1
    """When a runtime is done: from the invocation to the beginning of its response, -1 without one."""
    response_us: int = -1
    """From the beginning to the end of its response."""
    produced_bytes: int = 0
    """How long its response was."""
    events: tuple[str, ...] = ()


Effect = (
    StartProcess
    | Signal
    | KillAll
    | SetTimer
    | CancelTimer
    | Accept
    | Refuse
    | StreamBody
    | AnswerRegistered
    | AnswerRestored
    | AnswerInvocation
    | AnswerInvoke
    | AnswerShutdown
    | Complete
    | Thaw
    | Available
    | SnapshotReady
    | Abandoned
    | Closed
    | Happened
)
