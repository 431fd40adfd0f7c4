"""What becomes of an event, decided purely."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.events.base import Condition, Event, Policy, Progress
from remora.events.decisions import Again, Over, Pace, after_error, after_refusal, before_try
from remora.resources import lineage

EVENT = Event("r", "f", None, "arn:aws:lambda:us-east-1:000000000000:function:f", 1_000_000)
NOW = EVENT.accepted_ms
PACE = Pace()


def test_the_second_try_comes_after_one_minute_and_the_third_after_two():
    first = after_error(EVENT, Progress(starts=1), Policy(), NOW, PACE)
    assert first == Again(Progress(starts=1, errors=1, due_ms=NOW + 60_000))
    second = after_error(EVENT, Progress(starts=2, errors=1), Policy(), NOW, PACE)
    assert second == Again(Progress(starts=2, errors=2, due_ms=NOW + 120_000))
    third = after_error(EVENT, Progress(starts=3, errors=2), Policy(), NOW, PACE)
    assert third == Over(Condition.RETRIES_EXHAUSTED, Progress(starts=3, errors=3))


@pytest.mark.parametrize("retries", [0, 1, 2])
def test_there_are_as_many_further_tries_as_configured(retries):
    progress, tries = Progress(), 0
    while True:
        tries += 1
        verdict = after_error(EVENT, progress, Policy(retries=retries), NOW, PACE)
        progress = verdict.progress
        if isinstance(verdict, Over):
            break
    assert tries == 1 + retries


def test_an_event_ends_when_its_next_try_would_come_too_late():
    verdict = after_error(EVENT, Progress(starts=1), Policy(age_s=60), NOW, PACE)
    assert verdict == Over(Condition.EVENT_AGE_EXCEEDED, Progress(starts=1, errors=1))
    assert isinstance(after_error(EVENT, Progress(), Policy(age_s=61), NOW, PACE), Again)


def test_refusals_wait_longer_and_longer_and_count_no_try():
    waits, progress = [], Progress(starts=1, errors=1)
    for _ in range(11):
        verdict = after_refusal(EVENT, progress, Policy(), NOW, PACE)
        waits.append((verdict.progress.due_ms - NOW) // 1000)
        progress = verdict.progress
        assert (progress.starts, progress.errors) == (1, 1)
    assert waits == [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    late = NOW + 21_600_000
    assert after_refusal(EVENT, progress, Policy(), late, PACE).condition is Condition.EVENT_AGE_EXCEEDED


def test_an_error_ends_a_row_of_refusals():
    verdict = after_error(EVENT, Progress(starts=1, delays=9), Policy(), NOW, PACE)
    assert verdict.progress.delays == 0


def test_what_ends_an_event_without_a_try():
    assert before_try(EVENT, Progress(), Policy(), NOW, PACE) is None
    blocked = before_try(EVENT, Progress(), Policy(is_blocked=True), NOW, PACE)
    assert blocked == Over(Condition.ZERO_RESERVED, Progress())
    assert (
        before_try(EVENT, Progress(), Policy(), NOW + 21_600_001, PACE).condition
        is Condition.EVENT_AGE_EXCEEDED
    )
    chain = ""
    for _ in range(17):
        chain = lineage.follow(chain, EVENT.invoked_arn)
    round_and_round = Event("r", "f", None, EVENT.invoked_arn, NOW, chain)
    assert before_try(round_and_round, Progress(), Policy(), NOW, PACE).condition is Condition.RECURSION
    assert before_try(round_and_round, Progress(), Policy(terminates_loops=False), NOW, PACE) is None


@pytest.mark.slow
@given(
    st.integers(0, 2),
    st.sampled_from([60, 61, 179, 180, 200, 21_600]),
    st.lists(st.sampled_from(["error", "refusal"]), max_size=60),
    st.sampled_from([1.0, 0.5, 0.01]),
)
def test_no_event_is_tried_beyond_its_age_or_its_tries(retries, age_s, course, scale):
    policy, pace = Policy(retries=retries, age_s=age_s), Pace(scale)
    now, progress = NOW, Progress()
    for step in course:
        assert now <= NOW + age_s * 1000 * scale
        progress = Progress(progress.starts + 1, progress.errors, progress.delays, progress.due_ms)
        decide = after_error if step == "error" else after_refusal
        verdict = decide(EVENT, progress, policy, now, pace)
        progress = verdict.progress
        assert progress.errors <= 1 + retries
        if isinstance(verdict, Over):
            break
        assert verdict.progress.due_ms > now
        now = verdict.progress.due_ms
