"""The rules of versions: resolved from qualifiers, published, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources.names import LATEST, Place, Target, resolve_function
from remora.resources.records import Function, FunctionVersion
from remora.resources.revisions import check_revision
from remora.resources.view import Change, Stamp, View
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from remora.resources.records import Alias

Request = dict[str, Any]
Publication = tuple[FunctionVersion, list[Change]]


def number_of(qualifier: str) -> int | None:
    """Return the number that a qualifier is; None if it is `$LATEST` or an alias's name."""
    return int(qualifier) if qualifier.isdigit() else None


def lookup(view: View, name: str, qualifier: str) -> FunctionVersion | None:
    """Return what a qualifier stands for; for an alias with weights, its primary version."""
    function = view.functions.get(name)
    if function is None:
        return None
    if qualifier == LATEST:
        return function.latest
    number = number_of(qualifier)
    if number is not None:
        found = view.versions.get(name, {}).get(number)
        return found if found is not None and found.version == qualifier else None
    alias = view.aliases.get(name, {}).get(qualifier)
    return None if alias is None else lookup(view, name, alias.version)


def find(view: View, place: Place, target: Target, *, with_latest: bool = False) -> FunctionVersion:
    """
    Find the version that a request is about.

    Args:
        view: Where to look.
        place: Region and account of this node.
        target: Name and qualifier.
        with_latest: True if the message names `$LATEST` when no qualifier was given (as Invoke does).

    Raises:
        ApiError: Not found.
    """
    version = lookup(view, target.name, target.version)
    if version is None:
        qualifier = target.version if with_latest else target.qualifier
        raise not_found(f"Function not found: {place.function_arn(target.name, qualifier)}")
    return version


def find_alias(view: View, place: Place, target: Target) -> Alias:
    """
    Find the alias that `target` names by its qualifier.

    Raises:
        ApiError: Not found.
    """
    alias = view.aliases.get(target.name, {}).get(target.version)
    if alias is None:
        raise not_found(f"Cannot find alias arn: {place.function_arn(target.name, target.version)}")
    return alias


def find_qualified(view: View, place: Place, target: Target) -> FunctionVersion:
    """
    Find what a request is about, in the words of those operations that tell aliases from versions.

    Raises:
        ApiError: Not found.
    """
    is_alias = target.version != LATEST and number_of(target.version) is None and "$" not in target.version
    if is_alias and target.name in view.functions:
        find_alias(view, place, target)
    return find(view, place, target)


def publish(view: View, place: Place, request: Request, stamp: Stamp) -> Publication:
    """
    Publish `$LATEST` as a version, Active at once unless a snapshot is to be taken of it.

    Unchanged since the last one, that one is returned again.

    Raises:
        ApiError: Not found; a conflict while it is being created or updated; PreconditionFailedException;
            invalid if the code is not what the caller believes.
    """
    target = resolve_function(place, request["FunctionName"])
    if target.name not in view.functions:
        raise not_found(f"Function not found: {place.function_arn(target.name)}")
    function = view.functions[target.name]
    latest = function.latest
    check_ready(latest)
    given, real = request.get("CodeSha256"), latest.code_sha256
    if given and given != real:
        raise invalid(
            f"CodeSHA256 ({given}) is different from current CodeSHA256 in $LATEST ({real}). "
            "Please try again with the CodeSHA256 in $LATEST."
        )
    check_revision(request, latest.revision_id)
    return publication(view, function, stamp, description=request.get("Description"))


def publication(view: View, function: Function, stamp: Stamp, *, description: str | None) -> Publication:
    """
    Return the version that `function.latest` becomes, in its state, and the changes.

    Args:
        view: What is known now.
        function: Its `latest` may be newer than the view's.
        stamp: The version gets `other_id` as its revision, `$LATEST` the other.
        description: Of the version; None or empty: that of `$LATEST`.
    """
    latest = function.latest
    last = view.versions.get(latest.name, {}).get(function.next_version - 1)
    if last is not None and _is_same(last, latest, function.published_description):
        return last, []
    is_ready = latest.state == "Active" and latest.last_update_status != "InProgress"
    is_active = is_ready and not latest.snap_start
    number = function.next_version
    version = msgspec.structs.replace(
        latest,
        version=str(number),
        description=description or latest.description,
        revision_id=stamp.other_id,
        state="Active" if is_active else "Pending",
        state_reason=None if is_active else "The function is being created.",
        state_reason_code=None if is_active else "Creating",
        last_update_status="Successful" if is_active else None,
        last_update_status_reason=None,
        last_update_status_reason_code=None,
    )
    record = msgspec.structs.replace(
        function,
        latest=msgspec.structs.replace(latest, revision_id=stamp.revision_id),
        next_version=number + 1,
        published_description=latest.description,
    )
    return version, [
        Change("function", latest.name, record),
        Change("version", f"{latest.name}:{number}", version),
    ]


def delete(view: View, target: Target) -> list[Change]:
    """
    Delete one version and what hangs on it; one that does not exist is passed over.

    Raises:
        ApiError: Invalid for `$LATEST` and aliases; a conflict while an alias stands for the version.
    """
    qualifier = target.version
    if qualifier == LATEST:
        raise invalid("$LATEST version cannot be deleted without deleting the function.")
    if number_of(qualifier) is None:
        raise invalid("Deletion of aliases is not currently supported.")
    if lookup(view, target.name, qualifier) is None:
        return []
    aliases = view.aliases.get(target.name, {}).values()
    users = [alias.name for alias in aliases if qualifier in {alias.version, *alias.weights}]
    if users:
        raise ApiError(
            "ResourceConflictException",
            f"Unable to delete version because the following aliases reference it: [{', '.join(users)}]",
        )
    changes = list(view.of_function(target.name, qualifier=qualifier))
    function = view.functions[target.name]
    if qualifier in function.runtime_management:
        others = {key: kept for key, kept in function.runtime_management.items() if key != qualifier}
        record = msgspec.structs.replace(function, runtime_management=others)
        changes.append(Change("function", target.name, record))
    return changes


def check_ready(latest: FunctionVersion) -> None:
    """
    Check that `$LATEST` may be changed now.

    Raises:
        ApiError: A conflict while it is Pending or being updated, or if it has Failed.
    """
    if latest.state in {"Pending", "Failed"}:
        raise wrong_state(latest.state)
    check_no_update(latest)


def check_no_update(latest: FunctionVersion) -> None:
    """
    Check that no update is in progress.

    Raises:
        ApiError: A conflict.
    """
    if latest.last_update_status == "InProgress":
        raise ApiError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"An update is in progress for resource: {latest.arn}",
        )


def wrong_state(state: str) -> ApiError:
    """Make the error of an operation that a function's state does not allow."""
    return ApiError(
        "ResourceConflictException",
        "The operation cannot be performed at this time. "
        f"The function is currently in the following state: {state}",
    )


def _is_same(version: FunctionVersion, latest: FunctionVersion, description: str) -> bool:
    """Tell whether `latest` has the code and configuration that `version` was published from."""
    return description == latest.description and content_of(version) == content_of(latest)


def content_of(version: FunctionVersion) -> FunctionVersion:
    """Return what a version has in common with others that were published from the same `$LATEST`."""
    return msgspec.structs.replace(version.without_state(), version="", description="", last_modified="")
