"""Every type of resource that there may be in a template, by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from remora.iac.types.ecr import REPOSITORY
from remora.iac.types.iam_policies import MANAGED_POLICY, POLICY
from remora.iac.types.iam_roles import ROLE
from remora.iac.types.lambda_access import PERMISSION, URL
from remora.iac.types.lambda_events import EVENT_INVOKE_CONFIG
from remora.iac.types.lambda_functions import FUNCTION
from remora.iac.types.lambda_layers import LAYER_VERSION, LAYER_VERSION_PERMISSION
from remora.iac.types.lambda_signing import CODE_SIGNING_CONFIG
from remora.iac.types.lambda_versions import ALIAS, VERSION
from remora.iac.types.logs import LOG_GROUP
from remora.iac.types.others import KMS_ALIAS, KMS_KEY, METADATA, WAIT_CONDITION_HANDLE
from remora.iac.types.s3_buckets import BUCKET, BUCKET_POLICY
from remora.iac.types.ssm import PARAMETER

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.iac.types.base import ResourceType

TYPES: Final[Mapping[str, ResourceType]] = {
    "AWS::CDK::Metadata": METADATA,
    "AWS::CloudFormation::WaitConditionHandle": WAIT_CONDITION_HANDLE,
    "AWS::ECR::Repository": REPOSITORY,
    "AWS::IAM::ManagedPolicy": MANAGED_POLICY,
    "AWS::IAM::Policy": POLICY,
    "AWS::IAM::Role": ROLE,
    "AWS::KMS::Alias": KMS_ALIAS,
    "AWS::KMS::Key": KMS_KEY,
    "AWS::Lambda::Alias": ALIAS,
    "AWS::Lambda::CodeSigningConfig": CODE_SIGNING_CONFIG,
    "AWS::Lambda::EventInvokeConfig": EVENT_INVOKE_CONFIG,
    "AWS::Lambda::Function": FUNCTION,
    "AWS::Lambda::LayerVersion": LAYER_VERSION,
    "AWS::Lambda::LayerVersionPermission": LAYER_VERSION_PERMISSION,
    "AWS::Lambda::Permission": PERMISSION,
    "AWS::Lambda::Url": URL,
    "AWS::Lambda::Version": VERSION,
    "AWS::Logs::LogGroup": LOG_GROUP,
    "AWS::S3::Bucket": BUCKET,
    "AWS::S3::BucketPolicy": BUCKET_POLICY,
    "AWS::SSM::Parameter": PARAMETER,
}
