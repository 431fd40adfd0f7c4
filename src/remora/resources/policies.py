"""The rules of resource-based policies: who may use a function, a version, an alias or a layer version."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.resources import versions
from remora.resources.attachments import Policy
from remora.resources.layers import resolve_layer
from remora.resources.names import LATEST, PARTITION, Place, Target, resolve_function
from remora.resources.revisions import check_revision
from remora.resources.view import Change, Stamp, View
from remora.spec import limits
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

Request = dict[str, Any]
Statement = dict[str, Any]

_SERVICE: Final = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*\.(amazonaws\.com(\.cn)?|amazon\.com)")
_ACCOUNT: Final = re.compile(r"\d{12}")
_IDENTITY: Final = re.compile(r"arn:aws[a-zA-Z-]*:(iam|sts)::(\d{12}|cloudfront|aws):[^\s]+")
_NO_POLICY: Final = "No policy is associated with the given resource."
_MISSING: Final = "The resource you requested does not exist."

_encode: Final = msgspec.json.Encoder().encode


class Shown(NamedTuple):
    """A policy as the API shows it: the document, and the revision that protects it."""

    document: str
    revision_id: str


# --- functions -------------------------------------------------------------------------------------------


def add(view: View, place: Place, request: Request, stamp: Stamp) -> tuple[str, list[Change]]:
    """
    Add a statement to the policy of a function, a version or an alias.

    Returns:
        The statement as JSON, and the changes.

    Raises:
        ApiError: Not found; invalid for `$LATEST` and what is no principal; a conflict if the identifier is
            taken; PreconditionFailedException; PolicyLengthExceededException.
    """
    target = _target(place, request)
    versions.find_qualified(view, place, target)
    statement: Statement = {
        "Sid": request["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(request["Principal"]),
        "Action": request["Action"],
        "Resource": place.function_arn(target.name, target.qualifier),
    }
    if condition := _condition(request):
        statement["Condition"] = condition
    _check_free(_statements(view, target), request["StatementId"])
    check_revision(request, _revision(view, target), "GetPolicy")
    statements = (*_statements(view, target), statement)
    return _text(statement), _put(view, target, statements, stamp)


def remove(view: View, place: Place, request: Request, stamp: Stamp) -> list[Change]:
    """
    Remove a statement; the policy goes with the last one.

    Raises:
        ApiError: Not found: function, policy or statement; invalid for `$LATEST`;
            PreconditionFailedException.
    """
    target = _target(place, request)
    if target.name not in view.functions:
        raise not_found(f"No policy found for: {place.function_arn(target.name)}")
    versions.find_qualified(view, place, target)
    kept = _without(_statements(view, target), request["StatementId"])
    check_revision(request, _revision(view, target), "GetPolicy")
    return _put(view, target, kept, stamp)


def get(view: View, place: Place, request: Request) -> Shown:
    """
    Show the policy of a function, a version or an alias.

    Raises:
        ApiError: Not found.
    """
    target = resolve_function(place, request["FunctionName"], request.get("Qualifier"))
    statements = _statements(view, target)
    if not statements:
        raise not_found(_MISSING)
    return Shown(_text(_document(statements)), _revision(view, target))


def replace(view: View, place: Place, request: Request, stamp: Stamp) -> tuple[Shown, list[Change]]:
    """
    Replace the whole policy of what an ARN names.

    Raises:
        ApiError: Not found; invalid if it is no policy; PreconditionFailedException.
    """
    target = resolve_function(place, request["ResourceArn"])
    versions.find_qualified(view, place, target)
    check_revision(request, _revision(view, target), "GetResourcePolicy")
    statements = _read(request["Policy"], place.function_arn(target.name, target.qualifier))
    changes = _put(view, target, statements, stamp)
    return Shown(_text(_document(statements)), stamp.revision_id), changes


def delete(view: View, place: Place, request: Request, stamp: Stamp) -> list[Change]:
    """
    Delete the whole policy of what an ARN names.

    Raises:
        ApiError: Not found; PreconditionFailedException.
    """
    target = resolve_function(place, request["ResourceArn"])
    if not _statements(view, target):
        raise not_found(_NO_POLICY)
    check_revision(request, _revision(view, target), "GetResourcePolicy")
    return _put(view, target, (), stamp)


# --- layers ----------------------------------------------------------------------------------------------


def add_to_layer(view: View, place: Place, request: Request, stamp: Stamp) -> tuple[Shown, list[Change]]:
    """
    Add a statement to the policy of a layer version.

    Returns:
        The statement as JSON with the policy's new revision, and the changes.

    Raises:
        ApiError: Not found; a conflict if the identifier is taken; PreconditionFailedException; invalid for
            an organisation without the principal `*`.
    """
    name, number, arn = _layer_version(view, place, request)
    organization = request.get("OrganizationId")
    if organization and request["Principal"] != "*":
        raise invalid("An organization ID is accepted for the principal * only.")
    statement: Statement = {
        "Sid": request["StatementId"],
        "Effect": "Allow",
        "Principal": _principal(request["Principal"]),
        "Action": request["Action"],
        "Resource": arn,
    }
    if organization:
        statement["Condition"] = {"StringEquals": {"aws:PrincipalOrgID": organization}}
    former = view.layer_policies.get(name, {}).get(number) or Policy(statements=())
    _check_free(former.statements, request["StatementId"])
    check_revision(request, former.revision_id, "GetLayerPolicy")
    statements = (*former.statements, statement)
    _check_length(statements)
    policy = Policy(statements=statements, revision_id=stamp.revision_id)
    shown = Shown(_text(statement), stamp.revision_id)
    return shown, [Change("layer-policy", f"{name}:{number}", policy)]


def remove_from_layer(view: View, place: Place, request: Request, stamp: Stamp) -> list[Change]:
    """
    Remove a statement from the policy of a layer version; the policy goes with the last one.

    Raises:
        ApiError: Not found; PreconditionFailedException.
    """
    name, number, _ = _layer_version(view, place, request)
    former = view.layer_policies.get(name, {}).get(number) or Policy(statements=())
    kept = _without(former.statements, request["StatementId"])
    check_revision(request, former.revision_id, "GetLayerPolicy")
    policy = Policy(statements=kept, revision_id=stamp.revision_id) if kept else None
    return [Change("layer-policy", f"{name}:{number}", policy)]


def of_layer(view: View, place: Place, request: Request) -> Shown:
    """
    Show the policy of a layer version.

    Raises:
        ApiError: Not found.
    """
    name, number, _ = _layer_version(view, place, request)
    policy = view.layer_policies.get(name, {}).get(number)
    if policy is None:
        raise not_found(_NO_POLICY)
    return Shown(_text(_document(policy.statements)), policy.revision_id)


# --- parts -----------------------------------------------------------------------------------------------


def _target(place: Place, request: Request) -> Target:
    target = resolve_function(place, request["FunctionName"], request.get("Qualifier"))
    if target.qualifier == LATEST:
        raise invalid("We currently do not support adding policies for $LATEST.")
    return target


def _layer_version(view: View, place: Place, request: Request) -> tuple[str, int, str]:
    name, number = resolve_layer(place, request["LayerName"]).name, request["VersionNumber"]
    version = view.layer_versions.get(name, {}).get(number)
    if version is None:
        raise not_found(f"Layer version {place.layer_arn(name, number)} does not exist.")
    return name, number, version.arn


def _principal(text: str) -> str | dict[str, str]:
    if text == "*":
        return text
    if _ACCOUNT.fullmatch(text):
        return {"AWS": f"arn:{PARTITION}:iam::{text}:root"}
    if _IDENTITY.fullmatch(text):
        return {"AWS": text}
    if _SERVICE.fullmatch(text):
        return {"Service": text}
    raise invalid("The provided principal was invalid. Please check the principal and try again.")


_CONDITIONS: Final = (
    ("SourceArn", "ArnLike", "AWS:SourceArn"),
    ("SourceAccount", "StringEquals", "AWS:SourceAccount"),
    ("EventSourceToken", "StringEquals", "lambda:EventSourceToken"),
    ("FunctionUrlAuthType", "StringEquals", "lambda:FunctionUrlAuthType"),
    ("PrincipalOrgID", "StringEquals", "aws:PrincipalOrgID"),
    ("InvokedViaFunctionUrl", "Bool", "lambda:InvokedViaFunctionUrl"),
)


def _condition(request: Request) -> dict[str, dict[str, str]]:
    condition: dict[str, dict[str, str]] = {}
    for member, operator, key in _CONDITIONS:
        value = request.get(member)
        if value is None:
            continue
        if isinstance(value, bool):
            value = "true" if value else "false"
        condition.setdefault(operator, {})[key] = value
    return condition


def _statements(view: View, target: Target) -> tuple[Statement, ...]:
    policy = view.policies.get(target.name, {}).get(target.version)
    return policy.statements if policy is not None else ()


def _check_free(statements: Iterable[Statement], identifier: str) -> None:
    if any(statement.get("Sid") == identifier for statement in statements):
        raise ApiError(
            "ResourceConflictException",
            f"The statement id ({identifier}) provided already exists. Please provide a new statement id, "
            "or remove the existing statement.",
        )


def _without(statements: tuple[Statement, ...], identifier: str) -> tuple[Statement, ...]:
    if not statements:
        raise not_found(_NO_POLICY)
    kept = tuple(statement for statement in statements if statement.get("Sid") != identifier)
    if len(kept) == len(statements):
        raise not_found(f"Statement {identifier} is not found in resource policy.")
    return kept


def _document(statements: Iterable[Statement]) -> dict[str, Any]:
    return {"Version": "2012-10-17", "Id": "default", "Statement": list(statements)}


def _text(document: Mapping[str, Any]) -> str:
    return _encode(document).decode()


def _check_length(statements: Iterable[Statement]) -> None:
    length = len(_encode(_document(statements)))
    if length > limits.POLICY_BYTES_MAX:
        raise ApiError(
            "PolicyLengthExceededException",
            f"The final policy size ({length}) is bigger than the limit ({limits.POLICY_BYTES_MAX}).",
        )


def _read(text: str, arn: str) -> tuple[Statement, ...]:
    """Take a whole document apart; every statement is about `arn`."""
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise invalid(f"The policy is not valid JSON: {error}") from error
    statements = document.get("Statement") if isinstance(document, dict) else None
    if isinstance(statements, dict):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise invalid("The policy has no statements.")
    for statement in statements:
        is_complete = isinstance(statement, dict) and {"Effect", "Principal", "Action"} <= statement.keys()
        if not is_complete or statement["Effect"] not in {"Allow", "Deny"}:
            raise invalid("Every statement of a policy needs Effect, Principal and Action.")
        if statement.setdefault("Resource", arn) not in {arn, f"{arn}:*"}:
            raise invalid(f"Every statement of the policy must be about {arn}.")
    return tuple(statements)


def _revision(view: View, target: Target) -> str:
    """Return the revision of what a policy hangs on."""
    alias = view.aliases.get(target.name, {}).get(target.version)
    if alias is not None:
        return alias.revision_id
    version = versions.lookup(view, target.name, target.version)
    return version.revision_id if version is not None else ""


def _put(view: View, target: Target, statements: tuple[Statement, ...], stamp: Stamp) -> list[Change]:
    """Put a policy in place, and give what it hangs on a new revision."""
    _check_length(statements)
    policy = Policy(statements=statements) if statements else None
    changes = [Change("policy", f"{target.name}:{target.version}", policy)]
    revised = {"revision_id": stamp.revision_id}
    key = f"{target.name}:{target.version}"
    alias = view.aliases.get(target.name, {}).get(target.version)
    if alias is not None:
        return [*changes, Change("alias", key, msgspec.structs.replace(alias, **revised))]
    if target.version == LATEST:
        function = view.functions[target.name]
        latest = msgspec.structs.replace(function.latest, **revised)
        record = msgspec.structs.replace(function, latest=latest)
        return [*changes, Change("function", target.name, record)]
    version = view.versions[target.name][int(target.version)]
    return [*changes, Change("version", key, msgspec.structs.replace(version, **revised))]
