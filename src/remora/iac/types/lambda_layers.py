"""
AWS::Lambda::LayerVersion and AWS::Lambda::LayerVersionPermission.

Source: AWS CloudFormation Template Reference, "AWS::Lambda::LayerVersion", "…Permission".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.calls import invalid
from remora.iac.types.base import Made, ResourceType, chosen, known, never_changes, remove
from remora.iac.types.shapes import TEXT, Members
from remora.resources.names import parse_layer

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties


async def _publish(context: Context, properties: Properties) -> Made:
    """Publish a layer version; it is called as the resource is if it has no other name."""
    request = {
        "LayerName": properties.get("LayerName") or context.logical_id,
        "Content": properties["Content"],
        **chosen(properties, "Description", "CompatibleRuntimes", "CompatibleArchitectures", "LicenseInfo"),
    }
    arn = (await context.call("lambda", "PublishLayerVersion", request))["LayerVersionArn"]
    return Made(arn, {"LayerVersionArn": arn})


async def _delete(context: Context, physical_id: str, _: Properties) -> None:
    await remove(context, "lambda", "DeleteLayerVersion", _version(physical_id))


LAYER_VERSION: Final = ResourceType(
    properties=known(
        required=("Content",),
        replacing=(
            *("Content", "CompatibleArchitectures", "CompatibleRuntimes", "Description", "LayerName"),
            "LicenseInfo",
        ),
        shapes={
            "Content": Members({"S3Bucket": TEXT, "S3Key": TEXT}, {"S3ObjectVersion": TEXT}, is_closed=True),
            "LayerName": TEXT,
        },
    ),
    create=_publish,
    update=never_changes,
    delete=_delete,
    attributes=frozenset({"LayerVersionArn"}),
)
"""A layer version, known by its ARN."""


async def _permit(context: Context, properties: Properties) -> Made:
    """Let others use a layer version."""
    request = {
        **_version(properties["LayerVersionArn"]),
        "StatementId": context.token,
        **chosen(properties, "Action", "Principal", "OrganizationId"),
    }
    await context.call("lambda", "AddLayerVersionPermission", request)
    made = _permission_id(context, properties)
    return Made(made, {"Id": made})


def _permission_id(context: Context, properties: Properties) -> str:
    return f"{properties['LayerVersionArn']}#{context.token}"


async def _forbid(context: Context, physical_id: str, _: Properties) -> None:
    arn, statement = physical_id.split("#")
    request = {**_version(arn), "StatementId": statement}
    await remove(context, "lambda", "RemoveLayerVersionPermission", request)


LAYER_VERSION_PERMISSION: Final = ResourceType(
    properties=known(
        required=("LayerVersionArn", "Action", "Principal"),
        replacing=("LayerVersionArn", "Action", "Principal", "OrganizationId"),
        shapes={"LayerVersionArn": TEXT},
    ),
    create=_permit,
    update=never_changes,
    delete=_forbid,
    attributes=frozenset({"Id"}),
    predicted_id=_permission_id,
)
"""A permission for a layer version, known by the version's ARN and the identifier of its statement."""


def _version(text: Any) -> dict[str, Any]:
    """
    Return which layer version an ARN names, as the API is told.

    Raises:
        CallFailed: InvalidRequest: it names none.
    """
    arn = str(text)
    layer = parse_layer(arn)
    if layer.version is None:
        raise invalid(f"#/LayerVersionArn: {arn} is not the ARN of a layer version")
    return {"LayerName": arn.rpartition(":")[0], "VersionNumber": layer.version}
