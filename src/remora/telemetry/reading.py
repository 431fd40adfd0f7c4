"""
JSON read member by member, so that an error can say where it is, in the words of the service's parser.

Source: telemetry-api specification, section 2.3.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_SPACE = " \t\n\r"
_decode_value = json.JSONDecoder().raw_decode


class Unreadable(Exception):  # noqa: N818 - says what is wrong with a document, not with this program
    """A document does not have the shape that was asked for; the message is for whoever wrote it."""

    def __init__(self, problem: str, text: str, at: int) -> None:
        before = text[:at]
        column = at - before.rfind("\n") - 1
        readable = problem.encode(errors="replace").decode()  # half a surrogate pair cannot be answered
        super().__init__(f"{readable} at line {before.count(chr(10)) + 1} column {column}")


class Value:
    """
    One value of a document.

    Args:
        text: The document.
        at: Where the value begins.
        end: Where it ends.
        content: The value.
    """

    __slots__ = ("at", "content", "end", "text")

    def __init__(self, text: str, at: int, end: int, content: Any) -> None:
        self.text, self.at, self.end, self.content = text, at, end, content

    def problem(self, what: str) -> Unreadable:
        """Return an error about this value."""
        return Unreadable(what, self.text, self.end)

    def word(self, words: Sequence[str]) -> str:
        """
        Return the value if it is one of `words`.

        Raises:
            Unreadable: If it is none of them.
        """
        if not isinstance(self.content, str):
            raise self.problem(f"invalid type: {_name(self.content)}, expected string or map")
        if self.content not in words:
            raise self.problem(f"unknown variant `{self.content}`, {_expected(words)}")
        return self.content

    def string(self) -> str:
        """
        Return a string.

        Raises:
            Unreadable: If it is none.
        """
        if not isinstance(self.content, str):
            raise self.problem(f"invalid type: {_name(self.content)}, expected a string")
        return self.content

    def natural(self, greatest: int) -> int:
        """
        Return an integer, 0 <= value <= `greatest`.

        Raises:
            Unreadable: If it is none.
        """
        kind = f"u{greatest.bit_length()}"
        if not isinstance(self.content, int) or isinstance(self.content, bool):
            raise self.problem(f"invalid type: {_name(self.content)}, expected {kind}")
        if not 0 <= self.content <= greatest:
            raise self.problem(f"invalid value: {_name(self.content)}, expected {kind}")
        return self.content

    def items(self) -> Iterator[Value]:
        """
        Yield the items of an array.

        Raises:
            Unreadable: If it is none.
        """
        if not isinstance(self.content, list):
            raise self.problem(f"invalid type: {_name(self.content)}, expected a sequence")
        at = _skip(self.text, self.at + 1)
        for content in self.content:
            _, end = _decode_value(self.text, at)
            yield Value(self.text, at, end, content)
            at = _skip(self.text, _skip(self.text, end) + 1)

    def members(self, names: Sequence[str], what: str) -> dict[str, Value]:
        """
        Return the members of an object.

        Args:
            names: Those that there may be.
            what: What the object is, for errors.

        Raises:
            Unreadable: If it is none, or has another member, or one twice.
        """
        if not isinstance(self.content, dict):
            raise self.problem(f"invalid type: {_name(self.content)}, expected {what}")
        found: dict[str, Value] = {}
        at = _skip(self.text, self.at + 1)
        while self.text[at] != "}":
            name, end = _decode_value(self.text, at)
            if name not in names:
                raise Unreadable(f"unknown field `{name}`, {_expected(names)}", self.text, end)
            if name in found:
                raise Unreadable(f"duplicate field `{name}`", self.text, end)
            at = _skip(self.text, _skip(self.text, end) + 1)
            content, end = _decode_value(self.text, at)
            found[name] = Value(self.text, at, end, content)
            at = _skip(self.text, end)
            if self.text[at] == ",":
                at = _skip(self.text, at + 1)
        return found


def read(document: bytes) -> Value:
    """
    Read a document.

    Raises:
        Unreadable: If it is no JSON.
    """
    try:
        text = document.decode()
    except UnicodeDecodeError as error:
        before = document[: error.start].decode()
        raise Unreadable("invalid unicode code point", before, len(before)) from error
    at = _skip(text, 0)
    if at == len(text):
        raise Unreadable("EOF while parsing a value", text, at)
    try:
        content, end = _decode_value(text, at)
    except json.JSONDecodeError as error:
        what = "EOF while parsing a value" if _skip(text, error.pos) == len(text) else "expected value"
        raise Unreadable(what, text, min(error.pos + 1, len(text))) from error
    except RecursionError as error:
        raise Unreadable("recursion limit exceeded", text, at) from error
    except ValueError as error:  # a number of thousands of digits
        raise Unreadable("number out of range", text, at) from error
    if _skip(text, end) != len(text):
        raise Unreadable("trailing characters", text, _skip(text, end) + 1)
    return Value(text, at, end, content)


def _skip(text: str, at: int) -> int:
    """Return where the next character stands that is no white space."""
    while at < len(text) and text[at] in _SPACE:
        at += 1
    return at


def _expected(words: Sequence[str]) -> str:
    quoted = [f"`{word}`" for word in words]
    if len(quoted) == 1:
        return f"expected {quoted[0]}"
    return f"expected {' or '.join(quoted)}" if len(quoted) == 2 else f"expected one of {', '.join(quoted)}"


def _name(content: Any) -> str:
    """Name a value that is of the wrong type."""
    match content:
        case None:
            return "null"
        case bool():
            return f"boolean `{str(content).lower()}`"
        case int():
            return f"integer `{content}`"
        case float():
            return f"floating point `{content}`"
        case str():
            return f"string {json.dumps(content, ensure_ascii=False)}"
        case list():
            return "sequence"
        case _:
            return "map"
