"""The rules of layers: published, found, listed, deleted, attached to functions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources.dates import stamp as write_stamp
from remora.resources.names import LayerTarget, Place, parse_layer
from remora.resources.paging import page
from remora.resources.records import Layer, LayerReference, LayerVersion
from remora.resources.view import Change, Stamp, View
from remora.spec import limits
from remora.spec.errors import ApiError, invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.resources.packages import Package

Request = dict[str, Any]
Reply = dict[str, Any]
Shared = Mapping[str, LayerReference]
"""Layer versions of other accounts that may be attached, by ARN."""


def resolve_layer(place: Place, text: str) -> LayerTarget:
    """
    Take a LayerName apart and check that it is of this node.

    Raises:
        ApiError: Access denied if it is of another region or account.
    """
    target = parse_layer(text)
    if target.region not in {None, place.region} or target.account not in {None, place.account}:
        raise ApiError("AccessDeniedException", None)
    return target


def publish(
    view: View, place: Place, request: Request, package: Package, stamp: Stamp
) -> tuple[LayerVersion, list[Change]]:
    """
    Publish the next version of a layer; the same content twice still makes two versions.

    Raises:
        ApiError: As `resolve_layer`; CodeStorageExceededException if the account is full.
    """
    name = resolve_layer(place, request["LayerName"]).name
    package.check_storage(view)
    layer = view.layers.get(name) or Layer(name=name)
    number = layer.next_version
    version = LayerVersion(
        name=name,
        version=number,
        arn=place.layer_arn(name, number),
        description=request.get("Description", ""),
        license_info=request.get("LicenseInfo"),
        compatible_runtimes=tuple(request.get("CompatibleRuntimes", ())),
        compatible_architectures=tuple(request.get("CompatibleArchitectures", ())),
        created_date=write_stamp(stamp.wall_ms),
        digest=package.digest,
        code_size_bytes=package.size_bytes,
        unzipped_bytes=package.unzipped_bytes,
    )
    return version, [
        Change("layer", name, msgspec.structs.replace(layer, next_version=number + 1)),
        Change("layer-version", f"{name}:{number}", version),
    ]


def get(view: View, place: Place, layer_name: str, number: int) -> LayerVersion:
    """
    Find a layer version.

    Raises:
        ApiError: Invalid if `number` is below 1, not found if there is none.
    """
    target = resolve_layer(place, layer_name)
    _check_number(number)
    version = view.layer_versions.get(target.name, {}).get(number)
    if version is None:
        raise not_found("The resource you requested does not exist.")
    return version


def get_by_arn(view: View, place: Place, arn: str) -> LayerVersion:
    """
    Find a layer version by its ARN.

    Raises:
        ApiError: As `get`.
    """
    target = parse_layer(arn)
    if target.version is None:
        raise not_found("The resource you requested does not exist.")
    return get(view, place, arn, target.version)


def delete(view: View, place: Place, layer_name: str, number: int) -> list[Change]:
    """
    Delete a layer version; one that does not exist is passed over. Functions that use it keep it.

    Raises:
        ApiError: Invalid if `number` is below 1.
    """
    target = resolve_layer(place, layer_name)
    _check_number(number)
    if number not in view.layer_versions.get(target.name, {}):
        return []
    key = f"{target.name}:{number}"
    policies = (
        [Change("layer-policy", key, None)] if number in view.layer_policies.get(target.name, {}) else []
    )
    return [Change("layer-version", key, None), *policies]


def list_layers(view: View, place: Place, request: Request) -> Reply:
    """List layers by name, each with its newest version that matches the filters."""
    matches = _filter(request)
    newest = {
        name: max(found, key=lambda version: version.version)
        for name, versions in view.layer_versions.items()
        if (found := [version for version in versions.values() if matches(version)])
    }
    names, marker = page(sorted(newest), request.get("Marker"), request.get("MaxItems"))
    return {
        "Layers": [
            {
                "LayerName": name,
                "LayerArn": place.layer_arn(name),
                "LatestMatchingVersion": list_item(newest[name]),
            }
            for name in names
        ],
        "NextMarker": marker,
    }


def list_versions(view: View, place: Place, request: Request) -> Reply:
    """List the versions of a layer that match the filters, newest first; an unknown layer has none."""
    target = resolve_layer(place, request["LayerName"])
    matches = _filter(request)
    found = {
        f"{9_999_999_999 - number:010d}": version
        for number, version in view.layer_versions.get(target.name, {}).items()
        if matches(version)
    }
    keys, marker = page(sorted(found), request.get("Marker"), request.get("MaxItems"))
    return {"LayerVersions": [list_item(found[key]) for key in keys], "NextMarker": marker}


def list_item(version: LayerVersion) -> Reply:
    """Describe a layer version as lists do."""
    return {
        "LayerVersionArn": version.arn,
        "Version": version.version,
        "Description": version.description,
        "CreatedDate": version.created_date,
        "CompatibleRuntimes": list(version.compatible_runtimes) or None,
        "CompatibleArchitectures": list(version.compatible_architectures) or None,
        "LicenseInfo": version.license_info,
    }


def stand_ins(place: Place, arns: Sequence[str]) -> dict[str, LayerReference]:
    """Return something in place of each layer version of other accounts, by ARN: for a trial of the rules."""
    targets = {arn: parse_layer(arn) for arn in arns}
    return {
        arn: LayerReference(
            arn=f"{arn.rpartition(':')[0]}:{target.version}", code_size_bytes=0, digest="", unzipped_bytes=0
        )
        for arn, target in targets.items()
        if target.account not in {None, place.account} and target.version is not None
    }


def missing_layer(arn: str) -> ApiError:
    """Return the error for a layer version that is to be attached, and that there is not."""
    return invalid(f"Layer version {arn} does not exist.")


def attach(view: View, place: Place, arns: list[str], shared: Shared) -> tuple[LayerReference, ...]:
    """
    Turn a request's list of layer version ARNs into references, in order.

    Args:
        view: Where layers are found.
        place: Region and account of this node.
        arns: As given; each matches the model's pattern.
        shared: Those of other accounts; there are no others among `arns`.

    Raises:
        ApiError: InvalidParameterValueException.
    """
    if len(arns) > limits.LAYERS_PER_FUNCTION_MAX:
        raise invalid(f"Cannot reference more than {limits.LAYERS_PER_FUNCTION_MAX} layers.")
    seen: dict[str, str] = {}
    references: list[LayerReference] = []
    for arn in arns:
        target = parse_layer(arn)
        if target.region is not None and target.region != place.region:
            raise invalid(
                "Layers are not in the same region as the function. "
                f"Layers are expected to be in region {place.region}."
            )
        if target.account not in {None, place.account}:
            reference = shared[arn]
        else:
            reference = _reference(view, target, arn)
        layer = reference.arn.rpartition(":")[0]
        if layer in seen:
            raise invalid(
                "Two different versions of the same layer are not allowed to be referenced in the same "
                f"function. {seen[layer]} and {arn} are versions of the same layer."
            )
        seen[layer] = arn
        references.append(reference)
    return tuple(references)


def not_shared(caller: str, arn: str) -> ApiError:
    """Return the error for a layer version of another account that is not shared; `caller` is an ARN."""
    return ApiError(
        "AccessDeniedException",
        f"User: {caller} is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no "
        "resource-based policy allows the lambda:GetLayerVersion action",
    )


def _reference(view: View, target: LayerTarget, arn: str) -> LayerReference:
    version = view.layer_versions.get(target.name, {}).get(target.version or 0)
    if version is None:
        raise missing_layer(arn)
    return LayerReference(
        arn=version.arn,
        code_size_bytes=version.code_size_bytes,
        digest=version.digest,
        unzipped_bytes=version.unzipped_bytes,
    )


def _check_number(number: int) -> None:
    if number < 1:
        raise invalid("Layer Version Cannot be less than 1")


def _filter(request: Request) -> Callable[[LayerVersion], bool]:
    runtime, architecture = request.get("CompatibleRuntime"), request.get("CompatibleArchitecture")

    def matches(version: LayerVersion) -> bool:
        return (runtime is None or runtime in version.compatible_runtimes) and (
            architecture is None or architecture in version.compatible_architectures
        )

    return matches
