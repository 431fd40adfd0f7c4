"""What a request may say about a function's configuration, and the record that comes of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from remora.resources import snapshots
from remora.resources.layers import attach
from remora.spec import limits, variables
from remora.spec.errors import invalid
from remora.spec.runtimes import DEPRECATED

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.resources.layers import Shared
    from remora.resources.names import Place
    from remora.resources.records import FunctionVersion
    from remora.resources.view import View

Request = dict[str, Any]
_encode = msgspec.json.Encoder().encode


class Runtimes(NamedTuple):
    """
    Which runtime identifiers there are.

    Args:
        known: All that the API's model lists.
        offered: Those that this node can run.
    """

    known: tuple[str, ...]
    offered: tuple[str, ...]


_NOT_OFFERED = {
    "AcceleratorConfig": "Accelerators",
    "CapacityProviderConfig": "Capacity providers",
    "DurableConfig": "Durable functions",
    "FileSystemConfigs": "File systems",
    "ImageConfig": "Container images",
    "ImageUri": "Container images",
    "PublishTo": "Capacity providers",
    "RuntimeConfig": "Customer-managed runtimes",
    "SourceKMSKeyArn": "Packages encrypted with a customer's key",
    "TenancyConfig": "Tenant isolation",
}


_UNABLE = (
    "Lambda was unable to configure your environment variables because the environment variables "
    "you have provided"
)


def refuse_not_offered(request: Mapping[str, Any]) -> None:
    """
    Refuse what this node does not do, rather than leave it out without a word.

    Raises:
        ApiError: Invalid parameter, naming the member.
    """
    for member, subject in _NOT_OFFERED.items():
        if request.get(member):
            raise invalid(f"{subject} are not offered by this node: remove {member}.")
    if request.get("PackageType", "Zip") != "Zip":
        raise invalid("Container images are not offered by this node: use PackageType Zip.")
    if request.get("S3ObjectStorageMode", "COPY") != "COPY":
        raise invalid("S3ObjectStorageMode REFERENCE is not offered by this node: use COPY.")


def configure(
    view: View, place: Place, runtimes: Runtimes, base: FunctionVersion, request: Request, *, shared: Shared
) -> FunctionVersion:
    """
    Apply the members of a request to a function's configuration; members that are absent change nothing.

    Args:
        view: Where layers are found.
        place: Region and account of this node.
        runtimes: Which runtimes may be named.
        base: The configuration so far.
        request: Parsed CreateFunction or UpdateFunctionConfiguration request.
        shared: Layers of other accounts that may be attached.

    Raises:
        ApiError: InvalidParameterValueException and its likes.
    """
    refuse_not_offered(request)
    changes: dict[str, Any] = {}
    for member, name in _PLAIN.items():
        if member in request:
            changes[name] = request[member]
    if apply_on := request.get("SnapStart", {}).get("ApplyOn"):
        changes["snap_start"] = apply_on == snapshots.PUBLISHED_VERSIONS
    if changes.get("snap_start", base.snap_start):
        snapshots.check_runtime(request.get("Runtime", base.runtime))
    if "Runtime" in request:
        check_runtime(runtimes, request["Runtime"])
    if "EphemeralStorage" in request:
        changes["ephemeral_mib"] = request["EphemeralStorage"]["Size"]
    if "Environment" in request:
        changes["variables"] = _variables(request["Environment"].get("Variables", {}))
    if "Layers" in request:
        changes["layers"] = attach(view, place, request["Layers"], shared)
    changes["extra"] = _extra(base, request)
    configured = msgspec.structs.replace(base, **changes)
    snapshots.check_storage(configured)
    return configured


_PLAIN = {
    "Role": "role",
    "Handler": "handler",
    "Runtime": "runtime",
    "Timeout": "timeout_s",
    "MemorySize": "memory_mib",
    "Description": "description",
}


def check_runtime(runtimes: Runtimes, name: str) -> None:
    """
    Check that functions may use the runtime called `name`.

    Raises:
        ApiError: Invalid parameter: no such runtime, deprecated, or not on this node.
    """
    if name not in runtimes.known:
        raise invalid(
            f"Value {name} at 'runtime' failed to satisfy constraint: Member must satisfy enum value set: "
            f"[{', '.join(runtimes.known)}] or be a valid ARN"
        )
    if name in DEPRECATED:
        raise invalid(
            f"The runtime parameter of {name} is no longer supported for creating or updating AWS Lambda "
            "functions. We recommend you use a supported runtime while creating or updating functions."
        )
    if name not in runtimes.offered:
        raise invalid(
            f"The runtime {name} is not offered by this node. "
            f"It offers: {', '.join(runtimes.offered) or 'none'}"
        )


def check_total_size(version: FunctionVersion) -> None:
    """
    Check that code and layers together are small enough.

    Raises:
        ApiError: Invalid parameter, with the actual size.
    """
    total = version.code_unzipped_bytes + sum(layer.unzipped_bytes for layer in version.layers)
    if total > limits.UNZIPPED_BYTES_MAX:
        raise invalid(
            "Function code combined with layers exceeds the maximum allowed size of "
            f"{limits.UNZIPPED_BYTES_MAX} bytes. The actual size is {total} bytes."
        )


def _variables(given: dict[str, str]) -> dict[str, str] | None:
    """Check environment variables; none at all counts as never set."""
    reserved = [key for key in given if key in variables.RESERVED]
    if reserved:
        raise invalid(
            f"{_UNABLE} contains reserved keys that are currently not supported for modification. "
            f"Reserved keys used in this request: {', '.join(reserved)}"
        )
    measured = _encode(given)
    if len(measured) > limits.VARIABLES_BYTES_MAX:
        raise invalid(f"{_UNABLE} exceeded the 4KB limit. String measured: {measured.decode()}")
    for key, value in given.items():
        if "\0" in value:
            raise invalid(f"The value of environment variable {key} contains a zero byte.")
    return given or None


def _extra(base: FunctionVersion, request: Request) -> dict[str, object]:
    """Keep what is stored and echoed only."""
    extra = dict(base.extra)
    if mode := request.get("TracingConfig", {}).get("Mode"):
        extra["TracingConfig"] = {"Mode": mode}
    if "DeadLetterConfig" in request:
        _set_or_clear(extra, "DeadLetterConfig", request["DeadLetterConfig"], "TargetArn")
    if "KMSKeyArn" in request:
        _set_or_clear(extra, "KMSKeyArn", request["KMSKeyArn"])
    if "VpcConfig" in request:
        extra["VpcConfig"] = _vpc(request["VpcConfig"])
        if not extra["VpcConfig"]:
            del extra["VpcConfig"]
    if "LoggingConfig" in request or "LoggingConfig" not in extra:
        extra["LoggingConfig"] = _logging(base, request.get("LoggingConfig", {}))
    return extra


def _set_or_clear(extra: dict[str, object], member: str, value: Any, inner: str | None = None) -> None:
    if value.get(inner) if inner else value:
        extra[member] = value
    else:
        extra.pop(member, None)


def _vpc(given: Mapping[str, Any]) -> dict[str, object]:
    subnets, groups = given.get("SubnetIds", []), given.get("SecurityGroupIds", [])
    if not subnets and not groups:
        return {}
    return {
        "SubnetIds": subnets,
        "SecurityGroupIds": groups,
        "VpcId": "",
        "Ipv6AllowedForDualStack": given.get("Ipv6AllowedForDualStack", False),
    }


def _logging(base: FunctionVersion, given: Mapping[str, str]) -> dict[str, str]:
    """Merge a LoggingConfig: levels exist with format JSON only, where they default to INFO."""
    before = base.extra.get("LoggingConfig")
    merged: dict[str, str] = {"LogFormat": "Text", "LogGroup": f"/aws/lambda/{base.name}"}
    if isinstance(before, dict):
        merged.update(before)
    levels = ("ApplicationLogLevel", "SystemLogLevel")
    if given.get("LogFormat", merged["LogFormat"]) == "Text" and any(level in given for level in levels):
        raise invalid("To set ApplicationLogLevel or SystemLogLevel, LogFormat must be JSON.")
    merged.update(given)
    for level in levels:
        if merged["LogFormat"] == "JSON":
            merged.setdefault(level, "INFO")
        else:
            merged.pop(level, None)
    return merged
