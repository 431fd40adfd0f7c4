"""
AWS::SSM::Parameter.

Source: AWS CloudFormation Template Reference, "AWS::SSM::Parameter"; AWS Systems Manager API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.calls import invalid
from remora.iac.types.base import Made, ResourceType, as_tag_list, by_name, chosen, known, remove
from remora.iac.types.shapes import OBJECT, TEXT

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_SETTINGS: Final = ("AllowedPattern", "DataType", "Description", "Policies", "Tier", "Type", "Value")
_TYPES: Final = ("String", "StringList")
"""Secure values are not to stand in templates."""


async def _create(context: Context, properties: Properties) -> Made:
    """Make a parameter."""
    request = {**_request(context.name, properties), "Tags": as_tag_list(_tags(context, properties)) or None}
    await context.call("ssm", "PutParameter", request)
    return _made(context.name, properties)


async def _update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Give a parameter another value and other tags."""
    request = {"Description": "", **_request(physical_id, properties), "Overwrite": True}
    await context.call("ssm", "PutParameter", request)
    of = {"ResourceType": "Parameter", "ResourceId": physical_id}
    tags = _tags(context, properties)
    if keys := [key for key in {**context.former_tags, **_own_tags(former)} if key not in tags]:
        await remove(context, "ssm", "RemoveTagsFromResource", {**of, "TagKeys": keys})
    if tags:
        await context.call("ssm", "AddTagsToResource", {**of, "Tags": as_tag_list(tags)})
    return _made(physical_id, properties)


async def _delete(context: Context, physical_id: str, _: Properties) -> None:
    await remove(context, "ssm", "DeleteParameter", {"Name": physical_id})


def _request(name: str, properties: Properties) -> dict[str, Any]:
    if properties["Type"] not in _TYPES:
        raise invalid(
            f"#/Type: {properties['Type']} is not a valid enum value, which are {', '.join(_TYPES)}"
        )
    return {"Name": name, **chosen(properties, *_SETTINGS)}


def _tags(context: Context, properties: Properties) -> dict[str, str]:
    """Return the tags of a parameter: its own, and those that it has from the stack."""
    return {**context.tags, **_own_tags(properties)}


def _own_tags(properties: Properties) -> dict[str, str]:
    """Return a parameter's own tags, which are a map in templates."""
    return {str(key): str(value) for key, value in (properties.get("Tags") or {}).items()}


def _made(name: str, properties: Properties) -> Made:
    return Made(name, {"Type": str(properties["Type"]), "Value": str(properties["Value"])})


PARAMETER: Final = ResourceType(
    properties=known(
        *("AllowedPattern", "DataType", "Description", "Policies", "Tags", "Tier"),
        required=("Type", "Value"),
        replacing=("Name",),
        shapes={"Name": TEXT, "Tags": OBJECT, "Type": TEXT, "Value": TEXT},
    ),
    create=_create,
    update=_update,
    delete=_delete,
    attributes=frozenset({"Type", "Value"}),
    predicted_id=by_name,
    name_property="Name",
    name_length_max=1011,
)
"""A parameter, known by its name."""
