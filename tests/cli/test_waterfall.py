"""From a timeline to what is drawn, without drawing."""

import random

import pytest

from remora.cli.waterfall import Cost, Event, Gap, Omission, Section, Timeline, costs, ms, parts

KINDS = frozenset(
    (
        *("sandbox.created", "init.started", "process.started", "extension.registered", "extension.ready"),
        *("runtime.ready", "init.ended", "invoke.started", "runtime.responded", "runtime.done"),
        *("extension.done", "invoke.ended", "environment.frozen", "environment.thawed", "shutdown.started"),
        *("restore.started", "restore.ended"),
        *("runtime.terminated", "extension.notified", "process.exited", "shutdown.ended", "of.tomorrow"),
    )
)


def timeline(*events: Event) -> Timeline:
    return Timeline("e", "f", 0, list(events))


def sections(of: Timeline) -> list[Section]:
    return [part for part in parts(of) if isinstance(part, Section)]


def invocation(at_us: int, length_us: int) -> list[Event]:
    return [
        Event(at_us, "invoke.started", request_id="r"),
        Event(at_us + length_us, "runtime.responded", request_id="r"),
        Event(at_us + length_us, "runtime.done", request_id="r"),
        Event(at_us + length_us, "invoke.ended", request_id="r", detail="success"),
    ]


def test_the_first_init_begins_with_the_sandbox() -> None:
    section = sections(timeline(Event(900, "sandbox.created"), Event(1_000, "init.started", detail="init")))[
        0
    ]
    assert (section.start_us, section.title, section.note) == (0, "init", "not ended yet")
    assert [row.label for row in section.rows] == ["sandbox"]


def test_an_extension_without_process_is_internal() -> None:
    section = sections(
        timeline(
            Event(0, "init.started"),
            Event(10, "process.started", "runtime"),
            Event(50, "extension.registered", "inner"),
            Event(80, "extension.ready", "inner"),
            Event(90, "runtime.ready"),
            Event(90, "init.ended", detail="success"),
        )
    )[0]
    assert [(row.label, row.note, row.duration_us) for row in section.rows] == [
        ("runtime", "with function", 80),
        ("inner", "internal", 30),
    ]


def test_an_extension_whose_start_is_heard_of_too_late_started_at_the_earliest_when_it_was_ordered() -> None:
    of = timeline(
        Event(1_000, "sandbox.created"),
        Event(1_200, "init.started", detail="init"),
        Event(3_300, "extension.registered", "quick"),
        Event(4_000, "process.started", "slow"),
        Event(5_400, "process.started", "quick"),
        Event(6_000, "extension.registered", "slow"),
        Event(7_300, "extension.ready", "quick"),
        Event(8_000, "extension.ready", "slow"),
        Event(9_000, "init.ended", detail="success"),
    )
    quick, slow = sections(of)[0].rows[1:]
    assert (quick.label, quick.note, quick.mark_us) == ("quick", "registered 2.1 ms", 3_300)
    assert [(span.kind, span.start_us, span.end_us) for span in quick.spans] == [
        ("start", 1_200, 3_300),
        ("work", 3_300, 7_300),
    ]
    assert (slow.note, slow.duration_us) == ("registered 2.0 ms", 4_000)
    assert [(cost.name, cost.registered_us, cost.ready_us) for cost in costs(of)] == [
        ("quick", 2_100, 6_100),
        ("slow", 2_000, 4_000),
    ]


@pytest.mark.parametrize(
    ("more", "end_us", "notes"),
    [
        ([Event(40_000, "restore.ended", detail="success")], 40_000, ("", "with its hooks")),
        (
            [
                Event(30_000, "process.exited", "runtime", detail="exit status 65"),
                Event(30_001, "restore.ended", detail="error"),
            ],
            30_000,
            ("error", "exit status 65"),
        ),
        ([Event(50_000, "restore.ended", detail="timeout")], 50_000, ("timeout", "not done")),
        ([], 20_000, ("not ended yet", "running")),
    ],
)
def test_a_restore_is_the_runtimes(more: list[Event], end_us: int, notes: tuple[str, str]) -> None:
    before = [Event(1_000, "init.started", detail="init"), Event(10_000, "init.ended", detail="success")]
    _, section = sections(timeline(*before, Event(20_000, "restore.started"), *more))
    (row,) = section.rows
    assert (section.title, section.start_us, row.label) == ("restore", 20_000, "runtime")
    assert [(span.start_us, span.end_us) for span in row.spans] == [(20_000, end_us)]
    assert (section.note, row.note) == notes


def test_a_restore_from_a_snapshot_begins_with_its_loading() -> None:
    of = timeline(
        Event(150_000, "sandbox.created"),
        Event(151_000, "restore.started"),
        Event(155_000, "restore.ended", detail="success"),
    )
    (section,) = sections(of)
    assert (section.title, section.start_us, section.end_us) == ("restore", 0, 155_000)
    assert [(row.label, row.spans[0].start_us, row.spans[0].end_us) for row in section.rows] == [
        ("snapshot", 0, 150_000),
        ("runtime", 151_000, 155_000),
    ]


def test_a_tail_is_what_an_extension_takes_after_the_response() -> None:
    of = timeline(
        Event(0, "invoke.started", request_id="r"),
        Event(100, "runtime.responded"),
        Event(110, "runtime.done"),
        Event(50, "extension.done", "quick"),
        Event(900, "extension.done", "slow"),
        Event(900, "invoke.ended", detail="success"),
    )
    assert [(cost.name, cost.tails_us) for cost in costs(of)] == [("quick", (0,)), ("slow", (800,))]
    slow = sections(of)[0].rows[2]
    assert [(span.kind, span.start_us, span.end_us) for span in slow.spans] == [
        ("beside", 0, 100),
        ("tail", 100, 900),
    ]


def test_frozen_time_between_phases_is_a_gap() -> None:
    of = timeline(
        *invocation(0, 10),
        Event(5_010, "environment.frozen"),
        Event(905_010, "environment.thawed"),
        *invocation(905_020, 10),
        *invocation(920_000, 10),
        Event(925_000, "environment.frozen"),
    )
    assert [part for part in parts(of) if isinstance(part, Gap)] == [
        Gap("frozen", 900_000),
        Gap("idle", 14_970),
        Gap("frozen", None),
    ]


def test_of_many_invocations_the_first_three_and_the_last_two_are_drawn() -> None:
    events = [event for number in range(100) for event in invocation(number * 500, number)]
    found = parts(timeline(*events))
    assert [part.title for part in found if isinstance(part, Section)] == [
        "invoke 1",
        "invoke 2",
        "invoke 3",
        "invoke 99",
        "invoke 100",
    ]
    assert [part for part in found if isinstance(part, Omission)] == [Omission(95, 50, 97)]


def test_five_invocations_are_all_drawn() -> None:
    events = [event for number in range(5) for event in invocation(number * 500, 10)]
    assert [type(part) for part in parts(timeline(*events))] == [Section] * 5


def test_costs_tell_what_came_of_an_extension() -> None:
    of = timeline(
        Event(0, "init.started"),
        Event(10, "process.started", "a"),
        Event(30, "extension.registered", "a"),
        Event(70, "extension.ready", "a"),
        Event(80, "init.ended", detail="success"),
        Event(100, "shutdown.started", detail="spindown"),
        Event(110, "extension.notified", "a"),
        Event(150, "process.exited", "a", detail="exit status 0"),
        Event(160, "shutdown.ended"),
    )
    assert costs(of) == [Cost("a", 20, 60, (), 40)]


def test_durations_have_one_decimal() -> None:
    assert [ms(value) for value in (0, 49, 50, 999, 1_203_456)] == [
        "0.0 ms",
        "0.0 ms",
        "0.1 ms",
        "1.0 ms",
        "1,203.5 ms",
    ]


@pytest.mark.parametrize("seed", range(30))
def test_no_order_of_events_is_too_strange(seed: int) -> None:
    # Given events of all kinds in any order, some of them twice, some missing
    kinds = sorted(KINDS)
    dice = random.Random(seed)
    events = [
        Event(
            number * dice.randrange(1_000), dice.choice(kinds), dice.choice(("a", "b", "runtime", "", None))
        )
        for number in range(80)
    ]
    # When they are laid out
    of = timeline(*events)
    # Then every span lies in its section, and nothing is negative
    for section in sections(of):
        for row in section.rows:
            assert row.duration_us >= 0
            assert " -" not in row.note
            assert all(span.start_us <= span.end_us for span in row.spans)
    assert all(tail >= 0 for cost in costs(of) for tail in cost.tails_us)
