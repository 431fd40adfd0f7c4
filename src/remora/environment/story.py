"""
How an environment came to be ready for its snapshot, so that a copy of it can be brought there as well.

The lifecycle machine is pure: one that hears the same events again is in the same state. Calls are noted as
numbers, for the connections they came on are made anew; those that still wait are given for their numbers.

Source: snapstart specification, section 4; ADR-0010.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.lifecycle import messages as m
from remora.lifecycle.machine import Machine
from remora.lifecycle.tables import Phase

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.lifecycle.state import Budgets, State

VERSION: Final = 1
"""Of what is written; another one is not read."""
EVENTS_MAX: Final = 10_000
"""Events that are noted of one init; of an environment in which more happens no snapshot can be told."""

_EVENTS: Final[dict[str, type[Any]]] = {
    kind.__name__: kind
    for kind in (
        m.Initialise,
        m.ProcessStarted,
        m.ProcessFailed,
        m.ProcessExited,
        m.DeadlineReached,
        m.RuntimeNext,
        m.RestoreNext,
        m.RestoreError,
        m.ResponseBegan,
        m.ErrorBegan,
        m.BodyEnded,
        m.InitError,
        m.Register,
        m.ExtensionNext,
        m.ExtensionError,
        m.CallDropped,
    )
}
"""What can happen before a snapshot."""


class StoryError(Exception):
    """A story cannot be told: it is too long, was written otherwise, or leads elsewhere."""


class Told(msgspec.Struct, frozen=True, array_like=True):
    """One event: its type's name, when it came in (microseconds, monotonic), its fields; a call as number."""

    kind: str
    at_us: int
    fields: dict[str, Any]


class Story(msgspec.Struct, frozen=True):
    """
    What happened in an environment until it was ready for its snapshot.

    Args:
        names: Names of the files in /opt/extensions, in the order of start.
        events: What happened, in order.
        parked: Numbers of the calls that wait, the runtime's first.
        version: How it is written.
    """

    names: tuple[str, ...]
    events: tuple[Told, ...]
    parked: tuple[int, ...]
    version: int = VERSION

    def to_bytes(self) -> bytes:
        """Write it down."""
        return msgspec.msgpack.encode(self)


@dataclass(frozen=True, slots=True)
class Gone:
    """Stands for a call that was answered, or dropped, before the snapshot."""

    number: int


class Recorder:
    """
    Stands before a machine that is made for a snapshot, and notes what it is told until it is restored.

    Args:
        machine: It; nothing was told to it yet.
    """

    def __init__(self, machine: Machine) -> None:
        assert machine.state.is_for_snapshot, "the story of an environment is noted that has no snapshot"
        self._machine = machine
        self._told: list[Told] = []
        self._calls: dict[int, tuple[int, m.Call]] = {}
        """Number and call by the call's identity, which nobody else has for as long as it is in here."""
        self._is_over = False
        self._is_too_long = False

    def __repr__(self) -> str:
        """State how much was noted."""
        return f"<Recorder {len(self._told)} events>"

    def handle(self, event: m.Event, now_us: int) -> list[m.Effect]:
        """Note an event, and hand it on; see `Machine.handle`."""
        if not self._is_over:
            self._note(event, now_us)
        return self._machine.handle(event, now_us)

    def number_of(self, call: m.Call) -> int | None:
        """Return the number of a call; None if it was never told."""
        known = self._calls.get(id(call))
        return known[0] if known is not None else None

    def story(self) -> Story:
        """
        Return the story; the environment must be ready for its snapshot.

        Raises:
            StoryError: If more happened than is noted.
        """
        state = self._machine.state
        assert state.phase is Phase.SNAPSHOT_READY, f"the story was asked for while {state.phase.value}"
        if self._is_too_long:
            message = f"More than {EVENTS_MAX} events in one init, no snapshot of it can be told"
            raise StoryError(message)
        parked = tuple(self._calls[id(call)][0] for call in _parked(state))
        return Story(state.names, tuple(self._told), parked)

    def _note(self, event: m.Event, now_us: int) -> None:
        kind = type(event).__name__
        if kind not in _EVENTS or len(self._told) >= EVENTS_MAX:
            # It is restored in place, or ends, or is beyond telling: nothing is kept any more.
            self._is_over, self._is_too_long = True, kind in _EVENTS
            self._told.clear()
            self._calls.clear()
            return
        fields = msgspec.structs.asdict(event)
        if "call" in fields:
            fields["call"] = self._number(fields["call"])
        self._told.append(Told(kind, now_us, msgspec.to_builtins(fields)))

    def _number(self, call: m.Call) -> int:
        return self._calls.setdefault(id(call), (len(self._calls), call))[0]


def read_story(data: bytes) -> Story:
    """
    Read what `Story.to_bytes` has written.

    Raises:
        StoryError: If it is none, or one of another version.
    """
    try:
        story = msgspec.msgpack.decode(data, type=Story)
    except msgspec.DecodeError as error:
        message = "The story of a snapshot cannot be read; take the snapshot again"
        raise StoryError(message) from error
    if story.version != VERSION:
        message = f"The story of a snapshot has version {story.version}, not {VERSION}; take it again"
        raise StoryError(message)
    return story


def restore_machine(story: Story, budgets: Budgets, calls: Mapping[int, m.Call]) -> Machine:
    """
    Make a machine that is ready to be restored, as the one was that the story tells of.

    Times are those of the clock that was in use then; the next event brings the present one, and no deadline
    runs that would notice.

    Args:
        story: What happened.
        budgets: Time limits, those of then.
        calls: The calls that wait, by their numbers: all of `story.parked`, none besides.

    Raises:
        StoryError: If the story does not lead there.
    """
    assert set(calls) == set(story.parked), f"calls {sorted(calls)} were given for {sorted(story.parked)}"
    machine = Machine(story.names, budgets, is_for_snapshot=True)
    known = dict(calls)
    try:
        for told in story.events:
            machine.handle(_event(told, known), told.at_us)
    except (msgspec.ValidationError, KeyError, AssertionError) as error:
        message = f"The story of a snapshot breaks off while {machine.phase.value}; take the snapshot again"
        raise StoryError(message) from error
    state = machine.state
    waiting = [calls[number] for number in story.parked]
    if state.phase is not Phase.SNAPSHOT_READY or state.timers or _parked(state) != waiting:
        message = f"The story of a snapshot leads to {machine!r}; take the snapshot again"
        raise StoryError(message)
    state.effects = []
    return machine


def _event(told: Told, known: dict[int, m.Call]) -> m.Event:
    """Return an event again; a call is the same object each time, for that is how the machine knows it."""
    event: m.Event = msgspec.convert(told.fields, _EVENTS[told.kind])
    if "call" not in told.fields:
        return event
    number = told.fields["call"]
    return msgspec.structs.replace(event, call=known.setdefault(number, Gone(number)))


def _parked(state: State) -> list[m.Call]:
    """Return the calls that wait, the runtime's first."""
    generation = state.generation
    assert generation.runtime.posting is None, "a response is on its way before a snapshot"
    waiting = [each.parked for each in generation.extensions() if each.parked is not None]
    return [*generation.runtime.parked, *waiting]
