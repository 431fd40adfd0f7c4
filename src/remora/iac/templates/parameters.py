"""
The parameters of a template: what it declares, and the values that one deployment gives them.

Source: CloudFormation User Guide, "CloudFormation template Parameters syntax", "Supported AWS-specific
parameter types" and "Supported Systems Manager parameter types"; observed errors.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from remora.iac.templates.patterns import DIFFERS, MALFORMED, MATCHES, judge
from remora.iac.templates.reading import invalid
from remora.iac.templates.scope import text_of
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.services.neighbour import ServiceError

_ATTRIBUTES: Final = (
    *("AllowedPattern", "AllowedValues", "ConstraintDescription", "Default", "Description", "MaxLength"),
    *("MaxValue", "MinLength", "MinValue", "NoEcho", "Type"),
)
_AWS_TYPES: Final = (
    *("AWS::EC2::AvailabilityZone::Name", "AWS::EC2::Image::Id", "AWS::EC2::Instance::Id"),
    *("AWS::EC2::KeyPair::KeyName", "AWS::EC2::SecurityGroup::GroupName", "AWS::EC2::SecurityGroup::Id"),
    *("AWS::EC2::Subnet::Id", "AWS::EC2::Volume::Id", "AWS::EC2::VPC::Id", "AWS::Route53::HostedZone::Id"),
)
_PLAIN: Final = frozenset(("String", "Number", "AWS::SSM::Parameter::Name", *_AWS_TYPES))
_LISTS: Final = frozenset(
    ("CommaDelimitedList", "List<Number>", "List<String>", *(f"List<{name}>" for name in _AWS_TYPES))
)
_STORED: Final = re.compile(r"AWS::SSM::Parameter::Value<(.+)>")
_NAME: Final = re.compile(r"[A-Za-z0-9]+")
_NUMBER: Final = re.compile(r"[-+]?[0-9]{1,64}(\.[0-9]{0,64})?([eE][-+]?[0-9]{1,3})?|[-+]?\.[0-9]{1,64}")


class Parameter(NamedTuple):
    """
    The value of one parameter.

    Args:
        value: As it was given.
        resolved: What it stands for: another value if it names a parameter of Systems Manager.
        is_secret: Whether it must not be shown (NoEcho).
    """

    value: str
    resolved: str
    is_secret: bool


@dataclass(frozen=True, slots=True)
class Declaration:
    """
    What a template says about one parameter; a constraint that it does not set is None.

    Args:
        type: As it is written.
        default: None if there is none.
        description: For people.
        is_secret: NoEcho.
        allowed: AllowedValues; empty if any is.
        pattern: AllowedPattern, which the whole value matches.
        explanation: ConstraintDescription.
        length_min: In characters.
        length_max: In characters.
        least: Smallest number.
        most: Largest number.
    """

    type: str
    default: str | None = None
    description: str = ""
    is_secret: bool = False
    allowed: tuple[str, ...] = ()
    pattern: str | None = None
    explanation: str = ""
    length_min: int | None = None
    length_max: int | None = None
    least: Decimal | None = None
    most: Decimal | None = None

    @property
    def is_list(self) -> bool:
        """Whether `Ref` gives a list."""
        return (_stored(self.type) or self.type) in _LISTS

    @property
    def is_number(self) -> bool:
        """Whether it is a number, or a list of them."""
        return (_stored(self.type) or self.type) in {"Number", "List<Number>"}


def read_declarations(document: Mapping[str, Any]) -> dict[str, Declaration]:
    """
    Read the Parameters section.

    Raises:
        ServiceError: ValidationError: it is malformed.
    """
    section = document.get("Parameters", {})
    if len(section) > limits.TEMPLATE_PARAMETERS_MAX:
        raise invalid(
            f"Template format error: Number of parameters, {len(section)}, is greater than maximum allowed, "
            f"{limits.TEMPLATE_PARAMETERS_MAX}"
        )
    return {name: _declaration(name, declared) for name, declared in section.items()}


def read_parameters(
    document: Mapping[str, Any], given: Mapping[str, str | None], ssm: Callable[[str], str | None]
) -> dict[str, Parameter]:
    """
    Give each declared parameter its value; with patterns this takes a tenth of a second: call it in a thread.

    Args:
        document: The template.
        given: Values by name; None is no value.
        ssm: The value of a parameter of Systems Manager, by `name` or `name:version`; None if there is none.

    Returns:
        By name, in the template's order.

    Raises:
        ServiceError: ValidationError: the section, a value that is missing, unknown, or not allowed.
    """
    declarations = read_declarations(document)
    strange = [name for name in given if name not in declarations]
    if strange:
        raise invalid(f"Parameters: [{', '.join(strange)}] do not exist in the template")
    values = {
        name: declared.default if given.get(name) is None else given[name]
        for name, declared in declarations.items()
    }
    missing = [name for name, value in values.items() if value is None]
    if missing:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    for name, declared in declarations.items():
        _check(name, declared, values[name] or "")
    _check_patterns(declarations, values)
    found: dict[str, Parameter] = {}
    absent: list[str] = []
    for name, declared in declarations.items():
        value = values[name] or ""
        resolved: str | None = value
        if _stored(declared.type) is not None:
            resolved = ssm(value)
            if resolved is None:
                absent.append(value)
                continue
        found[name] = Parameter(value, resolved or "", declared.is_secret)
    if absent:
        raise invalid(
            f"Unable to fetch parameters [{','.join(absent)}] from parameter store for this account."
        )
    return found


def items_of(text: str) -> list[str]:
    """Split the value of a list, as `Ref` gives it: between commas, without the space around each."""
    return [each.strip() for each in text.split(",")] if text else []


# --- declarations ----------------------------------------------------------------------------------------


def _declaration(name: str, declared: Any) -> Declaration:
    if not _NAME.fullmatch(name) or len(name) > limits.TEMPLATE_NAME_CHARACTERS_MAX:
        raise invalid(f"Template format error: Parameter name {name[:64]} is non alphanumeric.")
    if not isinstance(declared, dict):
        raise invalid("Template format error: Any Parameters member must be an object.")
    strange = next((key for key in declared if key not in _ATTRIBUTES), None)
    if strange is not None:
        raise invalid(f"Invalid template parameter property '{strange[:64]}'")
    kind = declared.get("Type")
    if kind is None:
        raise invalid("Template format error: Every Parameters object must contain a Type member.")
    if not isinstance(kind, str) or (_stored(kind) or kind) not in _PLAIN | _LISTS:
        raise invalid(f"Template format error: Unrecognized parameter type: {str(kind)[:128]}")
    allowed = declared.get("AllowedValues", [])
    texts = [text_of(each) for each in allowed] if isinstance(allowed, list) else [None]
    if None in texts:
        raise invalid("Template format error: Every AllowedValues member must be a list of strings.")
    return Declaration(
        type=kind,
        default=_text(declared, "Default") if "Default" in declared else None,
        description=_text(declared, "Description"),
        is_secret=_text(declared, "NoEcho").lower() == "true",
        allowed=tuple(text for text in texts if text is not None),
        pattern=_text(declared, "AllowedPattern") if "AllowedPattern" in declared else None,
        explanation=_text(declared, "ConstraintDescription"),
        length_min=_whole(declared, "MinLength"),
        length_max=_whole(declared, "MaxLength"),
        least=_decimal(declared, "MinValue"),
        most=_decimal(declared, "MaxValue"),
    )


def _stored(kind: str) -> str | None:
    """Return the type of what is stored, for a type that names a parameter of Systems Manager."""
    found = _STORED.fullmatch(kind)
    return found[1] if found else None


def _text(declared: dict[str, Any], key: str) -> str:
    text = text_of(declared.get(key, ""))
    if text is None:
        raise invalid(f"Template format error: Every {key} member must be a string.")
    return text


def _decimal(declared: dict[str, Any], key: str) -> Decimal | None:
    if key not in declared:
        return None
    number = _number(_text(declared, key))
    if number is None:
        raise invalid(f"Template format error: Every {key} member must be a number.")
    return number


def _whole(declared: dict[str, Any], key: str) -> int | None:
    number = _decimal(declared, key)
    if number is None:
        return None
    if not 0 <= number <= limits.TEMPLATE_BYTES_MAX or number != int(number):
        raise invalid(f"Template format error: Every {key} member must be a number.")
    return int(number)


def _number(text: str) -> Decimal | None:
    try:
        return Decimal(text) if _NUMBER.fullmatch(text) else None
    except InvalidOperation:
        return None


# --- constraints -----------------------------------------------------------------------------------------


def _check(name: str, declared: Declaration, value: str) -> None:
    if len(value.encode()) > limits.TEMPLATE_PARAMETER_BYTES_MAX:
        raise invalid(
            f"Parameter '{name}' must not be longer than {limits.TEMPLATE_PARAMETER_BYTES_MAX} bytes."
        )
    problem = _problem(name, declared, value)
    if problem is not None:
        raise _unsatisfied(name, declared, problem)


def _check_patterns(declarations: Mapping[str, Declaration], values: Mapping[str, str | None]) -> None:
    asked = {name: declared for name, declared in declarations.items() if declared.pattern is not None}
    if not asked:
        return
    questions = [
        (declared.pattern or "", _items(declared, values[name] or "")) for name, declared in asked.items()
    ]
    for (name, declared), verdict in zip(asked.items(), judge(questions), strict=True):
        if verdict == DIFFERS:
            raise _unsatisfied(name, declared, f"Parameter '{name}' must match pattern {declared.pattern}")
        if verdict == MALFORMED:
            raise invalid(f"Parameter '{name}': its AllowedPattern is no regular expression.")
        if verdict != MATCHES:
            raise invalid(f"Parameter '{name}': its AllowedPattern takes too long, or too much memory.")


def _unsatisfied(name: str, declared: Declaration, problem: str) -> ServiceError:
    if declared.explanation:
        problem = f"Parameter '{name}' failed to satisfy constraint: {declared.explanation}"
    return invalid(problem)


def _items(declared: Declaration, value: str) -> list[str]:
    """Return what constraints are about: the value, or each item of a list that is not stored elsewhere."""
    return items_of(value) if declared.is_list and _stored(declared.type) is None else [value]


def _problem(name: str, declared: Declaration, value: str) -> str | None:
    """Say which constraint a value does not keep."""
    items = _items(declared, value)
    if declared.allowed and any(item not in declared.allowed for item in items):
        return f"Parameter '{name}' must be one of AllowedValues"
    # What is in Systems Manager is checked for its type only when it is used.
    if declared.is_number and _stored(declared.type) is None:
        return _problem_of_numbers(name, declared, items)
    if declared.length_min is not None and len(value) < declared.length_min:
        return f"Parameter '{name}' must contain at least {declared.length_min} characters"
    if declared.length_max is not None and len(value) > declared.length_max:
        return f"Parameter '{name}' must contain at most {declared.length_max} characters"
    return None


def _problem_of_numbers(name: str, declared: Declaration, values: list[str]) -> str | None:
    numbers = [_number(each) for each in values]
    for number in numbers:
        if number is None:
            return f"Parameter '{name}' must be a number" + (" list" if declared.is_list else "")
        if declared.least is not None and number < declared.least:
            return f"Parameter '{name}' must be a number not less than {declared.least}"
        if declared.most is not None and number > declared.most:
            return f"Parameter '{name}' must be a number not greater than {declared.most}"
    return None
