"""
Templates as text become documents: JSON or YAML in, maps and lists out.

YAML is read event by event, not by PyYAML's constructors: CloudFormation knows neither aliases nor merge
keys, its keys and its dates are text whatever they look like, and a hostile text must be given up early.

Source: CloudFormation User Guide, "CloudFormation template format" and "Template sections"; observed errors.
"""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, Final, NoReturn

import yaml

from remora.control.services.neighbour import ServiceError
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

LANGUAGE: Final = "AWS::LanguageExtensions"
SERVERLESS: Final = "AWS::Serverless-2016-10-31"
VERSION: Final = "2010-09-09"

_SECTIONS: Final = (
    *("AWSTemplateFormatVersion", "Description", "Metadata", "Parameters", "Mappings", "Conditions", "Rules"),
    *("Transform", "Resources", "Outputs", "Hooks"),
)
_MAPS: Final = ("Metadata", "Parameters", "Mappings", "Conditions", "Rules", "Resources", "Outputs")
_OF_LANGUAGE: Final = ("Fn::Length", "Fn::ToJsonString")
_LOOP: Final = "Fn::ForEach::"

# The reader of libyaml is forty times as fast as the one in Python, and PyYAML may come without it.
_LOADER: Final[Any] = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
_NULL: Final = frozenset(("", "~", "null", "Null", "NULL"))
_TRUE: Final = frozenset(
    form for word in ("yes", "true", "on") for form in (word, word.capitalize(), word.upper())
)
_FALSE: Final = frozenset(
    form for word in ("no", "false", "off") for form in (word, word.capitalize(), word.upper())
)
_INTEGER: Final = re.compile(
    r"(?P<sign>[-+]?)(?:0b(?P<binary>[01_]+)|0x(?P<hex>[0-9a-fA-F_]+)|0(?P<octal>[0-7_]+)"
    r"|(?P<decimal>0|[1-9][0-9_]*)|(?P<sixty>[1-9][0-9_]*(?::[0-5]?[0-9])+))"
)
_FLOAT: Final = re.compile(
    r"[-+]?(?:[0-9][0-9_]*\.[0-9_]*(?:[eE][-+][0-9]+)?|\.[0-9][0-9_]*(?:[eE][-+][0-9]+)?)"
)
_BASES: Final = {"binary": 2, "octal": 8, "decimal": 10, "hex": 16}
_DECLARED_TAG: Final = re.compile(r"(?:^|[\r\n\u0085\u2028\u2029])%TAG[ \t]")
_MESSAGE_MAX: Final = 4_096  # characters
_DIGITS_MAX: Final = 100  # a longer number is text to everyone who reads it

_SHORT: Final = {"!Ref": "Ref", "!Condition": "Condition"} | {
    f"!{name}": f"Fn::{name}"
    for name in (
        *("And", "Base64", "Cidr", "Contains", "EachMemberEquals", "EachMemberIn", "Equals", "FindInMap"),
        *(
            "GetAtt",
            "GetAZs",
            "If",
            "ImportValue",
            "Join",
            "Length",
            "Not",
            "Or",
            "RefAll",
            "Select",
            "Split",
        ),
        *("Sub", "ToJsonString", "Transform", "ValueOf", "ValueOfAll"),
    )
}
_STANDARD: Final = "tag:yaml.org,2002:"


def read_template(text: str) -> dict[str, Any]:
    """
    Read a template.

    Args:
        text: JSON or YAML, at most `limits.TEMPLATE_BYTES_MAX` bytes.

    Returns:
        Its document: text, numbers, booleans, lists and maps; functions in their long form. Its sections are
        known and are maps; what is in them has still to be checked.

    Raises:
        ServiceError: ValidationError: no template, and why.
    """
    if not isinstance(text, str) or _too_long(text):
        raise invalid(f"Template may not exceed {limits.TEMPLATE_BYTES_MAX} bytes in size.")
    document = _read_json(text) if text.lstrip()[:1] == "{" else _read_yaml(text)
    if not isinstance(document, dict):
        raise invalid("Template format error: unsupported structure.")
    # What a transform reads may hold nulls; what it makes of them may not.
    lenient = ("Resources", "Globals") if "Transform" in document else ()
    check_values({name: section for name, section in document.items() if name not in lenient})
    check_values({name: document[name] for name in lenient if name in document}, allows_null=True)
    check_sections(document)
    used = language_of(document)
    if used is not None and LANGUAGE not in transforms(document):
        raise invalid(f"Template error: {used[:64]} needs the transform {LANGUAGE}, which is not declared.")
    return document


def invalid(message: str) -> ServiceError:
    """Make the error that says what is wrong with a template, which may be very much."""
    brief = message if len(message) <= _MESSAGE_MAX else f"{message[:_MESSAGE_MAX]}…"
    return ServiceError("ValidationError", brief)


def transforms(document: Mapping[str, Any]) -> tuple[str, ...]:
    """
    Return the names that a document's Transform section lists.

    Raises:
        ServiceError: If that is not what the section holds.
    """
    declared = document.get("Transform", ())
    names = declared if isinstance(declared, list) else [declared] if declared != () else []
    found = [each.get("Name") if isinstance(each, dict) else each for each in names]
    texts = tuple(each for each in found if isinstance(each, str) and each)
    if len(texts) < len(found):
        raise invalid("Template format error: The Transform section must be a string or a list of strings.")
    return texts


def check_sections(document: Mapping[str, Any]) -> None:
    """
    Check the sections of a document, before or after its transforms.

    Raises:
        ServiceError: ValidationError.
    """
    declared = transforms(document)
    known = {*_SECTIONS, "Globals"} if SERVERLESS in declared else _SECTIONS
    strange = [name for name in document if name not in known]
    if strange:
        raise invalid(f"Invalid template property or properties [{', '.join(strange)}]")
    version = document.get("AWSTemplateFormatVersion", VERSION)
    if version != VERSION:
        raise invalid(
            f"Template format error: {_brief(version)} is not a supported value for AWSTemplateFormatVersion."
        )
    description = document.get("Description", "")
    if not isinstance(description, str):
        raise invalid("Template format error: Description must be a string.")
    if len(description.encode()) > limits.TEMPLATE_DESCRIPTION_BYTES_MAX:
        raise invalid(
            "Template format error: 'Description' length is greater than "
            f"{limits.TEMPLATE_DESCRIPTION_BYTES_MAX}."
        )
    for name in _MAPS:
        if not isinstance(document.get(name, {}), dict):
            raise invalid(f"Template format error: [/{name}] The {name} section must be an object.")
    if not document.get("Resources"):
        raise invalid("Template format error: At least one Resources member must be defined.")


def language_of(document: Mapping[str, Any]) -> str | None:
    """Return something in a document that only AWS::LanguageExtensions brings, None if there is nothing."""
    for value in _maps(document):
        for name in value:
            if name in _OF_LANGUAGE or name.startswith(_LOOP):
                return name
    return None


def _too_long(text: str) -> bool:
    most = limits.TEMPLATE_BYTES_MAX
    return len(text) > most or (not text.isascii() and len(text.encode(errors="surrogatepass")) > most)


def _brief(value: Any) -> str:
    return str(value)[:64]


# --- JSON ------------------------------------------------------------------------------------------------


def _read_json(text: str) -> Any:
    try:
        return json.loads(text, parse_constant=_refuse_constant, parse_float=_finite)
    except json.JSONDecodeError as error:
        where = f"(line {error.lineno}, column {error.colno})"
        raise invalid(f"Template format error: JSON not well-formed. {where}") from error
    except (ValueError, RecursionError) as error:
        # A number of thousands of digits, or a depth that no template has.
        raise invalid("Template format error: JSON not well-formed.") from error


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


# --- YAML ------------------------------------------------------------------------------------------------


def _read_yaml(text: str) -> Any:
    # libyaml compares each tag that is declared to all others, and holds up the whole node meanwhile.
    if _DECLARED_TAG.search(text):
        raise invalid("Template format error: YAML not well-formed.")
    try:
        events = _Events(text)
        events.expect(yaml.StreamStartEvent)
        if isinstance(events.peek(), yaml.StreamEndEvent):
            return None
        events.expect(yaml.DocumentStartEvent)
        value = _node(events, 0)
        events.expect(yaml.DocumentEndEvent)
        events.expect(yaml.StreamEndEvent)
    except yaml.YAMLError as error:
        raise _malformed(getattr(error, "problem_mark", None)) from error
    except (ValueError, RecursionError) as error:
        raise _malformed(None) from error
    return value


class _Events:
    """What the parser found, one event after the other."""

    def __init__(self, text: str) -> None:
        self._events: Iterator[Any] = yaml.parse(text, Loader=_LOADER)
        self._next: Any = None
        self._left = limits.TEMPLATE_VALUES_MAX

    def peek(self) -> Any:
        """Return the next event and leave it there."""
        if self._next is None:
            self._next = next(self._events)
        return self._next

    def take(self) -> Any:
        """Take the next event."""
        event, self._next = self.peek(), None
        self._left -= 1
        if self._left < 0:
            raise invalid(f"Template format error: more than {limits.TEMPLATE_VALUES_MAX} values.")
        return event

    def expect(self, kind: type) -> Any:
        """Take the next event, which has to be of one kind: a stream holds one document."""
        event = self.take()
        if not isinstance(event, kind):
            raise _malformed(event.start_mark)
        return event


def _malformed(mark: Any) -> ServiceError:
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return invalid(f"Template format error: YAML not well-formed.{where}")


def _node(events: _Events, depth: int) -> Any:
    event = events.take()
    if isinstance(event, yaml.AliasEvent):
        raise invalid("Template error: YAML aliases are not allowed in CloudFormation templates")
    if depth >= limits.TEMPLATE_DEPTH_MAX:
        raise _too_deep()
    tag = event.tag
    value: Any
    if isinstance(event, yaml.ScalarEvent):
        value = _scalar(event)
    elif isinstance(event, yaml.SequenceStartEvent):
        value = []
        while not isinstance(events.peek(), yaml.SequenceEndEvent):
            value.append(_node(events, depth + 1))
        events.take()
    else:
        value = {}
        while not isinstance(events.peek(), yaml.MappingEndEvent):
            key = _key(events)
            value[key] = _node(events, depth + 1)
        events.take()
    return value if tag is None or tag == "!" else _tagged(event, tag, value)


def _key(events: _Events) -> str:
    """Take a key: its text, `on` and `0123` as they are written."""
    event = events.take()
    if not isinstance(event, yaml.ScalarEvent):
        raise _malformed(event.start_mark)
    return str(event.value)


def _tagged(event: Any, tag: str, value: Any) -> Any:
    name = _SHORT.get(tag)
    if name == "Fn::GetAtt" and isinstance(value, str):
        return {name: list(value.partition("."))[::2]}
    if name is not None:
        return {name: value}
    expected = {"map": dict, "seq": list}.get(tag.removeprefix(_STANDARD))
    if isinstance(event, yaml.ScalarEvent) and tag.removeprefix(_STANDARD) in _CONVERSIONS:
        return value
    if expected is None or not isinstance(value, expected):
        raise _malformed(event.start_mark)
    return value


def _scalar(event: Any) -> Any:
    text: str = event.value
    if event.tag is None:
        return _implicit(text) if event.implicit[0] and event.style in {None, ""} else text
    convert = _CONVERSIONS.get(event.tag.removeprefix(_STANDARD))
    if convert is None or not event.tag.startswith(_STANDARD):
        return text
    try:
        return convert(text)
    except ValueError as error:
        raise _malformed(event.start_mark) from error


def _implicit(text: str) -> Any:
    """Read a plain scalar as YAML 1.1 does, except that a date, a merge key and the like are text."""
    if text in _NULL:
        return None
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    if len(text) > _DIGITS_MAX or not (text[0].isdigit() or text[0] in "+-."):
        return text
    number = _integer(text)
    if number is None and _FLOAT.fullmatch(text) and text not in {".", "+.", "-."}:
        decimal = float(text.replace("_", ""))
        return decimal if math.isfinite(decimal) else text
    return text if number is None else number


def _integer(text: str) -> int | None:
    found = _INTEGER.fullmatch(text)
    if found is None:
        return None
    sign = -1 if found["sign"] == "-" else 1
    if found["sixty"] is not None:
        value = 0
        for digit in found["sixty"].replace("_", "").split(":"):
            value = value * 60 + int(digit)
        return sign * value
    kind = next(name for name in _BASES if found[name] is not None)
    digits = found[kind].replace("_", "")
    return sign * int(digits, _BASES[kind]) if digits else None


def _convert_boolean(text: str) -> bool:
    if text not in _TRUE and text not in _FALSE:
        raise ValueError(text)
    return text in _TRUE


def _convert_integer(text: str) -> int:
    value = _integer(text) if len(text) <= _DIGITS_MAX else None
    if value is None:
        raise ValueError(text)
    return value


def _convert_float(text: str) -> float:
    if not _FLOAT.fullmatch(text) and _integer(text) is None:
        raise ValueError(text)
    return _finite(text.replace("_", ""))


_CONVERSIONS: Final[dict[str, Any]] = {
    "str": str,
    "bool": _convert_boolean,
    "int": _convert_integer,
    "float": _convert_float,
    "null": lambda _: None,
}


# --- what both have in common ----------------------------------------------------------------------------


def _too_deep() -> ServiceError:
    return invalid(f"Template format error: more than {limits.TEMPLATE_DEPTH_MAX} levels are not supported.")


def check_values(document: Mapping[str, Any], *, allows_null: bool = False) -> None:
    """
    Check every value of a document.

    Args:
        document: As it was read, or a part of it.
        allows_null: Whether nulls are values here.

    Raises:
        ServiceError: ValidationError: a null, text that is none, or too much depth.
    """
    level: list[tuple[tuple[Any, ...], Any]] = [((), document)]
    for _ in range(limits.TEMPLATE_DEPTH_MAX + 1):
        level = [
            ((path, key), child)
            for path, value in level
            for key, child in (value.items() if isinstance(value, dict) else enumerate(value))
            if _is_open(path, key, child, allows_null=allows_null)
        ]
        if not level:
            return
    raise _too_deep()


def _is_open(path: tuple[Any, ...], key: str | int, value: Any, *, allows_null: bool) -> bool:
    if isinstance(key, str):
        _check_text(key)
    if value is None and not allows_null:
        raise invalid(f"[{_pointer((path, key))}] 'null' values are not allowed in templates")
    if isinstance(value, str):
        _check_text(value)
    return isinstance(value, dict | list)


def _check_text(text: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise invalid("Template format error: half of a surrogate pair is no character.") from error


def _pointer(path: tuple[Any, ...]) -> str:
    parts: list[str] = []
    while path:
        path, key = path
        parts.append(f"/{key}"[:128])
    return "".join(reversed(parts))


def _maps(value: Any) -> Iterator[dict[str, Any]]:
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, dict):
            yield each
            rest.extend(each.values())
        elif isinstance(each, list):
            rest.extend(each)
