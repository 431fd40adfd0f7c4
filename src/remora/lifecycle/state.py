"""The joint state of one environment: what its phase is, who its parties are, which deadlines run."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import msgspec

from remora.lifecycle.messages import CancelTimer, Happened, Reason, Refuse, SetTimer, Timer
from remora.lifecycle.parties import CHANGED_UNDERNEATH, Extension, Runtime
from remora.lifecycle.tables import PHASES, ExtensionMove, Phase, RuntimeMove
from remora.spec.limits import PROVISIONED_INIT_S_MIN

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remora.lifecycle.messages import Call, Effect, Failure, Kind


INVALID_REQUEST_ID = (400, "InvalidRequestID", "Invalid request ID")
"""How a response or error is refused whose identifier is not that of the open invocation."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """
    The time limits of an environment, microseconds.

    Source: lifecycle specification, section 12.
    """

    init_us: int = 10_000_000
    """Init ahead of the first invocation; more for provisioned concurrency and for snapshots."""
    restore_us: int = 10_000_000
    """Restore, from the start of loading the snapshot to the runtime's next."""
    external_us: int = 2_000_000
    """Shutdown with external extensions."""
    external_runtime_us: int = 300_000
    """The runtime's share of it."""
    internal_us: int = 500_000
    """Shutdown with internal extensions only."""
    confirm_us: int = 2_000_000
    """From the last kill until everything must be gone."""

    def provisioned(self, timeout_s: int) -> Budgets:
        """
        Return the same limits for provisioned concurrency and for snapshots: max(130 s, function timeout).

        Args:
            timeout_s: The function's timeout, seconds.
        """
        return replace(self, init_us=max(PROVISIONED_INIT_S_MIN, timeout_s) * 1_000_000)


class Invocation(msgspec.Struct):
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
    """When the runtime called next after its answer; -1 before."""
    response_began_us: int = -1
    """When its response began; -1 without one."""
    response_ended_us: int = -1
    """When its response had arrived as a whole; -1 before."""
    produced_bytes: int = 0


@dataclass(slots=True)
class Generation:
    """The processes between two resets, and what is known of them."""

    runtime: Runtime = field(default_factory=Runtime)
    externals: dict[str, Extension] = field(default_factory=dict)
    internals: dict[str, Extension] = field(default_factory=dict)
    by_identifier: dict[str, Extension] = field(default_factory=dict)
    invoked: list[Extension] = field(default_factory=list)
    """Once init is done: the extensions that subscribed to INVOKE, in the order in which they are told."""
    to_start: list[str] = field(default_factory=list)
    """External extensions that are still to be started."""
    starting: str = ""
    """The process of the extension that was ordered and does not run yet."""
    is_registration_open: bool = False
    """True while internal extensions may register."""
    fatal_type: str = ""
    """The first error that a party posted: whatever fails afterwards carries this type."""
    idle_failure: Failure | None = None
    """How the first process died that died while the environment was idle."""

    def extensions(self) -> Iterator[Extension]:
        """Yield external extensions in order of start, then internal ones in order of registration."""
        yield from self.externals.values()
        yield from self.internals.values()


@dataclass(slots=True)
class State:
    """
    Everything the machine knows.

    Args:
        names: Names of the files in /opt/extensions, in the order of start.
        budgets: Time limits.
        is_for_snapshot: True if it is held when it is initialised, until it is restored.
    """

    names: tuple[str, ...]
    budgets: Budgets
    is_for_snapshot: bool = False
    phase: Phase = Phase.UNINITIALISED
    generation: Generation = field(default_factory=Generation)
    invocation: Invocation | None = None
    init_phase: str = ""
    """`init`, or `invoke` for an init inside an invocation."""
    init_started_us: int = 0
    unbilled_init_us: int = -1
    """Duration of the init that the first invocation will be billed for; -1 if there is none."""
    restore_began_us: int = 0
    """When the present or last restore began, its loading included."""
    restore_released_us: int = 0
    """When restore/next was answered."""
    unbilled_restore_us: int = -1
    """Duration of the restore that the first invocation reports; -1 if there is none."""
    unbilled_restore_runtime_us: int = -1
    """The runtime's share of it, for which that invocation is billed."""
    reason: Reason = Reason.SPINDOWN
    is_closing: bool = False
    """True if the present or next shutdown is the last."""
    shutdown_deadline_us: int = 0
    timers: dict[Timer, int] = field(default_factory=dict)
    """The deadlines that run, with their moments."""
    now_us: int = 0
    effects: list[Effect] = field(default_factory=list)
    """What was ordered since the present event came in."""

    def enter(self, phase: Phase) -> None:
        """Change the phase."""
        assert phase in PHASES[self.phase], f"phase {self.phase.value} cannot be followed by {phase.value}"
        self.phase = phase

    def set_timer(self, timer: Timer, at_us: int) -> None:
        """Order a deadline."""
        self.timers[timer] = at_us
        self.effects.append(SetTimer(timer, at_us))

    def cancel_timer(self, timer: Timer) -> None:
        """Take a deadline back, if it runs."""
        if self.timers.pop(timer, None) is not None:
            self.effects.append(CancelTimer(timer))

    def happened(self, kind: Kind, **members: Any) -> None:
        """Tell the world. What every invocation tells is made in place: on the warm path this costs."""
        self.effects.append(Happened(kind, self.now_us, **members))

    def forget_generation(self) -> None:
        """Let go of processes that are gone; whoever still waits is told that its state has changed."""
        runtime = self.generation.runtime
        if runtime.posting is not None:
            self.effects.append(Refuse(runtime.posting, *INVALID_REQUEST_ID))
        for call in runtime.parked:
            self.effects.append(runtime.refusal(call, RuntimeMove.NEXT, CHANGED_UNDERNEATH))
        for extension in self.generation.extensions():
            self.refuse_parked(extension)
        self.generation = Generation()

    def refuse_parked(self, extension: Extension) -> None:
        """Answer the waiting next of an extension whose state was changed underneath."""
        call: Call | None = extension.parked
        if call is not None:
            extension.parked = None
            self.effects.append(extension.refusal(call, ExtensionMove.NEXT, CHANGED_UNDERNEATH))
