"""
What the policies of a caller say: of a role, of a key, and what limits them.

A caller may do what its own policies allow, and of that only what every limit allows, too: the permissions
boundary of a role, the policies that a session was begun with. Who is of another account may do what its own
policies allow and the resource's own policy, too.

Source: AWS IAM user guide, "Policy evaluation logic", "Permissions boundaries", "Session policies",
"Cross-account policy evaluation logic".
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.auth.managed import MANAGED
from remora.auth.policy import Question, Verdict, judge, judge_resource, judge_trust, statements

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from remora.control.callers import Caller
    from remora.control.permissions.base import Need
    from remora.resources.names import Place
    from remora.resources.neighbours import Role
    from remora.resources.view import View

Statement = dict[str, Any]

BOUNDARY: Final = "permissions boundary"
SESSION: Final = "session policy"
_IDENTITY: Final = "an identity-based policy"
_RESOURCE: Final = "a resource-based policy"
ASSUME_ROLE: Final = "sts:AssumeRole"
"""A role's trust policy says who may ask for it, not who is granted it."""
_EVERYTHING: Final = ({"Effect": "Allow", "Action": "*", "Resource": "*"},)


class Rights(NamedTuple):
    """
    The policies of a caller.

    Args:
        own: Statements of its own policies.
        limits: Statements of what limits them, by what AWS calls it.
        is_foreign: Whether the caller is of another account than the resource.
    """

    own: Sequence[Statement]
    limits: dict[str, Sequence[Statement]]
    is_foreign: bool = False

    def judge(self, question: Question, policy: Iterable[Statement]) -> str:
        """
        Tell why something may not be done, in AWS's words; an empty text if it may.

        Args:
            question: What is asked for.
            policy: Statements of the resource's own policy.
        """
        judge_policy = judge_trust if self.is_foreign else judge_resource
        kinds = {_IDENTITY: judge(self.own, question), _RESOURCE: judge_policy(policy, question)}
        limits = {name: judge(limit, question) for name, limit in self.limits.items()}
        for kind, verdict in {**kinds, **{f"a {name}": verdict for name, verdict in limits.items()}}.items():
            if verdict is Verdict.DENY:
                return f"with an explicit deny in {kind}"
        allowing = [kind for kind, verdict in kinds.items() if verdict is Verdict.ALLOW]
        needs_own = self.is_foreign or question.action == ASSUME_ROLE
        if not allowing or (needs_own and _IDENTITY not in allowing):
            return f"because no identity-based policy allows the {question.action} action"
        if self.is_foreign and _RESOURCE not in allowing:
            return f"because no resource-based policy allows the {question.action} action"
        for name, verdict in limits.items():
            if verdict is not Verdict.ALLOW:
                return f"because no {name} allows the {question.action} action"
        return ""


def rights_of(view: View, place: Place, caller: Caller) -> Rights:
    """Return what policies say of a caller; a role that there is not has none."""

    def read(policies: Iterable[str]) -> list[Statement]:
        return [statement for policy in policies for statement in _statements(view, place, policy)]

    limits: dict[str, Sequence[Statement]] = {}
    if caller.session_policies:
        limits[SESSION] = read(caller.session_policies)
    if caller.is_foreign:
        own = _EVERYTHING if caller.policies is None else read(caller.policies)
        return Rights(own, limits, is_foreign=True)
    if not caller.role:
        return Rights(read(caller.policies or ()), limits)
    role = view.role_by_arn(place, caller.role)
    if role is None:
        return Rights((), limits)
    if role.boundary:
        limits[BOUNDARY] = read([role.boundary])
    return Rights(read([*role.attached, *role.inline.values()]), limits)


def trust_of(role: Role) -> list[Statement]:
    """Return the statements of a role's trust policy as those of any other resource's own policy."""
    return [{"Resource": "*", **each} for each in _read(role.trust_policy)]


def refusal(
    view: View, place: Place, caller: Caller, need: Need, context: Mapping[str, str | tuple[str, ...]]
) -> str:
    """
    Tell in AWS's words that a caller has not a permission; empty if it has.

    Args:
        view: The records.
        place: Account and region.
        caller: Who needs it; `need.role` is not looked at.
        need: The permission.
        context: Condition keys beside those of the need.
    """
    known = {**need.context, **context}
    question = Question(need.action, need.resource, caller.arn, caller.account, known, caller.role)
    why = rights_of(view, place, caller).judge(question, need.policy)
    if not why:
        return ""
    what = f"perform: {need.action} on resource: {need.resource} {why}"
    return need.refusal or f"User: {caller.arn} is not authorized to {what}"


def context_of(caller: Caller, place: Place, now_ms: int) -> dict[str, str]:
    """Return the condition keys of everything that a caller does; `now_ms` is in milliseconds since 1970."""
    context = {
        "aws:currenttime": datetime.fromtimestamp(now_ms / 1000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "aws:epochtime": str(now_ms // 1000),
        "aws:principalaccount": caller.account,
        "aws:principalarn": caller.role or caller.arn,
        "aws:principaltype": "AssumedRole" if caller.role else "User",
        "aws:requestedregion": place.region,
        "aws:resourceaccount": place.account,
        "aws:securetransport": "false",
        "aws:userid": caller.user_id,
    }
    if not caller.role:
        context["aws:username"] = caller.arn.rpartition("/")[2]
    if caller.function:
        context["lambda:sourcefunctionarn"] = place.function_arn(caller.function)
    return context


def _statements(view: View, place: Place, policy: str) -> Sequence[Statement]:
    """Return the statements of a policy: JSON, or a managed one's ARN; what is not known has none."""
    if not policy.startswith("arn:"):
        return _read(policy)
    own = view.policy_by_arn(place, policy)
    return MANAGED.get(policy, ()) if own is None else _read(own.document)


@lru_cache(1_024)
def _read(document: str) -> Sequence[Statement]:
    """Return the statements of a document, which nobody changes."""
    return statements(msgspec.json.decode(document))
