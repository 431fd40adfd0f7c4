"""Shapes of the service model as frozen records: what a value may look like."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class Member:
    """
    One member of a structure.

    Args:
        name: As in the model, `LogType`.
        wire_name: As on the wire, `X-Amz-Log-Type`.
        location: `uri`, `querystring`, `header`, `statusCode` or `body`.
        shape: Name of its shape.
        is_flattened: True if it is a list, and XML has its elements without one around them.
    """

    name: str
    wire_name: str
    location: str
    shape: str
    is_flattened: bool = False


@dataclass(frozen=True, slots=True)
class Shape:
    """
    What a value may look like.

    Args:
        name: As in the model.
        kind: `structure`, `list`, `map`, `string`, `blob`, `boolean`, `integer`, `long`, `double` or
            `timestamp`.
        members: Of a structure, by name.
        required: Names of members that must be there.
        payload: The member of a structure that is the whole body; None if the body is a JSON object.
        element: Shape name of list elements and map values.
        key: Shape name of map keys.
        minimum: Least length (string, list, map) or value (number).
        maximum: Greatest length or value.
        pattern: The regular expression as the model has it; matched against the whole text.
        regex: `pattern`, compiled.
        enum: Allowed texts; empty if any.
        is_sensitive: True if values must not be repeated in messages.
        is_flattened: True if XML and forms have a list's elements without one around them.
        element_name: What XML and forms call a list's elements; None: `member`.
    """

    name: str
    kind: str
    members: Mapping[str, Member] = field(default_factory=dict)
    required: tuple[str, ...] = ()
    payload: str | None = None
    element: str | None = None
    key: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    pattern: str | None = None
    regex: re.Pattern[str] | None = None
    enum: tuple[str, ...] = ()
    is_sensitive: bool = False
    is_flattened: bool = False
    element_name: str | None = None

    def with_maximum(self, maximum: int) -> Shape:
        """Return this shape with another upper bound."""
        return replace(self, maximum=maximum)

    def with_member_shape(self, member: str, shape: str) -> Shape:
        """Return this structure with another shape for `member`."""
        members = dict(self.members)
        members[member] = replace(members[member], shape=shape)
        return replace(self, members=members)


def read_shape(name: str, definition: Mapping[str, Any]) -> Shape:
    """Turn one entry of the model's `shapes` into a `Shape`."""
    kind = definition["type"]
    pattern = definition.get("pattern")
    element = definition.get("member") if kind == "list" else definition.get("value")
    key = definition.get("key")
    return Shape(
        name=name,
        kind=kind,
        members={
            member: Member(
                name=member,
                wire_name=entry.get("locationName", member),
                location=entry.get("location", "body"),
                shape=entry["shape"],
                is_flattened=bool(entry.get("flattened", False)),
            )
            for member, entry in definition.get("members", {}).items()
        },
        required=tuple(definition.get("required", ())),
        payload=definition.get("payload"),
        element=element["shape"] if element else None,
        key=key["shape"] if key else None,
        minimum=definition.get("min"),
        maximum=definition.get("max"),
        pattern=pattern,
        regex=_compile(pattern) if pattern is not None else None,
        enum=tuple(definition.get("enum", ())),
        is_sensitive=bool(definition.get("sensitive", False)),
        is_flattened=bool(definition.get("flattened", False)),
        element_name=element.get("locationName") if element else None,
    )


def _compile(pattern: str) -> re.Pattern[str]:
    """Compile a pattern of the model, in Java's dialect: classes are ASCII but for Unicode properties."""
    if "\\p{" not in pattern:
        return re.compile(pattern, re.ASCII)
    for java, python in ((r"\p{L}", r"\w"), (r"\p{N}", r"\w"), (r"\p{Z}", r"\s")):
        pattern = pattern.replace(java, python)
    return re.compile(pattern)


def learn(
    shapes: dict[str, Shape], definitions: Mapping[str, Any], entry: Mapping[str, Any] | None
) -> Shape | None:
    """
    Read the shape that an entry of a model refers to, and all that it refers to.

    Args:
        shapes: What has been read; what is new is added.
        definitions: The model's shapes.
        entry: `{"shape": NAME}`; None if there is none.
    """
    if entry is None:
        return None
    name = entry["shape"]
    if name not in shapes:
        shape = shapes[name] = read_shape(name, definitions[name])
        inner = [member.shape for member in shape.members.values()]
        inner += [reference for reference in (shape.element, shape.key) if reference is not None]
        for reference in inner:
            learn(shapes, definitions, {"shape": reference})
    return shapes[name]
