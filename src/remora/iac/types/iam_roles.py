"""
AWS::IAM::Role, with policies of its own, those that are attached to it, and a boundary.

Source: AWS CloudFormation Template Reference, "AWS::IAM::Role"; IAM API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import (
    Made,
    ResourceType,
    by_name,
    changed,
    chosen,
    document,
    known,
    lost_tags,
    remove,
    tag_list,
    undoing,
)
from remora.iac.types.shapes import DOCUMENT, TEXT, Members

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_POLICIES: Final = ("ManagedPolicyArns", "Policies")
_SESSION_S: Final = 3600
"""Of a role that says nothing of `MaxSessionDuration`."""


async def create(context: Context, properties: Properties) -> Made:
    """Create a role, and give it its policies."""
    request = {
        "RoleName": context.name,
        "AssumeRolePolicyDocument": document(properties["AssumeRolePolicyDocument"]),
        "Tags": tag_list(context, properties) or None,
        **chosen(properties, "Path", "Description", "MaxSessionDuration", "PermissionsBoundary"),
    }
    role = (await context.call("iam", "CreateRole", request))["Role"]
    given: dict[str, list[Any]] = {name: [] for name in _POLICIES}
    async with undoing(lambda: delete(context, context.name, given)):
        for name in _POLICIES:
            for each in properties.get(name) or ():
                await _give(context, context.name, {}, {name: [each]})
                given[name].append(each)
    return _made(role)


async def update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Change who may assume a role, its policies, its settings and tags."""
    of = {"RoleName": physical_id}
    if changed(former, properties, "AssumeRolePolicyDocument"):
        policy = {"PolicyDocument": document(properties["AssumeRolePolicyDocument"])}
        await context.call("iam", "UpdateAssumeRolePolicy", {**of, **policy})
    if changed(former, properties, "Description", "MaxSessionDuration"):
        settings = {
            "Description": properties.get("Description") or "",
            "MaxSessionDuration": properties.get("MaxSessionDuration") or _SESSION_S,
        }
        await context.call("iam", "UpdateRole", {**of, **settings})
    for name in changed(former, properties, "PermissionsBoundary"):
        if properties.get(name):
            await context.call("iam", "PutRolePermissionsBoundary", {**of, name: properties[name]})
        else:
            await remove(context, "iam", "DeleteRolePermissionsBoundary", of)
    await _give(context, physical_id, former, properties)
    if keys := lost_tags(context, former, properties):
        await remove(context, "iam", "UntagRole", {**of, "TagKeys": keys})
    if tags := tag_list(context, properties):
        await context.call("iam", "TagRole", {**of, "Tags": tags})
    return _made((await context.call("iam", "GetRole", of))["Role"])


async def delete(context: Context, physical_id: str, properties: Properties) -> None:
    """Take from a role the policies that it has from the template, and delete it."""
    await _give(context, physical_id, properties, {})
    await remove(context, "iam", "DeleteRole", {"RoleName": physical_id})


async def _give(context: Context, name: str, former: Properties, properties: Properties) -> None:
    """Let a role have the policies of its properties, and no more those of the former ones."""
    of = {"RoleName": name}
    attached, had = (list(each.get("ManagedPolicyArns") or ()) for each in (properties, former))
    for arn in attached:
        if arn not in had:
            await context.call("iam", "AttachRolePolicy", {**of, "PolicyArn": arn})
    for arn in had:
        if arn not in attached:
            await remove(context, "iam", "DetachRolePolicy", {**of, "PolicyArn": arn})
    own, owned = _inline(properties), _inline(former)
    for policy, text in own.items():
        if owned.get(policy) != text:
            await context.call("iam", "PutRolePolicy", {**of, "PolicyName": policy, "PolicyDocument": text})
    for policy in owned:
        if policy not in own:
            await remove(context, "iam", "DeleteRolePolicy", {**of, "PolicyName": policy})


def _inline(properties: Properties) -> dict[str, str]:
    return {each["PolicyName"]: document(each["PolicyDocument"]) for each in properties.get("Policies") or ()}


def _made(role: dict[str, Any]) -> Made:
    return Made(role["RoleName"], {"Arn": role["Arn"], "RoleId": role["RoleId"]})


ROLE: Final = ResourceType(
    properties=known(
        *(
            "Description",
            "ManagedPolicyArns",
            "MaxSessionDuration",
            "PermissionsBoundary",
            "Policies",
            "Tags",
        ),
        required=("AssumeRolePolicyDocument",),
        replacing=("RoleName", "Path"),
        shapes={
            "AssumeRolePolicyDocument": DOCUMENT,
            "ManagedPolicyArns": [TEXT],
            "Policies": [Members({"PolicyName": TEXT, "PolicyDocument": DOCUMENT}, is_closed=True)],
            "RoleName": TEXT,
        },
    ),
    create=create,
    update=update,
    delete=delete,
    attributes=frozenset({"Arn", "RoleId"}),
    predicted_id=by_name,
    name_property="RoleName",
    name_length_max=64,
)
"""A role, known by its name."""
