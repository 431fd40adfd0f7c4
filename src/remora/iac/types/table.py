"""Every type of resource that there may be in a template, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remora.iac.types.iam_roles import ROLE
from remora.iac.types.lambda_functions import FUNCTION
from remora.iac.types.logs import LOG_GROUP
from remora.iac.types.s3_buckets import BUCKET, BUCKET_POLICY

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.iac.types.base import ResourceType

TYPES: Final[Mapping[str, ResourceType]] = {
    "AWS::IAM::Role": ROLE,
    "AWS::Lambda::Function": FUNCTION,
    "AWS::Logs::LogGroup": LOG_GROUP,
    "AWS::S3::Bucket": BUCKET,
    "AWS::S3::BucketPolicy": BUCKET_POLICY,
}
