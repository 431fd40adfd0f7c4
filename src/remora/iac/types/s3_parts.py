"""
Settings of buckets that templates word otherwise than the API does.

Source: AWS CloudFormation Template Reference, "AWS::S3::Bucket CorsConfiguration", "AWS::S3::Bucket
LoggingConfiguration", "AWS::S3::Bucket AccelerateConfiguration"; S3 API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

from remora.iac.types.shapes import TEXT, Members, Shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_CORS: Final = {"ExposedHeaders": "ExposeHeaders", "Id": "ID", "MaxAge": "MaxAgeSeconds"}
_LOGGING: Final = {"DestinationBucketName": "TargetBucket", "LogFilePrefix": "TargetPrefix"}


class Part(NamedTuple):
    """
    One setting.

    Args:
        put: The operation that sets it.
        take: The operation that takes it away; empty: it is put with nothing in it.
        request: Turns the property into members of the request.
        shape: The property's.
    """

    put: str
    take: str
    request: Callable[[Any], dict[str, Any]]
    shape: Shape


def _cors(given: Any) -> dict[str, Any]:
    return {"CORSConfiguration": {"CORSRules": [_renamed(rule, _CORS) for rule in given["CorsRules"]]}}


def _logging(given: Any) -> dict[str, Any]:
    wanted = {"TargetPrefix": "", **_renamed(given, _LOGGING)}
    return {"BucketLoggingStatus": {"LoggingEnabled": wanted} if given else {}}


def _acceleration(given: Any) -> dict[str, Any]:
    return {"AccelerateConfiguration": {"Status": given.get("AccelerationStatus", "Suspended")}}


def _renamed(given: Any, names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in given.items()}


_RULE: Final = Members(
    {"AllowedMethods": [TEXT], "AllowedOrigins": [TEXT]},
    {"AllowedHeaders": [TEXT], "ExposedHeaders": [TEXT], "Id": TEXT, "MaxAge": TEXT},
    is_closed=True,
)
PARTS: Final[Mapping[str, Part]] = {
    "AccelerateConfiguration": Part(
        "PutBucketAccelerateConfiguration",
        "",
        _acceleration,
        Members({"AccelerationStatus": TEXT}, is_closed=True),
    ),
    "CorsConfiguration": Part("PutBucketCors", "DeleteBucketCors", _cors, Members({"CorsRules": [_RULE]})),
    "LoggingConfiguration": Part(
        "PutBucketLogging", "", _logging, Members({}, dict.fromkeys(_LOGGING, TEXT), is_closed=True)
    ),
}
"""By the property's name."""
