"""What is checked of resources and outputs, and how their failures are told, in CloudFormation's words."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final

from remora.control.services.neighbour import ServiceError
from remora.iac.types.shapes import misfits

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from remora.iac.calls import CallFailed
    from remora.iac.types.base import ResourceType
    from remora.resources.stacks import Stack, StackOutput, Wanted
    from remora.resources.view import View


HIDDEN: Final = "****"
"""What is shown of what may not be."""


def differences(former: Mapping[str, Any], properties: Mapping[str, Any]) -> set[str]:
    """Return the names of the properties that differ."""
    names = former.keys() | properties.keys()
    missing = object()
    return {name for name in names if former.get(name, missing) != properties.get(name, missing)}


def property_problem(kind: ResourceType, name: str, properties: Any) -> str:
    """Return what is wrong with the properties of a resource, in CloudFormation's words; or nothing."""
    if not isinstance(properties, dict):
        return f"Properties validation failed for resource {name} with message:\n#: expected type: JSONObject"
    problems = [
        f"#: extraneous key [{each}] is not permitted" for each in properties if each not in kind.properties
    ]
    problems += [
        f"#: required key [{each}] not found"
        for each, known in kind.properties.items()
        if known.is_required and each not in properties
    ]
    problems += [
        problem
        for each, known in kind.properties.items()
        if each in properties
        for problem in misfits(known.shape, properties[each], f"#/{each}")
    ]
    if not problems:
        return ""
    return f"Properties validation failed for resource {name} with message:\n" + "\n".join(problems)


def masked(value: Any, wanted: Wanted) -> Any:
    """Return a value as it may be shown: what parameters say that have `NoEcho` is not."""
    secrets = [each.resolved for each in wanted.parameters.values() if each.is_secret and each.resolved]
    return _without(value, sorted(secrets, key=len, reverse=True)) if secrets else value


def _without(value: Any, secrets: Sequence[str]) -> Any:
    if isinstance(value, dict):
        return {name: _without(each, secrets) for name, each in value.items()}
    if isinstance(value, list):
        return [_without(each, secrets) for each in value]
    if isinstance(value, str):
        for secret in secrets:
            value = value.replace(secret, HIDDEN)
    return value


def attribute_of(name: str, attribute: str, attributes: Mapping[str, Any]) -> Any:
    """
    Return an attribute; one of an attribute, too (`Outputs.X`, `SnapStartResponse.ApplyOn`).

    Raises:
        ServiceError: ValidationError if there is none.
    """
    if attribute in attributes:
        return attributes[attribute]
    value: Any = attributes
    for part in attribute.split("."):
        with suppress(KeyError, TypeError):
            value = value[part]
            continue
        text = f"Attribute '{attribute}' does not exist for resource {name}"
        raise ServiceError("ValidationError", text)
    return value


def check_attribute(kind: ResourceType, name: str, attribute: str) -> None:
    """
    Check that resources of a type have an attribute.

    Raises:
        ServiceError: ValidationError.
    """
    known = kind.attributes
    if "*" not in known and attribute not in known and attribute.partition(".")[0] not in known:
        text = f"Template error: resource {name} does not support attribute type {attribute} in Fn::GetAtt"
        raise ServiceError("ValidationError", text)


def text_of(key: str, value: Any) -> str:
    """
    Return an output's value.

    Raises:
        ServiceError: ValidationError if it is no text.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if not isinstance(value, str | int | float):
        text = f"Template format error: Output {key} is malformed. The Value field must be a String."
        raise ServiceError("ValidationError", text)
    return str(value)


def check_exports(view: View, stack: Stack, outputs: Iterable[StackOutput]) -> None:
    """
    Check that exports have names of their own, and that those which others use stay as they are.

    Raises:
        ServiceError: ValidationError.
    """
    others = [other for other in view.stacks.values() if other.name != stack.name and not other.is_deleted]
    taken = {output.export_name: other for other in others for output in other.wanted.outputs}
    exported = {}
    for output in outputs:
        name = output.export_name
        if not name:
            continue
        if name in taken:
            text = f"Export with name {name} is already exported by stack {taken[name].name}."
            raise ServiceError("ValidationError", text)
        exported[name] = output.value
    before = stack.former if stack.former is not None else stack.wanted
    for output in before.outputs:
        name = output.export_name
        users = [other.name for other in others if name and name in other.wanted.imports]
        if users and exported.get(name) != output.value:
            what = "updated" if name in exported else "deleted"
            text = f"Export {name} cannot be {what} as it is in use by {', '.join(sorted(users))}"
            raise ServiceError("ValidationError", text)


def explain_call(error: CallFailed, token: str) -> str:
    """Return what a resource's event says of a call that failed."""
    return (
        f'Resource handler returned message: "{error}" '
        f"(RequestToken: {token}, HandlerErrorCode: {_handler_code(error)})"
    )


def _handler_code(error: CallFailed) -> str:
    """Return the class of a failure, as CloudFormation's registry names them."""
    if not error.service:
        return error.code
    if error.code in ("ResourceConflictException", "EntityAlreadyExists", "BucketAlreadyExists"):
        return "AlreadyExists"
    match error.status:
        case 403:
            return "AccessDenied"
        case 404:
            return "NotFound"
        case 429:
            return "Throttling"
        case status if status >= 500:
            return "ServiceInternalError"
    return "InvalidRequest"
