"""The rules of functions: created, updated, prepared, deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources import snapshots, versions
from remora.resources.configuration import check_total_size, configure, refuse_not_offered
from remora.resources.dates import stamp as write_stamp
from remora.resources.names import LATEST, Place, Target, resolve_function
from remora.resources.records import Function, FunctionVersion
from remora.resources.revisions import check_revision
from remora.resources.signing import check_package
from remora.resources.view import Change, Stamp, View
from remora.spec import limits
from remora.spec.constraints import summary, violation
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remora.resources.configuration import Runtimes
    from remora.resources.layers import Shared
    from remora.resources.packages import Package

Request = dict[str, Any]
Decision = tuple[FunctionVersion, list[Change]]

_CREATING = "The function is being created."


def draft(view: View, place: Place, runtimes: Runtimes, request: Request, shared: Shared) -> FunctionVersion:
    """
    Check a CreateFunction request as far as that is possible without its package.

    Args:
        view: The records.
        place: Region and account of this node.
        runtimes: Which runtimes may be named.
        request: As parsed.
        shared: Layers of other accounts that may be attached.

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
    configured = configure(view, place, runtimes, blank, request, shared=shared)
    check_package(view, request.get("CodeSigningConfigArn", ""))
    if name in view.functions:
        raise ApiError("ResourceConflictException", f"Function already exist: {name}")
    return configured


def create(
    view: View,
    place: Place,
    runtimes: Runtimes,
    request: Request,
    shared: Shared,
    *,
    package: Package,
    stamp: Stamp,
) -> Decision:
    """
    Create a function, Pending until it is prepared; with Publish, and its first version, which is returned.

    Raises:
        ApiError: As `draft`, and for packages that are too large.
    """
    version = _with_package(draft(view, place, runtimes, request, shared), package)
    package.check_storage(view)
    version = _stamped(version, stamp)
    signing = request.get("CodeSigningConfigArn", "")
    record = Function(latest=version, tags=request.get("Tags", {}), code_signing=signing)
    if request.get("Publish"):
        return versions.publication(view, record, stamp, description=None)
    return version, [Change("function", version.name, record)]


def draft_code(view: View, place: Place, request: Request) -> FunctionVersion:
    """
    Check an UpdateFunctionCode request as far as that is possible without its package.

    Raises:
        ApiError: As `update_code`.
    """
    if request.get("ImageUri"):
        raise invalid("Please don't provide ImageUri when updating a function with packageType Zip.")
    refuse_not_offered(request)
    function = _updatable(view, place, request)
    check_package(view, function.code_signing)
    latest = function.latest
    architectures = request.get("Architectures")
    return msgspec.structs.replace(latest, architecture=architectures[0]) if architectures else latest


def update_code(view: View, place: Place, request: Request, package: Package, stamp: Stamp) -> Decision:
    """
    Give a function other code; what runs keeps the old until the new is prepared. A dry run changes nothing.

    Returns:
        `$LATEST`, or with Publish the new version, and the changes.

    Raises:
        ApiError: Not found; a conflict while it is being created or updated; PreconditionFailedException;
            invalid parameters.
    """
    version = _with_package(draft_code(view, place, request), package)
    if request.get("DryRun"):
        return version, []
    package.check_storage(view)
    updating, changes = _update(view, version, stamp)
    if not request.get("Publish"):
        return updating, changes
    function = next(change.record for change in changes if isinstance(change.record, Function))
    published, more = versions.publication(view, function, stamp, description=None)
    return published, more or changes


def update_configuration(
    view: View, place: Place, runtimes: Runtimes, request: Request, shared: Shared, *, stamp: Stamp
) -> Decision:
    """
    Change a function's configuration; members that are absent stay as they are.

    Raises:
        ApiError: As `update_code`.
    """
    function = _updatable(view, place, request)
    if request.get("Layers"):
        check_package(view, function.code_signing)
    version = configure(view, place, runtimes, function.latest, request, shared=shared)
    check_total_size(version)
    return _update(view, version, stamp)


def delete(view: View, place: Place, request: Request) -> tuple[Target, list[Change]]:
    """
    Delete a function with everything that hangs on it, or one version; an unknown version is passed over.

    Returns:
        What was deleted: without a qualifier, all of it; and the changes.

    Raises:
        ApiError: Not found; invalid qualifiers; a conflict while an alias stands for the version.
    """
    target = resolve_function(place, request["FunctionName"], request.get("Qualifier"))
    if target.name not in view.functions:
        raise not_found(f"Function not found: {place.function_arn(target.name)}")
    if target.qualifier is not None:
        return target, versions.delete(view, target)
    return target, [Change("function", target.name, None), *view.of_function(target.name)]


def find(view: View, place: Place, target: Target) -> Function:
    """
    Find the function that a request about `$LATEST`, or the whole of it, names.

    Raises:
        ApiError: Not found.
    """
    function = view.functions.get(target.name)
    if function is None or target.version != LATEST:
        raise not_found(f"Function not found: {place.function_arn(target.name, target.qualifier)}")
    return function


def serving(view: View, version: FunctionVersion) -> FunctionVersion:
    """
    Say what an invocation of a version runs: `$LATEST` is what it was until an update is prepared.

    Raises:
        ApiError: A conflict while it is Pending, or if it has Failed, or has no snapshot any more.
    """
    if version.version == LATEST:
        version = view.functions[version.name].serving or version
    snapshots.refuse_unready(version)
    if version.state in {"Pending", "Failed"}:
        raise versions.wrong_state(version.state)
    return version


def unprepared(view: View) -> list[FunctionVersion]:
    """Name what was being prepared: functions that are Pending or whose update is in progress."""
    return [function.latest for function in view.functions.values() if _is_unprepared(function)]


def _is_unprepared(function: Function) -> bool:
    return function.latest.state == "Pending" or function.latest.last_update_status == "InProgress"


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
    changes: dict[str, Any] = {
        "state": "Active",
        "state_reason": None,
        "state_reason_code": None,
        "last_update_status": "Successful",
        "last_update_status_reason": None,
        "last_update_status_reason_code": None,
        "extra": extra,
    }
    ready = msgspec.structs.replace(function.latest, **changes, revision_id=stamp.revision_id)
    return [
        Change("function", version.name, msgspec.structs.replace(function, latest=ready, serving=None)),
        *_published_with(view, version.name, changes, are_ready=True),
    ]


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
    failed = msgspec.structs.replace(function.latest, **changes)
    return [
        Change("function", version.name, msgspec.structs.replace(function, latest=failed)),
        *_published_with(
            view, version.name, {"state": "Failed", "state_reason": reason, "state_reason_code": code}
        ),
    ]


def _published_with(
    view: View, name: str, changes: dict[str, Any], *, are_ready: bool = False
) -> Iterator[Change]:
    """Let what is published with `$LATEST`'s preparation end as it does; a snapshot takes longer."""
    content = versions.content_of(view.functions[name].latest)
    for number, version in view.versions.get(name, {}).items():
        if are_ready and version.snap_start:
            continue
        if version.state == "Pending" and versions.content_of(version) == content:
            yield Change("version", f"{name}:{number}", msgspec.structs.replace(version, **changes))


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
    versions.check_ready(function.latest)
    check_revision(request, function.latest.revision_id)
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
    """Return the function if it still waits for `version` to be prepared; its revision may have changed."""
    function = view.functions.get(version.name)
    if function is None or not _is_unprepared(function):
        return None
    return function if function.latest.without_state() == version.without_state() else None
