"""
AWS's managed policies that functions' roles usually carry: what they allow of the services a node offers.

Source: AWS Managed Policy Reference Guide, each policy's page. An ARN that is not here allows nothing.
"""

from __future__ import annotations

from typing import Any, Final

Statement = dict[str, Any]

_WRITE_LOGS: Final = ("logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents")
_READ_LOGS: Final = ("logs:Describe*", "logs:FilterLogEvents", "logs:Get*", "logs:List*")
_LOOK_AT_LAMBDA: Final = (
    *("cloudwatch:GetMetricData", "cloudwatch:ListMetrics", "iam:GetPolicy", "iam:GetPolicyVersion"),
    *("iam:GetRole", "iam:GetRolePolicy", "iam:ListAttachedRolePolicies", "iam:ListRolePolicies"),
    *("iam:ListRoles", "logs:DescribeLogGroups"),
)
_LOOK_AT_STACKS: Final = (
    *("cloudformation:Describe*", "cloudformation:Detect*", "cloudformation:EstimateTemplateCost"),
    *("cloudformation:Get*", "cloudformation:List*", "cloudformation:ValidateTemplate"),
)
_LOOK_AT_IMAGES: Final = (
    *("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:Describe*", "ecr:Get*", "ecr:List*"),
)


def _allow(*actions: str, on: str = "*", **more: Any) -> Statement:
    return {"Effect": "Allow", "Action": list(actions), "Resource": on, **more}


_LAMBDA_LOGS: Final = _allow(
    *("logs:DescribeLogStreams", "logs:FilterLogEvents", "logs:GetLogEvents"),
    on="arn:aws:logs:*:*:log-group:/aws/lambda/*",
)
_PASS_TO_LAMBDA: Final = _allow(
    "iam:PassRole", Condition={"StringEquals": {"iam:PassedToService": "lambda.amazonaws.com"}}
)
_BY_NAME: Final[dict[str, list[Statement]]] = {
    "AdministratorAccess": [_allow("*")],
    "AWSCloudFormationFullAccess": [_allow("cloudformation:*")],
    "AWSCloudFormationReadOnlyAccess": [_allow(*_LOOK_AT_STACKS)],
    "AWSLambdaExecute": [
        _allow("logs:*", on="arn:aws:logs:*:*:*"),
        _allow("s3:GetObject", "s3:PutObject", on="arn:aws:s3:::*"),
    ],
    "AWSLambda_FullAccess": [_allow(*_LOOK_AT_LAMBDA, "lambda:*"), _PASS_TO_LAMBDA, _LAMBDA_LOGS],
    "AWSLambda_ReadOnlyAccess": [_allow(*_LOOK_AT_LAMBDA, "lambda:Get*", "lambda:List*"), _LAMBDA_LOGS],
    "AmazonEC2ContainerRegistryFullAccess": [_allow("ecr:*")],
    "AmazonEC2ContainerRegistryReadOnly": [_allow(*_LOOK_AT_IMAGES)],
    "AmazonS3FullAccess": [_allow("s3:*")],
    "AmazonS3ReadOnlyAccess": [_allow("s3:Describe*", "s3:Get*", "s3:List*")],
    "AmazonSSMFullAccess": [_allow("logs:*", "ssm:*")],
    "AmazonSSMReadOnlyAccess": [_allow("ssm:Describe*", "ssm:Get*", "ssm:List*")],
    "CloudWatchLogsFullAccess": [_allow("logs:*")],
    "CloudWatchLogsReadOnlyAccess": [_allow(*_READ_LOGS)],
    "CloudWatchReadOnlyAccess": [
        _allow("cloudwatch:Describe*", "cloudwatch:Get*", "cloudwatch:List*", *_READ_LOGS)
    ],
    "IAMFullAccess": [_allow("iam:*")],
    "IAMReadOnlyAccess": [_allow("iam:Get*", "iam:List*")],
    "PowerUserAccess": [
        {"Effect": "Allow", "NotAction": ["account:*", "iam:*", "organizations:*"], "Resource": "*"},
        _allow("iam:ListRoles"),
    ],
    "ReadOnlyAccess": [
        _allow(
            *(f"{service}:{verb}*" for service in ("iam", "lambda", "s3") for verb in ("Get", "List")),
            *(
                f"{service}:{verb}*"
                for service in ("cloudwatch", "ssm")
                for verb in ("Describe", "Get", "List")
            ),
            *(*_LOOK_AT_STACKS, *_LOOK_AT_IMAGES, *_READ_LOGS, "sts:GetCallerIdentity"),
        )
    ],
    "service-role/AWSLambdaBasicExecutionRole": [_allow(*_WRITE_LOGS)],
    "service-role/AWSLambdaDynamoDBExecutionRole": [_allow(*_WRITE_LOGS)],
    "service-role/AWSLambdaKinesisExecutionRole": [_allow(*_WRITE_LOGS)],
    "service-role/AWSLambdaRole": [_allow("lambda:InvokeFunction")],
    "service-role/AWSLambdaSQSQueueExecutionRole": [_allow(*_WRITE_LOGS)],
    "service-role/AWSLambdaVPCAccessExecutionRole": [_allow(*_WRITE_LOGS)],
}

MANAGED: Final = {f"arn:aws:iam::aws:policy/{name}": policy for name, policy in _BY_NAME.items()}
"""Statements by the policy's ARN."""
