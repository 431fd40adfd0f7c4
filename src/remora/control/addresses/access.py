"""
Who may use a function URL without keys: with the type of authentication NONE, or where a node takes any key.

Source: control-plane specification, B.13; AWS Lambda Developer Guide, "Control access to Lambda function
URLs".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.auth.policy import Question, Verdict, judge_resource
from remora.auth.sigv4 import SignatureError, Signed, read_claim
from remora.control.addresses.requests import Signer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remora.http.exchange import Exchange
    from remora.resources.names import Place

INVOKE_URL: Final = "lambda:InvokeFunctionUrl"


def context_of(auth_type: str, source_ip: str) -> dict[str, str]:
    """Return the condition keys of a request to a URL, `NONE` or `AWS_IAM`, and where it came from."""
    context = {"lambda:functionurlauthtype": auth_type, "lambda:invokedviafunctionurl": "true"}
    return {**context, "aws:sourceip": source_ip} if source_ip else context


def is_open(statements: Iterable[dict[str, Any]], resource: str, source_ip: str) -> bool:
    """Tell whether a policy lets everybody use the URL of `resource`, a function's or alias's ARN."""
    question = Question(INVOKE_URL, resource, context=context_of("NONE", source_ip))
    return judge_resource(statements, question) is Verdict.ALLOW


def claimed_signer(exchange: Exchange, place: Place) -> Signer | None:
    """
    Return who a request says has signed it for Lambda here; None if it says nothing of that.

    For nodes that take any key: the signature is not verified, and whoever calls is the account.
    """
    try:
        claim = read_claim(Signed(exchange.method, exchange.path, exchange.query, exchange.headers))
    except SignatureError:
        return None
    if claim is None or (claim.service, claim.region) != ("lambda", place.region):
        return None
    return Signer(claim.access_key, place.root_arn, place.account, place.account)
