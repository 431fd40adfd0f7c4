"""
Checks a parsed request against the model's constraints and words each violation as AWS does.

All violations of a request go into one `ValidationException`. Source: answers recorded from AWS.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remora.spec.shapes import Shape

_NOT_NULL = "Member must not be null"
_NUMBERS = ("integer", "long", "double")


def check(shapes: Mapping[str, Shape], shape: Shape, value: Mapping[str, Any]) -> None:
    """
    Check a request.

    Args:
        shapes: All shapes by name.
        shape: The operation's input structure.
        value: The request, members by their name in the model.

    Raises:
        ApiError: ValidationException naming everything that is wrong.
    """
    found = list(_structure(shapes, shape, value, ""))
    if found:
        raise ApiError("ValidationException", summary(found))


def summary(violations: list[str]) -> str:
    """Join violations into the one text that AWS answers with."""
    count = len(violations)
    return f"{count} validation error{'s' if count > 1 else ''} detected: {'; '.join(violations)}"


def violation(path: str, value: object, constraint: str) -> str:
    """Word one violation: what value, where (`lowerCamel.path`), which constraint."""
    return f"Value '{_shown(value)}' at '{path}' failed to satisfy constraint: {constraint}"


def _structure(
    shapes: Mapping[str, Shape], shape: Shape, value: Mapping[str, Any], path: str
) -> Iterator[str]:
    for name, member in shape.members.items():
        inner = f"{path}{name[0].lower()}{name[1:]}"
        if name not in value:
            if name in shape.required:
                yield f"Value null at '{inner}' failed to satisfy constraint: {_NOT_NULL}"
            continue
        yield from _value(shapes, shapes[member.shape], value[name], inner)


def _value(shapes: Mapping[str, Shape], shape: Shape, value: Any, path: str) -> Iterator[str]:
    for constraint in _broken(shape, value):
        yield _worded(shape, path, value, constraint)
    if shape.kind == "structure":
        yield from _structure(shapes, shape, value, f"{path}.")
    elif shape.kind == "list":
        yield from _list(shapes, shape, value, path)
    elif shape.kind == "map":
        yield from _map(shapes, shape, value, path)


def _list(shapes: Mapping[str, Shape], shape: Shape, value: list[Any], path: str) -> Iterator[str]:
    element = shapes[shape.element or ""]
    if element.kind in {"structure", "list", "map"}:
        for number, item in enumerate(value, 1):
            inner = f"{path}.{number}.member"
            if item is None:
                yield f"Value null at '{inner}' failed to satisfy constraint: {_NOT_NULL}"
            else:
                yield from _value(shapes, element, item, inner)
    elif any(item is None or _broken(element, item) for item in value):
        yield _worded(shape, path, value, f"Member must satisfy constraint: [{_all_of(element)}]")


def _map(shapes: Mapping[str, Shape], shape: Shape, value: dict[str, Any], path: str) -> Iterator[str]:
    key = shapes[shape.key or ""]
    element = shapes[shape.element or ""]
    if any(_broken(key, item) for item in value):
        yield _worded(shape, path, value, f"Map keys must satisfy constraint: [{_all_of(key)}]")
    if any(item is None or _broken(element, item) for item in value.values()):
        yield _worded(shape, path, value, f"Map value must satisfy constraint: [{_all_of(element)}]")


def _worded(shape: Shape, path: str, value: object, constraint: str) -> str:
    if shape.is_sensitive:
        return f"Value at '{path}' failed to satisfy constraint: {constraint}"
    return violation(path, value, constraint)


def _broken(shape: Shape, value: Any) -> list[str]:
    """Name the constraints of `shape` itself (not of what is inside) that `value` breaks."""
    broken: list[str] = []
    size = _size(shape, value)
    if size is not None:
        if shape.maximum is not None and size > shape.maximum:
            broken.append(_at_most(shape))
        if shape.minimum is not None and size < shape.minimum:
            broken.append(_at_least(shape))
    if shape.kind == "string":
        if shape.enum and value not in shape.enum:
            broken.append(_one_of(shape))
        if shape.regex is not None and not shape.regex.fullmatch(value):
            broken.append(_matching(shape))
    return broken


def _size(shape: Shape, value: Any) -> float | None:
    """Return what bounds are compared with: a number's value, a text's or list's length, else None."""
    if shape.kind in _NUMBERS:
        return float(value)
    if shape.kind in {"string", "list", "map", "blob"}:
        return len(value)
    return None


def _all_of(shape: Shape) -> str:
    """Name every constraint of the inside of a list or map, as AWS does, whichever was broken."""
    named: list[str] = []
    if shape.maximum is not None:
        named.append(_at_most(shape))
    if shape.minimum is not None:
        named.append(_at_least(shape))
    if shape.pattern is not None:
        named.append(_matching(shape))
    if shape.enum:
        named.append(_one_of(shape))
    named.append(_NOT_NULL)
    return ", ".join(named)


def _at_most(shape: Shape) -> str:
    noun = "value" if shape.kind in _NUMBERS else "length"
    return f"Member must have {noun} less than or equal to {shape.maximum}"


def _at_least(shape: Shape) -> str:
    noun = "value" if shape.kind in _NUMBERS else "length"
    return f"Member must have {noun} greater than or equal to {shape.minimum}"


def _matching(shape: Shape) -> str:
    return f"Member must satisfy regular expression pattern: {shape.pattern}"


def _one_of(shape: Shape) -> str:
    return f"Member must satisfy enum value set: [{', '.join(shape.enum)}]"


def _shown(value: object) -> str:
    """Render a value as AWS's messages do: `[a, b]` for lists, `{k=v}` for maps."""
    if isinstance(value, list):
        return f"[{', '.join(_shown(item) for item in value)}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}={_shown(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "null" if value is None else str(value)
