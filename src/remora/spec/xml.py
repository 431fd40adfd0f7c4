"""
Values in XML by their shapes, both ways: the protocols rest-xml (S3) and query (IAM, STS).

Source: Smithy 2.0 specification, "AWS restXml protocol" and "AWS Query protocol".
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.spec.shapes import Shape

HEAD = '<?xml version="1.0" encoding="UTF-8"?>\n'


def write(shapes: Mapping[str, Shape], shape: Shape, value: Any, name: str, namespace: str = "") -> str:
    """
    Write a value as one element.

    Args:
        shapes: All shapes by name.
        shape: The value's.
        value: As for JSON; a timestamp is seconds since 1970; None members are left away.
        name: The element's.
        namespace: Of the element, a URI; empty if it has none of its own.

    Raises:
        AssertionError: If the value has a member that the model does not know (our bug).
    """
    attribute = f' xmlns="{escape(namespace)}"' if namespace else ""
    return f"<{name}{attribute}>{_content(shapes, shape, value)}</{name}>"


def _content(shapes: Mapping[str, Shape], shape: Shape, value: Any) -> str:
    match shape.kind:
        case "structure":
            return "".join(_members(shapes, shape, value))
        case "list":
            element, name = shapes[shape.element or ""], shape.element_name or "member"
            return "".join(write(shapes, element, item, name) for item in value)
        case "map":
            element = shapes[shape.element or ""]
            return "".join(
                f"<entry><key>{text(key)}</key>{write(shapes, element, item, 'value')}</entry>"
                for key, item in value.items()
            )
        case "boolean":
            return "true" if value else "false"
        case "timestamp":
            return moment(value)
        case _:
            return text(str(value))


def _members(shapes: Mapping[str, Shape], shape: Shape, value: Mapping[str, Any]) -> list[str]:
    parts = []
    for name, item in value.items():
        member = shape.members.get(name)
        assert member is not None, f"{shape.name} has a member {name}"
        if item is None:
            continue
        inner = shapes[member.shape]
        if inner.kind == "list" and (inner.is_flattened or member.is_flattened):
            element = shapes[inner.element or ""]
            parts += [write(shapes, element, each, member.wire_name) for each in item]
        else:
            parts.append(write(shapes, inner, item, member.wire_name))
    return parts


def text(value: str) -> str:
    """Escape a text for XML; what XML cannot hold becomes U+FFFD."""
    return escape("".join(character if _is_allowed(character) else "\ufffd" for character in value))


def _is_allowed(character: str) -> bool:
    return character in "\t\n\r" or " " <= character <= "\ud7ff" or character >= "\ue000"


def moment(seconds: float) -> str:
    """Write seconds since 1970 as `2026-01-31T23:59:59.000Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def parse(shapes: Mapping[str, Shape], shape: Shape, body: bytes) -> dict[str, Any]:
    """
    Read a structure from a document; its name and namespaces are not looked at.

    Raises:
        ApiError: SerializationException if it is no XML, or a value has the wrong type.
    """
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body or b"\0" in body:  # with zeros it would be UTF-16
        raise _malformed("a document type is not allowed")
    try:
        root = ET.fromstring(body)  # noqa: S314 - without a document type there are no entities
    except (ET.ParseError, ValueError, LookupError) as error:
        raise _malformed(str(error)) from error
    found: dict[str, Any] = _read(shapes, shape, root)
    return found


def _read(shapes: Mapping[str, Shape], shape: Shape, element: ET.Element) -> Any:
    match shape.kind:
        case "structure":
            found = {}
            for name, member in shape.members.items():
                inner = shapes[member.shape]
                children = [child for child in element if _local(child) == member.wire_name]
                if not children:
                    continue
                if inner.kind == "list" and (inner.is_flattened or member.is_flattened):
                    found[name] = [_read(shapes, shapes[inner.element or ""], child) for child in children]
                else:
                    found[name] = _read(shapes, inner, children[0])
            return found
        case "list":
            return [_read(shapes, shapes[shape.element or ""], child) for child in element]
        case kind:
            return scalar(kind, element.text or "")


def _local(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def scalar(kind: str, value: str) -> Any:
    """
    Read a number, a boolean, a text, or a time: seconds since 1970, UTC unless it says otherwise.

    Raises:
        ApiError: SerializationException if it is not of that kind.
    """
    try:
        if kind in {"integer", "long"}:
            return int(value)
        if kind in {"double", "float"}:
            return float(value)
        if kind == "timestamp":
            read = datetime.fromisoformat(value)
            return (read if read.tzinfo is not None else read.replace(tzinfo=UTC)).timestamp()
    except ValueError as error:
        raise _malformed(f"'{value}' is not of type {kind}") from error
    if kind == "boolean":
        if value not in {"true", "false"}:
            raise _malformed(f"'{value}' is not of type boolean")
        return value == "true"
    return value


def _malformed(reason: str) -> ApiError:
    return ApiError("SerializationException", f"The request could not be read: {reason}")
