"""The fuzzers of the HTTP parser, for minutes and with fresh examples each time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.http import test_fuzz as parser

from .endurance import PATIENCE_S, endure

talk = parser.talk


@pytest.mark.slow_soak
@pytest.mark.timeout(PATIENCE_S)
def test_requests_are_answered_or_ended_for_minutes(talk):
    def make():
        @given(
            wanted=st.lists(parser.requests(), min_size=1, max_size=6),
            place=st.none() | st.integers(0, 5000),
            rubbish=st.binary(max_size=300),
            removed=st.integers(0, 30),
            cuts=parser.cuts,
            leaves=st.booleans(),
        )
        def answered_or_ended(wanted, place, rubbish, removed, cuts, leaves):  # noqa: PLR0917 - by name
            data = b"".join(request for request, _ in wanted)
            if place is None:
                answers = talk(parser.split(data, cuts))
                assert parser.bodies_of(answers) == [body for _, body in wanted]
                return
            place %= len(data) + 1
            data = data[:place] + rubbish + data[place + removed :]
            talk(parser.split(data, cuts), leaves=leaves)

        return answered_or_ended

    endure(make)
