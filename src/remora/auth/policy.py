"""
What policies allow: the statements of a caller and of a resource, judged for one action on one resource.

Strict where it does not understand: a statement with a member, an operator or a condition key that is not
known here never allows, and always denies if it is a Deny.

Source: AWS IAM user guide, "Policy evaluation logic", "IAM JSON policy elements reference".
"""

from __future__ import annotations

import ipaddress
import re
from datetime import UTC, datetime
from enum import Enum
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

Statement = dict[str, Any]


class Verdict(Enum):
    """What a set of statements says."""

    DENY = "an explicit deny"
    ALLOW = "an allow"
    SILENT = "no statement applies"


class Question(NamedTuple):
    """
    What is asked for.

    Args:
        action: `lambda:InvokeFunction`.
        resource: ARN, `*` if the action is about none.
        principal: ARN of the caller; empty for nobody in particular.
        account: Account of the caller, 12 digits; empty for nobody in particular.
        context: Condition keys in lower case, with their values; a tuple if a key may have several.
        role: ARN of the role that the caller has taken on; empty if it is none.
    """

    action: str
    resource: str
    principal: str = ""
    account: str = ""
    context: Mapping[str, str | tuple[str, ...]] = {}
    role: str = ""


def statements(document: Mapping[str, Any]) -> list[Statement]:
    """Return the statements of a policy document; one alone need not be a list."""
    found = document.get("Statement", [])
    return list(found) if isinstance(found, list) else [found]


def judge(policy: Iterable[Statement], question: Question) -> Verdict:
    """
    Judge by statements of an identity; `Principal` has no place in them.

    Returns:
        An explicit deny goes before any allow.
    """
    return _judge(policy, question, _applies_to_identity)


def judge_resource(policy: Iterable[Statement], question: Question) -> Verdict:
    """
    Judge by the statements of a resource's own policy, which name whom they are for.

    What they allow an account, it may allow its own people: that alone allows nobody anything.
    """
    return _judge(policy, question, _applies_to_principal)


def judge_trust(policy: Iterable[Statement], question: Question) -> Verdict:
    """
    Judge by the statements of a resource's own policy what the caller's own policies have allowed.

    For those of other accounts, and for roles, whose trust policies have to name whom they are for.
    """
    return _judge(policy, question, _applies_to_account)


def _judge(
    policy: Iterable[Statement], question: Question, is_for: Callable[[Statement, Question], bool | None]
) -> Verdict:
    verdict = Verdict.SILENT
    for statement in policy:
        effect = statement.get("Effect") if isinstance(statement, dict) else None
        applies = _applies(statement, question, is_for) if effect in ("Allow", "Deny") else None
        if effect == "Allow":
            if applies:
                verdict = Verdict.ALLOW
        elif applies or applies is None:
            return Verdict.DENY
    return verdict


_MEMBERS: Final = {
    "Sid",
    "Effect",
    "Action",
    "NotAction",
    "Resource",
    "NotResource",
    "Principal",
    "NotPrincipal",
    "Condition",
}


def _applies(
    statement: Statement, question: Question, is_for: Callable[[Statement, Question], bool | None]
) -> bool | None:
    """Tell if a statement applies; None if that is beyond us."""
    if not _MEMBERS.issuperset(statement):
        return None
    parts = (
        _names(statement, "Action", question.action.lower(), str.lower),
        _names(statement, "Resource", question.resource, partial(_expand, context=question.context)),
        is_for(statement, question),
        _holds(statement.get("Condition", {}), question),
    )
    if False in parts:
        return False
    return None if None in parts else True


def _names(
    statement: Statement, member: str, asked: str, prepare: Callable[[str], str | None]
) -> bool | None:
    """Tell if `member` names what is asked for, or its opposite does not."""
    wanted, unwanted = _texts(statement.get(member)), _texts(statement.get(f"Not{member}"))
    if (member in statement) == (f"Not{member}" in statement) or wanted is None or unwanted is None:
        return None
    patterns = [prepare(pattern) for pattern in (wanted if member in statement else unwanted)]
    is_named = any(pattern is not None and _is_like(asked, pattern) for pattern in patterns)
    if None in patterns and not is_named:
        return None
    return is_named is (member in statement)


def _texts(value: Any) -> list[str] | None:
    """Return what is given as one text or many; None if it is neither."""
    found = value if isinstance(value, list) else [] if value is None else [value]
    return found if all(isinstance(each, str) for each in found) else None


_VARIABLE: Final = re.compile(r"\$\{([^}]*)\}")
_AS_THEY_ARE: Final = {"*": "\ue000", "?": "\ue001", "$": "$"}
"""What stands for wildcards that are none, as they come from a variable."""
_BACK: Final = str.maketrans({mark: character for character, mark in _AS_THEY_ARE.items()})
_AWAY: Final = str.maketrans(_AS_THEY_ARE)


def _expand(text: str, context: Mapping[str, str | tuple[str, ...]]) -> str | None:
    """
    Put the values of variables in their places: `${aws:username}`, `${aws:username, 'nobody'}`, `${*}`.

    None if a variable has no value, or several.
    """
    if "${" not in text:
        return text
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        name, _, default = match[1].partition(",")
        if name in _AS_THEY_ARE:
            return _AS_THEY_ARE[name]
        found = context.get(name.strip().lower()) or default.strip().strip("'")
        if not found or not isinstance(found, str):
            missing.append(name)
            return ""
        return found.translate(_AWAY)

    expanded = _VARIABLE.sub(value, text)
    return None if missing else expanded


@lru_cache(maxsize=4096)
def _pattern(text: str) -> re.Pattern[str]:
    parts = (".*" if c == "*" else "." if c == "?" else re.escape(c.translate(_BACK)) for c in text)
    return re.compile("".join(parts), re.DOTALL)


def _is_like(text: str, pattern: str) -> bool:
    return pattern == "*" or _pattern(pattern).fullmatch(text) is not None


# --- whom a statement is for --------------------------------------------------------------------------------


def _applies_to_identity(statement: Statement, _: Question) -> bool | None:
    return None if "Principal" in statement or "NotPrincipal" in statement else True


def _applies_to_principal(statement: Statement, question: Question) -> bool | None:
    if statement.get("Effect") == "Deny":
        return _applies_to_account(statement, question)
    return _applies_to_account(statement, question._replace(account=""))


def _applies_to_account(statement: Statement, question: Question) -> bool | None:
    principal = statement.get("Principal")
    if "NotPrincipal" in statement or principal is None:
        return None
    if principal == "*":
        return True
    if not isinstance(principal, dict):
        return None
    named = _texts(principal.get("AWS"))
    if named is None:
        return None
    return any(_is_principal(name, question) for name in named)


def _is_principal(name: str, question: Question) -> bool:
    if name == "*":
        return True
    if question.account and name in (question.account, f"arn:aws:iam::{question.account}:root"):
        return True
    return bool(name) and name in (question.principal, question.role)


# --- conditions ---------------------------------------------------------------------------------------------


def _number(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda given, wanted: compare(float(given), float(wanted))


def _date(compare: Callable[[float, float], bool]) -> Callable[[str, str], bool]:
    return lambda given, wanted: compare(_moment(given), _moment(wanted))


def _moment(text: str) -> float:
    if "-" not in text:
        return float(text)
    moment = datetime.fromisoformat(text)
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def _is_in_network(given: str, wanted: str) -> bool:
    return ipaddress.ip_address(given) in ipaddress.ip_network(wanted, strict=False)


def _equals_loosely(given: str, wanted: str) -> bool:
    return given.lower() == wanted.lower()


_TESTS: Final[dict[str, tuple[Callable[[str, str], bool], bool]]] = {
    "StringEquals": (str.__eq__, True),
    "StringNotEquals": (str.__eq__, False),
    "StringEqualsIgnoreCase": (_equals_loosely, True),
    "StringNotEqualsIgnoreCase": (_equals_loosely, False),
    "StringLike": (_is_like, True),
    "StringNotLike": (_is_like, False),
    "ArnEquals": (_is_like, True),
    "ArnNotEquals": (_is_like, False),
    "ArnLike": (_is_like, True),
    "ArnNotLike": (_is_like, False),
    "Bool": (_equals_loosely, True),
    "NumericEquals": (_number(float.__eq__), True),
    "NumericNotEquals": (_number(float.__eq__), False),
    "NumericLessThan": (_number(float.__lt__), True),
    "NumericLessThanEquals": (_number(float.__le__), True),
    "NumericGreaterThan": (_number(float.__gt__), True),
    "NumericGreaterThanEquals": (_number(float.__ge__), True),
    "DateEquals": (_date(float.__eq__), True),
    "DateNotEquals": (_date(float.__eq__), False),
    "DateLessThan": (_date(float.__lt__), True),
    "DateLessThanEquals": (_date(float.__le__), True),
    "DateGreaterThan": (_date(float.__gt__), True),
    "DateGreaterThanEquals": (_date(float.__ge__), True),
    "IpAddress": (_is_in_network, True),
    "NotIpAddress": (_is_in_network, False),
}
"""Operators: how one value is tested, and whether one that passes is wanted or unwanted."""

_KNOWN_KEYS: Final = frozenset(
    {
        "aws:currenttime",
        "aws:epochtime",
        "aws:principalaccount",
        "aws:principalarn",
        "aws:securetransport",
        "aws:sourceaccount",
        "aws:sourcearn",
        "aws:sourceip",
        "aws:tagkeys",
        "aws:useragent",
        "aws:username",
        "iam:associatedresourcearn",
        "iam:passedtoservice",
        "iam:permissionsboundary",
        "iam:policyarn",
        "lambda:codesigningconfigarn",
        "lambda:eventsourcetoken",
        "lambda:functionurlauthtype",
        "lambda:invokedviafunctionurl",
        "lambda:layer",
        "lambda:principal",
        "lambda:sourcefunctionarn",
        "s3:delimiter",
        "s3:max-keys",
        "s3:prefix",
        "s3:resourceaccount",
        "sts:externalid",
    }
)
"""Keys whose absence from a request means something: that it has no such value."""


def _holds(condition: Any, question: Question) -> bool | None:
    """Tell if every operator holds for every key; None if one is beyond us."""
    if not isinstance(condition, dict):
        return None
    results = [
        _holds_for(operator, key.lower(), _texts_of(values), question.context)
        for operator, keys in condition.items()
        for key, values in (keys.items() if isinstance(keys, dict) else [("", None)])
    ]
    if False in results:
        return False
    return None if None in results else True


def _texts_of(values: Any) -> list[str] | None:
    """Return the values of a condition key as texts: JSON's booleans and numbers are allowed, too."""
    found = values if isinstance(values, list) else [values]
    texts = [str(each).lower() if isinstance(each, bool) else each for each in found]
    texts = [str(each) if isinstance(each, int | float) else each for each in texts]
    return _texts(texts) if None not in texts else None


def _holds_for(
    operator: str, key: str, wanted: Sequence[str] | None, context: Mapping[str, str | tuple[str, ...]]
) -> bool | None:
    """Tell if an operator, perhaps one for sets, holds for a key; None if that is beyond us."""
    if wanted is None or (key not in _KNOWN_KEYS and key not in context):
        return None
    given = context.get(key)
    if operator == "Null":
        return (given is None) == (wanted == ["true"])
    how, _, name = operator.rpartition(":")
    may_lack, name = name.endswith("IfExists"), name.removesuffix("IfExists")
    if name not in _TESTS or how not in ("", "ForAnyValue", "ForAllValues"):
        return None
    test, is_wanted = _TESTS[name]
    values = given if isinstance(given, tuple) else () if given is None else (given,)
    if not values:
        return may_lack or how == "ForAllValues" or (not how and not is_wanted)
    if not how and len(values) > 1:
        return None
    expanded = [_expand(each, context) for each in wanted]
    if None in expanded:
        return None
    patterns = [each if test is _is_like else each.translate(_BACK) for each in expanded if each is not None]
    try:
        held = [any(test(value, each) for each in patterns) == is_wanted for value in values]
    except ValueError:
        return None
    return any(held) if how == "ForAnyValue" else all(held)
