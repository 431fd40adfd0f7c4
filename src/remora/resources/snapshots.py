"""
The rules of SnapStart: which versions start from a snapshot, and what becomes of theirs.

Source: snapstart specification, sections 2 and 3; AWS Lambda Developer Guide, "Improving startup performance
with Lambda SnapStart".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.resources.names import LATEST
from remora.resources.view import Change
from remora.spec import limits
from remora.spec.errors import ApiError, invalid
from remora.spec.runtimes import SNAPSTART

if TYPE_CHECKING:
    from remora.resources.records import FunctionVersion
    from remora.resources.view import Stamp, View

PUBLISHED_VERSIONS: Final = "PublishedVersions"
UNUSED_MS_MAX: Final = 14 * 24 * 3600 * 1000
"""How long the snapshot of a Java function is kept that nobody uses."""
FAILED: Final = (
    "AWS Lambda could not invoke your SnapStart function. If this error persists, check your function's "
    "CloudWatch logs for initialization errors."
)
_RESTORING: Final = "The function is being restored."


def check_runtime(runtime: str) -> None:
    """
    Check that functions in `runtime` may have SnapStart.

    Raises:
        ApiError: Invalid parameter.
    """
    if runtime not in SNAPSTART:
        raise invalid(f"{runtime} is not supported for SnapStart enabled functions.")


def check_storage(version: FunctionVersion) -> None:
    """
    Check that a function with SnapStart has no more storage than goes with it.

    Raises:
        ApiError: Invalid parameter.
    """
    if version.snap_start and version.ephemeral_mib > limits.EPHEMERAL_MIB_DEFAULT:
        raise invalid(
            f"Ephemeral storage of more than {limits.EPHEMERAL_MIB_DEFAULT} MB is not supported for "
            "SnapStart enabled functions."
        )


def starts_from_snapshot(version: FunctionVersion) -> bool:
    """Tell whether a version's environments are restored; those of `$LATEST` never are."""
    return version.snap_start and version.version != LATEST


def describe(version: FunctionVersion) -> dict[str, str]:
    """Describe SnapStart as the API does; it is on for a version with a snapshot."""
    is_on = version.is_optimized and version.state == "Active"
    return {
        "ApplyOn": PUBLISHED_VERSIONS if version.snap_start else "None",
        "OptimizationStatus": "On" if is_on else "Off",
    }


def refuse_unready(version: FunctionVersion) -> None:
    """
    Refuse to invoke a version that has no snapshot.

    Raises:
        ApiError: A conflict.
    """
    if version.state == "Failed" and starts_from_snapshot(version):
        raise ApiError("ResourceConflictException", FAILED)
    if version.state == "Inactive":
        if version.state_reason_code == "InternalError":
            raise ApiError(
                "SnapStartRegenerationFailureException",
                "Lambda couldn't regenerate the SnapStart snapshot for the function.",
            )
        raise not_ready()


def not_ready() -> ApiError:
    """Make the error of an invocation for which a snapshot has to be taken first."""
    return ApiError(
        "SnapStartNotReadyException",
        "Lambda is initializing your function. You can invoke the function when the function state becomes "
        "Active.",
    )


def untaken(view: View, name: str = "") -> list[FunctionVersion]:
    """Name the versions whose snapshot is to be taken: of one function, or of all, if it is prepared."""
    return [
        version
        for function in ((name,) if name else view.versions)
        for version in view.versions.get(function, {}).values()
        if version.state == "Pending"
        and starts_from_snapshot(version)
        and view.functions[function].latest.state != "Pending"
        and view.functions[function].latest.last_update_status != "InProgress"
    ]


def taken(view: View, version: FunctionVersion, stamp: Stamp, *, is_real: bool) -> list[Change]:
    """
    Note that a version can be invoked.

    Args:
        view: What is known now.
        version: Passed over if it is gone or waits no more.
        stamp: Now.
        is_real: False if there is no snapshot after all: its environments are initialised each time.
    """
    return _ended(
        view,
        version,
        state="Active",
        state_reason=None,
        state_reason_code=None,
        last_update_status="Successful",
        is_optimized=is_real,
        last_used_ms=stamp.wall_ms,
    )


def not_taken(view: View, version: FunctionVersion, code: str, reason: str) -> list[Change]:
    """
    Note that a version's snapshot could not be taken: it has Failed, or is Inactive if it had one before.

    Args:
        view: What is known now.
        version: Passed over if it is gone or waits no more.
        code: One of the model's StateReasonCode values.
        reason: For people.
    """
    if version.last_used_ms:
        return _ended(view, version, state="Inactive", state_reason=reason, state_reason_code="InternalError")
    return _ended(view, version, state="Failed", state_reason=reason, state_reason_code=code)


def _ended(view: View, version: FunctionVersion, **changes: Any) -> list[Change]:
    found = view.versions.get(version.name, {}).get(int(version.version))
    return _changed(view, version, **changes) if found is not None and found.state == "Pending" else []


def retake(view: View, version: FunctionVersion) -> list[Change]:
    """Begin to make the snapshot of a version anew, unless that is so already; it is Pending until then."""
    found = view.versions.get(version.name, {}).get(int(version.version))
    if found is None or found.state not in {"Active", "Inactive"}:
        return []
    return _changed(
        view,
        version,
        state="Pending",
        state_reason=_RESTORING,
        state_reason_code="Restoring",
        is_optimized=False,
    )


def forget(view: View, version: FunctionVersion, now_ms: int) -> list[Change]:
    """Note that a version has no snapshot any more, if it is unused; its next invocation has one made."""
    if version not in unused(view, now_ms):
        return []
    return _changed(
        view,
        version,
        state="Inactive",
        state_reason="The function has not been invoked for a while.",
        state_reason_code="Idle",
        is_optimized=False,
    )


def used(view: View, version: FunctionVersion, now_ms: int) -> list[Change]:
    """Note that a version is used."""
    return _changed(view, version, last_used_ms=now_ms)


def unused(view: View, now_ms: int) -> list[FunctionVersion]:
    """Name the versions in Java that nobody has used for so long that their snapshots go."""
    return [
        version
        for versions in view.versions.values()
        for version in versions.values()
        if version.snap_start
        and version.state == "Active"
        and version.runtime.startswith("java")
        and now_ms - version.last_used_ms > UNUSED_MS_MAX
    ]


def _changed(view: View, version: FunctionVersion, **changes: Any) -> list[Change]:
    number = int(version.version)
    found = view.versions.get(version.name, {}).get(number)
    if found is None or found.without_state() != version.without_state():
        return []
    return [Change("version", f"{version.name}:{number}", msgspec.structs.replace(found, **changes))]
