"""The rules of functions: created, updated, prepared, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources.configuration import check_total_size, configure, refuse_not_offered
from remora.resources.dates import stamp as write_stamp
from remora.resources.names import LATEST, Place, Target, resolve_function
from remora.resources.records import Function, FunctionVersion
from remora.resources.view import Change, Stamp, View
from remora.spec import limits
from remora.spec.constraints import summary, violation
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from remora.resources.configuration import Runtimes
    from remora.resources.packages import Package

Request = dict[str, Any]
Decision = tuple[FunctionVersion, list[Change]]

_CREATING = "The function is being created."


def draft(view: View, place: Place, runtimes: Runtimes, request: Request) -> FunctionVersion:
    """
    Check a CreateFunction request as far as that is possible without its package.

    Returns:
        The function as it would be, Pending, without code.

    Raises:
        ApiError: InvalidParameterValueException and its likes; ResourceConflictException if it exists.
    """
    name = _new_name(place, request["FunctionName"])
    refuse_not_offered({**request, **request["Code"]})
    if not request.get("Runtime") or not request.get("Handler"):
        raise invalid(
            "Runtime and Handler are mandatory parameters for functions created with deployment packages."
        )
    if len(request.get("Tags", {})) > limits.TAGS_PER_FUNCTION_MAX:
        raise invalid("Number of tags exceeds resource tag limit.")
    blank = FunctionVersion(
        name=name,
        version=LATEST,
        arn=place.function_arn(name),
        runtime="",
        handler="",
        role="",
        timeout_s=limits.TIMEOUT_S_DEFAULT,
        memory_mib=limits.MEMORY_MIB_DEFAULT,
        ephemeral_mib=limits.EPHEMERAL_MIB_DEFAULT,
        description="",
        variables=None,
        layers=(),
        architecture=request.get("Architectures", ["x86_64"])[0],
        code_digest="",
        code_size_bytes=0,
        code_unzipped_bytes=0,
        revision_id="",
        last_modified="",
        state="Pending",
        state_reason=_CREATING,
        state_reason_code="Creating",
    )
    configured = configure(view, place, runtimes, blank, request)
    if name in view.functions:
        raise ApiError("ResourceConflictException", f"Function already exist: {name}")
    return configured


def create(
    view: View, place: Place, runtimes: Runtimes, request: Request, *, package: Package, stamp: Stamp
) -> Decision:
    """
    Create a function, Pending until it is prepared.

    Raises:
        ApiError: As `draft`, and for packages that are too large.
    """
    version = _with_package(draft(view, place, runtimes, request), package)
    package.check_storage(view)
    version = _stamped(version, stamp)
    return version, [Change("function", version.name, Function(latest=version, tags=request.get("Tags", {})))]


def draft_code(view: View, place: Place, request: Request) -> FunctionVersion:
    """
    Check an UpdateFunctionCode request as far as that is possible without its package.

    Raises:
        ApiError: As `update_code`.
    """
    if request.get("ImageUri"):
        raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
    refuse_not_offered(request)
    latest = _updatable(view, place, request).latest
    architectures = request.get("Architectures")
    return msgspec.structs.replace(latest, architecture=architectures[0]) if architectures else latest


def update_code(view: View, place: Place, request: Request, package: Package, stamp: Stamp) -> Decision:
    """
    Give a function other code; what runs keeps the old until the new is prepared. A dry run changes nothing.

    Raises:
        ApiError: Not found; a conflict while it is being created or updated; PreconditionFailedException;
            invalid parameters.
    """
    version = _with_package(draft_code(view, place, request), package)
    if request.get("DryRun"):
        return version, []
    package.check_storage(view)
    return _update(view, version, stamp)


def update_configuration(
    view: View, place: Place, runtimes: Runtimes, request: Request, stamp: Stamp
) -> Decision:
    """
    Change a function's configuration; members that are absent stay as they are.

    Raises:
        ApiError: As `update_code`.
    """
    latest = _updatable(view, place, request).latest
    version = configure(view, place, runtimes, latest, request)
    check_total_size(version)
    return _update(view, version, stamp)


def delete(view: View, place: Place, request: Request) -> tuple[str | None, list[Change]]:
    """
    Delete a function; a version that does not exist is passed over.

    Returns:
        The ARN of the function if it is gone now, and the changes.

    Raises:
        ApiError: Not found, or invalid qualifiers.
    """
    target = resolve_function(place, request["FunctionName"], request.get("Qualifier"))
    if target.name not in view.functions:
        raise not_found(f"Function not found: {place.function_arn(target.name)}")
    if target.qualifier is None:
        return place.function_arn(target.name), [Change("function", target.name, None)]
    if target.qualifier == LATEST:
        raise invalid("$LATEST version cannot be deleted without deleting the function.")
    if not target.qualifier.isdigit():
        raise invalid("Deletion of aliases is not currently supported.")
    return None, []


def find(view: View, place: Place, target: Target, *, with_latest: bool = False) -> Function:
    """
    Find the function that a request is about.

    Args:
        view: Where to look.
        place: Region and account of this node.
        target: Name and qualifier.
        with_latest: True if the message names `$LATEST` when no qualifier was given (as Invoke does).

    Raises:
        ApiError: Not found.
    """
    function = view.functions.get(target.name)
    if function is None or target.version != LATEST:
        qualifier = target.version if with_latest else target.qualifier
        raise not_found(f"Function not found: {place.function_arn(target.name, qualifier)}")
    return function


def serving(function: Function) -> FunctionVersion:
    """
    Say what an invocation of `$LATEST` runs.

    Raises:
        ApiError: A conflict while it is Pending, or if it has Failed.
    """
    version = function.serving or function.latest
    if version.state in {"Pending", "Failed"}:
        raise _wrong_state(version.state)
    return version


def unprepared(view: View) -> list[FunctionVersion]:
    """Name what was being prepared: functions that are Pending or whose update is in progress."""
    return [
        function.latest
        for function in view.functions.values()
        if function.latest.state == "Pending" or function.latest.last_update_status == "InProgress"
    ]


def prepared(view: View, version: FunctionVersion, runtime_version_arn: str, stamp: Stamp) -> list[Change]:
    """
    Note that a function has been prepared: Pending becomes Active, an update Successful.

    Args:
        view: What is known now.
        version: What was prepared; passed over if the function has changed or gone since.
        runtime_version_arn: Of the runtime that was found; empty for `provided.*`.
        stamp: Now.
    """
    function = _same(view, version)
    if function is None:
        return []
    extra = dict(version.extra)
    extra.pop("RuntimeVersionConfig", None)
    if runtime_version_arn:
        extra["RuntimeVersionConfig"] = {"RuntimeVersionArn": runtime_version_arn}
    ready = msgspec.structs.replace(
        version,
        state="Active",
        state_reason=None,
        state_reason_code=None,
        last_update_status="Successful",
        last_update_status_reason=None,
        last_update_status_reason_code=None,
        revision_id=stamp.revision_id,
        extra=extra,
    )
    return [Change("function", version.name, msgspec.structs.replace(function, latest=ready, serving=None))]


def unpreparable(view: View, version: FunctionVersion, code: str, reason: str, stamp: Stamp) -> list[Change]:
    """
    Note that a function could not be prepared: Pending becomes Failed, an update too; what served goes on.

    Args:
        view: What is known now.
        version: What was to be prepared; passed over if the function has changed or gone since.
        code: One of the model's StateReasonCode values.
        reason: For people: what was attempted and what to do.
        stamp: Now.
    """
    function = _same(view, version)
    if function is None:
        return []
    changes: dict[str, Any] = {"revision_id": stamp.revision_id}
    if version.state == "Pending":
        changes |= {"state": "Failed", "state_reason": reason, "state_reason_code": code}
    else:
        changes |= {
            "last_update_status": "Failed",
            "last_update_status_reason": reason,
            "last_update_status_reason_code": code,
        }
    failed = msgspec.structs.replace(version, **changes)
    return [Change("function", version.name, msgspec.structs.replace(function, latest=failed))]


def _new_name(place: Place, text: str) -> str:
    target = resolve_function(place, text)
    if len(target.name) > limits.FUNCTION_NAME_CHARACTERS_MAX:
        constraint = f"Member must have length less than or equal to {limits.FUNCTION_NAME_CHARACTERS_MAX}"
        raise invalid(summary([violation("functionName", target.name, constraint)]))
    if target.qualifier not in {None, LATEST}:
        raise invalid("A function is created without a version or alias: remove the qualifier from its name.")
    return target.name


def _with_package(version: FunctionVersion, package: Package) -> FunctionVersion:
    loaded = msgspec.structs.replace(
        version,
        code_digest=package.digest,
        code_size_bytes=package.size_bytes,
        code_unzipped_bytes=package.unzipped_bytes,
    )
    check_total_size(loaded)
    return loaded


def _stamped(version: FunctionVersion, stamp: Stamp) -> FunctionVersion:
    return msgspec.structs.replace(
        version, revision_id=stamp.revision_id, last_modified=write_stamp(stamp.wall_ms)
    )


def _updatable(view: View, place: Place, request: Request) -> Function:
    """Find a function and check that it may be updated now, by a caller who has seen its last revision."""
    function = find(view, place, resolve_function(place, request["FunctionName"]))
    latest = function.latest
    if latest.state in {"Pending", "Failed"}:
        raise _wrong_state(latest.state)
    if latest.last_update_status == "InProgress":
        raise ApiError(
            "ResourceConflictException",
            "The operation cannot be performed at this time. "
            f"An update is in progress for resource: {latest.arn}",
        )
    revision = request.get("RevisionId")
    if revision is not None and revision != latest.revision_id:
        raise ApiError(
            "PreconditionFailedException",
            "The Revision Id provided does not match the latest Revision Id. "
            "Call the GetFunction/GetAlias API to retrieve the latest Revision Id",
        )
    return function


def _update(view: View, version: FunctionVersion, stamp: Stamp) -> Decision:
    """Put an update in progress; the reason texts are those of a creation, as on AWS."""
    function = view.functions[version.name]
    updating = msgspec.structs.replace(
        _stamped(version, stamp),
        last_update_status="InProgress",
        last_update_status_reason=_CREATING,
        last_update_status_reason_code="Creating",
    )
    record = msgspec.structs.replace(function, latest=updating, serving=function.serving or function.latest)
    return updating, [Change("function", version.name, record)]


def _same(view: View, version: FunctionVersion) -> Function | None:
    function = view.functions.get(version.name)
    return function if function and function.latest.revision_id == version.revision_id else None


def _wrong_state(state: str) -> ApiError:
    return ApiError(
        "ResourceConflictException",
        "The operation cannot be performed at this time. "
        f"The function is currently in the following state: {state}",
    )
