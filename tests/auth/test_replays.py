"""Requests that come again are known while their signatures hold, and no longer."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from remora.auth.replays import Replays


def test_a_request_is_good_once():
    replays = Replays()
    assert not replays.is_replay("a", 300.0, 0.0)
    assert not replays.is_replay("b", 300.0, 0.5)
    assert replays.is_replay("a", 300.0, 1.0)
    assert replays.is_replay("a", 300.0, 300.0)


@given(st.lists(st.tuples(st.integers(0, 9), st.floats(0, 300), st.floats(0, 3)), max_size=50))
def test_every_replay_is_known_while_its_signature_holds_and_no_longer(requests):
    replays, holding, now_s = Replays(), {}, 0.0
    for request, lasts_s, pause_s in requests:
        now_s += pause_s
        holding = {each: until_s for each, until_s in holding.items() if until_s >= now_s}
        until_s = holding.get(request, now_s + lasts_s)
        assert replays.is_replay((request, until_s), until_s, now_s) == (request in holding)
        holding[request] = until_s
    assert not replays.is_replay("another", now_s + 1_000, now_s + 500)
    assert repr(replays) == "<Replays 1 requests>"
