"""
AWS's managed policies that functions' roles usually carry: what they allow of the services a node offers.

Source: AWS Managed Policy Reference Guide, each policy's page. An ARN that is not here allows nothing.
"""

from __future__ import annotations

from typing import Any, Final

_WRITE_LOGS: Final = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:PutLogEvents"]


def _allow(*actions: str) -> list[dict[str, Any]]:
    return [{"Effect": "Allow", "Action": list(actions), "Resource": "*"}]


MANAGED: Final[dict[str, list[dict[str, Any]]]] = {
    "arn:aws:iam::aws:policy/AdministratorAccess": _allow("*"),
    "arn:aws:iam::aws:policy/AWSLambda_FullAccess": _allow("lambda:*", "logs:*", "cloudwatch:*"),
    "arn:aws:iam::aws:policy/AWSLambda_ReadOnlyAccess": _allow("lambda:Get*", "lambda:List*"),
    "arn:aws:iam::aws:policy/AmazonS3FullAccess": _allow("s3:*"),
    "arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess": _allow("s3:Get*", "s3:List*"),
    "arn:aws:iam::aws:policy/AmazonSSMReadOnlyAccess": _allow("ssm:Get*", "ssm:Describe*"),
    "arn:aws:iam::aws:policy/CloudWatchLogsFullAccess": _allow("logs:*"),
    "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole": _allow(*_WRITE_LOGS),
    "arn:aws:iam::aws:policy/service-role/AWSLambdaRole": _allow("lambda:InvokeFunction"),
}
"""Statements by the policy's ARN."""
