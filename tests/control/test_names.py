"""Names and ARNs taken apart."""

from __future__ import annotations

import pytest

from remora.resources.dates import stamp
from remora.resources.names import LayerTarget, Place, parse_layer, resolve_function
from remora.resources.paging import page
from remora.spec.errors import ApiError

PLACE = Place("us-east-1", "000000000000")
ARN = "arn:aws:lambda:us-east-1:000000000000"


@pytest.mark.parametrize(
    ("text", "qualifier", "found"),
    [
        ("f", None, ("f", None)),
        ("f", "$LATEST", ("f", "$LATEST")),
        ("f:1", None, ("f", "1")),
        ("f:$LATEST", None, ("f", "$LATEST")),
        ("f:live", "live", ("f", "live")),
        ("function:f", None, ("f", None)),
        ("000000000000:function:f", None, ("f", None)),
        ("000000000000:function:f:2", None, ("f", "2")),
        ("us-east-1:000000000000:function:f", None, ("f", None)),
        (f"{ARN}:function:f", None, ("f", None)),
        (f"{ARN}:function:f:live", None, ("f", "live")),
    ],
)
def test_a_function_is_found_by_every_form_of_its_name(text, qualifier, found):
    assert resolve_function(PLACE, text, qualifier) == found


@pytest.mark.parametrize(
    ("text", "qualifier", "code"),
    [
        ("arn:aws:lambda:eu-west-1:000000000000:function:f", None, "ResourceNotFoundException"),
        ("arn:aws:lambda:us-east-1:111111111111:function:f", None, "AccessDeniedException"),
        ("f:1", "2", "InvalidParameterValueException"),
        ("a:b:c", None, "InvalidParameterValueException"),
    ],
)
def test_what_is_not_of_this_node(text, qualifier, code):
    with pytest.raises(ApiError) as caught:
        resolve_function(PLACE, text, qualifier)
    assert caught.value.code == code


def test_layers():
    assert parse_layer("l") == LayerTarget("l", None, None, None)
    assert parse_layer(f"{ARN}:layer:l") == LayerTarget("l", None, "us-east-1", "000000000000")
    assert parse_layer(f"{ARN}:layer:l:12") == LayerTarget("l", 12, "us-east-1", "000000000000")
    assert PLACE.layer_arn("l", 3) == f"{ARN}:layer:l:3"


def test_pages():
    keys = [f"{number:03}" for number in range(101)]
    first, marker = page(keys, None, None)
    second, marker_2 = page(keys, marker, 1000)
    third, end = page(keys, marker_2, 50)
    assert [len(first), len(second), len(third), end] == [50, 50, 1, None]
    assert first + second + third == keys
    assert page(keys, None, 101)[0] == first
    assert page([], None, None) == ([], None)
    # A key that was deleted meanwhile does not matter.
    assert page(keys[:40] + keys[50:], marker, 1)[0] == ["050"]


def test_moments():
    assert stamp(0) == "1970-01-01T00:00:00.000+0000"
    assert stamp(1_700_000_000_007) == "2023-11-14T22:13:20.007+0000"
