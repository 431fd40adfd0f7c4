"""Whose environment is made next."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.pool.starts import StartQueue


def test_a_burst_of_one_function_does_not_keep_others_waiting():
    queue = StartQueue(1)
    for number in range(100):
        queue.put("greedy", ("greedy", number))
    assert queue.take() == ("greedy", 0)
    queue.put("modest", ("modest", 0))
    queue.put("modest", ("modest", 1))
    order = []
    for _ in range(5):
        queue.free()
        order.append(queue.take())
    assert order == [("greedy", 1), ("modest", 0), ("greedy", 2), ("modest", 1), ("greedy", 3)]


def test_slots_bound_what_is_under_way():
    queue = StartQueue(2)
    for number in range(3):
        queue.put("f", number)
    assert [queue.take(), queue.take(), queue.take()] == [0, 1, None]
    queue.free()
    assert queue.take() == 2
    assert queue.clear() == []


@pytest.mark.slow
@given(st.lists(st.tuples(st.sampled_from("abc"), st.booleans()), max_size=50), st.integers(1, 4))
def test_every_order_has_its_turn_in_its_own_line(course, slots):
    queue = StartQueue(slots)
    put, taken, under_way = [], [], 0
    for number, (function, frees) in enumerate(course):
        queue.put(function, (function, number))
        put.append((function, number))
        if frees and under_way:
            queue.free()
            under_way -= 1
        while (order := queue.take()) is not None:
            taken.append(order)
            under_way += 1
        assert under_way <= slots
        assert len(queue) == len(put) - len(taken)
        assert not len(queue) or under_way == slots
    taken += queue.clear()
    assert sorted(taken) == sorted(put)
    for function in "abc":
        assert [each for each in taken if each[0] == function] == [
            each for each in put if each[0] == function
        ]
