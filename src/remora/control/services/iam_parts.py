"""What roles and policies of IAM have in common: documents, tags, pages, errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from remora.auth.documents import DocumentError, check_document, check_trust
from remora.control.services.neighbour import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping

Reply = dict[str, Any]

_TAGS_MAX: Final = 50
_PAGE: Final = 100
_MANAGED: Final = re.compile(
    r"arn:aws[a-z-]*:iam::aws:policy/(?:[\w+=,.@-]+/)*(?P<name>[\w+=,.@-]+)", re.ASCII
)


def missing(text: str) -> ServiceError:
    """Make the error of what there is not."""
    return ServiceError("NoSuchEntity", text, 404)


def conflict(text: str) -> ServiceError:
    """Make the error of what cannot be deleted now."""
    return ServiceError("DeleteConflict", text, 409)


def managed_name(arn: str) -> str:
    """
    Return the name of a policy that AWS manages; all of them are taken to exist.

    Raises:
        ServiceError: NoSuchEntity if the ARN is none of AWS's policies.
    """
    match = _MANAGED.fullmatch(arn)
    if match is None:
        raise missing(f"Policy {arn} does not exist or is not attachable.")
    return match["name"]


def document(text: str, *, is_trust: bool = False) -> str:
    """
    Check a policy; it is kept as it was given.

    Raises:
        ServiceError: MalformedPolicyDocument.
    """
    try:
        (check_trust if is_trust else check_document)(text)
    except DocumentError as error:
        raise ServiceError("MalformedPolicyDocument", str(error)) from error
    return text


def merged_tags(former: Mapping[str, str], given: Any) -> dict[str, str]:
    """
    Return tags with those of a request.

    Raises:
        ServiceError: LimitExceeded if there are too many.
    """
    merged = {**former, **{tag["Key"]: tag["Value"] for tag in given}}
    if len(merged) > _TAGS_MAX:
        raise ServiceError("LimitExceeded", f"There are at most {_TAGS_MAX} tags.", 409)
    return merged


def shown_tags(tags: Mapping[str, str]) -> list[Reply]:
    """Return tags as the API shows them."""
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def one_page(member: str, items: Mapping[str, Reply], request: Mapping[str, Any]) -> Reply:
    """
    Return the page of a list that a request asks for by `Marker` and `MaxItems`.

    Args:
        member: What the reply calls the list.
        items: The list, by what it is sorted by; the marker is the last one's.
        request: The request.
    """
    names = [name for name in sorted(items) if name > request.get("Marker", "")]
    size = request.get("MaxItems", _PAGE)
    shown, rest = names[:size], names[size:]
    return {
        member: [items[name] for name in shown],
        "IsTruncated": bool(rest),
        "Marker": shown[-1] if rest else None,
    }
