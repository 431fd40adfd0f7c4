"""The rules of concurrency: what is reserved for a function, and what is provisioned ahead of invocations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from remora.resources import versions
from remora.resources.attachments import ProvisionedConcurrency
from remora.resources.dates import stamp as write_stamp
from remora.resources.names import LATEST, Place, Target, resolve_function
from remora.resources.view import Change, Stamp, View
from remora.spec import limits
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from remora.resources.records import Function

Request = dict[str, Any]


class Account(NamedTuple):
    """How many executions the account may have at once, and how many of them nothing may reserve."""

    limit: int

    @property
    def unreserved_min(self) -> int:
        """AWS keeps 100 of 1,000; a node that allows fewer keeps a tenth."""
        return min(limits.UNRESERVED_EXECUTIONS_MIN, self.limit // 10)


def put_reserved(view: View, place: Place, account: Account, request: Request) -> tuple[int, list[Change]]:
    """
    Reserve concurrency for a function; 0 stops it.

    Raises:
        ApiError: Not found; invalid for versions and aliases, and if too little would be left.
    """
    function = _whole_function(view, place, request, with_latest=True)
    wanted: int = request["ReservedConcurrentExecutions"]
    others = sum(
        other.reserved_concurrency or 0 for other in view.functions.values() if other is not function
    )
    if wanted and account.limit - others - wanted < account.unreserved_min:
        raise invalid(
            "Specified ReservedConcurrentExecutions for function decreases account's "
            f"UnreservedConcurrentExecution below its minimum value of [{account.unreserved_min}]."
        )
    provisioned = provisioned_total(view, function.latest.name)
    if wanted < provisioned:
        raise invalid(
            f" ReservedConcurrentExecutions  {wanted} should not be lower than function's total "
            f"provisioned concurrency [{provisioned}]."
        )
    return wanted, [_changed(function, wanted)]


def get_reserved(view: View, place: Place, request: Request) -> int | None:
    """
    Return what is reserved for a function; None if nothing was said.

    Raises:
        ApiError: Not found; invalid for versions and aliases.
    """
    return _whole_function(view, place, request).reserved_concurrency


def delete_reserved(view: View, place: Place, request: Request) -> list[Change]:
    """
    Reserve nothing for a function any more.

    Raises:
        ApiError: As `get_reserved`.
    """
    return [_changed(_whole_function(view, place, request), None)]


def unreserved(view: View, account: Account) -> int:
    """Return how many executions are left for functions without a reservation."""
    reserved = (function.reserved_concurrency or 0 for function in view.functions.values())
    return account.limit - sum(reserved)


def put_provisioned(
    view: View, place: Place, account: Account, request: Request, stamp: Stamp
) -> tuple[ProvisionedConcurrency, list[Change]]:
    """
    Say how many environments of a version or alias are to be ready.

    Raises:
        ApiError: Not found; invalid for `$LATEST`, for an alias with weights, and above what the function or
            account has; a conflict between an alias and its version.
    """
    target = resolve_function(place, request["FunctionName"], request["Qualifier"])
    if target.version == LATEST:
        raise invalid("Provisioned Concurrency Configs cannot be applied to unpublished function versions.")
    if versions.find_qualified(view, place, target).snap_start:
        raise invalid("Provisioned Concurrency is not supported for SnapStart enabled functions.")
    wanted: int = request["ProvisionedConcurrentExecutions"]
    alias = view.aliases.get(target.name, {}).get(target.version)
    if alias is not None and alias.weights:
        raise invalid("Alias with weights can not be used with Provisioned Concurrency")
    _check_conflicts(view, target)
    _check_room(view, account, target, wanted)
    record = ProvisionedConcurrency(
        function=target.name,
        qualifier=target.version,
        requested=wanted,
        last_modified=write_stamp(stamp.wall_ms),
    )
    return record, [Change("provisioned-concurrency", f"{target.name}:{target.version}", record)]


def get_provisioned(view: View, place: Place, request: Request) -> ProvisionedConcurrency:
    """
    Find what was provisioned.

    Raises:
        ApiError: Not found, the function or the configuration; invalid for `$LATEST`.
    """
    target = _published(view, place, request)
    found = view.provisioned.get(target.name, {}).get(target.version)
    if found is None:
        raise ApiError(
            "ProvisionedConcurrencyConfigNotFoundException",
            "No Provisioned Concurrency Config found for this function",
        )
    return found


def delete_provisioned(view: View, place: Place, request: Request) -> list[Change]:
    """
    Provision nothing any more; where nothing was, nothing changes.

    Raises:
        ApiError: Not found (the function); invalid for `$LATEST`.
    """
    target = _published(view, place, request)
    if target.version not in view.provisioned.get(target.name, {}):
        return []
    return [Change("provisioned-concurrency", f"{target.name}:{target.version}", None)]


def list_provisioned(view: View, place: Place, request: Request) -> dict[str, ProvisionedConcurrency]:
    """
    Return what is provisioned of a function, by qualifier.

    Raises:
        ApiError: Not found.
    """
    target = resolve_function(place, request["FunctionName"])
    if target.name not in view.functions:
        raise not_found(f"Function not found: {place.function_arn(target.name)}")
    return view.provisioned.get(target.name, {})


def provisioned_total(view: View, name: str) -> int:
    """Add up what is provisioned of a function."""
    return sum(config.requested for config in view.provisioned.get(name, {}).values())


def provisioned_shares(view: View, config: ProvisionedConcurrency) -> dict[str, int]:
    """
    Divide what is provisioned among versions: of an alias that got weights since, each has its part.

    Both have at least one environment, if there are two.

    Returns:
        How many environments, by version number; empty if the qualifier stands for nothing.

    Source: API Reference, ProvisionedConcurrencyConfigListItem; Developer Guide, "Configuring provisioned
    concurrency": an alias may get a routing configuration while it is provisioned.
    """
    alias = view.aliases.get(config.function, {}).get(config.qualifier)
    if alias is None:
        return {config.qualifier: config.requested}
    primary, shares = config.requested, {}
    for version, weight in alias.weights.items():
        share = int(config.requested * weight + 0.5)
        if 0 < weight < 1 and config.requested > 1:
            share = min(max(share, 1), config.requested - 1)
        shares[version] = share
        primary -= share
    shares[alias.version] = primary
    return {version: share for version, share in shares.items() if share}


def _whole_function(view: View, place: Place, request: Request, *, with_latest: bool = False) -> Function:
    target = resolve_function(place, request["FunctionName"])
    function = view.functions.get(target.name)
    if function is None:
        qualifier = target.version if with_latest else target.qualifier
        raise not_found(f"Function not found: {place.function_arn(target.name, qualifier)}")
    if target.qualifier is not None:
        raise invalid(
            "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
            "operation. Please specify either a function name or an unqualified function ARN."
        )
    return function


def _changed(function: Function, reserved: int | None) -> Change:
    record = msgspec.structs.replace(function, reserved_concurrency=reserved)
    return Change("function", function.latest.name, record)


def _published(view: View, place: Place, request: Request) -> Target:
    target = resolve_function(place, request["FunctionName"], request["Qualifier"])
    if target.version == LATEST:
        raise invalid("The function resource provided must be an alias or a published version.")
    versions.find_qualified(view, place, target)
    return target


def _check_conflicts(view: View, target: Target) -> None:
    """Check that not both an alias and what it stands for are provisioned."""
    known, aliases = view.provisioned.get(target.name, {}), view.aliases.get(target.name, {})
    alias = aliases.get(target.version)
    if alias is not None and alias.version in known:
        raise ApiError(
            "ResourceConflictException",
            "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
        )
    pointing = [name for name, other in aliases.items() if other.version == target.version]
    if any(name in known for name in pointing):
        raise ApiError("ResourceConflictException", "Version is pointed by a Provisioned Concurrency alias")


def _check_room(view: View, account: Account, target: Target, wanted: int) -> None:
    """Check that the function's reservation, or else the account, has room."""
    before = view.provisioned.get(target.name, {}).get(target.version)
    total = provisioned_total(view, target.name) - (before.requested if before else 0) + wanted
    reserved = view.functions[target.name].reserved_concurrency
    if reserved is not None:
        if total > reserved:
            raise invalid(
                "Requested Provisioned Concurrency should not be greater than the "
                "reservedConcurrentExecution for function"
            )
        return
    elsewhere = sum(
        provisioned_total(view, name)
        for name, function in view.functions.items()
        if name != target.name and function.reserved_concurrency is None
    )
    room = unreserved(view, account) - elsewhere
    if total > room:
        raise invalid(
            "Specified ConcurrentExecutions for function is greater than account's unreserved "
            f"concurrency [{room}]."
        )
    if room - total < account.unreserved_min:
        raise invalid(
            "Specified ConcurrentExecutions for function decreases account's "
            f"UnreservedConcurrentExecution below its minimum value of [{account.unreserved_min}]."
        )
