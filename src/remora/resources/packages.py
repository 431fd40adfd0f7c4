"""Uploaded zips as rules see them: facts about a package, and where a request says it comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from remora.resources.buckets import S3Error, find_object
from remora.spec import limits
from remora.spec.errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.resources.neighbours import StoredObject
    from remora.resources.view import View


class Package(NamedTuple):
    """
    An uploaded zip that was checked and kept.

    Args:
        digest: SHA-256 of the zip, hexadecimal.
        size_bytes: Length of the zip.
        unzipped_bytes: Sum of the real lengths of its files.
    """

    digest: str
    size_bytes: int
    unzipped_bytes: int

    def check_storage(self, view: View) -> None:
        """
        Check that the account has room for it.

        Raises:
            ApiError: CodeStorageExceededException.
        """
        if view.total_code_bytes() + self.size_bytes > limits.TOTAL_CODE_BYTES_MAX:
            raise ApiError("CodeStorageExceededException", "Code storage limit exceeded.")


class S3Source(NamedTuple):
    """Where in S3 a package is; no version means the newest."""

    bucket: str
    key: str
    version: str | None


def source_of(source: Mapping[str, Any]) -> bytes | S3Source:
    """
    Return the zip that a request carries, or where it is.

    Args:
        source: `Code` of CreateFunction, `Content` of PublishLayerVersion, or an UpdateFunctionCode request.

    Raises:
        ApiError: Invalid if there is no zip or more than one source, too large over 50 MB.
    """
    has_zip = "ZipFile" in source
    has_s3 = "S3Bucket" in source or "S3Key" in source
    if has_zip and has_s3:
        raise invalid("Please do not provide other FunctionCode parameters when providing a ZipFile.")
    if has_s3:
        if "S3Bucket" not in source or "S3Key" not in source:
            raise invalid("Please provide both S3Bucket and S3Key.")
        return S3Source(source["S3Bucket"], source["S3Key"], source.get("S3ObjectVersion"))
    if not has_zip:
        raise invalid("Please provide a source for function code.")
    zip_bytes: bytes = source["ZipFile"]
    if len(zip_bytes) > limits.ZIP_INLINE_BYTES_MAX:
        raise ApiError(
            "RequestEntityTooLargeException",
            f"Zipped size must be smaller than {limits.ZIP_INLINE_BYTES_MAX} bytes",
        )
    return zip_bytes


def find_package(view: View, source: S3Source) -> StoredObject:
    """
    Find the object that a package is to be taken from.

    Raises:
        ApiError: Invalid, with S3's words, if there is none; or if no zip of this size can be unpacked.
    """
    try:
        found = find_object(view, source.bucket, source.key, source.version)
    except S3Error as error:
        raise invalid(
            f"Error occurred while GetObject. S3 Error Code: {error.code}. S3 Error Message: {error.message}"
        ) from error
    if found.size_bytes > limits.UNZIPPED_BYTES_MAX:
        raise invalid(f"Unzipped size must be smaller than {limits.UNZIPPED_BYTES_MAX} bytes")
    return found
