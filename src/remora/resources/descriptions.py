"""Functions and layers as the Lambda API shows them."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

from remora.resources import snapshots
from remora.resources.concurrency import Account, unreserved
from remora.resources.functions import find
from remora.resources.names import LATEST, Place, Target, resolve_function
from remora.resources.paging import page
from remora.spec import limits

if TYPE_CHECKING:
    from remora.resources.records import FunctionVersion, LayerVersion
    from remora.resources.view import View

Request = dict[str, Any]
Reply = dict[str, Any]


def code_sha256(digest: str) -> str:
    """Write a hexadecimal SHA-256 as the API does: base64 of its bytes."""
    return base64.b64encode(bytes.fromhex(digest)).decode()


def function_configuration(version: FunctionVersion, qualifier: str | None = None) -> Reply:
    """
    Describe a function version: shape FunctionConfiguration.

    Args:
        version: The record.
        qualifier: As the caller gave it; then the ARN ends in it.
    """
    return {
        **listed_configuration(version, qualifier),
        "State": version.state,
        "StateReason": version.state_reason,
        "StateReasonCode": version.state_reason_code,
        "LastUpdateStatus": version.last_update_status,
        "LastUpdateStatusReason": version.last_update_status_reason,
        "LastUpdateStatusReasonCode": version.last_update_status_reason_code,
        "RuntimeVersionConfig": version.extra.get("RuntimeVersionConfig"),
    }


def listed_configuration(version: FunctionVersion, qualifier: str | None = None) -> Reply:
    """Describe a function version as lists do: without states and runtime version."""
    extra = version.extra
    return {
        "FunctionName": version.name,
        "FunctionArn": version.arn if qualifier is None else f"{version.arn}:{qualifier}",
        "Runtime": version.runtime,
        "Role": version.role,
        "Handler": version.handler,
        "CodeSize": version.code_size_bytes,
        "Description": version.description,
        "Timeout": version.timeout_s,
        "MemorySize": version.memory_mib,
        "LastModified": version.last_modified,
        "CodeSha256": version.code_sha256,
        "Version": version.version,
        "VpcConfig": extra.get("VpcConfig"),
        "DeadLetterConfig": extra.get("DeadLetterConfig"),
        "Environment": {"Variables": version.variables} if version.variables is not None else None,
        "KMSKeyArn": extra.get("KMSKeyArn"),
        "TracingConfig": extra.get("TracingConfig", {"Mode": "PassThrough"}),
        "RevisionId": version.revision_id,
        "Layers": [{"Arn": layer.arn, "CodeSize": layer.code_size_bytes} for layer in version.layers] or None,
        "PackageType": "Zip",
        "Architectures": [version.architecture],
        "EphemeralStorage": {"Size": version.ephemeral_mib},
        "SnapStart": snapshots.describe(version),
        "LoggingConfig": extra.get("LoggingConfig"),
    }


def list_functions(view: View, request: Request) -> Reply:
    """List functions by name; with `FunctionVersion=ALL` every version, with qualified ARNs."""
    found: dict[str, FunctionVersion] = {}
    has_all = request.get("FunctionVersion") == "ALL"
    for name, function in view.functions.items():
        found[name] = function.latest
        if has_all:
            for number, version in view.versions.get(name, {}).items():
                found[f"{name}\0{number:010d}"] = version
    keys, marker = page(sorted(found), request.get("Marker"), request.get("MaxItems"))
    shown = [(found[key], found[key].version if has_all else None) for key in keys]
    return {
        "Functions": [listed_configuration(version, qualifier) for version, qualifier in shown],
        "NextMarker": marker,
    }


def list_versions(view: View, place: Place, request: Request) -> Reply:
    """
    List the versions of a function: `$LATEST`, then the published ones, oldest first.

    Raises:
        ApiError: Not found.
    """
    target = resolve_function(place, request["FunctionName"])
    function = find(view, place, Target(target.name, None))
    found = {f"{number:010d}": version for number, version in view.versions.get(target.name, {}).items()}
    found[LATEST] = function.latest
    keys, marker = page(sorted(found), request.get("Marker"), request.get("MaxItems"))
    shown = [found[key] for key in keys]
    return {
        "Versions": [listed_configuration(version, version.version) for version in shown],
        "NextMarker": marker,
    }


def layer_version(version: LayerVersion, location: str) -> Reply:
    """
    Describe a layer version: shapes PublishLayerVersionResponse and GetLayerVersionResponse.

    Args:
        version: The record.
        location: URL from which the zip can be fetched.
    """
    return {
        "Content": {
            "Location": location,
            "CodeSha256": code_sha256(version.digest),
            "CodeSize": version.code_size_bytes,
        },
        "LayerArn": version.arn.rpartition(":")[0],
        "LayerVersionArn": version.arn,
        "Description": version.description,
        "CreatedDate": version.created_date,
        "Version": version.version,
        "CompatibleRuntimes": list(version.compatible_runtimes) or None,
        "CompatibleArchitectures": list(version.compatible_architectures) or None,
        "LicenseInfo": version.license_info,
    }


def account_settings(view: View, concurrent_executions: int) -> Reply:
    """Describe the account: its limits and what it uses."""
    return {
        "AccountLimit": {
            "TotalCodeSize": limits.TOTAL_CODE_BYTES_MAX,
            "CodeSizeUnzipped": limits.UNZIPPED_BYTES_MAX,
            "CodeSizeZipped": limits.ZIP_INLINE_BYTES_MAX,
            "ConcurrentExecutions": concurrent_executions,
            "UnreservedConcurrentExecutions": unreserved(view, Account(concurrent_executions)),
        },
        "AccountUsage": {
            "TotalCodeSize": view.total_code_bytes(),
            "FunctionCount": len(view.functions),
        },
    }
