"""
Policy documents as people write them: checked before they are kept.

Source: AWS IAM user guide, "Grammar of the IAM JSON policy language".
"""

from __future__ import annotations

from typing import Any, Final

import msgspec

_VERSIONS: Final = ("2008-10-17", "2012-10-17")


class DocumentError(Exception):
    """A text is no policy; says why."""


def check_document(text: str) -> None:
    """
    Check a policy of an identity: who is allowed something is whoever has it.

    Raises:
        DocumentError: If it is none.
    """
    for statement in _statements(text):
        if "Principal" in statement or "NotPrincipal" in statement:
            raise DocumentError("Policy document should not specify a principal.")
        if ("Resource" in statement) == ("NotResource" in statement):
            raise DocumentError("Policy statement must contain resources.")


def check_trust(text: str) -> None:
    """
    Check a policy that says who may assume a role.

    Raises:
        DocumentError: If it is none.
    """
    for statement in _statements(text):
        if "Resource" in statement or "NotResource" in statement:
            raise DocumentError("Has prohibited field Resource")


def check_resource_policy(text: str, *, names_resources: bool) -> None:
    """
    Check a policy that a bucket or a repository has: who is allowed something is named in it.

    Args:
        text: The policy.
        names_resources: True if it must say what it is about; a repository's is about that alone.

    Raises:
        DocumentError: If it is none.
    """
    for statement in _statements(text):
        if ("Principal" in statement) == ("NotPrincipal" in statement):
            raise DocumentError("Missing required field Principal")
        if names_resources and ("Resource" in statement) == ("NotResource" in statement):
            raise DocumentError("Missing required field Resource")


def _statements(text: str) -> list[dict[str, Any]]:
    try:
        document = msgspec.json.decode(text)
    except (msgspec.DecodeError, RecursionError) as error:
        raise DocumentError(f"Syntax errors in policy: {error}") from error
    found = document.get("Statement") if isinstance(document, dict) else None
    found = [found] if isinstance(found, dict) else found
    if not isinstance(found, list):
        raise DocumentError("Syntax errors in policy: there is no Statement.")
    if document.get("Version", _VERSIONS[0]) not in _VERSIONS:
        raise DocumentError("The policy failed legacy parsing")
    for statement in found:
        if not isinstance(statement, dict) or statement.get("Effect") not in ("Allow", "Deny"):
            raise DocumentError("Syntax errors in policy: a statement needs the Effect Allow or Deny.")
        if ("Action" in statement) == ("NotAction" in statement):
            raise DocumentError("Policy statement must contain actions.")
    return found
