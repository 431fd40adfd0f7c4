"""
Filter patterns of CloudWatch Logs: which lines a search keeps.

Terms (`ERROR "two words"`: all of them; `?a ?b`: one of them; `-a`: not this one) and selectors of JSON
members (`{ $.level = "ERROR" && $.ms > 100 }`). Pure. Regular expressions and columns are refused.

Source: Amazon CloudWatch Logs User Guide, "Filter pattern syntax".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable

_DEPTH_MAX: Final = 32
_TERM: Final = re.compile(r'([?-]?)(?:"((?:[^"\\]|\\.)*)"|(\S+))')
_TOKEN: Final = re.compile(
    r"""\s*(?:
        (?P<path>\$(?:\.(?:[\w-]+|\*)|\[\s*\d{1,9}\s*\]|\[\s*"[^"]+"\s*\])*)
      | (?P<text>"(?:[^"\\]|\\.)*")
      | (?P<sign>&&|\|\||!=|<=|>=|=|<|>|\(|\)|!)
      | (?P<word>[^\s"()=<>!&|]+)
    )""",
    re.VERBOSE,
)
_STEP: Final = re.compile(r'\.([\w-]+|\*)|\[\s*(\d+)\s*\]|\[\s*"([^"]+)"\s*\]')
_MISSING: Final = object()


class PatternError(ValueError):
    """A filter pattern is none; the message says why."""


def compile_pattern(pattern: str) -> Callable[[str], bool]:
    """
    Return what tells whether a line matches.

    Args:
        pattern: The pattern; an empty one matches everything.

    Raises:
        PatternError: If it is no pattern, or one that is not offered.
    """
    pattern = pattern.strip()
    if pattern.startswith("{"):
        if not pattern.endswith("}"):
            raise PatternError("a JSON pattern ends with a brace")
        return _Selector(pattern[1:-1]).compile()
    if pattern.startswith("["):
        raise PatternError("patterns of columns are not offered: use terms, or a JSON pattern")
    return _terms(pattern)


def _terms(pattern: str) -> Callable[[str], bool]:
    wanted: list[str] = []
    unwanted: list[str] = []
    alternatives: list[str] = []
    at = 0
    while at < len(pattern):
        match = _TERM.match(pattern, at)
        if match is None:
            at += 1  # white space
            continue
        at = match.end()
        sign, quoted, bare = match.groups()
        term = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else bare
        if bare is not None and bare.startswith('"'):
            raise PatternError("a quoted phrase has no end")
        if bare is not None and bare.startswith("%") and bare.endswith("%"):
            raise PatternError("regular expressions are not offered: use terms")
        {"": wanted, "-": unwanted, "?": alternatives}[sign].append(term)
    if wanted or unwanted:
        alternatives = []  # as documented: together with others they do not count

    def matches(line: str) -> bool:
        return (
            all(term in line for term in wanted)
            and not any(term in line for term in unwanted)
            and (not alternatives or any(term in line for term in alternatives))
        )

    return matches


class _Selector:
    """
    Reads a JSON pattern: comparisons, joined by `&&`, `||` and parentheses.

    Args:
        text: What is between the braces.
    """

    def __init__(self, text: str) -> None:
        self._tokens: list[tuple[str, str]] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if match is None:
                raise PatternError(f"a JSON pattern cannot be read from {text[at:].strip()[:40]!r} on")
            self._tokens.append((match.lastgroup or "", match[match.lastgroup or 0]))
            at = match.end()
        self._at = 0

    def compile(self) -> Callable[[str], bool]:
        """Return what tells whether a line is a JSON object that matches."""
        matches = self._any_of(0)
        if self._at < len(self._tokens):
            raise self._unexpected()

        def matches_line(line: str) -> bool:
            if not line.lstrip().startswith("{"):
                return False
            try:
                return matches(msgspec.json.decode(line))
            except (msgspec.DecodeError, RecursionError):
                return False

        return matches_line

    def _any_of(self, depth: int) -> Callable[[Any], bool]:
        parts = [self._all_of(depth)]
        while self._takes("||"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else lambda document: any(part(document) for part in parts)

    def _all_of(self, depth: int) -> Callable[[Any], bool]:
        parts = [self._one(depth)]
        while self._takes("&&"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda document: all(part(document) for part in parts)

    def _one(self, depth: int) -> Callable[[Any], bool]:
        if depth > _DEPTH_MAX:
            raise PatternError("a JSON pattern has too many parentheses")
        if self._takes("("):
            inner = self._any_of(depth + 1)
            if not self._takes(")"):
                raise self._unexpected()
            return inner
        kind, path = self._next()
        if kind != "path":
            self._at -= 1
            raise self._unexpected()
        steps = [(match[1] or match[3], match[2]) for match in _STEP.finditer(path)]
        test = self._test()
        return lambda document: any(map(test, _select(document, steps)))

    def _test(self) -> Callable[[Any], bool]:
        kind, sign = self._next()
        if kind == "word" and sign.upper() == "NOT" and self._takes("EXISTS"):
            return lambda value: value is _MISSING
        if kind == "word" and sign.upper() == "IS":
            expected = {"NULL": None, "TRUE": True, "FALSE": False}
            _, word = self._next()
            if word.upper() in expected:
                return lambda value: value is expected[word.upper()]
            self._at -= 1
        if kind != "sign" or sign not in _COMPARISONS:
            self._at -= 1
            raise self._unexpected()
        kind, operand = self._next()
        if kind not in ("text", "word"):
            self._at -= 1
            raise self._unexpected()
        return _comparison(sign, operand, is_quoted=kind == "text")

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise PatternError("a JSON pattern ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _takes(self, token: str) -> bool:
        if self._at < len(self._tokens) and self._tokens[self._at][1].upper() == token:
            self._at += 1
            return True
        return False

    def _unexpected(self) -> PatternError:
        if self._at >= len(self._tokens):
            return PatternError("a JSON pattern ends too early")
        return PatternError(f"a JSON pattern cannot have {self._tokens[self._at][1][:40]!r} there")


_COMPARISONS: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "=": lambda a, b: bool(a == b),
    "!=": lambda a, b: bool(a != b),
    "<": lambda a, b: bool(a < b),
    ">": lambda a, b: bool(a > b),
    "<=": lambda a, b: bool(a <= b),
    ">=": lambda a, b: bool(a >= b),
}


def _comparison(sign: str, operand: str, *, is_quoted: bool) -> Callable[[Any], bool]:
    """Compare numbers with numbers and texts with texts; `*` in a text stands for anything."""
    compare = _COMPARISONS[sign]
    if not is_quoted:
        try:
            number = float(operand)
        except ValueError:
            pass
        else:
            return lambda value: (
                isinstance(value, int | float) and not isinstance(value, bool) and compare(value, number)
            )
    if sign not in ("=", "!="):
        raise PatternError(f"{sign} compares with a number, not with {operand[:40]!r}")
    text = re.sub(r"\\(.)", r"\1", operand[1:-1]) if is_quoted else operand
    parts = text.split("*")

    def matches(value: Any) -> bool:
        if value is _MISSING or not isinstance(value, str | int | float):
            return False
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return _fits(shown, parts) == (sign == "=")

    return matches


def _fits(text: str, parts: list[str]) -> bool:
    """Tell whether `text` consists of `parts` with anything between them."""
    if len(parts) == 1:
        return text == parts[0]
    first, *middle, last = parts
    if not text.startswith(first) or not text.endswith(last) or len(text) < len(first) + len(last):
        return False
    at, end = len(first), len(text) - len(last)
    for part in middle:
        at = text.find(part, at, end)
        if at < 0:
            return False
        at += len(part)
    return True


def _select(document: Any, steps: list[tuple[str | None, str | None]]) -> list[Any]:
    """Return the values at a path, `_MISSING` if there is none; `*` stands for every member."""
    values = [document]
    for name, index in steps:
        following: list[Any] = []
        for value in values:
            if index is not None and isinstance(value, list) and int(index) < len(value):
                following.append(value[int(index)])
            elif name == "*" and isinstance(value, dict | list):
                following.extend(value.values() if isinstance(value, dict) else value)
            elif name is not None and isinstance(value, dict) and name in value:
                following.append(value[name])
        values = following
    return values or [_MISSING]
