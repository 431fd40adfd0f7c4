"""
Whole lives of environments in virtual time, each drawn from a seed; every rule is checked after every step.

A life that breaks a rule fails with a script that tells the machine the same events again.
"""

from __future__ import annotations

from itertools import count
from random import Random

import pytest

from remora.lifecycle import endings, invoke, machine, messages, runtime_calls, shutdown
from remora.lifecycle.messages import Kind
from remora.lifecycle.state import State
from remora.lifecycle.tables import Phase
from remora.testing.actors import Temper
from remora.testing.simulation import Fault, RuleBrokenError, Scenario, World, draw_scenario

PARTS = 8
STEPS_PER_PART = 130_000
SOAK_STEPS_PER_PART = 4_000_000

CALM = Temper(mischief=0.0, slowness_us=10_000)
WILD = Temper(mischief=0.05, slowness_us=200_000)
FAULTY = [
    Scenario((), 3, CALM),
    Scenario(("a",), 3, CALM),
    Scenario(("a", "b"), 2, CALM),
    Scenario(("a",), 2, CALM, is_lazy=True),
    Scenario(("a",), 2, CALM, stop_at_us=25_000),
    Scenario(("a", "b"), 2, WILD),
    Scenario((), 2, CALM, is_for_snapshot=True),
    Scenario(("a",), 2, CALM, is_for_snapshot=True),
    Scenario(("a", "b"), 2, WILD, is_for_snapshot=True),
]


def live(seed: int) -> World:
    """Live the life of a seed."""
    rng = Random(seed)
    world = World(draw_scenario(rng), rng)
    try:
        world.run()
    except RuleBrokenError as error:
        raise AssertionError(f"seed {seed}: {error}") from None
    return world


def live_on(first_seed: int, steps: int) -> int:
    """Live one life after the other until so many steps were made; return how many invocations completed."""
    completed = 0
    for seed in count(first_seed):
        world = live(seed)
        completed += world.completed
        steps -= world.steps
        if steps <= 0:
            return completed
    raise AssertionError("seeds never run out")


@pytest.mark.slow
@pytest.mark.parametrize("part", range(PARTS))
def test_a_million_steps(part: int) -> None:
    assert live_on(part * 1_000_000, STEPS_PER_PART) > STEPS_PER_PART // 100


@pytest.mark.slow_soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(PARTS))
def test_many_million_steps(part: int) -> None:
    live_on((100 + part) * 1_000_000, SOAK_STEPS_PER_PART)


def test_a_seed_is_a_whole_life() -> None:
    first, second = live(7), live(7)
    assert (first.steps, first.orders, first.completed) == (second.steps, second.orders, second.completed)


@pytest.mark.slow
@pytest.mark.parametrize("is_lasting", [False, True], ids=["once", "lasting"])
@pytest.mark.parametrize("number", range(len(FAULTY)))
def test_the_nth_order_goes_wrong(number: int, *, is_lasting: bool) -> None:
    for seed in range(10):
        for first in count(1):
            world = World(FAULTY[number], Random(seed), Fault(first, is_lasting))
            world.run()
            if world.orders < first:
                break


@pytest.mark.slow_soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("is_lasting", [False, True], ids=["once", "lasting"])
def test_the_nth_order_goes_wrong_in_lives_of_all_kinds(*, is_lasting: bool) -> None:
    for seed in range(1000):
        for part in range(100):
            rng = Random(seed)
            scenario = draw_scenario(rng)
            chance = Random(f"{seed} {part}")
            world = World(scenario, rng, Fault(1 + int(chance.random() ** 2 * 500), is_lasting))
            world.run()


# --- the simulation notices -------------------------------------------------------------------------------


def lives_until_noticed(limit: int = 400) -> str:
    """Return how the first of some lives was objected to; empty if none was."""
    for seed in range(limit):
        try:
            live(seed)
        except AssertionError as error:
            return str(error)
    return ""


def test_a_broken_rule_prints_a_script_that_replays_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # Given a machine that answers a response twice
    respond = runtime_calls.on_body_ended

    def twice(state: object, event: object) -> None:
        respond(state, event)
        state.effects += [effect for effect in state.effects if getattr(effect, "call", None) is event.call]

    monkeypatch.setitem(machine._HANDLERS, messages.BodyEnded, twice)
    # When lives are lived
    objection = lives_until_noticed()
    # Then the objection tells seed, rule and script
    assert objection.startswith("seed ")
    head, _, script = objection.partition("\n\n")
    assert head.endswith("a call was answered twice, or after it was dropped")
    # And the script shows the same without the simulation
    exec(compile(script, "script", "exec"), {})
    shown = capsys.readouterr().out
    assert shown.rpartition("BodyEnded(")[2].count("Accept(") == 2


@pytest.mark.parametrize(
    ("breakage", "objection"),
    [
        ("never closed", "deadlines while killing"),
        ("never offered", "nothing happens any more"),
        ("no end of the shutdown", "had not ended"),
        ("no deadline taken back", "while a deadline runs"),
        ("told too early", "while the runtime lived"),
        ("never abandoned", "nobody was told why"),
        ("initialised again", "a snapshot's init was repeated"),
    ],
)
def test_a_broken_machine_is_noticed(breakage: str, objection: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if breakage == "never closed":
        monkeypatch.setattr(shutdown, "close", lambda _: None)
    elif breakage == "never offered":
        monkeypatch.setattr(invoke, "become_idle", lambda state: state.enter(Phase.IDLE))
    elif breakage == "no end of the shutdown":
        happened = State.happened

        def forgetful(state: State, kind: Kind, **members: object) -> None:
            if kind is not Kind.SHUTDOWN_ENDED:
                happened(state, kind, **members)

        monkeypatch.setattr(State, "happened", forgetful)
    elif breakage == "no deadline taken back":
        monkeypatch.setattr(State, "cancel_timer", lambda *_: None)
    elif breakage == "never abandoned":
        monkeypatch.setattr(endings, "BEFORE_FIRST_USE", ())
    elif breakage == "initialised again":
        emptied = shutdown.emptied

        def forgiving(state: State) -> None:
            state.is_closing = state.is_closing and not state.is_for_snapshot
            emptied(state)

        monkeypatch.setattr(shutdown, "emptied", forgiving)
    else:
        begin = shutdown.begin

        def hasty(state: State, reason: object) -> None:
            alive, state.generation.runtime.is_alive = state.generation.runtime.is_alive, False
            begin(state, reason)
            state.generation.runtime.is_alive = alive

        monkeypatch.setattr(shutdown, "begin", hasty)
    assert objection in lives_until_noticed()
