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

from remora.resources.buckets import S3Error

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.http.exchange import Exchange

_DIGESTS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"content-md5": lambda content: hashlib.md5(content, usedforsecurity=False).digest(),
    b"x-amz-checksum-crc32": lambda content: zlib.crc32(content).to_bytes(4, "big"),
    b"x-amz-checksum-sha1": lambda content: hashlib.sha1(content, usedforsecurity=False).digest(),
    b"x-amz-checksum-sha256": lambda content: hashlib.sha256(content).digest(),
}


def content_of(exchange: Exchange) -> bytes:
    """
    Return the content that a request carries.

    Raises:
        S3Error: If its chunks are broken, or it is not what its checksums say.
    """
    content, trailers = exchange.body, dict(exchange.trailers)
    declared = exchange.header(b"x-amz-content-sha256") or b""
    if declared.startswith(b"STREAMING-"):
        content, trailers = _without_chunks(content)
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


def _without_chunks(body: bytes) -> tuple[bytes, dict[bytes, bytes]]:
    """Take a body out of `aws-chunked`; the signatures of its chunks are not looked at."""
    pieces: list[bytes] = []
    at = 0
    while True:
        end = body.find(b"\r\n", at)
        try:
            size = int(body[at:end].partition(b";")[0], 16)
        except ValueError as error:
            raise _incomplete() from error
        if end < 0 or size < 0:
            raise _incomplete()
        at = end + 2
        if not size:
            break
        pieces.append(body[at : at + size])
        if body[at + size : at + size + 2] != b"\r\n":
            raise _incomplete()
        at += size + 2
    lines = [line.partition(b":") for line in body[at:].split(b"\r\n") if line]
    return b"".join(pieces), {name.lower(): value.strip() for name, _, value in lines}


def _incomplete() -> S3Error:
    return S3Error("IncompleteBody", "The request body terminated unexpectedly")
