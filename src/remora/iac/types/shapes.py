"""
What values properties may have, as far as types look into them; the rest is the API's to refuse.

A shape is `TEXT`, `BOOLEAN`, `OBJECT`, `DOCUMENT`, a list of one shape for lists of any length, or `Members`.

Source: CloudFormation resource specification; messages as observed.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from remora.iac.calls import kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Shape = Any
"""See above; None for any value at all."""

TEXT: Final = "String"
"""Text, or a number or boolean that is read as one."""
BOOLEAN: Final = "Boolean"
"""A boolean, or its text."""
OBJECT: Final = "JSONObject"
"""An object with whatever members."""
DOCUMENT: Final = "JSONObject or String"
"""A policy: an object, or its text."""


@dataclass(frozen=True, slots=True)
class Members:
    """
    An object of which something is known.

    Args:
        required: Members that there have to be, with their shapes.
        optional: Members that there may be.
        is_closed: Whether there may be no others.
    """

    required: Mapping[str, Shape] = field(default_factory=dict)
    optional: Mapping[str, Shape] = field(default_factory=dict)
    is_closed: bool = False


TAGS: Final = [Members({"Key": TEXT, "Value": TEXT})]
"""Tags as most types have them."""


def misfits(shape: Shape, value: Any, where: str) -> Iterator[str]:
    """
    Go through what is wrong with a value, in CloudFormation's words.

    Args:
        shape: What it may be.
        value: The value.
        where: Its place in the properties, `#/Tags/0/Key`.
    """
    if isinstance(shape, list):
        if not isinstance(value, list):
            yield _misfit(where, "JSONArray", value)
            return
        for at, item in enumerate(value):
            yield from misfits(shape[0], item, f"{where}/{at}")
    elif isinstance(shape, Members):
        if not isinstance(value, dict):
            yield _misfit(where, OBJECT, value)
            return
        yield from _of_members(shape, value, where)
    elif shape == TEXT and not isinstance(value, (str, int, float)):
        yield _misfit(where, TEXT, value)
    elif shape == BOOLEAN and not isinstance(value, bool) and value not in ("true", "false"):
        yield _misfit(where, BOOLEAN, value)
    elif (shape == OBJECT and not isinstance(value, dict)) or (
        shape == DOCUMENT and not isinstance(value, (dict, str))
    ):
        yield _misfit(where, OBJECT, value)


def _of_members(shape: Members, value: dict[str, Any], where: str) -> Iterator[str]:
    for name in shape.required:
        if name not in value:
            yield f"{where}: required key [{name}] not found"
    known = {**shape.required, **shape.optional}
    for name, item in value.items():
        if name in known:
            yield from misfits(known[name], item, f"{where}/{name}")
        elif shape.is_closed:
            yield f"{where}: extraneous key [{name}] is not permitted"


def _misfit(where: str, expected: str, value: Any) -> str:
    return f"{where}: expected type: {expected}, found: {kind_of(value)}"
