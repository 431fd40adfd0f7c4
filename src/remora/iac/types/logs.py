"""
AWS::Logs::LogGroup.

Source: AWS CloudFormation Template Reference, "AWS::Logs::LogGroup"; CloudWatch Logs API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import (
    Made,
    ResourceType,
    by_name,
    changed,
    known,
    lost_tags,
    remove,
    tag_map,
    undoing,
)
from remora.iac.types.shapes import TEXT

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties


async def create(context: Context, properties: Properties) -> Made:
    """Create a log group."""
    request = {
        "logGroupName": context.name,
        "kmsKeyId": properties.get("KmsKeyId"),
        "logGroupClass": properties.get("LogGroupClass"),
        "tags": tag_map(context, properties) or None,
    }
    await context.call("logs", "CreateLogGroup", request)
    async with undoing(lambda: delete(context, context.name, properties)):
        await _retain(context, context.name, {}, properties)
    return _made(context, context.name)


async def update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Change how long lines are kept, and tags."""
    await _retain(context, physical_id, former, properties)
    of = {"resourceArn": _arn(context, physical_id)}
    if keys := lost_tags(context, former, properties):
        await remove(context, "logs", "UntagResource", {**of, "tagKeys": keys})
    if tags := tag_map(context, properties):
        await context.call("logs", "TagResource", {**of, "tags": tags})
    return _made(context, physical_id)


async def delete(context: Context, physical_id: str, _: Properties) -> None:
    """Delete the group with what was written."""
    await remove(context, "logs", "DeleteLogGroup", {"logGroupName": physical_id})


async def _retain(context: Context, name: str, former: Properties, properties: Properties) -> None:
    of: dict[str, Any] = {"logGroupName": name}
    for member in changed(former, properties, "RetentionInDays"):
        if properties.get(member) is None:
            await context.call("logs", "DeleteRetentionPolicy", of)
        else:
            days = {"retentionInDays": properties[member]}
            await context.call("logs", "PutRetentionPolicy", {**of, **days})


def _arn(context: Context, name: str) -> str:
    return f"arn:aws:logs:{context.place.region}:{context.place.account}:log-group:{name}"


def _made(context: Context, name: str) -> Made:
    return Made(name, {"Arn": f"{_arn(context, name)}:*"})


LOG_GROUP: Final = ResourceType(
    properties=known(
        "RetentionInDays",
        "Tags",
        replacing=("LogGroupName", "KmsKeyId", "LogGroupClass"),
        shapes={"LogGroupName": TEXT},
    ),
    create=create,
    update=update,
    delete=delete,
    attributes=frozenset({"Arn"}),
    predicted_id=by_name,
    name_property="LogGroupName",
    name_length_max=512,
)
"""A log group, known by its name."""
