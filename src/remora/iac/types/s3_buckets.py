"""
AWS::S3::Bucket and AWS::S3::BucketPolicy.

Source: AWS CloudFormation Template Reference, "AWS::S3::Bucket", "AWS::S3::BucketPolicy"; S3 API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import (
    Made,
    ResourceType,
    already_exists,
    as_tag_list,
    by_name,
    changed,
    document,
    find,
    known,
    remove,
    tag_map,
    undoing,
)
from remora.iac.types.s3_lifecycle import RULE, rules_of
from remora.iac.types.s3_parts import PARTS
from remora.iac.types.shapes import DOCUMENT, OBJECT, TEXT, Members

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_BUCKET: Final = "AWS::S3::Bucket"
_POLICY: Final = "AWS::S3::BucketPolicy"
_ALIKE: Final = {
    "PublicAccessBlockConfiguration": ("PutPublicAccessBlock", "DeletePublicAccessBlock"),
    "OwnershipControls": ("PutBucketOwnershipControls", "DeleteBucketOwnershipControls"),
}
"""Properties that the API has just so, under the same name: what puts them, what takes them away."""


async def create(context: Context, properties: Properties) -> Made:
    """Create a bucket, and configure it."""
    of = {"Bucket": context.name}
    if await find(context, "s3", "HeadBucket", of) is not None:
        raise already_exists(_BUCKET, context.name)
    region = context.place.region
    where = {} if region == "us-east-1" else {"CreateBucketConfiguration": {"LocationConstraint": region}}
    await context.call("s3", "CreateBucket", {**of, **where})
    async with undoing(lambda: delete(context, context.name, properties)):
        await _configure(context, context.name, {}, properties)
        await _tag(context, context.name, properties)
    return _made(context, context.name)


async def update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Configure a bucket otherwise."""
    await _configure(context, physical_id, former, properties)
    await _tag(context, physical_id, properties)
    return _made(context, physical_id)


async def delete(context: Context, physical_id: str, _: Properties) -> None:
    """Delete a bucket, if there is nothing in it."""
    await remove(context, "s3", "DeleteBucket", {"Bucket": physical_id})


async def _configure(context: Context, name: str, former: Properties, properties: Properties) -> None:
    of = {"Bucket": name}
    for part in changed(former, properties, "VersioningConfiguration"):
        versioning = properties.get(part) or {"Status": "Suspended"}
        await context.call("s3", "PutBucketVersioning", {**of, part: versioning})
    for part in changed(former, properties, "BucketEncryption"):
        if properties.get(part):
            encryption = {"ServerSideEncryptionConfiguration": _encryption(properties[part])}
            await context.call("s3", "PutBucketEncryption", {**of, **encryption})
        else:
            await remove(context, "s3", "DeleteBucketEncryption", of)
    for part in changed(former, properties, *_ALIKE):
        put, take = _ALIKE[part]
        if properties.get(part):
            await context.call("s3", put, {**of, part: properties[part]})
        else:
            await remove(context, "s3", take, of)
    for part in changed(former, properties, *PARTS):
        put, take, request, _ = PARTS[part]
        if properties.get(part) or not take:
            await context.call("s3", put, {**of, **request(properties.get(part) or {})})
        else:
            await remove(context, "s3", take, of)
    for part in changed(former, properties, "LifecycleConfiguration"):
        if properties.get(part):
            rules = {"LifecycleConfiguration": {"Rules": rules_of(properties[part])}}
            await context.call("s3", "PutBucketLifecycleConfiguration", {**of, **rules})
        else:
            await remove(context, "s3", "DeleteBucketLifecycle", of)


def _encryption(given: Any) -> dict[str, Any]:
    renamed = {"ServerSideEncryptionByDefault": "ApplyServerSideEncryptionByDefault"}
    rules = given.get("ServerSideEncryptionConfiguration") or ()
    return {"Rules": [{renamed.get(name, name): value for name, value in rule.items()} for rule in rules]}


async def _tag(context: Context, name: str, properties: Properties) -> None:
    """Give a bucket its tags; all that there were are replaced."""
    tags = as_tag_list(tag_map(context, properties))
    if tags:
        await context.call("s3", "PutBucketTagging", {"Bucket": name, "Tagging": {"TagSet": tags}})
    else:
        await remove(context, "s3", "DeleteBucketTagging", {"Bucket": name})


def _made(context: Context, name: str) -> Made:
    region = context.place.region
    return Made(
        name,
        {
            "Arn": f"arn:aws:s3:::{name}",
            "DomainName": f"{name}.s3.amazonaws.com",
            "DualStackDomainName": f"{name}.s3.dualstack.{region}.amazonaws.com",
            "RegionalDomainName": f"{name}.s3.{region}.amazonaws.com",
            "WebsiteURL": f"http://{name}.s3-website-{region}.amazonaws.com",
        },
    )


BUCKET: Final = ResourceType(
    properties=known(
        *("AccessControl", "BucketEncryption", "LifecycleConfiguration", "OwnershipControls"),
        *("PublicAccessBlockConfiguration", "Tags", "VersioningConfiguration", *PARTS),
        replacing=("BucketName",),
        shapes={
            "BucketEncryption": Members({"ServerSideEncryptionConfiguration": [OBJECT]}, is_closed=True),
            "BucketName": TEXT,
            "LifecycleConfiguration": Members({"Rules": [RULE]}),
            **dict.fromkeys(("OwnershipControls", "PublicAccessBlockConfiguration"), OBJECT),
            "VersioningConfiguration": OBJECT,
            **{name: part.shape for name, part in PARTS.items()},
        },
    ),
    create=create,
    update=update,
    delete=delete,
    attributes=frozenset({"Arn", "DomainName", "DualStackDomainName", "RegionalDomainName", "WebsiteURL"}),
    predicted_id=by_name,
    name_property="BucketName",
    name_length_max=63,
    name_is_lower=True,
)
"""A bucket, known by its name. Who may use one is said by policies: `AccessControl` changes nothing here."""


# --- its policy ---------------------------------------------------------------------------------------------


async def _create_policy(context: Context, properties: Properties) -> Made:
    bucket = str(properties["Bucket"])
    if await find(context, "s3", "GetBucketPolicy", {"Bucket": bucket}) is not None:
        raise already_exists(_POLICY, bucket)
    return await _put_policy(context, properties)


async def _put_policy(context: Context, properties: Properties) -> Made:
    bucket = str(properties["Bucket"])
    policy = {"Bucket": bucket, "Policy": document(properties["PolicyDocument"])}
    await context.call("s3", "PutBucketPolicy", policy)
    return Made(bucket, {})


async def _change_policy(context: Context, _: str, __: Properties, properties: Properties) -> Made:
    return await _put_policy(context, properties)


async def _delete_policy(context: Context, physical_id: str, _: Properties) -> None:
    await remove(context, "s3", "DeleteBucketPolicy", {"Bucket": physical_id})


BUCKET_POLICY: Final = ResourceType(
    properties=known(
        required=("Bucket", "PolicyDocument"),
        replacing=("Bucket",),
        shapes={"Bucket": TEXT, "PolicyDocument": DOCUMENT},
    ),
    create=_create_policy,
    update=_change_policy,
    delete=_delete_policy,
    predicted_id=lambda _, properties: str(properties["Bucket"]),
)
"""The policy of a bucket, known by the bucket's name."""
