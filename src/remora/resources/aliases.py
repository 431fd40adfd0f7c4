"""The rules of aliases: created, moved, weighted, listed, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources import versions
from remora.resources.names import LATEST, Place, Target, resolve_function
from remora.resources.paging import page
from remora.resources.records import Alias
from remora.resources.revisions import check_revision
from remora.resources.view import Change, Stamp, View
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping

Request = dict[str, Any]
Reply = dict[str, Any]
Decision = tuple[Alias, list[Change]]

_ADDITIONAL_MAX = 1
"""Versions next to the primary one."""


def create(view: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Create an alias.

    Raises:
        ApiError: Not found (function or version), a conflict if it exists, or invalid weights.
    """
    function, name = _function(view, place, request), request["Name"]
    alias = Alias(
        function=function,
        name=name,
        version=request["FunctionVersion"],
        description=request.get("Description", ""),
        weights=_weights(request.get("RoutingConfig", {})),
        revision_id=stamp.revision_id,
    )
    _check_versions(view, place, alias)
    if name in view.aliases.get(function, {}):
        arn = place.function_arn(function, name)
        raise ApiError("ResourceConflictException", f"Alias already exists: {arn}")
    return alias, [_put(alias)]


def update(view: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Change an alias; members that are absent stay as they are.

    Raises:
        ApiError: As `create`, and PreconditionFailedException.
    """
    function, name = _function(view, place, request), request["Name"]
    former = view.aliases.get(function, {}).get(name)
    if former is None:
        raise not_found(f"Alias not found: {place.function_arn(function, name)}")
    check_revision(request, former.revision_id)
    weights = former.weights
    if "RoutingConfig" in request:
        weights = _weights(request["RoutingConfig"])
    alias = msgspec.structs.replace(
        former,
        version=request.get("FunctionVersion", former.version),
        description=request.get("Description", former.description),
        weights=weights,
        revision_id=stamp.revision_id,
    )
    _check_versions(view, place, alias)
    return alias, [_put(alias)]


def get(view: View, place: Place, request: Request) -> Alias:
    """
    Find an alias.

    Raises:
        ApiError: Not found.
    """
    target = resolve_function(place, request["FunctionName"])
    return versions.find_alias(view, place, Target(target.name, request["Name"]))


def delete(view: View, place: Place, request: Request) -> list[Change]:
    """
    Delete an alias and what hangs on it; one that does not exist is passed over.

    Raises:
        ApiError: If the name is not of this node.
    """
    target = resolve_function(place, request["FunctionName"])
    return list(view.of_function(target.name, qualifier=request["Name"]))


def list_aliases(view: View, place: Place, request: Request) -> Reply:
    """
    List the aliases of a function by name, one page, all or those of one primary version.

    Raises:
        ApiError: Not found.
    """
    function, version = _function(view, place, request), request.get("FunctionVersion")
    known = view.aliases.get(function, {})
    wanted = sorted(name for name, alias in known.items() if version in {None, alias.version})
    names, marker = page(wanted, request.get("Marker"), request.get("MaxItems"))
    return {"Aliases": [describe(place, known[name]) for name in names], "NextMarker": marker}


def describe(place: Place, alias: Alias) -> Reply:
    """Describe an alias: shape AliasConfiguration."""
    return {
        "AliasArn": place.function_arn(alias.function, alias.name),
        "Name": alias.name,
        "FunctionVersion": alias.version,
        "Description": alias.description,
        "RoutingConfig": {"AdditionalVersionWeights": alias.weights} if alias.weights else None,
        "RevisionId": alias.revision_id,
    }


def _function(view: View, place: Place, request: Request) -> str:
    target = resolve_function(place, request["FunctionName"])
    if target.name not in view.functions:
        raise not_found(f"Function not found: {place.function_arn(target.name)}")
    return target.name


def _put(alias: Alias) -> Change:
    return Change("alias", f"{alias.function}:{alias.name}", alias)


def _weights(routing: Mapping[str, Any]) -> dict[str, float]:
    weights: dict[str, float] = routing.get("AdditionalVersionWeights", {})
    if len(weights) > _ADDITIONAL_MAX:
        raise invalid(f"Number of items in AdditionalVersionWeights cannot be greater than {_ADDITIONAL_MAX}")
    return weights


def _check_versions(view: View, place: Place, alias: Alias) -> None:
    """Check that an alias stands for versions that exist, each once."""
    if alias.weights and alias.version == LATEST:
        raise invalid("$LATEST is not supported for an alias pointing to more than 1 version")
    is_provisioned = alias.name in view.provisioned.get(alias.function, {})
    for version in (alias.version, *alias.weights):
        if versions.find(view, place, Target(alias.function, version)).snap_start and is_provisioned:
            raise invalid("Provisioned Concurrency is not supported for SnapStart enabled functions.")
    for version in alias.weights:
        if version == alias.version:
            raise invalid(
                f"Invalid function version {version}. "
                f"Function version {version} is already included in routing configuration."
            )
