"""The rules of S3: buckets, objects, uploads in parts, and the pages of their lists."""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.resources.neighbours import Bucket, StoredObject, Upload, UploadedPart
from remora.resources.view import Change, View

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", re.ASCII)
_KEYS_MAX: Final = 1_000
PART_BYTES_MIN: Final = 5 * 1024 * 1024
"""Every part of an upload but the last one. Source: "Amazon S3 multipart upload limits"."""
PARTS_MAX: Final = 10_000
KEY_BYTES_MAX: Final = 1_024


class S3Error(Exception):
    """
    The caller's fault, in S3's words.

    Args:
        code: `NoSuchKey`.
        message: The text as the caller sees it.
        status: HTTP status.
    """

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def create_bucket(
    view: View, name: str, region: str, wall_ms: int, settings: Mapping[str, Any]
) -> list[Change]:
    """
    Make a bucket; in us-east-1 once more is as good as once.

    Raises:
        S3Error: If the name is none, or taken.
    """
    if not _NAME.fullmatch(name) or ".." in name:
        raise S3Error("InvalidBucketName", "The specified bucket is not valid.")
    if name in view.buckets:
        if region == "us-east-1":
            return []
        text = "Your previous request to create the named bucket succeeded and you already own it."
        raise S3Error("BucketAlreadyOwnedByYou", text, 409)
    return [Change("bucket", name, Bucket(name=name, created_ms=wall_ms, settings=dict(settings)))]


def find_bucket(view: View, name: str) -> Bucket:
    """
    Find a bucket.

    Raises:
        S3Error: If there is none.
    """
    bucket = view.buckets.get(name)
    if bucket is None:
        raise S3Error("NoSuchBucket", "The specified bucket does not exist", 404)
    return bucket


def delete_bucket(view: View, name: str) -> list[Change]:
    """
    Delete an empty bucket, and its unfinished uploads.

    Raises:
        S3Error: If there is none, or it has objects.
    """
    find_bucket(view, name)
    if view.objects.get(name):
        raise S3Error("BucketNotEmpty", "The bucket you tried to delete is not empty", 409)
    uploads = [upload.upload_id for upload in view.uploads.values() if upload.bucket == name]
    return [Change("bucket", name, None), *(Change("upload", identifier, None) for identifier in uploads)]


def find_object(view: View, bucket: str, key: str, version: str | None = None) -> StoredObject:
    """
    Find an object; the one version that it has is called `null`.

    Raises:
        S3Error: If there is no such bucket, object or version.
    """
    find_bucket(view, bucket)
    found = view.objects.get(bucket, {}).get(key)
    if found is None:
        raise S3Error("NoSuchKey", "The specified key does not exist.", 404)
    if version not in {None, "", "null"}:
        raise S3Error("NoSuchVersion", "The specified version does not exist.", 404)
    return found


def put_object(view: View, stored: StoredObject, *, only_new: bool = False) -> list[Change]:
    """
    Put an object in place of what was there.

    Args:
        view: What is known.
        stored: The object; its content is kept already.
        only_new: True if there must be none yet.

    Raises:
        S3Error: If there is no such bucket, the key is too long, or the object is there and must not be.
    """
    find_bucket(view, stored.bucket)
    if len(stored.key.encode(errors="surrogateescape")) > KEY_BYTES_MAX:
        raise S3Error("KeyTooLongError", "Your key is too long")
    if only_new and stored.key in view.objects.get(stored.bucket, {}):
        text = "At least one of the pre-conditions you specified did not hold"
        raise S3Error("PreconditionFailed", text, 412)
    return [Change("object", f"{stored.bucket}/{stored.key}", stored)]


def delete_objects(view: View, bucket: str, keys: Iterable[str]) -> list[Change]:
    """
    Delete objects; those that are not there are passed over.

    Raises:
        S3Error: If there is no such bucket.
    """
    find_bucket(view, bucket)
    known = view.objects.get(bucket, {})
    return [Change("object", f"{bucket}/{key}", None) for key in dict.fromkeys(keys) if key in known]


# --- uploads in parts -------------------------------------------------------------------------------------


class UploadPlace(NamedTuple):
    """What a request says about which upload it means."""

    bucket: str
    key: str
    upload_id: str


def find_upload(view: View, place: UploadPlace) -> Upload:
    """
    Find an upload.

    Raises:
        S3Error: If there is no such bucket or upload.
    """
    find_bucket(view, place.bucket)
    upload = view.uploads.get(place.upload_id)
    if upload is None or (upload.bucket, upload.key) != (place.bucket, place.key):
        text = (
            "The specified upload does not exist. The upload ID may be invalid, or the upload may have been "
            "aborted or completed."
        )
        raise S3Error("NoSuchUpload", text, 404)
    return upload


def put_part(view: View, place: UploadPlace, number: int, part: UploadedPart) -> list[Change]:
    """
    Put a part in place of what had its number.

    Raises:
        S3Error: As `find_upload`, and for a number out of range.
    """
    upload = find_upload(view, place)
    if not 1 <= number <= PARTS_MAX:
        text = f"Part number must be an integer between 1 and {PARTS_MAX}, inclusive"
        raise S3Error("InvalidArgument", text)
    parts = {**upload.parts, number: part}
    return [Change("upload", upload.upload_id, msgspec.structs.replace(upload, parts=parts))]


def chosen_parts(upload: Upload, wanted: list[Mapping[str, Any]]) -> list[UploadedPart]:
    """
    Return the parts that an upload is completed with.

    Args:
        upload: The upload.
        wanted: PartNumber and ETag of each, in ascending order.

    Raises:
        S3Error: If there are none, out of order, unknown, or too small.
    """
    if not wanted or any("PartNumber" not in each or "ETag" not in each for each in wanted):
        text = "The XML you provided was not well-formed or did not validate against our published schema"
        raise S3Error("MalformedXML", text)
    numbers = [each["PartNumber"] for each in wanted]
    if numbers != sorted(set(numbers)):
        text = "The list of parts was not in ascending order. The parts list must be specified in order."
        raise S3Error("InvalidPartOrder", text)
    chosen = []
    for each in wanted:
        part = upload.parts.get(each["PartNumber"])
        if part is None or part.etag != each["ETag"].strip('"'):
            text = (
                "One or more of the specified parts could not be found. The part may not have been uploaded, "
                "or the specified entity tag may not match the part's entity tag."
            )
            raise S3Error("InvalidPart", text)
        chosen.append(part)
    if any(part.size_bytes < PART_BYTES_MIN for part in chosen[:-1]):
        text = "Your proposed upload is smaller than the minimum allowed size"
        raise S3Error("EntityTooSmall", text)
    return chosen


# --- lists ------------------------------------------------------------------------------------------------


class Listing(NamedTuple):
    """One page of a list: objects, prefixes that stand for several, and the key or prefix it ended with."""

    objects: list[StoredObject]
    prefixes: list[str]
    last: str | None


def list_objects(
    view: View, bucket: str, *, prefix: str, delimiter: str, after: str, keys_max: int
) -> Listing:
    """
    Return one page of a bucket's objects by key.

    Args:
        view: What is known.
        bucket: The bucket's name.
        prefix: What keys begin with.
        delimiter: Keys that are the same up to this, after the prefix, are one entry; empty: none are.
        after: The page begins after this key or prefix.
        keys_max: Entries of the page, at most 1,000.

    Raises:
        S3Error: If there is no such bucket.
    """
    find_bucket(view, bucket)
    known = view.objects.get(bucket, {})
    objects: list[StoredObject] = []
    prefixes: list[str] = []
    count_max, last = min(max(keys_max, 0), _KEYS_MAX), ""
    for key in sorted(known):
        if not key.startswith(prefix):
            continue
        end = key.find(delimiter, len(prefix)) if delimiter else -1
        entry = key if end < 0 else key[: end + len(delimiter)]
        if entry <= after or (prefixes and entry == prefixes[-1]):
            continue
        if len(objects) + len(prefixes) == count_max:
            return Listing(objects, prefixes, last if count_max else None)
        last = entry
        if end < 0:
            objects.append(known[key])
        else:
            prefixes.append(entry)
    return Listing(objects, prefixes, None)


def write_token(last: str) -> str:
    """Return the token of the page after the one that ended with `last`."""
    return base64.urlsafe_b64encode(last.encode()).decode()


def read_token(token: str) -> str:
    """
    Return what the former page ended with.

    Raises:
        S3Error: If it is none of ours.
    """
    try:
        return base64.b64decode(token, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise S3Error("InvalidArgument", "The continuation token provided is incorrect") from error
