"""
Bodies of S3 requests: taken out of the chunks that newer clients send, and compared with their checksums.

Source: Amazon S3 API Reference, "Signature Calculations for the Authorization Header: Transferring Payload in
Multiple Chunks"; Amazon S3 User Guide, "Checking object integrity".
"""

from __future__ import annotations

import base64
import hashlib
import zlib
from typing import TYPE_CHECKING, Final

import anycrc
import xxhash

from remora.auth.chunks import KINDS, ChunksError, read_chunks
from remora.resources.buckets import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.auth.chunks import Chunked
    from remora.http.exchange import Exchange

_DECLARED: Final = b"x-amz-content-sha256"
_CRC32C: Final = anycrc.Model("CRC32-ISCSI")
_CRC64NVME: Final = anycrc.Model("CRC64-NVME")
CHECKSUMS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"x-amz-checksum-crc32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
    b"x-amz-checksum-crc32c": lambda content: _CRC32C.calc(content).to_bytes(4, "big"),
    b"x-amz-checksum-crc64nvme": lambda content: _CRC64NVME.calc(content).to_bytes(8, "big"),
    b"x-amz-checksum-md5": lambda content: hashlib.md5(content, usedforsecurity=False).digest(),
    b"x-amz-checksum-sha1": lambda content: hashlib.sha1(content, usedforsecurity=False).digest(),
    b"x-amz-checksum-sha256": lambda content: hashlib.sha256(content).digest(),
    b"x-amz-checksum-sha512": lambda content: hashlib.sha512(content).digest(),
    b"x-amz-checksum-xxhash3": xxhash.xxh3_64_digest,
    b"x-amz-checksum-xxhash64": xxhash.xxh64_digest,
    b"x-amz-checksum-xxhash128": xxhash.xxh3_128_digest,
}
"""What an uploader may say about a content, and how it is computed."""
_DIGESTS: Final = {b"content-md5": CHECKSUMS[b"x-amz-checksum-md5"], **CHECKSUMS}


def content_of(exchange: Exchange) -> bytes:
    """
    Return the content that a request carries.

    Raises:
        S3Error: If its chunks are broken, or it is not what its checksums say.
    """
    content, trailers = exchange.body, dict(exchange.trailers)
    declared = exchange.header(_DECLARED) or b""
    if declared.startswith(b"STREAMING-"):
        try:
            chunked = chunks_of(exchange)
        except ChunksError as error:
            raise S3Error(error.code, error.message) from error
        content, trailers = chunked.content(), dict(chunked.trailers)
    elif len(declared) == 64 and hashlib.sha256(content).hexdigest().encode() != declared:
        text = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise S3Error("XAmzContentSHA256Mismatch", text)
    for name, compute in _DIGESTS.items():
        given = exchange.header(name) or trailers.get(name)
        if given is not None and base64.b64encode(compute(content)) != given:
            text = (
                "The Content-MD5 or checksum value that you specified did not match what the server received."
            )
            raise S3Error("BadDigest", text)
    return content


def chunks_of(exchange: Exchange) -> Chunked:
    """
    Return the body of a request whose `x-amz-content-sha256` says that it comes in chunks.

    Raises:
        ChunksError: If it does not, or not as it should.
    """
    kind = (exchange.header(_DECLARED) or b"").decode("latin-1")
    if kind not in KINDS:
        raise ChunksError(
            "InvalidArgument", f"x-amz-content-sha256 must be one of {', '.join(KINDS)}, not {kind}"
        )
    return read_chunks(
        kind,
        exchange.body,
        length=exchange.header(b"x-amz-decoded-content-length") or b"",
        announced=exchange.header(b"x-amz-trailer") or b"",
    )
