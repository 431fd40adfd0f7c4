"""
Lists of S3: buckets, and the objects of one, as clients of all ages ask for them.

Objects have one version each, which is called `null`, as in a bucket that keeps no versions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

from remora.control.services.s3_requests import read_number
from remora.resources import buckets

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.control.context import Control
    from remora.control.services.s3_answers import Answers
    from remora.control.services.s3_requests import Request
    from remora.resources.buckets import Listing
    from remora.resources.neighbours import StoredObject
    from remora.resources.view import View

_PAGE: Final = 1_000


class Lists:
    """
    Performs the operations that list.

    Args:
        control: The node's parts.
        answers: Sends their replies.
    """

    def __init__(self, control: Control, answers: Answers) -> None:
        self._control = control
        self._answers = answers

    def __repr__(self) -> str:
        return f"<Lists buckets={len(self._view.buckets)}>"

    @property
    def _view(self) -> View:
        return self._control.state.view

    async def list_buckets(self, request: Request) -> None:
        """List the buckets."""
        known = sorted(self._view.buckets.values(), key=lambda bucket: bucket.name)
        listed = [{"Name": bucket.name, "CreationDate": bucket.created_ms / 1000} for bucket in known]
        self._answers.reply(request, "ListBuckets", "ListAllMyBucketsResult", {"Buckets": listed})

    async def list_objects_v2(self, request: Request) -> None:
        """List objects; a token says where the next page begins."""
        shown, token = _encoding(request), request.one("continuation-token")
        after = buckets.read_token(token) if token else request.one("start-after")
        listing = self._listing(request, after)
        reply = {
            **_asked(request),
            "KeyCount": len(listing.objects) + len(listing.prefixes),
            "IsTruncated": listing.last is not None,
            "ContinuationToken": token or None,
            "NextContinuationToken": None if listing.last is None else buckets.write_token(listing.last),
            "StartAfter": shown(request.one("start-after")) or None,
            "Contents": [_entry(each, shown) for each in listing.objects],
            "CommonPrefixes": [{"Prefix": shown(each)} for each in listing.prefixes],
        }
        self._answers.reply(request, "ListObjectsV2", "ListBucketResult", reply)

    async def list_objects(self, request: Request) -> None:
        """List objects; the last key says where the next page begins."""
        shown = _encoding(request)
        listing = self._listing(request, request.one("marker"))
        reply = {
            **_asked(request),
            "IsTruncated": listing.last is not None,
            "Marker": shown(request.one("marker")),
            "NextMarker": None if listing.last is None else shown(listing.last),
            "Contents": [_entry(each, shown) for each in listing.objects],
            "CommonPrefixes": [{"Prefix": shown(each)} for each in listing.prefixes],
        }
        self._answers.reply(request, "ListObjects", "ListBucketResult", reply)

    async def list_object_versions(self, request: Request) -> None:
        """List objects with the one version that each has."""
        shown = _encoding(request)
        listing = self._listing(request, request.one("key-marker"))
        reply = {
            **_asked(request),
            "IsTruncated": listing.last is not None,
            "KeyMarker": shown(request.one("key-marker")),
            "VersionIdMarker": request.one("version-id-marker"),
            "NextKeyMarker": None if listing.last is None else shown(listing.last),
            "NextVersionIdMarker": None if listing.last is None else "null",
            "Versions": [
                {**_entry(each, shown), "VersionId": "null", "IsLatest": True} for each in listing.objects
            ],
            "CommonPrefixes": [{"Prefix": shown(each)} for each in listing.prefixes],
        }
        self._answers.reply(request, "ListObjectVersions", "ListVersionsResult", reply)

    def _listing(self, request: Request, after: str) -> Listing:
        return buckets.list_objects(
            self._view,
            request.bucket,
            prefix=request.one("prefix"),
            delimiter=request.one("delimiter"),
            after=after,
            keys_max=_count(request),
        )


def _count(request: Request) -> int:
    return read_number(request.one("max-keys", str(_PAGE)))


def _encoding(request: Request) -> Callable[[str], str]:
    """Return how keys are written: as they are, or so that XML can hold all of them."""
    if request.one("encoding-type") == "url":
        return lambda text: quote(text, safe="/-_.~")
    return lambda text: text


def _asked(request: Request) -> dict[str, Any]:
    """Return what a reply repeats of its request."""
    shown = _encoding(request)
    return {
        "Name": request.bucket,
        "Prefix": shown(request.one("prefix")),
        "Delimiter": shown(request.one("delimiter")) or None,
        "MaxKeys": min(_count(request), _PAGE),
        "EncodingType": request.one("encoding-type") or None,
    }


def _entry(stored: StoredObject, shown: Callable[[str], str]) -> dict[str, Any]:
    return {
        "Key": shown(stored.key),
        "LastModified": stored.modified_ms / 1000,
        "ETag": f'"{stored.etag}"',
        "Size": stored.size_bytes,
        "StorageClass": "STANDARD",
    }
