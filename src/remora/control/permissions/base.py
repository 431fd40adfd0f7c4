"""One permission that a request needs: what the gate asks the policies about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence  # noqa: TC003 - NamedTuple keeps annotations
from typing import Any, NamedTuple

Statement = dict[str, Any]


class Need(NamedTuple):
    """
    One permission.

    Args:
        action: `lambda:InvokeFunction`.
        resource: ARN; `*` if the action is about none.
        policy: Statements of the resource's own policy.
        context: Condition keys of the request, in lower case.
        refusal: What AWS says if it is not granted, in place of the usual text; empty for that.
        role: ARN of the role that needs it in place of the caller; empty if the caller does.
    """

    action: str
    resource: str = "*"
    policy: Sequence[Statement] = ()
    context: Mapping[str, str | tuple[str, ...]] = {}
    refusal: str = ""
    role: str = ""
