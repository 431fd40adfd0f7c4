"""
AWS::IAM::Policy, which is a part of roles, and AWS::IAM::ManagedPolicy, which is attached to them.

Source: AWS CloudFormation Template Reference, "AWS::IAM::Policy", "AWS::IAM::ManagedPolicy".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.calls import invalid
from remora.iac.types.base import Made, ResourceType, changed, chosen, document, find, known, remove, undoing
from remora.iac.types.shapes import DOCUMENT, TEXT

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_SHAPES: Final = {
    **{name: [TEXT] for name in ("Groups", "Roles", "Users")},
    **dict.fromkeys(("ManagedPolicyName", "Path", "PolicyName"), TEXT),
    "PolicyDocument": DOCUMENT,
}
_VERSIONS_MAX: Final = 5
"""Of a managed policy. Source: "IAM and AWS STS quotas"."""


# --- policies of roles' own ---------------------------------------------------------------------------------


async def _put(context: Context, properties: Properties) -> Made:
    """Give roles a policy of their own."""
    _check(properties)
    async with undoing(lambda: _take(context, context.name, properties)):
        await _put_at(context, properties)
    return Made(str(properties["PolicyName"]), {})


async def _change(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Give roles the policy as it is now, and take it from those that have it no more."""
    _check(properties)
    await _put_at(context, properties)
    is_renamed = former["PolicyName"] != properties["PolicyName"]
    gone = [role for role in _roles(former) if is_renamed or role not in _roles(properties)]
    await _take(context, physical_id, {**former, "Roles": gone})
    return Made(physical_id, {})


async def _take(context: Context, _: str, properties: Properties) -> None:
    for role in _roles(properties):
        request = {"RoleName": role, "PolicyName": properties["PolicyName"]}
        await remove(context, "iam", "DeleteRolePolicy", request)


async def _put_at(context: Context, properties: Properties) -> None:
    policy = {
        "PolicyName": properties["PolicyName"],
        "PolicyDocument": document(properties["PolicyDocument"]),
    }
    for role in _roles(properties):
        await context.call("iam", "PutRolePolicy", {"RoleName": role, **policy})


def _check(properties: Properties) -> None:
    """
    Check for whom a policy of somebody's own is.

    Raises:
        CallFailed: InvalidRequest if it is for nobody, or not only for roles.
    """
    _check_others(properties)
    if not _roles(properties):
        raise invalid("At least one of [Groups,Roles,Users] must be non-empty")


def _check_others(properties: Properties) -> None:
    """
    Check that a policy is for roles only: there is nobody else here.

    Raises:
        CallFailed: InvalidRequest.
    """
    for name in ("Groups", "Users"):
        if properties.get(name):
            raise invalid(f"#/{name}: this node has roles, but no users or groups")


def _roles(properties: Properties) -> list[str]:
    return [str(role) for role in properties.get("Roles") or ()]


POLICY: Final = ResourceType(
    properties=known("Groups", "Roles", "Users", required=("PolicyDocument", "PolicyName"), shapes=_SHAPES),
    create=_put,
    update=_change,
    delete=_take,
    predicted_id=lambda _, properties: str(properties["PolicyName"]),
)
"""A policy of roles' own, known by its name: which is that of the first one, if it is renamed."""


# --- managed policies ---------------------------------------------------------------------------------------


async def _create(context: Context, properties: Properties) -> Made:
    """Make a policy, and attach it to roles."""
    _check_others(properties)
    request = {
        "PolicyName": context.name,
        "PolicyDocument": document(properties["PolicyDocument"]),
        **chosen(properties, "Path", "Description"),
    }
    policy = (await context.call("iam", "CreatePolicy", request))["Policy"]
    arn = policy["Arn"]
    async with undoing(lambda: _delete(context, arn, properties)):
        for role in _roles(properties):
            await context.call("iam", "AttachRolePolicy", {"RoleName": role, "PolicyArn": arn})
    return await _made(context, arn)


async def _update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Let a policy say something else, and attach it to other roles."""
    _check_others(properties)
    if changed(former, properties, "PolicyDocument"):
        await _say(context, physical_id, document(properties["PolicyDocument"]))
    roles, had = _roles(properties), _roles(former)
    for role in roles:
        if role not in had:
            await context.call("iam", "AttachRolePolicy", {"RoleName": role, "PolicyArn": physical_id})
    for role in had:
        if role not in roles:
            await remove(context, "iam", "DetachRolePolicy", {"RoleName": role, "PolicyArn": physical_id})
    return await _made(context, physical_id)


async def _delete(context: Context, physical_id: str, properties: Properties) -> None:
    """Detach a policy from the roles of the template, and delete it with all its versions."""
    of = {"PolicyArn": physical_id}
    for role in _roles(properties):
        await remove(context, "iam", "DetachRolePolicy", {"RoleName": role, **of})
    for version in await _others(context, physical_id):
        await remove(context, "iam", "DeletePolicyVersion", {**of, "VersionId": version})
    await remove(context, "iam", "DeletePolicy", of)


async def _say(context: Context, arn: str, text: str) -> None:
    """Make a new version the default; the oldest one goes if there are too many."""
    others = await _others(context, arn)
    if len(others) >= _VERSIONS_MAX - 1:
        oldest = min(others, key=lambda version: int(version.removeprefix("v")))
        await remove(context, "iam", "DeletePolicyVersion", {"PolicyArn": arn, "VersionId": oldest})
    request = {"PolicyArn": arn, "PolicyDocument": text, "SetAsDefault": True}
    await context.call("iam", "CreatePolicyVersion", request)


async def _others(context: Context, arn: str) -> list[str]:
    """Return the versions of a policy but its default; none if there is no such policy."""
    found = await find(context, "iam", "ListPolicyVersions", {"PolicyArn": arn}) or {"Versions": ()}
    return [version["VersionId"] for version in found["Versions"] if not version["IsDefaultVersion"]]


async def _made(context: Context, arn: str) -> Made:
    policy: dict[str, Any] = (await context.call("iam", "GetPolicy", {"PolicyArn": arn}))["Policy"]
    return Made(
        arn,
        {
            "PolicyArn": arn,
            "PolicyId": policy["PolicyId"],
            "AttachmentCount": policy["AttachmentCount"],
            "DefaultVersionId": policy["DefaultVersionId"],
            "IsAttachable": policy["IsAttachable"],
            "PermissionsBoundaryUsageCount": policy["PermissionsBoundaryUsageCount"],
        },
    )


MANAGED_POLICY: Final = ResourceType(
    properties=known(
        *("Groups", "Roles", "Users"),
        required=("PolicyDocument",),
        replacing=("ManagedPolicyName", "Path", "Description"),
        shapes=_SHAPES,
    ),
    create=_create,
    update=_update,
    delete=_delete,
    attributes=frozenset(
        {"PolicyArn", "PolicyId", "AttachmentCount", "DefaultVersionId", "IsAttachable"}
        | {"PermissionsBoundaryUsageCount"}
    ),
    predicted_id=lambda context, properties: context.place.policy_arn(
        context.name, str(properties.get("Path") or "/")
    ),
    name_property="ManagedPolicyName",
    name_length_max=128,
)
"""A managed policy, known by its ARN."""
