"""
Who may use a function URL with the type of authentication NONE: the function's own policy says it. Pure.

Source: control-plane specification, B.13; AWS Lambda Developer Guide, "Control access to Lambda function
URLs".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from remora.auth.policy import Question, Verdict, judge_resource

if TYPE_CHECKING:
    from collections.abc import Iterable

INVOKE_URL: Final = "lambda:InvokeFunctionUrl"

_SCOPE: Final = re.compile(
    rb"AWS4-HMAC-SHA256 +Credential=([^/,\s]+)/\d{8}/([a-z0-9-]+)/lambda/aws4_request *,"
    rb".*Signature=[0-9a-f]{64}"
)


def context_of(auth_type: str, source_ip: str) -> dict[str, str]:
    """Return the condition keys of a request to a URL, `NONE` or `AWS_IAM`, and where it came from."""
    context = {"lambda:functionurlauthtype": auth_type, "lambda:invokedviafunctionurl": "true"}
    return {**context, "aws:sourceip": source_ip} if source_ip else context


def is_open(statements: Iterable[dict[str, Any]], resource: str, source_ip: str) -> bool:
    """Tell whether a policy lets everybody use the URL of `resource`, a function's or alias's ARN."""
    question = Question(INVOKE_URL, resource, context=context_of("NONE", source_ip))
    return judge_resource(statements, question) is Verdict.ALLOW


def signer(authorization: bytes | None, region: str) -> str | None:
    """
    Return the access key that a request claims to be signed with for Lambda in `region`; None without one.

    For nodes that take any key: the signature is not verified.
    """
    match = _SCOPE.match(authorization or b"")
    if match is None or match[2].decode() != region:
        return None
    return match[1].decode("latin-1")
