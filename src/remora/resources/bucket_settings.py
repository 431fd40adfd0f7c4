"""
Settings of buckets: which there are, what S3 says of one that is not set, and how they change.

They are kept and shown, so that deploy tools find what they set. Nothing else comes of them: objects have one
version and do not expire, and who may do what is decided by the callers' policies alone.

Source: Amazon S3 API Reference, the operations on buckets, and "Error responses".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.resources.buckets import S3Error, find_bucket
from remora.resources.view import Change, View

if TYPE_CHECKING:
    from collections.abc import Mapping


class Setting(NamedTuple):
    """
    One setting.

    Args:
        put: The operation that sets it, `PutBucketVersioning`; empty if this node cannot do what it asks for.
        missing: Code and text of the refusal if it is not set; empty if it is shown with nothing in it.
        is_deletable: False if it can only be set to something else.
        unset: What is shown of one that is not set.
    """

    put: str
    missing: tuple[str, str] | tuple[()] = ()
    is_deletable: bool = True
    unset: Mapping[str, Any] = {}


SETTINGS: Final[Mapping[str, Setting]] = {
    "accelerate": Setting("PutBucketAccelerateConfiguration", is_deletable=False),
    "cors": Setting("PutBucketCors", ("NoSuchCORSConfiguration", "The CORS configuration does not exist")),
    "encryption": Setting(
        "PutBucketEncryption",
        (
            "ServerSideEncryptionConfigurationNotFoundError",
            "The server side encryption configuration was not found",
        ),
    ),
    "lifecycle": Setting(
        "PutBucketLifecycleConfiguration",
        ("NoSuchLifecycleConfiguration", "The lifecycle configuration does not exist"),
    ),
    "logging": Setting("PutBucketLogging", is_deletable=False),
    "notification": Setting("PutBucketNotificationConfiguration", is_deletable=False),
    "object-lock": Setting(
        "",
        (
            "ObjectLockConfigurationNotFoundError",
            "Object Lock configuration does not exist for this bucket",
        ),
        is_deletable=False,
    ),
    "ownershipControls": Setting(
        "PutBucketOwnershipControls",
        ("OwnershipControlsNotFoundError", "The bucket ownership controls were not found"),
    ),
    "publicAccessBlock": Setting(
        "PutPublicAccessBlock",
        ("NoSuchPublicAccessBlockConfiguration", "The public access block configuration was not found"),
    ),
    "replication": Setting(
        "",
        (
            "ReplicationConfigurationNotFoundError",
            "The replication configuration was not found",
        ),
    ),
    "requestPayment": Setting("PutBucketRequestPayment", is_deletable=False, unset={"Payer": "BucketOwner"}),
    "tagging": Setting("PutBucketTagging", ("NoSuchTagSet", "The TagSet does not exist")),
    "versioning": Setting("PutBucketVersioning", is_deletable=False),
    "website": Setting(
        "",
        ("NoSuchWebsiteConfiguration", "The specified bucket does not have a website configuration"),
    ),
}
"""By the name that they have in queries; the policy of a bucket is not among them."""

POLICY: Final = "policy"
"""The bucket's policy among its settings: a text."""


def find_setting(view: View, bucket: str, name: str) -> Any:
    """
    Return what a setting of a bucket is.

    Raises:
        S3Error: If there is no such bucket, or it is not set and S3 has an error for that.
    """
    found = find_bucket(view, bucket).settings.get(name)
    if found is not None:
        return found
    if name == POLICY:
        raise S3Error("NoSuchBucketPolicy", "The bucket policy does not exist", 404)
    setting = SETTINGS[name]
    if setting.missing:
        code, text = setting.missing
        raise S3Error(code, text, 404)
    return setting.unset


def put_setting(view: View, bucket: str, name: str, value: Any) -> list[Change]:
    """
    Set what a setting of a bucket is; None deletes it.

    Raises:
        S3Error: If there is no such bucket.
    """
    found = find_bucket(view, bucket)
    settings = {key: kept for key, kept in found.settings.items() if key != name}
    if value is not None:
        settings[name] = value
    return [Change("bucket", bucket, msgspec.structs.replace(found, settings=settings))]
