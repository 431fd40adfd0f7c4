"""
Visits every joint state that a lifecycle machine can reach, and tells it every event in each.

Two states are the same if they differ only in times and in which call it is that waits. Each state is written
down once, with the shortest way to it.
"""

from __future__ import annotations

import pickle
from collections import deque
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from remora.lifecycle import messages as m
from remora.lifecycle.machine import Machine
from remora.lifecycle.tables import Phase
from remora.testing.referee import check_state
from remora.testing.replay import script

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remora.lifecycle.state import State

STOPPED_IN_STEPS_MAX = 8


class _Call(Enum):
    """Calls, as something that is still the same after it was written down."""

    A = 1
    B = 2
    C = 3
    D = 4
    E = 5
    F = 6
    G = 7

    def __repr__(self) -> str:
        return f"calls[{self.value}]"


@dataclass(frozen=True, slots=True)
class Explored:
    """What an exploration found: how many states there are, and how many events were told."""

    states: int
    events: int


@dataclass(frozen=True, slots=True)
class _Place:
    """A state, and the events that led to it."""

    pickled: bytes
    before: _Place | None
    event: m.Event | None

    def way(self) -> list[tuple[int, m.Event]]:
        """Return the events from the beginning on."""
        events: list[tuple[int, m.Event]] = []
        place: _Place | None = self
        while place is not None and place.event is not None:
            events.insert(0, (0, place.event))
            place = place.before
        return events


def explore(
    externals: int, internals: int, *, states_max: int = 0, is_for_snapshot: bool = False
) -> Explored:
    """
    Visit all states of an environment with so many extensions, nearest first.

    Args:
        externals: How many files there are in /opt/extensions.
        internals: How many names internal extensions may register.
        states_max: Where to stop if there are more; 0 for nowhere.
        is_for_snapshot: True if it is held when it is initialised, until it is restored.

    Raises:
        AssertionError: If the machine breaks a rule or raises where it must not; ends with a script.
    """
    names = tuple(f"e{number}" for number in range(externals))
    inner = tuple(f"i{number}" for number in range(internals))
    machine = Machine(names, is_for_snapshot=is_for_snapshot)
    seen = {_key(machine.state)}
    places = deque([_Place(pickle.dumps(machine.state), None, None)])
    told = 0
    while places and not 0 < states_max <= len(seen):
        place = places.popleft()
        for event in _events(pickle.loads(place.pickled), inner):  # noqa: S301 - made above
            machine.state = state = pickle.loads(place.pickled)  # noqa: S301 - pickled here
            told += 1
            try:
                if not _tell(machine, event):
                    continue
                key = _key(state)
                if key in seen:
                    continue
                seen.add(key)
                pickled = pickle.dumps(state)
                check_stop(machine)
            except (AssertionError, AttributeError, LookupError, TypeError, ValueError) as error:
                way = script(names, [*place.way(), (0, event)], is_for_snapshot=is_for_snapshot)
                raise AssertionError(f"{error!r}\n\n{way}") from error
            places.append(_Place(pickled, place, event))
    return Explored(len(seen), told)


def _tell(machine: Machine, event: m.Event) -> bool:
    """Tell the machine an event; False if it rightly objects to being given work that it cannot take."""
    may_be_given = _may_be_given(machine.state, event)
    try:
        machine.handle(event, machine.state.now_us)
    except AssertionError:
        if not may_be_given:
            return False
        raise
    assert may_be_given, "the machine took work that it cannot do now"
    check_state(machine.state)
    return True


def _may_be_given(state: State, event: m.Event) -> bool:
    """Tell whether the platform may tell that event now; what those inside do may come at any time."""
    if isinstance(event, m.Initialise):
        return state.phase is Phase.UNINITIALISED
    if isinstance(event, m.Restore):
        return state.phase is Phase.SNAPSHOT_READY
    if isinstance(event, m.Invoke):
        return state.phase is Phase.IDLE or (state.phase is Phase.UNINITIALISED and not state.is_for_snapshot)
    return True


def check_stop(machine: Machine) -> None:
    """
    Check that the environment ends if it is stopped and nobody inside ever does anything again.

    Raises:
        AssertionError: If it does not, or takes longer than its budgets.
    """
    state = machine.state
    begun_us = state.now_us
    machine.handle(m.Stop(m.Reason.SPINDOWN), begun_us)
    for _ in range(STOPPED_IN_STEPS_MAX):
        if machine.phase is Phase.CLOSED:
            break
        timer, at_us = min(state.timers.items(), key=lambda item: item[1])
        machine.handle(m.DeadlineReached(timer), at_us)
    assert machine.phase is Phase.CLOSED, "it does not end"
    budgets = state.budgets
    assert state.now_us - begun_us <= budgets.external_us + budgets.confirm_us, "it takes too long to end"


def _events(state: State, inner: tuple[str, ...]) -> Iterator[m.Event]:
    """Yield every event there is; where calls matter, with a new one and with those that wait."""
    generation = state.generation
    runtime = generation.runtime
    waiting = [*runtime.parked, runtime.posting, *(e.parked for e in generation.extensions())]
    new = next(call for call in _Call if call not in waiting)
    yield m.Initialise()
    yield m.Invoke("r1", 1_000_000)
    yield m.Restore()
    yield m.Stop(m.Reason.SPINDOWN)
    yield m.Emptied()
    yield m.SandboxLost("gone")
    for timer in m.Timer:
        yield m.DeadlineReached(timer)
    for process in (m.RUNTIME_PROCESS, *(m.extension_process(name) for name in state.names)):
        yield m.ProcessStarted(process)
        yield m.ProcessFailed(process, "no such file", "UnknownError")
        yield m.ProcessExited(process, "exit status 0", True)
        yield m.ProcessExited(process, "exit status 1", False)
    if len(runtime.parked) < 2:
        yield m.RuntimeNext(new)
    if state.is_for_snapshot:
        yield m.RestoreNext(new)
        yield m.RestoreError(new, "Runtime.Odd")
    yield m.ResponseBegan(new, "r1", True)
    yield m.ResponseBegan(new, "r1", False)
    yield m.ResponseBegan(new, "r0", True)
    yield m.ErrorBegan(new, "r1", "Function.Odd")
    yield m.InitError(new, "Runtime.Odd")
    if runtime.posting is not None:
        for transfer in m.Transfer:
            yield m.BodyEnded(runtime.posting, transfer)
    yield m.BodyEnded(new, m.Transfer.COMPLETE)
    for name in (*state.names, *inner):
        yield m.Register(new, name, ("INVOKE", "SHUTDOWN"), f"id-{name}")
        yield m.Register(new, name, ("INVOKE",), f"id-{name}")
        yield m.Register(new, name, (), f"id-{name}")
        yield m.ExtensionNext(new, f"id-{name}")
        yield m.ExtensionError(new, f"id-{name}", False, "Extension.Odd")
        yield m.ExtensionError(new, f"id-{name}", True, "Extension.Odd")
    yield m.CallDropped(new)
    yield from (m.CallDropped(call) for call in runtime.parked)
    yield from (m.CallDropped(e.parked) for e in generation.extensions() if e.parked is not None)


def _key(state: State) -> tuple[object, ...]:
    """Return what tells states apart: what is merely reported later (types of errors, statuses) does not."""
    generation, invocation = state.generation, state.invocation
    runtime = generation.runtime
    return (
        state.phase,
        state.is_closing,
        frozenset(state.timers),
        invocation and (invocation.released_us >= 0, invocation.is_answered, invocation.runtime_done_us >= 0),
        (runtime.state, runtime.is_alive, len(runtime.parked), runtime.posting is not None),
        tuple(
            (e.name, e.is_external, e.state, e.is_alive, e.identifier, e.events, e.parked is not None, e.due)
            for e in generation.extensions()
        ),
        tuple(generation.to_start),
        generation.starting,
        generation.is_registration_open,
        generation.idle_failure is not None,
    )
