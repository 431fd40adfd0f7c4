"""
The lifecycle of a bucket's objects, as templates have it and as the API does.

Source: AWS CloudFormation Template Reference, "AWS::S3::Bucket Rule"; S3 API Reference, "LifecycleRule".
"""

from __future__ import annotations

from typing import Any, Final

from remora.iac.calls import invalid
from remora.iac.types.shapes import OBJECT, Members

RULE: Final = Members(
    optional={
        "NoncurrentVersionTransition": OBJECT,
        "NoncurrentVersionTransitions": [OBJECT],
        "TagFilters": [OBJECT],
        "Transition": OBJECT,
        "Transitions": [OBJECT],
    }
)
"""A rule of a `LifecycleConfiguration`."""
_EXPIRATION: Final = {
    "ExpirationInDays": "Days",
    "ExpirationDate": "Date",
    "ExpiredObjectDeleteMarker": "ExpiredObjectDeleteMarker",
}
_TRANSITION: Final = {"StorageClass": "StorageClass", "TransitionInDays": "Days", "TransitionDate": "Date"}
_FORMER: Final = {"StorageClass": "StorageClass", "TransitionInDays": "NoncurrentDays"} | {
    "NewerNoncurrentVersions": "NewerNoncurrentVersions"
}
_ALIKE: Final = ("AbortIncompleteMultipartUpload", "NoncurrentVersionExpiration", "Status")
_FILTERS: Final = ("Prefix", "ObjectSizeGreaterThan", "ObjectSizeLessThan")


def rules_of(configuration: Any) -> list[dict[str, Any]]:
    """
    Return the rules of a `LifecycleConfiguration` as PutBucketLifecycleConfiguration takes them.

    Raises:
        CallFailed: InvalidRequest if there is something in them that is not known.
    """
    return [
        _rule(rule, f"#/LifecycleConfiguration/Rules/{at}") for at, rule in enumerate(configuration["Rules"])
    ]


def _rule(given: Any, where: str) -> dict[str, Any]:
    rest = dict(given)
    rule = {name: rest.pop(name) for name in _ALIKE if name in rest}
    if "Id" in rest:
        rule["ID"] = rest.pop("Id")
    rule["Filter"] = _filter(rest)
    if expiration := {new: rest.pop(old) for old, new in _EXPIRATION.items() if old in rest}:
        rule["Expiration"] = expiration
    if "NoncurrentVersionExpirationInDays" in rest:
        days = rest.pop("NoncurrentVersionExpirationInDays")
        rule["NoncurrentVersionExpiration"] = {"NoncurrentDays": days}
    if moves := _several(rest, "Transition"):
        rule["Transitions"] = [_renamed(move, _TRANSITION) for move in moves]
    if moves := _several(rest, "NoncurrentVersionTransition"):
        rule["NoncurrentVersionTransitions"] = [_renamed(move, _FORMER) for move in moves]
    if rest:
        raise invalid(f"{where}: extraneous key [{next(iter(rest))}] is not permitted")
    return rule


def _filter(rest: dict[str, Any]) -> dict[str, Any]:
    """Take from a rule what says which objects it is for: one thing, or several together."""
    parts: dict[str, Any] = {name: rest.pop(name) for name in _FILTERS if name in rest}
    tags = rest.pop("TagFilters", None) or []
    if len(parts) + len(tags) > 1:
        return {"And": {**parts, **({"Tags": tags} if tags else {})}}
    return {"Tag": tags[0]} if tags else parts or {"Prefix": ""}


def _several(rest: dict[str, Any], name: str) -> list[Any]:
    """Take from a rule what it may say once, or in a list."""
    once = rest.pop(name, None)
    return [*(rest.pop(f"{name}s", None) or ()), *([once] if once else ())]


def _renamed(given: Any, names: dict[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in given.items()}
