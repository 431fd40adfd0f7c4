"""Turns an HTTP request into a plain dict by an input shape, and a reply's dict into an answer."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.spec.shapes import Member, Shape

_encode = msgspec.json.Encoder().encode

_NUMBERS_END = 2**63
"""No number of the model is as great as this; Python's own have no bound."""


class Answer(NamedTuple):
    """What goes on the wire: status, headers (name, value) and the body."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes


def unquote(segment: bytes) -> str:
    """Percent-decode one path segment; what is not UTF-8 becomes U+FFFD, which no pattern allows."""
    return unquote_to_bytes(segment).decode("utf-8", "replace")


def parse_query(query: bytes) -> dict[str, list[str]]:
    """Split a raw query string; a repeated name keeps all its values."""
    found: dict[str, list[str]] = {}
    for name, value in parse_qsl(query.decode("latin-1"), keep_blank_values=True):
        found.setdefault(name, []).append(value)
    return found


def parse_request(
    shapes: Mapping[str, Shape],
    shape: Shape,
    *,
    labels: Mapping[str, str],
    query: Mapping[str, list[str]],
    header: Callable[[bytes], bytes | None],
    body: bytes,
) -> dict[str, Any]:
    """
    Collect an operation's input from where the model says each member is.

    Args:
        shapes: All shapes by name.
        shape: The operation's input structure.
        labels: Path labels, decoded.
        query: Query values by name.
        header: Looks up a request header by its lower-case name.
        body: The request's body.

    Returns:
        Members that were sent, by their name in the model; blobs are bytes; JSON null counts as not sent.

    Raises:
        ApiError: InvalidRequestContentException if the body is not a JSON object, SerializationException if a
            value has the wrong type.
    """
    document = _document(body) if shape.payload is None else {}
    found: dict[str, Any] = {}
    for name, member in shape.members.items():
        target = shapes[member.shape]
        value: Any
        if name == shape.payload:
            value = body
        elif member.location == "body":
            value = _typed(shapes, target, document.get(member.wire_name))
        elif member.location == "uri":
            value = _text_value(target, labels.get(member.wire_name))
        elif member.location == "querystring":
            value = _query_value(shapes, target, query.get(member.wire_name))
        else:
            raw = header(member.wire_name.lower().encode())
            value = _text_value(target, None if raw is None else raw.decode("latin-1"))
        if value is not None:
            found[name] = value
    return found


def read_document(shapes: Mapping[str, Shape], shape: Shape, document: Any) -> dict[str, Any]:
    """
    Collect an operation's input from a document that has all of it.

    Args:
        shapes: All shapes by name.
        shape: The operation's input structure.
        document: What was sent.

    Returns:
        As `parse_request`.

    Raises:
        ApiError: SerializationException if a value has the wrong type.
    """
    found: dict[str, Any] | None = _typed(shapes, shape, document)
    return found or {}


def write_document(shapes: Mapping[str, Shape], shape: Shape, reply: Mapping[str, Any]) -> dict[str, Any]:
    """
    Lay out a reply that is one document, ready for JSON.

    Raises:
        AssertionError: If the reply has a member that the model does not know (our bug).
    """
    document: dict[str, Any] = _plain(shapes, shape, reply)
    return document


def make_answer(
    shapes: Mapping[str, Shape], shape: Shape | None, status: int, reply: Mapping[str, Any]
) -> Answer:
    """
    Lay out a reply by its output shape.

    Args:
        shapes: All shapes by name.
        shape: The operation's output structure; None if it has no output.
        status: Status that the model gives; a `statusCode` member of the reply overrules it.
        reply: Members by their name in the model; None members are left away.

    Raises:
        AssertionError: If the reply has a member that the model does not know (our bug).
    """
    if shape is None:
        return Answer(status, (), b"")
    headers: list[tuple[str, str]] = []
    document: dict[str, Any] = {}
    payload = b""
    for name, value in reply.items():
        member = _known(shape, name)
        if value is None:
            continue
        if name == shape.payload:
            payload = value
        elif member.location == "statusCode":
            status = value
        elif member.location == "header":
            headers.append((member.wire_name, str(value)))
        else:
            document[member.wire_name] = _plain(shapes, shapes[member.shape], value)
    if shape.payload is not None or status == 204:
        return Answer(status, tuple(headers), payload)
    return Answer(status, tuple(headers), _encode(document))


def _known(shape: Shape, name: str) -> Member:
    member = shape.members.get(name)
    assert member is not None, f"{shape.name} has a member {name}"
    return member


def _document(body: bytes) -> dict[str, Any]:
    if not body.strip():
        return {}
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(
            "InvalidRequestContentException", f"Could not parse request body into json: {error}"
        ) from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise _mistyped("Expected a JSON object as the request's body")
    return document


def _typed(shapes: Mapping[str, Shape], shape: Shape, value: Any) -> Any:
    """Check the JSON type of `value`, decode blobs, drop null members; None stays None."""
    if value is None:
        return None
    match shape.kind:
        case "structure":
            if not isinstance(value, dict):
                raise _unconvertible(value, "a structure")
            inner = {
                name: _typed(shapes, shapes[member.shape], value.get(member.wire_name))
                for name, member in shape.members.items()
            }
            return {name: item for name, item in inner.items() if item is not None}
        case "list":
            if not isinstance(value, list):
                raise _unconvertible(value, "a list")
            element = shapes[shape.element or ""]
            return [_typed(shapes, element, item) for item in value]
        case "map":
            if not isinstance(value, dict):
                raise _unconvertible(value, "a map")
            element = shapes[shape.element or ""]
            return {key: _typed(shapes, element, item) for key, item in value.items()}
        case "blob":
            return _blob(value)
        case _:
            return _scalar(shape, value)


def _scalar(shape: Shape, value: Any) -> Any:
    is_number = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _NUMBERS_END
    match shape.kind:
        case "string" if isinstance(value, str):
            return value
        case "boolean" if isinstance(value, bool):
            return value
        case "double" | "timestamp" if is_number:
            return float(value)
        case "integer" | "long" if is_number and float(value).is_integer():
            return int(value)
        case kind:
            raise _unconvertible(value, f"a value of type {kind}")


def _blob(value: Any) -> bytes:
    if not isinstance(value, str):
        raise _unconvertible(value, "a blob")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _mistyped("Expected a blob in base64") from error


def _text_value(shape: Shape, text: str | None) -> Any:
    """Convert a value from the path, the query or a header."""
    if text is None:
        return None
    if shape.kind in {"integer", "long"}:
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdigit() and len(digits) < 20):
            raise _mistyped(f"'{text}' can not be converted to a value of type {shape.kind}")
        return int(text)
    if shape.kind == "boolean":
        if text not in {"true", "false"}:
            raise _mistyped(f"'{text}' can not be converted to a value of type boolean")
        return text == "true"
    return text


def _query_value(shapes: Mapping[str, Shape], shape: Shape, values: list[str] | None) -> Any:
    if values is None:
        return None
    if shape.kind == "list":
        element = shapes[shape.element or ""]
        return [_text_value(element, text) for text in values]
    return _text_value(shape, values[0])


def _plain(shapes: Mapping[str, Shape], shape: Shape, value: Any) -> Any:
    """Make a reply's value ready for JSON: blobs in base64, no None members, no unknown ones."""
    match shape.kind:
        case "structure":
            return {
                member.wire_name: _plain(shapes, shapes[member.shape], item)
                for member, item in ((_known(shape, name), item) for name, item in value.items())
                if item is not None
            }
        case "list":
            element = shapes[shape.element or ""]
            return [_plain(shapes, element, item) for item in value]
        case "map":
            element = shapes[shape.element or ""]
            return {key: _plain(shapes, element, item) for key, item in value.items()}
        case "blob":
            return base64.b64encode(value).decode()
        case _:
            return value


def _unconvertible(value: Any, target: str) -> ApiError:
    names = {str: "STRING_VALUE", bool: "BOOLEAN_VALUE", int: "NUMBER_VALUE", float: "NUMBER_VALUE"}
    found = names.get(type(value))
    if found is None:
        found = "START_ARRAY" if isinstance(value, list) else "START_OBJECT"
    return _mistyped(f"{found} can not be converted to {target}")


def _mistyped(message: str) -> ApiError:
    return ApiError("SerializationException", message)
