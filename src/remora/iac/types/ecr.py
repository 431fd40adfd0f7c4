"""
AWS::ECR::Repository.

Source: AWS CloudFormation Template Reference, "AWS::ECR::Repository"; Amazon ECR API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import (
    Made,
    ResourceType,
    by_name,
    changed,
    document,
    known,
    lost_tags,
    remove,
    tag_list,
    undoing,
)
from remora.iac.types.shapes import BOOLEAN, DOCUMENT, OBJECT, TEXT, Members

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_EXCLUSIONS: Final = "ImageTagMutabilityExclusionFilters"


async def _create(context: Context, properties: Properties) -> Made:
    """Make a repository, and give it its policies."""
    settings = ("EncryptionConfiguration", "ImageScanningConfiguration", "ImageTagMutability", _EXCLUSIONS)
    request = {
        "repositoryName": context.name,
        "tags": tag_list(context, properties) or None,
        **{_lowered(name): _members(properties[name]) for name in settings if properties.get(name)},
    }
    repository = (await context.call("ecr", "CreateRepository", request))["repository"]
    async with undoing(lambda: _delete(context, context.name, properties)):
        await _set_policies(context, context.name, {}, properties)
    return _made(repository)


async def _update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Change what a repository is told, and its tags."""
    of = {"repositoryName": physical_id}
    if changed(former, properties, "ImageScanningConfiguration"):
        scanning = _members(properties.get("ImageScanningConfiguration") or {"ScanOnPush": False})
        request = {**of, "imageScanningConfiguration": scanning}
        await context.call("ecr", "PutImageScanningConfiguration", request)
    if changed(former, properties, "ImageTagMutability", _EXCLUSIONS):
        request = {
            **of,
            "imageTagMutability": properties.get("ImageTagMutability") or "MUTABLE",
            _lowered(_EXCLUSIONS): _members(properties.get(_EXCLUSIONS)) or None,
        }
        await context.call("ecr", "PutImageTagMutability", request)
    await _set_policies(context, physical_id, former, properties)
    found = await context.call("ecr", "DescribeRepositories", {"repositoryNames": [physical_id]})
    made = _made(found["repositories"][0])
    tagged = {"resourceArn": made.attributes["Arn"]}
    if keys := lost_tags(context, former, properties):
        await remove(context, "ecr", "UntagResource", {**tagged, "tagKeys": keys})
    if tags := tag_list(context, properties):
        await context.call("ecr", "TagResource", {**tagged, "tags": tags})
    return made


async def _delete(context: Context, physical_id: str, properties: Properties) -> None:
    request = {"repositoryName": physical_id, "force": properties.get("EmptyOnDelete")}
    await remove(context, "ecr", "DeleteRepository", request)


async def _set_policies(context: Context, name: str, former: Properties, properties: Properties) -> None:
    of = {"repositoryName": name}
    if changed(former, properties, "RepositoryPolicyText"):
        if policy := properties.get("RepositoryPolicyText"):
            await context.call("ecr", "SetRepositoryPolicy", {**of, "policyText": document(policy)})
        else:
            await remove(context, "ecr", "DeleteRepositoryPolicy", of)
    if changed(former, properties, "LifecyclePolicy"):
        if text := (properties.get("LifecyclePolicy") or {}).get("LifecyclePolicyText"):
            await context.call("ecr", "PutLifecyclePolicy", {**of, "lifecyclePolicyText": document(text)})
        else:
            await remove(context, "ecr", "DeleteLifecyclePolicy", of)


def _members(value: Any) -> Any:
    """Return a value with the names of its members as the API has them."""
    if isinstance(value, dict):
        return {_lowered(name): _members(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_members(item) for item in value]
    return value


def _lowered(name: str) -> str:
    return name[:1].lower() + name[1:]


def _made(repository: dict[str, Any]) -> Made:
    attributes = {"Arn": repository["repositoryArn"], "RepositoryUri": repository["repositoryUri"]}
    return Made(repository["repositoryName"], attributes)


REPOSITORY: Final = ResourceType(
    properties=known(
        *("EmptyOnDelete", "ImageScanningConfiguration", "ImageTagMutability", _EXCLUSIONS),
        *("LifecyclePolicy", "RepositoryPolicyText", "Tags"),
        replacing=("RepositoryName", "EncryptionConfiguration"),
        shapes={
            "EmptyOnDelete": BOOLEAN,
            "EncryptionConfiguration": OBJECT,
            "ImageScanningConfiguration": OBJECT,
            _EXCLUSIONS: [OBJECT],
            "LifecyclePolicy": Members(
                optional={"LifecyclePolicyText": DOCUMENT, "RegistryId": TEXT}, is_closed=True
            ),
            "RepositoryName": TEXT,
            "RepositoryPolicyText": DOCUMENT,
        },
    ),
    create=_create,
    update=_update,
    delete=_delete,
    attributes=frozenset({"Arn", "RepositoryUri"}),
    predicted_id=by_name,
    name_property="RepositoryName",
    name_length_max=256,
    name_is_lower=True,
)
"""A repository, known by its name."""
