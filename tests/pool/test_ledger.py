"""The account's concurrency, decided purely: shares, reservations, what is set aside, how fast it grows."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.pool.assign import Counts, Verdict, assign
from remora.pool.ledger import ACCOUNT, RESERVED, Ledger

FUNCTIONS = ("a", "b", "c")
SECOND_US = 1_000_000


def test_functions_without_a_reservation_share_what_is_left():
    ledger = Ledger(1000)
    ledger.reserve("a", 100, 0)
    ledger.provision("b", 50, 0)
    assert ledger.common.limit == 850
    assert ledger.load("c", 0).share is ledger.load("b", 0).share is ledger.common
    own = ledger.load("a", 0).share
    assert (own.limit, own.reason, ledger.common.reason) == (100, RESERVED, ACCOUNT)


def test_what_is_provisioned_comes_out_of_the_reservation():
    ledger = Ledger(1000)
    ledger.reserve("a", 100, 0)
    ledger.provision("a", 100, 0)
    assert ledger.load("a", 0).share.limit == 0
    assert ledger.common.limit == 900
    ledger.provision("a", 0, 0)
    ledger.reserve("a", None, 0)
    assert (ledger.common.limit, ledger.set_aside) == (1000, 0)


def test_what_runs_moves_with_its_function():
    ledger = Ledger(10)
    load = ledger.load("a", 0)
    for _ in range(3):
        load.enter()
    load.enter_provisioned()
    ledger.reserve("a", 2, 0)
    assert (ledger.common.in_flight, load.share.in_flight, ledger.unreserved_in_flight()) == (0, 3, 0)
    for _ in range(3):
        load.leave()
    load.leave_provisioned()
    ledger.reserve("a", None, 0)
    assert (ledger.common.in_flight, ledger.unreserved_in_flight(), ledger.common.limit) == (0, 0, 10)
    ledger.forget("a")
    assert ledger.load("a", 0) is not load


def test_a_function_grows_by_a_thousand_in_ten_seconds():
    scale_out = Ledger(1).load("a", 0).scale_out
    assert [scale_out.take(0) for _ in range(1000)] == [0] * 1000
    assert scale_out.take(0) == 10_000
    assert [scale_out.take(SECOND_US) for _ in range(100)] == [0] * 100
    assert scale_out.take(SECOND_US) > 0
    # What was not used is not saved up.
    assert [scale_out.take(1000 * SECOND_US) for _ in range(1000)] == [0] * 1000
    assert scale_out.take(1000 * SECOND_US) > 0


def test_whoever_has_nothing_gets_the_next_room():
    ledger = Ledger(8)
    noisy, modest, late = (ledger.load(each, 0) for each in FUNCTIONS)
    for _ in range(8):
        noisy.enter()
    # Given a function that was refused though nothing of it runs: it is the next one.
    noisy.refused(0)
    assert not ledger.common.promised
    modest.refused(0)
    assert ledger.common.limit_for("a", 0) == 7
    assert ledger.common.limit_for("b", 0) == 8
    # There is room for one more of those, and then for no more: most of a share goes to who comes first.
    late.refused(0)
    for number in range(10):
        ledger.common.promise(f"more {number}", 0)
    assert ledger.common.limit_for("a", 0) == 6
    noisy.leave()
    modest.enter()
    assert ledger.common.limit_for("a", 0) == 7
    # It is kept for two seconds, and goes with a reservation.
    assert ledger.common.limit_for("a", 2 * SECOND_US - 1) == 7
    assert ledger.common.limit_for("a", 2 * SECOND_US) == 8
    late.refused(3 * SECOND_US)
    ledger.reserve("c", 1, 3 * SECOND_US)
    assert ledger.common.limit_for("a", 3 * SECOND_US) == 7
    assert not ledger.common.promised
    late.share.in_flight = 1
    late.refused(3 * SECOND_US)
    assert not late.share.promised


steps = st.lists(
    st.tuples(
        st.sampled_from(FUNCTIONS),
        st.sampled_from(["invoke", "end", "reserve", "unreserve", "provision", "enter", "leave"]),
        st.integers(0, 6),
    ),
    max_size=60,
)


@pytest.mark.slow
@given(steps)
def test_shares_add_up_whatever_happens(course):
    ledger = Ledger(12)
    refused_wrongly = []
    for function, step, number in course:
        load = ledger.load(function, 0)
        share = load.share
        if step == "invoke":
            verdict = assign(Counts(0, 0, 0, 0, 0, share.in_flight, share.limit))
            if verdict is Verdict.START:
                load.enter()
            elif share.in_flight < share.limit:
                refused_wrongly.append((function, share))
        elif step == "end" and load.on_demand:
            load.leave()
        elif step == "reserve":
            ledger.reserve(function, number, 0)
        elif step == "unreserve":
            ledger.reserve(function, None, 0)
        elif step == "provision":
            ledger.provision(function, number, 0)
        elif step == "enter" and load.provisioned_in_use < load.provisioned:
            load.enter_provisioned()
        elif step == "leave" and load.provisioned_in_use:
            load.leave_provisioned()
        loads = [ledger.load(each, 0) for each in FUNCTIONS]
        for each in loads:
            if each.reserved is not None:
                assert each.share.in_flight == each.on_demand
                assert each.share.limit == max(0, each.reserved - each.provisioned)
        common = [each for each in loads if each.reserved is None]
        assert ledger.common.in_flight == sum(each.on_demand for each in common)
        assert ledger.unreserved_in_flight() == sum(
            each.on_demand + each.provisioned_in_use for each in common
        )
        set_aside = sum(each.provisioned if each.reserved is None else each.reserved for each in loads)
        assert ledger.claimed() == set_aside + ledger.common.in_flight
    assert refused_wrongly == []


@pytest.mark.slow
@given(st.builds(Counts, *[st.integers(0, 3) for _ in range(7)]))
def test_nothing_is_refused_that_there_is_room_for(counts):
    verdict = assign(counts)
    if verdict is Verdict.REFUSE:
        assert counts.in_flight >= counts.limit
        assert not counts.ready
    if verdict in (Verdict.START, Verdict.REUSE, Verdict.WAIT):
        assert counts.in_flight < counts.limit
    if verdict is Verdict.START:
        assert not counts.idle
        assert counts.starting + counts.finishing <= counts.waiting
