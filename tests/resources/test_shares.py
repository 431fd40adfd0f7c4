"""How provisioned concurrency is shared by the versions of an alias."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.resources.attachments import ProvisionedConcurrency
from remora.resources.concurrency import provisioned_shares
from remora.resources.records import Alias
from remora.resources.view import Change, View


def shares(requested, weights, qualifier="live"):
    view = View()
    alias = Alias(function="f", name="live", version="1", description="", weights=weights, revision_id="a")
    view.apply([Change("alias", "f:live", alias)])
    config = ProvisionedConcurrency(
        function="f", qualifier=qualifier, requested=requested, last_modified="then"
    )
    return provisioned_shares(view, config)


@pytest.mark.parametrize(
    ("requested", "weights", "expected"),
    [
        (3, {}, {"1": 3}),
        (4, {"2": 0.25}, {"1": 3, "2": 1}),
        (10, {"2": 0.01}, {"1": 9, "2": 1}),
        (10, {"2": 0.99}, {"1": 1, "2": 9}),
        (10, {"2": 0.0}, {"1": 10}),
        (10, {"2": 1.0}, {"2": 10}),
        (1, {"2": 0.4}, {"1": 1}),
        (1, {"2": 0.6}, {"2": 1}),
    ],
)
def test_each_version_has_its_part(requested, weights, expected):
    assert shares(requested, weights) == expected


def test_a_version_has_all_of_its_own():
    assert shares(5, {"2": 0.5}, qualifier="1") == {"1": 5}


@given(st.integers(1, 1000), st.floats(0, 1))
def test_nothing_is_lost_or_added(requested, weight):
    found = shares(requested, {"2": weight})
    assert sum(found.values()) == requested
    assert all(share > 0 for share in found.values())
