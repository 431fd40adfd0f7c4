"""A machine that hears what another one heard is in its state, and goes on as it does."""

from __future__ import annotations

import random
from dataclasses import fields, is_dataclass

import pytest

from remora.environment import story as stories
from remora.environment.story import Gone, Recorder, StoryError, read_story, restore_machine
from remora.lifecycle import messages as m
from remora.lifecycle.machine import Machine
from remora.lifecycle.state import Budgets
from remora.lifecycle.tables import Phase

SHIFT_US = 987_654_321


class Call:
    """A call; two are never equal."""


class Life:
    """A recorded machine, and what happens to it."""

    def __init__(self, *names):
        self.machine = Machine(names, is_for_snapshot=True)
        self.recorder = Recorder(self.machine)
        self.now_us = 1_000
        self.calls = []

    def tell(self, event):
        self.now_us += 7
        if hasattr(event, "call"):
            self.calls.append(event.call)
        return self.recorder.handle(event, self.now_us)


def told_at_random(seed):
    """Tell a random life, with calls that are refused, dropped and repeated, up to its snapshot."""
    rng = random.Random(seed)
    names = tuple("abc"[: rng.randrange(4)])
    life = Life(*names)
    life.tell(m.Initialise())
    noise = [
        lambda: life.tell(m.Register(Call(), "x", ("NOPE",), "id-x")),
        lambda: life.tell(m.ExtensionNext(Call(), "nobody")),
        lambda: life.tell(m.RestoreError(Call(), "Early.Error")),
        lambda: life.tell(m.ErrorBegan(Call(), "r0", "Oops")),
        lambda: life.tell(m.BodyEnded(Call(), m.Transfer.TRUNCATED, 6, 5)),
        lambda: life.tell(m.DeadlineReached(m.Timer.INIT)),
        lambda: life.tell(m.CallDropped(rng.choice(life.calls) if life.calls else Call())),
    ]
    is_restorable = rng.random() < 0.7
    for _ in range(2_000):
        state = life.machine.state
        if state.phase is Phase.SNAPSHOT_READY:
            return life
        generation = state.generation
        moves = [rng.choice(noise)]
        if generation.starting:
            starting = m.ProcessStarted(generation.starting)
            moves.append(lambda starting=starting: life.tell(starting))
        for each in generation.extensions():
            subscribed = rng.choice([("INVOKE",), ("INVOKE", "SHUTDOWN"), ()])
            if each.is_external and not each.is_registered:
                moves.append(
                    lambda each=each, subscribed=subscribed: life.tell(
                        m.Register(Call(), each.name, subscribed, f"id-{each.name}")
                    )
                )
            elif each.is_registered:
                moves.append(lambda each=each: life.tell(m.ExtensionNext(Call(), each.identifier)))
        if state.phase is Phase.STARTING_RUNTIME:
            asks = m.RestoreNext if is_restorable else m.RuntimeNext
            moves.append(lambda: life.tell(m.ProcessStarted("runtime")))
            moves.append(lambda: life.tell(m.Register(Call(), "inner", ("INVOKE",), "id-inner")))
            moves.append(lambda asks=asks: life.tell(asks(Call())))
        rng.choice(moves)()
    raise AssertionError(f"seed {seed} does not come to a snapshot")


def same(value, names):
    """Return a value in a form that can be compared: calls by name."""
    if isinstance(value, (Call, Gone)):
        return names[value]
    if is_dataclass(value):
        return (type(value), [(each.name, same(getattr(value, each.name), names)) for each in fields(value)])
    if isinstance(value, dict):
        return [(same(key, names), same(each, names)) for key, each in value.items()]
    if isinstance(value, (list, tuple)):
        return [same(each, names) for each in value]
    return value


def copied(life):
    """Return a machine that was told the story, and which call stands for which in each."""
    story = read_story(life.recorder.story().to_bytes())
    calls = {number: Call() for number in story.parked}
    machine = restore_machine(story, Budgets(), calls)
    ours = {call: life.recorder.number_of(call) for call in life.calls}
    theirs = {call: number for number, call in calls.items()}
    return machine, ours, theirs


def shown(effects, names, shift_us):
    """Return effects with their calls named and their moments shifted."""
    result = []
    for effect in effects:
        told = {name: getattr(effect, name) for name in effect.__struct_fields__}
        for name in ("call", "posted"):
            if told.get(name) is not None:
                told[name] = names[told[name]]
        for name in ("at_us", "deadline_us"):
            if name in told:
                told[name] -= shift_us
        result.append((type(effect).__name__, told))
    return result


@pytest.mark.parametrize("seed", range(60))
def test_a_copy_is_in_the_same_state_and_goes_on_alike(seed):
    # Given an environment that is ready for its snapshot, after whatever happened in it
    life = told_at_random(seed)
    # When a copy hears its story
    machine, ours, theirs = copied(life)
    # Then they are equal, field by field, but for the orders of the last event
    mine, other = life.machine.state, machine.state
    mine.effects = []
    assert same(mine, ours) == same(other, theirs)
    # And when both go on, each by its clock
    parties = [each.identifier for each in life.machine.extensions()]

    def both(make):
        life.now_us += 11
        first, second = Call(), Call()
        ours[first] = theirs[second] = f"after {life.now_us}"
        effects = life.recorder.handle(make(first), life.now_us)
        repeated = machine.handle(make(second), life.now_us + SHIFT_US)
        assert shown(effects, ours, 0) == shown(repeated, theirs, SHIFT_US)

    both(lambda _: m.Restore(5_000))
    if machine.phase is Phase.RESTORING:
        both(m.RuntimeNext)
    # Then they order the same, from the restore to the end
    both(lambda _: m.Invoke("r1", 3_000_000))
    both(lambda call: m.ResponseBegan(call, "r1", is_mode_valid=True))
    both(m.RuntimeNext)
    for identifier in parties:
        both(lambda call, identifier=identifier: m.ExtensionNext(call, identifier))
    both(lambda _: m.Stop(m.Reason.SPINDOWN))
    both(lambda _: m.ProcessExited("runtime", "exit status 0", is_clean=True))
    both(lambda _: m.Emptied())


def test_a_story_ends_with_the_restore():
    life = told_at_random(1)
    life.tell(m.Restore())
    assert repr(life.recorder) == "<Recorder 0 events>"
    assert life.recorder.number_of(life.calls[0]) is None


def test_too_much_is_not_kept(monkeypatch):
    monkeypatch.setattr(stories, "EVENTS_MAX", 3)
    life = Life()
    for event in (m.Initialise(), m.ProcessStarted("runtime"), m.InitError(Call(), "X")):
        life.tell(event)
    life = Life()
    life.tell(m.Initialise())
    life.tell(m.ProcessStarted("runtime"))
    life.tell(m.Register(Call(), "x", ("NOPE",), "id-x"))
    life.tell(m.RestoreNext(Call()))
    with pytest.raises(StoryError, match="More than 3 events"):
        life.recorder.story()
    assert repr(life.recorder) == "<Recorder 0 events>"


def test_what_is_no_story_is_refused():
    story = told_at_random(2).recorder.story()
    with pytest.raises(StoryError, match="cannot be read"):
        read_story(b"nonsense")
    with pytest.raises(StoryError, match="version 9"):
        read_story(stories.Story(story.names, story.events, story.parked, 9).to_bytes())
    cut = stories.Story(story.names, story.events[:-1], story.parked)
    with pytest.raises(StoryError, match="leads to"):
        restore_machine(cut, Budgets(), {number: Call() for number in story.parked})
    odd = stories.Story(story.names, (stories.Told("Dance", 1, {}),), ())
    with pytest.raises(StoryError, match="breaks off"):
        restore_machine(odd, Budgets(), {})
