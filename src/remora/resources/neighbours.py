"""What the services next to Lambda keep: buckets, objects, roles and their likes."""

from __future__ import annotations

from typing import Any

import msgspec


class Bucket(msgspec.Struct, frozen=True, kw_only=True):
    """A bucket of S3."""

    name: str
    created_ms: int
    """Milliseconds since 1970."""
    settings: dict[str, Any] = {}
    """What was set, by its name in queries: members as the model has them; the policy is a text."""


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """An object in a bucket; its bytes are a file named by their digest."""

    bucket: str
    key: str
    digest: str
    """SHA-256 of the content, hexadecimal."""
    size_bytes: int
    etag: str
    """Without the quotation marks: MD5 of the content, hexadecimal, or `md5-of-md5s-parts`."""
    modified_ms: int
    headers: dict[str, str] = {}
    """What the uploader said about it: Content-Type and its likes, `x-amz-meta-…`, checksums; lower case."""
    tags: dict[str, str] = {}


class UploadedPart(msgspec.Struct, frozen=True):
    """One part of a multipart upload."""

    digest: str
    size_bytes: int
    etag: str


class Upload(msgspec.Struct, frozen=True, kw_only=True):
    """A multipart upload that is neither completed nor aborted."""

    upload_id: str
    bucket: str
    key: str
    begun_ms: int
    headers: dict[str, str] = {}
    tags: dict[str, str] = {}
    parts: dict[int, UploadedPart] = {}


class Role(msgspec.Struct, frozen=True, kw_only=True):
    """
    A role of IAM.

    Source: shape Role of the IAM model.
    """

    name: str
    role_id: str
    """`AROA` and 17 more letters and digits."""
    path: str
    created_ms: int
    trust_policy: str
    """JSON, as it was given."""
    description: str = ""
    max_session_s: int = 3600
    tags: dict[str, str] = {}
    inline: dict[str, str] = {}
    """Policies that belong to the role alone: JSON by name."""
    attached: dict[str, str] = {}
    """Names of managed policies, by ARN."""
    boundary: str = ""
    """ARN of the managed policy that says what it may do at most; empty if none does."""


class PolicyVersion(msgspec.Struct, frozen=True):
    """What a managed policy says, or said: JSON, as it was given."""

    document: str
    created_ms: int


class ManagedPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """
    A policy of IAM that the account manages itself.

    Source: shape Policy of the IAM model.
    """

    name: str
    policy_id: str
    """`ANPA` and 17 more letters and digits."""
    path: str
    created_ms: int
    updated_ms: int
    description: str = ""
    tags: dict[str, str] = {}
    versions: dict[str, PolicyVersion]
    """By identifier: `v1`, `v2`; the identifier of one that was deleted does not come back."""
    next_version: int = 2
    default: str = "v1"
    """The version that counts."""

    @property
    def document(self) -> str:
        """What it says."""
        return self.versions[self.default].document


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Credentials of a role, given out for a time."""

    access_key: str
    secret: str
    token: str
    role: str
    """Name of the role."""
    user_id: str
    """Role identifier, colon, session name."""
    arn: str
    """`arn:aws:sts::…:assumed-role/…`."""
    expires_ms: int
    policies: tuple[str, ...] = ()
    """What it may do at most, if any are given: JSON, or the ARN of a managed policy."""


class Parameter(msgspec.Struct, frozen=True, kw_only=True):
    """
    A parameter of Systems Manager.

    Source: shape Parameter of the SSM model.
    """

    name: str
    type: str
    value: str
    """Of a SecureString as the vault sealed it."""
    version: int
    modified_ms: int
    description: str = ""
    data_type: str = "text"
    tags: dict[str, str] = {}


class Repository(msgspec.Struct, frozen=True, kw_only=True):
    """
    A repository of ECR, without images.

    Source: shape Repository of the ECR model.
    """

    name: str
    created_ms: int
    mutability: str = "MUTABLE"
    exclusions: list[dict[str, str]] = []
    """Tags that it does not hold for: members of ImageTagMutabilityExclusionFilter."""
    scans_on_push: bool = False
    encryption: dict[str, str] = {}
    """Members of EncryptionConfiguration; empty: AES256."""
    tags: dict[str, str] = {}
    policy: str = ""
    """JSON, as it was given; empty if there is none."""
    lifecycle_policy: str = ""
    """JSON, as it was given; empty if there is none."""
