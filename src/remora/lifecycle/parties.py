"""The parties of an environment, the runtime and its extensions, with their state and their waiting calls."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from remora.lifecycle.messages import Refuse
from remora.lifecycle.tables import (
    EXTENSION,
    RUNTIME,
    ExtensionMove,
    ExtensionState,
    RuntimeMove,
    RuntimeState,
)

if TYPE_CHECKING:
    from remora.lifecycle.messages import Call

NOT_ALLOWED = "State transition is not allowed"
CHANGED_UNDERNEATH = "Concurrent state modification"


@dataclass(slots=True)
class Runtime:
    """The runtime of one generation."""

    state: RuntimeState = RuntimeState.ABSENT
    is_alive: bool = False
    """True from the order to start it until its process has ended."""
    parked: list[Call] = field(default_factory=list)
    """Calls of next that wait for an invocation, or one of restore/next."""
    posting: Call | None = None
    """The call whose body (response or error) is being received."""

    def move(self, move: RuntimeMove) -> bool:
        """Make `move`; False if the present state does not allow it (then nothing changes)."""
        target = RUNTIME.get((self.state, move))
        if target is None:
            return False
        self.state = target
        return True

    def refusal(self, call: Call, move: RuntimeMove, why: str = NOT_ALLOWED) -> Refuse:
        """Return the answer to a call that the present state does not allow."""
        # Source: runtime-api specification, section 2: restore/next is refused as if it were next.
        target = RuntimeMove.NEXT if move is RuntimeMove.RESTORE_NEXT else move
        return Refuse(
            call,
            403,
            "InvalidStateTransition",
            f"State transition from {self.state.value} to {target.value} failed for runtime. Error: {why}",
        )


@dataclass(slots=True)
class Extension:
    """One extension of one generation."""

    name: str
    is_external: bool
    state: ExtensionState = ExtensionState.STARTED
    is_alive: bool = False
    """True from the order to start it until its process has ended; always False for internal ones."""
    identifier: str = ""
    events: tuple[str, ...] = ()
    parked: Call | None = None
    """Its call of next that waits for an event."""
    error_type: str = ""
    """What it declared with init/error or exit/error, or why it could not be launched."""
    due: Literal["", "INVOKE", "SHUTDOWN"] = ""
    """An event that is out while it had no call waiting; its following next gets it at once."""

    def move(self, move: ExtensionMove) -> bool:
        """Make `move`; False if the present state does not allow it (then nothing changes)."""
        target = EXTENSION.get((self.state, move))
        if target is None:
            return False
        self.state = target
        return True

    def refusal(self, call: Call, move: ExtensionMove, why: str = NOT_ALLOWED) -> Refuse:
        """Return the answer to a call that the present state does not allow."""
        who = self.name if move is ExtensionMove.REGISTER else self.identifier
        return Refuse(
            call,
            403,
            "Extension.InvalidExtensionState",
            f"State transition from {self.state.value} to {move.value} failed for extension {who}."
            f" Error: {why}",
        )

    @property
    def is_registered(self) -> bool:
        """True from its registration on."""
        return bool(self.identifier)

    @property
    def is_at_next(self) -> bool:
        """True if it has nothing left to do."""
        return self.state is ExtensionState.READY and not self.due

    @property
    def can_listen(self) -> bool:
        """True if its present or a following next could still give it an event."""
        return self.state in (ExtensionState.REGISTERED, ExtensionState.READY, ExtensionState.RUNNING)
