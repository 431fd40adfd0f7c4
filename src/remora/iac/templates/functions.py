"""
The intrinsic functions of templates, evaluated as far as what they refer to is known.

A value is evaluated twice: before anything is made, when resources are not known and a function that depends
on one stays in place in its long form; and again when its resources have been made. Both times the same
functions apply; what differs is the `Scope` that answers references.

Source: CloudFormation Template Reference, "Intrinsic functions", each function's page; observed errors.
"""

from __future__ import annotations

import base64
import ipaddress
import json
import re
from typing import TYPE_CHECKING, Any, Final

from remora.iac.templates.reading import invalid
from remora.iac.templates.scope import NO_VALUE, UNKNOWN, Budget, Scope, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


_NOTHING: Final = {"Ref": "AWS::NoValue"}


def evaluate(value: Any, scope: Scope) -> Any:
    """
    Evaluate every function in a value.

    Returns:
        The value, in which `AWS::NoValue` has removed members; `NO_VALUE` if it is that itself. A function
        that depends on what is not known is `UNKNOWN`, or in place, as the scope has answered.

    Raises:
        ServiceError: ValidationError: a function is not used as it has to be.
    """
    if isinstance(value, dict):
        name = function_of(value)
        if name is not None:
            return _FUNCTIONS[name](value[name], scope)
        pairs = ((key, evaluate(member, scope)) for key, member in value.items())
        return {key: member for key, member in pairs if member is not NO_VALUE}
    if isinstance(value, list):
        return [item for item in (evaluate(each, scope) for each in value) if item is not NO_VALUE]
    return value


def function_of(value: Any) -> str | None:
    """
    Return which function a value is, None if it is none.

    Raises:
        ServiceError: For a function that there is not.
    """
    if not isinstance(value, dict) or len(value) != 1:
        return None
    (name,) = value
    if name == "Ref" or name in _FUNCTIONS:
        return str(name)
    if name.startswith("Fn::"):
        if name == "Fn::Transform":
            raise invalid(_no_transform(value[name]))
        supported = ", ".join(sorted(known for known in _FUNCTIONS if known.startswith("Fn::")))
        raise invalid(
            f"Template error: Encountered unsupported function: {name[:64]} "
            f"Supported functions are: [{supported}]"
        )
    return None


def references(value: Any) -> Iterator[tuple[str, str, str | None]]:
    """
    Find what a value refers to, in every branch.

    Yields:
        The function (`Ref`, `Fn::GetAtt`, `Fn::Sub` or `Fn::If`), the name, and the attribute; None where
        there is none.

    Raises:
        ServiceError: As `evaluate`, for the arguments of these functions.
    """
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, list):
            rest.extend(reversed(each))
        elif isinstance(each, dict):
            name = function_of(each)
            if name is None:
                rest.extend(reversed(each.values()))
            else:
                yield from _references_of(name, each[name])
                rest.append(_rest_of(name, each[name]))


def _references_of(name: str, argument: Any) -> Iterator[tuple[str, str, str | None]]:
    if name == "Ref":
        yield name, _referred(argument), None
    elif name == "Fn::If":
        yield name, _arguments_of_if(argument)[0], None
    elif name == "Fn::GetAtt":
        resource, attribute = _attribute(argument)
        yield name, resource, attribute if isinstance(attribute, str) else ""
    elif name == "Fn::Sub":
        text, variables = _template(argument)
        for literal, variable in _pieces(text):
            if literal is None and variable not in variables:
                resource, dot, attribute = variable.partition(".")
                yield name, resource, attribute if dot else None


def _rest_of(name: str, argument: Any) -> Any:
    """Return what of a function's argument there may be further references in."""
    if name == "Fn::GetAtt":
        return _attribute(argument)[1]
    return _template(argument)[1] if name == "Fn::Sub" else argument


def is_open(value: Any) -> bool:
    """Whether a value that has been evaluated holds something that is not known."""
    if isinstance(value, dict):
        return (len(value) == 1 and _is_name(next(iter(value)))) or any(map(is_open, value.values()))
    return any(map(is_open, value)) if isinstance(value, list) else value is UNKNOWN


def _is_name(key: str) -> bool:
    return key == "Ref" or key in _FUNCTIONS


def _holds_unknown(value: Any) -> bool:
    if isinstance(value, dict):
        # A function in place has been looked at when it was left there.
        is_function = len(value) == 1 and _is_name(next(iter(value)))
        return not is_function and any(map(_holds_unknown, value.values()))
    return any(map(_holds_unknown, value)) if isinstance(value, list) else value is UNKNOWN


def _postpone(name: str, argument: Any) -> Any:
    return UNKNOWN if _holds_unknown(argument) else {name: argument}


def _no_transform(argument: Any) -> str:
    first = argument[0] if isinstance(argument, list) and argument else argument
    name = first.get("Name") if isinstance(first, dict) else first
    return f"No transform named {str(name)[:128]} found."


# --- references ------------------------------------------------------------------------------------------


def _ref(argument: Any, scope: Scope) -> Any:
    return scope.budget.spend(scope.refer(_referred(argument), None))


def _referred(argument: Any) -> str:
    if not isinstance(argument, str) or not argument:
        raise invalid("Template error: every Ref object must have a single String value.")
    return argument


def _get_att(argument: Any, scope: Scope) -> Any:
    resource, attribute = _attribute(argument)
    attribute = evaluate(attribute, scope)
    if not isinstance(attribute, str) or not attribute:
        raise _bad_attribute()
    return scope.budget.spend(scope.refer(resource, attribute))


def _attribute(argument: Any) -> tuple[str, Any]:
    parts = list(argument.partition(".")[::2]) if isinstance(argument, str) else argument
    if not isinstance(parts, list) or len(parts) < 2 or not isinstance(parts[0], str) or not parts[0]:
        raise _bad_attribute()
    if len(parts) > 2 and all(isinstance(part, str) for part in parts):
        parts = [parts[0], ".".join(parts[1:])]
    if len(parts) != 2 or not parts[1] or not isinstance(parts[1], str | dict):
        raise _bad_attribute()
    return parts[0], parts[1]


def _bad_attribute() -> Exception:
    return invalid(
        "Template error: every Fn::GetAtt object requires two non-empty parameters, "
        "the resource name and the resource attribute"
    )


_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_VARIABLE_NAME: Final = re.compile(r"[A-Za-z0-9_.:]+")
_ARGUMENTS_OF_SUB: Final = (
    "Template error: One or more Fn::Sub intrinsic functions don't specify expected arguments. Specify a "
    "string as first argument, and an optional second argument to specify a mapping of values to replace in "
    "the string"
)


def _sub(argument: Any, scope: Scope) -> Any:
    text, variables = _template(argument)
    values = {name: evaluate(value, scope) for name, value in variables.items()}
    parts: list[Any] = []
    for literal, name in _pieces(text):
        if literal is not None:
            parts.append(literal)
            continue
        resource, dot, attribute = name.partition(".")
        part = values[name] if name in values else scope.refer(resource, attribute if dot else None)
        if text_of(part) is None and part is not NO_VALUE and not is_open(part):
            raise invalid(
                f"Template error: variable {name} in Fn::Sub expression does not resolve to a string"
            )
        parts.append(part)
    return _concatenate("", parts, scope.budget)


def _template(argument: Any) -> tuple[str, dict[str, Any]]:
    parts = [argument, {}] if isinstance(argument, str) else argument
    if not isinstance(parts, list) or len(parts) != 2:
        raise invalid(_ARGUMENTS_OF_SUB)
    text, variables = parts
    if not isinstance(text, str) or not isinstance(variables, dict):
        raise invalid(_ARGUMENTS_OF_SUB)
    return text, variables


def _pieces(text: str) -> Iterator[tuple[str | None, str]]:
    """Split a template of `Fn::Sub` into literal text, and names; `${!Word}` is the literal `${Word}`."""
    end = 0
    for found in _VARIABLE.finditer(text):
        if found.start() > end:
            yield text[end : found.start()], ""
        end, name = found.end(), found[1]
        if name.startswith("!"):
            yield f"${{{name[1:]}}}", ""
        elif _VARIABLE_NAME.fullmatch(name):
            yield None, name
        else:
            raise invalid(
                "Template error: variable names in Fn::Sub syntax must contain only alphanumeric characters, "
                "underscores, periods, and colons"
            )
    if end < len(text):
        yield text[end:], ""


def _import_value(argument: Any, scope: Scope) -> Any:
    name = text_of(evaluate(argument, scope))
    if name is None:
        raise invalid("Template error: the attribute in Fn::ImportValue must not depend on any resources")
    return scope.budget.spend(scope.imported(name))


# --- text and lists --------------------------------------------------------------------------------------


_USAGE_OF_JOIN: Final = (
    "Template error: every Fn::Join object requires two parameters, (1) a string delimiter and (2) a list of "
    "strings to be joined or a function that returns a list of strings (such as Fn::GetAZs) to be joined."
)


def _join(argument: Any, scope: Scope) -> Any:
    delimiter, items = _both(argument, _USAGE_OF_JOIN)
    delimiter, items = evaluate(delimiter, scope), evaluate(items, scope)
    if items is UNKNOWN or delimiter is UNKNOWN:
        return UNKNOWN
    if not isinstance(delimiter, str):
        raise invalid(_USAGE_OF_JOIN)
    if isinstance(items, dict) and is_open(items):
        return _postpone("Fn::Join", [delimiter, items])
    if not isinstance(items, list):
        raise invalid(_USAGE_OF_JOIN)
    return _concatenate(delimiter, items, scope.budget)


def _concatenate(delimiter: str, items: list[Any], budget: Budget) -> Any:
    """Join what is known; what is not keeps its place."""
    budget.spend(items)
    budget.take(len(delimiter) * len(items))
    if any(map(is_open, items)):
        items = _merge(items) if delimiter == "" else items
        return _postpone("Fn::Join", [delimiter, items])
    texts = [text_of(item) for item in items if item is not NO_VALUE]
    if None in texts:
        raise invalid(_USAGE_OF_JOIN)
    return delimiter.join(text for text in texts if text is not None)


def _merge(items: list[Any]) -> list[Any]:
    """Join neighbours that are text, so that a value looks the same however its template is written."""
    merged: list[Any] = []
    for item in items:
        text = text_of(item)
        if item is NO_VALUE or text == "":
            continue
        if text is not None and merged and isinstance(merged[-1], str):
            merged[-1] += text
        else:
            merged.append(item if text is None else text)
    return merged


def _select(argument: Any, scope: Scope) -> Any:
    usage = (
        "Template error: every Fn::Select object requires two non-null parameters, the first is an integer "
        "index and the second a list."
    )
    index, items = _both(argument, usage)
    index = evaluate(index, scope)
    # The items are not evaluated as a list, in which AWS::NoValue would move those behind it.
    items = [evaluate(item, scope) for item in items] if isinstance(items, list) else evaluate(items, scope)
    if index is UNKNOWN or items is UNKNOWN:
        return UNKNOWN
    if (isinstance(items, dict) and is_open(items)) or (isinstance(index, dict) and is_open(index)):
        kept = (
            [_NOTHING if item is NO_VALUE else item for item in items] if isinstance(items, list) else items
        )
        return _postpone("Fn::Select", [index, kept])
    text = text_of(index)
    if text is None or not re.fullmatch(r"[0-9]{1,6}", text) or not isinstance(items, list):
        raise invalid(usage)
    position = int(text)
    if position >= len(items):
        raise invalid(f"Template error: Fn::Select  cannot select nonexistent value at index {position}")
    return items[position]


def _split(argument: Any, scope: Scope) -> Any:
    usage = (
        "Template error: every Fn::Split object requires two parameters, (1) a string delimiter and (2) a "
        "string to be split or a function that returns a string to be split."
    )
    delimiter, text = _both(argument, usage)
    delimiter, text = evaluate(delimiter, scope), evaluate(text, scope)
    if is_open(text) or is_open(delimiter):
        return _postpone("Fn::Split", [delimiter, text])
    text = text_of(text)
    if not isinstance(delimiter, str) or not delimiter or text is None:
        raise invalid(usage)
    return scope.budget.spend(text.split(delimiter))


def _base64(argument: Any, scope: Scope) -> Any:
    value = evaluate(argument, scope)
    if is_open(value):
        return _postpone("Fn::Base64", value)
    text = text_of(value)
    if text is None:
        raise invalid("Template error: every Fn::Base64 object must have a String-typed value.")
    return scope.budget.spend(base64.b64encode(text.encode()).decode())


def _length(argument: Any, scope: Scope) -> Any:
    value = evaluate(argument, scope)
    if isinstance(value, list):
        return len(value)
    if is_open(value):
        return _postpone("Fn::Length", value)
    raise invalid("Template error: Fn::Length requires a list, or a function that returns a list.")


def _to_json_string(argument: Any, scope: Scope) -> Any:
    value = evaluate(argument, scope)
    if is_open(value):
        return _postpone("Fn::ToJsonString", value)
    if not isinstance(value, dict | list):
        raise invalid("Template error: Fn::ToJsonString requires an object or an array.")
    scope.budget.spend(value)
    return scope.budget.spend(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def _get_azs(argument: Any, scope: Scope) -> Any:
    region = evaluate(argument, scope)
    if not isinstance(region, str):
        raise invalid("Template error: every Fn::GetAZs object must have a String-typed value.")
    return [f"{region or scope.region}{zone}" for zone in "abc"]


_CIDR_BLOCKS_MAX: Final = 256  # "Fn::Cidr"


def _cidr(argument: Any, scope: Scope) -> Any:
    usage = (
        "Template error: every Fn::Cidr object requires two or three parameters: an IP address block, the "
        f"count of CIDRs (1 to {_CIDR_BLOCKS_MAX}) and the count of subnet bits."
    )
    arguments = evaluate(argument, scope)
    if arguments is UNKNOWN:
        return UNKNOWN
    if not isinstance(arguments, list) or len(arguments) not in {2, 3}:
        raise invalid(usage)
    if is_open(arguments):
        return _postpone("Fn::Cidr", arguments)
    block, *numbers = [text_of(each) or "" for each in arguments]
    if not all(re.fullmatch(r"[0-9]{1,3}", number) for number in numbers):
        raise invalid(usage)
    count, bits = [*map(int, numbers), 8][:2]
    try:
        network = ipaddress.ip_network(block, strict=False)
    except ValueError as error:
        raise invalid(f"Template error: Fn::Cidr: {block[:64]} is no CIDR block") from error
    prefix = network.max_prefixlen - bits
    if not 1 <= count <= _CIDR_BLOCKS_MAX or bits < 1 or prefix < network.prefixlen:
        raise invalid(usage)
    if count > 1 << (prefix - network.prefixlen):
        raise invalid(f"Template error: Fn::Cidr: {block} has no {count} blocks of {bits} bits")
    first, step = int(network.network_address), 1 << bits
    of = type(network.network_address)
    return [f"{of(first + number * step)}/{prefix}" for number in range(count)]


def _both(argument: Any, usage: str) -> tuple[Any, Any]:
    if not isinstance(argument, list) or len(argument) != 2:
        raise invalid(usage)
    return argument[0], argument[1]


# --- choices -----------------------------------------------------------------------------


def _find_in_map(argument: Any, scope: Scope) -> Any:
    usage = (
        "Template error: every Fn::FindInMap object requires three parameters, the map name, map key and the "
        "attribute for return value"
    )
    if not isinstance(argument, list) or len(argument) not in {3, 4}:
        raise invalid(usage)
    default = argument[3] if len(argument) == 4 else None
    if default is not None and (not isinstance(default, dict) or set(default) != {"DefaultValue"}):
        raise invalid(usage)
    keys = [text_of(evaluate(each, scope)) for each in argument[:3]]
    if not all(keys):
        raise invalid(usage)
    name, *path = [str(key) for key in keys]
    found = scope.mappings.get(name)
    if found is None and default is None:
        raise invalid(
            f"Template error: Mapping named '{name}' is not present in the 'Mappings' section of template."
        )
    for key in path:
        found = found.get(key) if isinstance(found, dict) else None
    if found is None and default is None:
        raise invalid(f"Template error: Unable to get mapping for {'::'.join((name, *path))}")
    if found is None and default is not None:
        return evaluate(default["DefaultValue"], scope)
    return scope.budget.spend(found)


def _if(argument: Any, scope: Scope) -> Any:
    name, if_true, if_false = _arguments_of_if(argument)
    return evaluate(if_true if scope.condition(name, "Fn::If") else if_false, scope)


def _arguments_of_if(argument: Any) -> tuple[str, Any, Any]:
    if not isinstance(argument, list) or len(argument) != 3 or not isinstance(argument[0], str):
        raise invalid("Template error: Fn::If requires a list argument with three elements")
    return argument[0], argument[1], argument[2]


_FUNCTIONS: Final[dict[str, Callable[[Any, Scope], Any]]] = {
    "Ref": _ref,
    "Fn::Base64": _base64,
    "Fn::Cidr": _cidr,
    "Fn::FindInMap": _find_in_map,
    "Fn::GetAZs": _get_azs,
    "Fn::GetAtt": _get_att,
    "Fn::If": _if,
    "Fn::ImportValue": _import_value,
    "Fn::Join": _join,
    "Fn::Length": _length,
    "Fn::Select": _select,
    "Fn::Split": _split,
    "Fn::Sub": _sub,
    "Fn::ToJsonString": _to_json_string,
}
