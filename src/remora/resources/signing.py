"""
The rules of code signing configurations: made, shown, given to functions.

No package that comes to a node was signed by AWS Signer, so each one fails the check that a configuration
asks for: with the policy Warn it is taken all the same, with Enforce it is refused, as AWS refuses what is
not signed.

Source: AWS Lambda Developer Guide, "Using code signing to verify code integrity with Lambda".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources import versions
from remora.resources.dates import stamp as write_stamp
from remora.resources.names import PARTITION, Place, Target, resolve_function
from remora.resources.paging import page
from remora.resources.records import CodeSigningConfig, Function
from remora.resources.view import Change, Stamp, View
from remora.spec import limits
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping

Request = dict[str, Any]
Reply = dict[str, Any]
Decision = tuple[CodeSigningConfig, list[Change]]


def create(_: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Make a configuration.

    Raises:
        ApiError: Invalid if there are too many tags.
    """
    identifier = f"csc-{stamp.revision_id.replace('-', '')[:17]}"
    config = CodeSigningConfig(
        arn=f"arn:{PARTITION}:lambda:{place.region}:{place.account}:code-signing-config:{identifier}",
        publishers=tuple(request["AllowedPublishers"]["SigningProfileVersionArns"]),
        policy=_policy(request, "Warn"),
        description=request.get("Description", ""),
        last_modified=write_stamp(stamp.wall_ms),
        tags=_checked(request.get("Tags", {})),
    )
    return config, [_put(config)]


def find(view: View, arn: str) -> CodeSigningConfig:
    """
    Find a configuration.

    Raises:
        ApiError: Not found.
    """
    config = view.signing_configs.get(arn)
    if config is None:
        raise not_found(f"The Lambda code signing configuration {arn} can not be found.")
    return config


def update(view: View, request: Request, stamp: Stamp) -> Decision:
    """
    Change a configuration; members that are absent stay as they are.

    Raises:
        ApiError: Not found.
    """
    former = find(view, request["CodeSigningConfigArn"])
    publishers = request.get("AllowedPublishers", {}).get("SigningProfileVersionArns", former.publishers)
    config = msgspec.structs.replace(
        former,
        publishers=tuple(publishers),
        policy=_policy(request, former.policy),
        description=request.get("Description", former.description),
        last_modified=write_stamp(stamp.wall_ms),
    )
    return config, [_put(config)]


def delete(view: View, arn: str) -> list[Change]:
    """
    Delete a configuration that no function has.

    Raises:
        ApiError: Not found; a conflict.
    """
    config = find(view, arn)
    if _functions(view, arn):
        text = f"The code signing configuration {arn} is in use: delete it from all functions first."
        raise ApiError("ResourceConflictException", text)
    return [Change("code-signing-config", config.arn, None)]


def list_configs(view: View, request: Request) -> Reply:
    """List configurations, one page."""
    known = view.signing_configs
    arns, marker = page(sorted(known), request.get("Marker"), request.get("MaxItems"))
    return {"CodeSigningConfigs": [describe(known[arn]) for arn in arns], "NextMarker": marker}


def list_functions(view: View, request: Request) -> Reply:
    """
    List the functions that have a configuration, one page.

    Raises:
        ApiError: Not found.
    """
    found = _functions(view, find(view, request["CodeSigningConfigArn"]).arn)
    arns, marker = page(found, request.get("Marker"), request.get("MaxItems"))
    return {"FunctionArns": list(arns), "NextMarker": marker}


def describe(config: CodeSigningConfig) -> Reply:
    """Describe a configuration: shape CodeSigningConfig."""
    return {
        "CodeSigningConfigId": config.arn.rpartition(":")[2],
        "CodeSigningConfigArn": config.arn,
        "Description": config.description or None,
        "AllowedPublishers": {"SigningProfileVersionArns": list(config.publishers)},
        "CodeSigningPolicies": {"UntrustedArtifactOnDeployment": config.policy},
        "LastModified": config.last_modified,
    }


# --- of functions -------------------------------------------------------------------------------------------


def give(view: View, place: Place, request: Request) -> tuple[Reply, list[Change]]:
    """
    Give a function a configuration; it counts from the next package on.

    Raises:
        ApiError: Not found; CodeSigningConfigNotFoundException; a conflict while the function is updated.
    """
    function = _function(view, place, request)
    arn = _existing(view, request["CodeSigningConfigArn"]).arn
    versions.check_no_update(function.latest)
    reply = {"CodeSigningConfigArn": arn, "FunctionName": function.latest.name}
    return reply, [_changed(function, arn)]


def of_function(view: View, place: Place, request: Request) -> Reply:
    """
    Tell a function's configuration; an empty reply if it has none.

    Raises:
        ApiError: Not found.
    """
    function = _function(view, place, request)
    if not function.code_signing:
        return {}
    return {"CodeSigningConfigArn": function.code_signing, "FunctionName": function.latest.name}


def take(view: View, place: Place, request: Request) -> list[Change]:
    """
    Take its configuration from a function; one that has none is passed over.

    Raises:
        ApiError: Not found; a conflict while the function is updated.
    """
    function = _function(view, place, request)
    versions.check_no_update(function.latest)
    return [_changed(function, "")] if function.code_signing else []


def check_package(view: View, arn: str) -> None:
    """
    Check that a function with a configuration may get a package, or layers; none of them are signed.

    Args:
        view: What is known.
        arn: The configuration; empty if there is none.

    Raises:
        ApiError: CodeSigningConfigNotFoundException, CodeVerificationFailedException.
    """
    if arn and _existing(view, arn).policy == "Enforce":
        raise ApiError(
            "CodeVerificationFailedException",
            "The code signature failed one or more of the validation checks for signature mismatch or "
            "expiry, and the code signing policy is set to ENFORCE. Lambda blocks the deployment.",
        )


# --- tags ---------------------------------------------------------------------------------------------------


def is_config(resource: str) -> bool:
    """Tell if an ARN is a configuration's."""
    return ":code-signing-config:" in resource


def with_tags(config: CodeSigningConfig, tags: Mapping[str, str]) -> Change:
    """
    Give a configuration other tags.

    Raises:
        ApiError: Invalid if there are too many.
    """
    return _put(msgspec.structs.replace(config, tags=_checked(tags)))


def _checked(tags: Mapping[str, str]) -> dict[str, str]:
    if len(tags) > limits.TAGS_PER_FUNCTION_MAX:
        raise invalid("Number of tags exceeds resource tag limit.")
    return dict(tags)


# --- parts --------------------------------------------------------------------------------------------------


def _policy(request: Request, former: str) -> str:
    found: str = request.get("CodeSigningPolicies", {}).get("UntrustedArtifactOnDeployment", former)
    return found


def _existing(view: View, arn: str) -> CodeSigningConfig:
    config = view.signing_configs.get(arn)
    if config is None:
        raise ApiError(
            "CodeSigningConfigNotFoundException",
            "The code signing configuration cannot be found. "
            f"Check that the provided configuration is not deleted: {arn}.",
        )
    return config


def _function(view: View, place: Place, request: Request) -> Function:
    name = resolve_function(place, request["FunctionName"]).name
    versions.find(view, place, Target(name, None))
    return view.functions[name]


def _functions(view: View, arn: str) -> list[str]:
    return sorted(each.latest.arn for each in view.functions.values() if each.code_signing == arn)


def _changed(function: Function, arn: str) -> Change:
    record = msgspec.structs.replace(function, code_signing=arn)
    return Change("function", function.latest.name, record)


def _put(config: CodeSigningConfig) -> Change:
    return Change("code-signing-config", config.arn, config)
