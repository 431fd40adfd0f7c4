"""Requests to S3, taken apart: bucket and key, what is kept of the headers, ranges."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import unquote_to_bytes

from remora.control.services.s3_bodies import CHECKSUMS
from remora.resources.buckets import S3Error, UploadPlace
from remora.spec import xml, xml_api
from remora.spec.codec import parse_query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.http.exchange import Exchange, Header
    from remora.spec.xml_api import XmlApi

_KEPT_HEADERS: Final = frozenset(
    {
        "cache-control",
        "content-disposition",
        "content-encoding",
        "content-language",
        "content-type",
        "expires",
    }
)
_RANGE: Final = re.compile(r"bytes=(\d*)-(\d*)")
_DIGITS_MAX: Final = 19
"""So many are beyond every object as well as more of them."""
_VIRTUAL: Final = re.compile(r"([a-z0-9][a-z0-9.-]*?)\.(?:s3\.)?localhost(?::\d+)?")
SUBRESOURCES: Final = frozenset(
    {"accelerate", "acl", "analytics", "attributes", "cors", "intelligent-tiering", "inventory"}
    | {"legal-hold", "lifecycle", "logging", "metrics", "notification", "object-lock", "ownershipControls"}
    | {"policy", "policyStatus", "publicAccessBlock", "replication", "requestPayment", "restore", "retention"}
    | {"select", "session", "tagging", "torrent", "uploads", "versionId", "versions", "website"}
)
"""What a query may name that is not offered, so that it is not taken for something else."""


class Request(NamedTuple):
    """One request, taken apart."""

    exchange: Exchange
    bucket: str
    key: str
    query: Mapping[str, list[str]]

    def one(self, name: str, default: str = "") -> str:
        """Return a query value."""
        return self.query.get(name, [default])[0]

    @property
    def upload(self) -> UploadPlace:
        """Where the upload is that the query names."""
        return UploadPlace(self.bucket, self.key, self.one("uploadId"))

    def header(self, name: bytes) -> str:
        """Return a header; empty if there is none."""
        return (self.exchange.header(name) or b"").decode("latin-1")


def take_apart(exchange: Exchange) -> Request:
    """Find bucket and key in the path, or the bucket in the host's name."""
    path = unquote_to_bytes(exchange.path).decode("utf-8", "replace").removeprefix("/")
    host = _bucket_host(exchange)
    bucket, _, key = (host[1], "", path) if host else path.partition("/")
    return Request(exchange, bucket, key, parse_query(exchange.query))


def is_virtual(exchange: Exchange) -> bool:
    """Tell if a request names a bucket by its host."""
    return _bucket_host(exchange) is not None


def _bucket_host(exchange: Exchange) -> re.Match[str] | None:
    return _VIRTUAL.fullmatch((exchange.header(b"host") or b"").decode("latin-1"))


def is_of_control(exchange: Exchange) -> bool:
    """Tell if a request is one to S3 Control: another API in the same scope, which names the account."""
    return exchange.path.startswith(b"/v20180820/") and exchange.header(b"x-amz-account-id") is not None


def copy_source(request: Request) -> tuple[str, str] | None:
    """Return bucket and key of the object that a request copies; None if it copies none."""
    source = unquote_to_bytes(request.header(b"x-amz-copy-source")).decode("utf-8", "replace")
    bucket, _, key = source.removeprefix("/").partition("?")[0].partition("/")
    return (bucket, key) if source else None


def keys_to_delete(content: bytes) -> tuple[list[str], bool]:
    """
    Read the body of DeleteObjects.

    Returns:
        The keys, and whether nothing is to be said of those that were deleted.

    Raises:
        ApiError: SerializationException if it is no XML.
    """
    api = _deleting()
    wanted = xml.parse(api.shapes, api.shapes["Delete"], content)
    return [each["Key"] for each in wanted.get("Objects", ()) if "Key" in each], bool(wanted.get("Quiet"))


@cache
def _deleting() -> XmlApi:
    return xml_api.load("s3", "2006-03-01", ["DeleteObjects"])


def kept_headers(request: Request) -> dict[str, str]:
    """Return what is kept of a request's headers."""
    kept = {}
    for raw, value in request.exchange.headers:
        name = raw.decode("latin-1")
        if name in _KEPT_HEADERS or name.startswith("x-amz-meta-"):
            kept[name] = value.decode("latin-1")
    encodings = [each.strip() for each in kept.get("content-encoding", "").split(",")]
    encodings = [each for each in encodings if each not in {"", "aws-chunked"}]
    kept.pop("content-encoding", None)
    if encodings:
        kept["content-encoding"] = ", ".join(encodings)
    return {"content-type": "binary/octet-stream", **kept}


def checksums(request: Request, etag: str) -> list[Header]:
    """Return the headers that tell an uploader what was received."""
    headers: list[Header] = [(b"ETag", f'"{etag}"'.encode())]
    return headers + [header for header in request.exchange.headers if header[0] in CHECKSUMS]


def check_version(query: Mapping[str, list[str]]) -> None:
    """
    Check that a query means the one version that every object has.

    Raises:
        S3Error: If it means another one.
    """
    if query.get("versionId", ["null"]) != ["null"]:
        raise S3Error("NoSuchVersion", "The specified version does not exist.", 404)


def read_number(text: str) -> int:
    """
    Read a number of a query.

    Raises:
        S3Error: If it is none.
    """
    if not text.isascii() or not text.isdigit() or len(text) > 9:
        raise S3Error("InvalidArgument", f"'{text}' is not a number that is expected here")
    return int(text)


def read_range(text: str, size_bytes: int) -> tuple[int, int] | None:
    """
    Return which bytes are wanted, the end exclusive; None if that is not said, or cannot be read.

    Raises:
        S3Error: If there are no such bytes.
    """
    match = _RANGE.fullmatch(text)
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        begin = int(match[1][:_DIGITS_MAX])
        end = min(int(match[2][:_DIGITS_MAX]) + 1, size_bytes) if match[2] else size_bytes
    else:
        begin, end = max(size_bytes - int(match[2][:_DIGITS_MAX]), 0), size_bytes
    if begin >= end:
        raise S3Error("InvalidRange", "The requested range is not satisfiable", 416)
    return begin, end
