"""
S3: the part that deploy tools and code from buckets need. Objects are whole files, without versions.

Source: Amazon S3 API Reference; shapes from botocore's model.
"""

from __future__ import annotations

import asyncio
import hashlib
from email.utils import formatdate
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import quote

from remora.control.failures import explain
from remora.control.services.s3_answers import NAMESPACE, Answers
from remora.control.services.s3_bodies import content_of
from remora.control.services.s3_lists import Lists
from remora.control.services.s3_requests import (
    SUBRESOURCES,
    Request,
    check_version,
    checksums,
    copy_source,
    is_of_control,
    kept_headers,
    keys_to_delete,
    read_number,
    read_range,
    take_apart,
)
from remora.control.services.s3_settings import Settings, first_settings, tags_of_upload
from remora.resources import buckets
from remora.resources.buckets import S3Error
from remora.resources.neighbours import StoredObject, Upload, UploadedPart
from remora.resources.view import Change, View
from remora.spec import limits, xml, xml_api
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remora.control.context import Control
    from remora.http.exchange import Exchange, Header

SERVICE: Final = "s3"

Operations = dict[bytes, "Callable[[Request], Awaitable[None]]"]
"""By HTTP method."""

_CHUNK_BYTES: Final = 256 * 1024
_OFFERED: Final = (
    *("AbortMultipartUpload", "CompleteMultipartUpload", "CopyObject", "CreateBucket"),
    *("CreateMultipartUpload", "DeleteObjects", "ListBuckets", "ListObjectVersions", "ListObjects"),
    *("ListObjectsV2", "ListParts"),
)
"""Operations whose bodies are XML by the model; the others have none."""


class S3:
    """
    The application behind the service.

    Args:
        control: The node's parts: records and files.
    """

    body_bytes_max: Final = limits.OBJECT_BYTES_MAX

    def __init__(self, control: Control) -> None:
        self._control = control
        self._api = xml_api.load("s3", "2006-03-01", _OFFERED)
        self._answers = Answers(control, self._api)
        self._lists = Lists(control, self._answers)
        self._settings = Settings(control, self._answers)

    def __repr__(self) -> str:
        return f"<S3 buckets={len(self._control.state.view.buckets)}>"

    @property
    def _view(self) -> View:
        return self._control.state.view

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request, whatever is wrong with it."""
        if is_of_control(exchange):
            self._answers.refuse_control(exchange)
            return
        request = take_apart(exchange)
        try:
            await self._operation(request)(request)
        except S3Error as error:
            self._answers.refuse(request, error)
        except ApiError:
            text = "The XML you provided was not well-formed or did not validate against our published schema"
            self._answers.refuse(request, S3Error("MalformedXML", text))
        except Exception as error:  # noqa: BLE001 - the boundary "HTTP request"
            text = explain("a request to s3", error)
            self._answers.refuse(request, S3Error("InternalError", text, 500))

    def _operation(self, request: Request) -> Callable[[Request], Awaitable[None]]:
        """Find the operation by method, level and query."""
        exchange, query = request.exchange, request.query
        if exchange.is_oversized:
            raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed object size.")
        if request.key and not request.bucket:
            raise S3Error("InvalidURI", "Couldn't parse the specified URI.")
        table: Operations
        if not request.bucket:
            table = {b"GET": self._lists.list_buckets}
        elif not request.key:
            table = self._of_buckets(query)
        else:
            table = self._of_objects(exchange, query)
        found = table.get(exchange.method)
        if found is None:
            text = "A header or query you provided implies functionality that is not offered by this node."
            raise S3Error("NotImplemented", text, 501)
        return found

    def _of_buckets(self, query: Mapping[str, list[str]]) -> Operations:
        if "location" in query:
            return {b"GET": self._get_bucket_location}
        if (found := self._settings.of_bucket(query)) is not None:
            return found
        if "delete" in query:
            return {b"POST": self._delete_objects}
        if "versions" in query:
            return {b"GET": self._lists.list_object_versions}
        if "list-type" in query:
            return {b"GET": self._lists.list_objects_v2}
        if query.keys() & SUBRESOURCES:
            return {}
        return {
            b"GET": self._lists.list_objects,
            b"PUT": self._create_bucket,
            b"HEAD": self._head_bucket,
            b"DELETE": self._delete_bucket,
        }

    def _of_objects(self, exchange: Exchange, query: Mapping[str, list[str]]) -> Operations:
        if "uploads" in query:
            return {b"POST": self._create_upload}
        if "uploadId" in query:
            if exchange.header(b"x-amz-copy-source") is not None:
                return {}
            return {
                b"PUT": self._upload_part,
                b"POST": self._complete_upload,
                b"DELETE": self._abort_upload,
                b"GET": self._list_parts,
            }
        check_version(query)
        if (found := self._settings.of_object(query)) is not None:
            return found
        if query.keys() & SUBRESOURCES - {"versionId"}:
            return {}
        put = self._copy_object if exchange.header(b"x-amz-copy-source") else self._put_object
        return {
            b"PUT": put,
            b"GET": self._get_object,
            b"HEAD": self._get_object,
            b"DELETE": self._delete_object,
        }

    # --- buckets ------------------------------------------------------------------------------------------

    async def _create_bucket(self, request: Request) -> None:
        region = self._control.place.region
        wanted = {}
        if request.exchange.body.strip():
            shape = self._api.shapes["CreateBucketConfiguration"]
            wanted = xml.parse(self._api.shapes, shape, request.exchange.body)
        if wanted.get("LocationConstraint", region) != region:
            text = f"The {wanted['LocationConstraint']} location constraint is incompatible with this node."
            raise S3Error("IllegalLocationConstraintException", text)
        now = self._control.clock.wall_ms()
        settings = first_settings(request, wanted)
        await self._control.state.change(
            lambda view: (None, buckets.create_bucket(view, request.bucket, region, now, settings))
        )
        self._answers.send(request, 200, [(b"Location", f"/{request.bucket}".encode())])

    async def _head_bucket(self, request: Request) -> None:
        buckets.find_bucket(self._view, request.bucket)
        self._answers.send(request, 200, [(b"x-amz-bucket-region", self._control.place.region.encode())])

    async def _delete_bucket(self, request: Request) -> None:
        await self._control.state.change(lambda view: (None, buckets.delete_bucket(view, request.bucket)))
        self._answers.send(request, 204)

    async def _get_bucket_location(self, request: Request) -> None:
        buckets.find_bucket(self._view, request.bucket)
        region = self._control.place.region
        inner = "" if region == "us-east-1" else xml.text(region)
        self._answers.send_xml(
            request, f'<LocationConstraint xmlns="{NAMESPACE}">{inner}</LocationConstraint>'
        )

    # --- objects ------------------------------------------------------------------------------------------

    async def _put_object(self, request: Request) -> None:
        content = await asyncio.to_thread(content_of, request.exchange)
        etag = await asyncio.to_thread(_md5, content)
        only_new, tags = request.header(b"if-none-match") == "*", tags_of_upload(request)
        buckets.find_bucket(self._view, request.bucket)
        async with self._control.artifacts.keeping(content) as digest:
            stored = self._stored(
                request, UploadedPart(digest, len(content), etag), kept_headers(request), tags
            )
            await self._put(stored, only_new=only_new)
        self._answers.send(request, 200, checksums(request, etag))

    async def _copy_object(self, request: Request) -> None:
        found = buckets.find_object(self._view, *(copy_source(request) or ("", "")))
        is_replaced = request.header(b"x-amz-metadata-directive") == "REPLACE"
        headers = kept_headers(request) if is_replaced else found.headers
        is_retagged = request.header(b"x-amz-tagging-directive") == "REPLACE"
        tags = tags_of_upload(request) if is_retagged else found.tags
        with self._control.artifacts.holding((found.digest,)):
            stored = self._stored(request, found, headers, tags)
            await self._put(stored)
        reply = {"ETag": f'"{stored.etag}"', "LastModified": stored.modified_ms / 1000}
        shape = self._api.shapes["CopyObjectResult"]
        self._answers.send_xml(
            request, xml.write(self._api.shapes, shape, reply, "CopyObjectResult", NAMESPACE)
        )

    async def _get_object(self, request: Request) -> None:
        found = buckets.find_object(self._view, request.bucket, request.key)
        etag = f'"{found.etag}"'
        headers: list[Header] = [
            (b"ETag", etag.encode()),
            (b"Last-Modified", formatdate(found.modified_ms // 1000, usegmt=True).encode()),
            (b"Accept-Ranges", b"bytes"),
            *((name.encode(), value.encode("latin-1", "replace")) for name, value in found.headers.items()),
        ]
        wanted, unwanted = request.header(b"if-match"), request.header(b"if-none-match")
        if wanted and wanted not in {etag, found.etag, "*"}:
            text = "At least one of the pre-conditions you specified did not hold"
            raise S3Error("PreconditionFailed", text, 412)
        if unwanted and unwanted in {etag, found.etag, "*"}:
            self._answers.send(request, 304, headers)
            return
        span = read_range(request.header(b"range"), found.size_bytes)
        status = 200
        if span is not None:
            status = 206
            shown = f"bytes {span[0]}-{span[1] - 1}/{found.size_bytes}"
            headers.append((b"Content-Range", shown.encode()))
        with self._control.artifacts.holding((found.digest,)):
            await self._send_file(request, status, headers, found, span or (0, found.size_bytes))

    async def _send_file(
        self, request: Request, status: int, headers: list[Header], found: StoredObject, span: tuple[int, int]
    ) -> None:
        exchange, (begin, end) = request.exchange, span
        file = await asyncio.to_thread(_open, await self._control.artifacts.sound(found.digest), begin)
        try:
            exchange.begin(status, [*headers, *self._answers.common()], end - begin)
            left = 0 if exchange.method == b"HEAD" else end - begin
            while left and exchange.is_open:
                piece = await asyncio.to_thread(file.read, min(left, _CHUNK_BYTES))
                if not piece:
                    exchange.close()  # the file is shorter than its record says: no length must be believed
                    return
                left -= len(piece)
                exchange.write(piece)
                await exchange.drain()
            exchange.finish()
        finally:
            file.close()

    async def _delete_object(self, request: Request) -> None:
        await self._delete(request.bucket, [request.key])
        self._answers.send(request, 204)

    async def _delete_objects(self, request: Request) -> None:
        content = await asyncio.to_thread(content_of, request.exchange)
        keys, is_quiet = await asyncio.to_thread(keys_to_delete, content)
        await self._delete(request.bucket, keys)
        deleted = [] if is_quiet else [{"Key": key} for key in keys]
        self._answers.reply(request, "DeleteObjects", "DeleteResult", {"Deleted": deleted})

    async def _delete(self, bucket: str, keys: list[str]) -> None:
        await self._control.state.change(lambda view: (None, buckets.delete_objects(view, bucket, keys)))
        self._control.cleaning.request()

    async def _put(self, stored: StoredObject, *, only_new: bool = False) -> None:
        await self._control.state.change(
            lambda view: (None, buckets.put_object(view, stored, only_new=only_new))
        )
        self._control.cleaning.request()

    def _stored(
        self,
        request: Request,
        content: UploadedPart | StoredObject,
        headers: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> StoredObject:
        return StoredObject(
            bucket=request.bucket,
            key=request.key,
            digest=content.digest,
            size_bytes=content.size_bytes,
            etag=content.etag,
            modified_ms=self._control.clock.wall_ms(),
            headers=dict(headers),
            tags=dict(tags),
        )

    # --- uploads in parts ---------------------------------------------------------------------------------

    async def _create_upload(self, request: Request) -> None:
        buckets.find_bucket(self._view, request.bucket)
        upload = Upload(
            upload_id=self._control.new_id().replace("-", ""),
            bucket=request.bucket,
            key=request.key,
            begun_ms=self._control.clock.wall_ms(),
            headers=kept_headers(request),
            tags=tags_of_upload(request),
        )
        await self._control.state.change(lambda _: (None, [Change("upload", upload.upload_id, upload)]))
        reply = {"Bucket": upload.bucket, "Key": upload.key, "UploadId": upload.upload_id}
        self._answers.reply(request, "CreateMultipartUpload", "InitiateMultipartUploadResult", reply)

    async def _upload_part(self, request: Request) -> None:
        content = await asyncio.to_thread(content_of, request.exchange)
        etag = await asyncio.to_thread(_md5, content)
        number = read_number(request.one("partNumber"))
        async with self._control.artifacts.keeping(content) as digest:
            part = UploadedPart(digest, len(content), etag)
            await self._control.state.change(
                lambda view: (None, buckets.put_part(view, request.upload, number, part))
            )
        self._answers.send(request, 200, checksums(request, etag))

    async def _complete_upload(self, request: Request) -> None:
        shape = self._api.shapes["CompletedMultipartUpload"]
        wanted = xml.parse(self._api.shapes, shape, request.exchange.body).get("Parts", [])
        upload = self._upload(request)
        parts = buckets.chosen_parts(upload, wanted)
        etag = f"{_md5(b''.join(bytes.fromhex(part.etag) for part in parts))}-{len(parts)}"
        async with self._control.artifacts.joining([part.digest for part in parts]) as (digest, size_bytes):
            stored = self._stored(
                request, UploadedPart(digest, size_bytes, etag), upload.headers, upload.tags
            )

            def decide(view: View) -> tuple[None, list[Change]]:
                buckets.find_upload(view, request.upload)
                changes = buckets.put_object(view, stored, only_new=request.header(b"if-none-match") == "*")
                return None, [*changes, Change("upload", upload.upload_id, None)]

            await self._control.state.change(decide)
        self._control.cleaning.request()
        reply = {
            "Location": f"/{upload.bucket}/{quote(upload.key)}",
            "Bucket": upload.bucket,
            "Key": upload.key,
            "ETag": f'"{etag}"',
        }
        self._answers.reply(request, "CompleteMultipartUpload", "CompleteMultipartUploadResult", reply)

    async def _abort_upload(self, request: Request) -> None:
        def decide(view: View) -> tuple[None, list[Change]]:
            upload = buckets.find_upload(view, request.upload)
            return None, [Change("upload", upload.upload_id, None)]

        await self._control.state.change(decide)
        self._control.cleaning.request()
        self._answers.send(request, 204)

    async def _list_parts(self, request: Request) -> None:
        upload = self._upload(request)
        parts = [
            {"PartNumber": number, "ETag": f'"{part.etag}"', "Size": part.size_bytes}
            for number, part in sorted(upload.parts.items())
        ]
        reply = {
            "Bucket": upload.bucket,
            "Key": upload.key,
            "UploadId": upload.upload_id,
            "IsTruncated": False,
            "Parts": parts,
        }
        self._answers.reply(request, "ListParts", "ListPartsResult", reply)

    def _upload(self, request: Request) -> Upload:
        return buckets.find_upload(self._view, request.upload)


def service(control: Control) -> S3:
    """Return the service."""
    return S3(control)


def _md5(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _open(path: Any, begin: int) -> BinaryIO:
    file: BinaryIO = path.open("rb")
    file.seek(begin)
    return file
