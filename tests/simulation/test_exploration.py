"""Every reachable joint state of small environments times every event; and long walks through larger ones."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule

from remora.lifecycle import messages as m
from remora.lifecycle import shutdown
from remora.lifecycle.tables import Phase
from remora.testing.exploration import explore
from remora.testing.referee import Referee
from remora.testing.replay import Call
from remora.testing.story import Story


@pytest.mark.parametrize(
    ("externals", "internals"),
    [
        (0, 0),
        pytest.param(0, 1, marks=pytest.mark.slow),
        pytest.param(1, 0, marks=pytest.mark.slow),
    ],
)
def test_every_state_and_event(externals: int, internals: int) -> None:
    explored = explore(externals, internals)
    assert explored.states > 50
    assert explored.events > 20 * explored.states


@pytest.mark.parametrize(
    ("externals", "internals"),
    [
        (0, 0),
        pytest.param(0, 1, marks=pytest.mark.slow),
        pytest.param(1, 0, marks=pytest.mark.slow),
    ],
)
def test_every_state_and_event_of_what_is_made_for_a_snapshot(externals: int, internals: int) -> None:
    explored = explore(externals, internals, is_for_snapshot=True)
    assert explored.states > 50
    assert explored.events > 20 * explored.states


@pytest.mark.slow_soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("externals", "internals"), [(1, 1), (2, 0), (2, 1)])
def test_the_nearest_states_of_larger_environments(externals: int, internals: int) -> None:
    assert explore(externals, internals, states_max=20_000).states >= 20_000
    assert explore(externals, internals, states_max=20_000, is_for_snapshot=True).states >= 20_000


def test_the_exploration_notices(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutdown, "emptied", lambda s: s.enter(Phase.IDLE))
    with pytest.raises(AssertionError, match="phase uninitialised cannot be followed by idle") as raised:
        explore(0, 0)
    assert "machine = Machine(())" in str(raised.value)


class Walk(RuleBasedStateMachine):
    """Any events in any order, for two external extensions and one internal: the referee never objects."""

    names = ("a", "b", "in")
    processes = ("runtime", "extension:a", "extension:b")

    def __init__(self) -> None:
        super().__init__()
        self.story = Story("a", "b")
        self.referee = Referee(self.story.machine)
        self.open: list[Call] = []
        self.invocations = 0

    def tell(self, event: m.Event, after_us: int = 1_000) -> None:
        now_us = self.story.now_us + after_us
        self.referee.see_event(event, now_us)
        self.referee.see_effects(self.story.tell(event, after_us=after_us))

    def call(self) -> Call:
        self.open.append(self.story.call())
        return self.open[-1]

    @property
    def phase(self) -> Phase:
        return self.story.machine.phase

    @precondition(lambda self: self.phase is Phase.UNINITIALISED and not self.invocations)
    @rule()
    def initialise(self) -> None:
        self.tell(m.Initialise())

    @precondition(lambda self: self.phase in (Phase.IDLE, Phase.UNINITIALISED))
    @rule()
    def invoke(self) -> None:
        if self.referee.is_offered:
            self.invocations += 1
            self.tell(m.Invoke(f"r{self.invocations}", 3_000_000))

    @precondition(lambda self: self.phase in (Phase.STARTING_EXTENSIONS, Phase.STARTING_RUNTIME))
    @rule()
    def go_on_with_init(self) -> None:
        """Do what is needed next, so that walks get far."""
        generation = self.story.machine.state.generation
        if generation.starting:
            self.tell(m.ProcessStarted(generation.starting))
            return
        for extension in generation.externals.values():
            if not extension.identifier:
                events = ("INVOKE", "SHUTDOWN")
                self.tell(m.Register(self.call(), extension.name, events, f"id-{extension.name}"))
                return
        for extension in generation.extensions():
            if extension.state.value == "Registered":
                self.tell(m.ExtensionNext(self.call(), f"id-{extension.name}"))
                return
        self.tell(m.RuntimeNext(self.call()))

    @rule(process=st.sampled_from(processes), code=st.integers(0, 1))
    def exits(self, process: str, code: int) -> None:
        self.tell(m.ProcessExited(process, f"exit status {code}", code == 0))

    @rule(process=st.sampled_from(processes))
    def fails_to_start(self, process: str) -> None:
        self.tell(m.ProcessFailed(process, "no such file", "UnknownError"))

    @rule(timer=st.sampled_from(m.Timer))
    def deadline(self, timer: m.Timer) -> None:
        at_us = self.story.machine.state.timers.get(timer, self.story.now_us)
        self.tell(m.DeadlineReached(timer), max(0, at_us - self.story.now_us))

    @rule(name=st.sampled_from(names), events=st.sets(st.sampled_from(["INVOKE", "SHUTDOWN", "odd"])))
    def register(self, name: str, events: set[str]) -> None:
        self.tell(m.Register(self.call(), name, tuple(sorted(events)), f"id-{name}"))

    @rule(name=st.sampled_from(names))
    def extension_next(self, name: str) -> None:
        self.tell(m.ExtensionNext(self.call(), f"id-{name}"))

    @rule(name=st.sampled_from(names), is_exit=st.booleans())
    def extension_error(self, name: str, *, is_exit: bool) -> None:
        self.tell(m.ExtensionError(self.call(), f"id-{name}", is_exit, "Extension.Odd"))

    @rule()
    def runtime_next(self) -> None:
        self.tell(m.RuntimeNext(self.call()))

    @rule(is_mode_valid=st.booleans(), is_error=st.booleans(), transfer=st.sampled_from(m.Transfer))
    def post(self, *, is_mode_valid: bool, is_error: bool, transfer: m.Transfer) -> None:
        call, request_id = self.call(), f"r{self.invocations}"
        if is_error:
            self.tell(m.ErrorBegan(call, request_id, "Function.Odd"))
        else:
            self.tell(m.ResponseBegan(call, request_id, is_mode_valid))
        self.tell(m.BodyEnded(call, transfer))

    @rule()
    def begin_response(self) -> None:
        self.tell(m.ResponseBegan(self.call(), f"r{self.invocations}", is_mode_valid=True))

    @rule()
    def init_error(self) -> None:
        self.tell(m.InitError(self.call(), "Runtime.Odd"))

    @rule(data=st.data())
    def drop(self, data: st.DataObject) -> None:
        if self.open:
            self.tell(m.CallDropped(data.draw(st.sampled_from(self.open))))

    @rule()
    def emptied(self) -> None:
        self.tell(m.Emptied())

    @rule(chance=st.integers(0, 9))
    def stop(self, chance: int) -> None:
        if chance == 0:
            self.tell(m.Stop(m.Reason.SPINDOWN))

    @rule(chance=st.integers(0, 19))
    def lose(self, chance: int) -> None:
        if chance == 0:
            self.tell(m.SandboxLost("gone"))


TestWalk = pytest.mark.slow(Walk.TestCase)
TestWalk.settings = settings(
    max_examples=150,
    stateful_step_count=60,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)
