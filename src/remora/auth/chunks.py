"""
Bodies that come as `aws-chunked`: taken apart, and each chunk and the trailer checked against its signature.

Every signature covers the one before it, the first that of the request's head: no chunk can be changed, left
out or put elsewhere. The last chunk is empty; behind it come trailers (checksums of the content), with a
signature of their own if the chunks have theirs.

Source: Amazon S3 API Reference, "Signature calculations for the authorization header: transferring payload in
multiple chunks" and "… including trailing headers".
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from remora.auth.sigv4 import ALGORITHM, EMPTY_DIGEST, MISMATCH, SignatureError, sign

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remora.auth.sigv4 import Claim, Header

SIGNED: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD"
SIGNED_WITH_TRAILER: Final = "STREAMING-AWS4-HMAC-SHA256-PAYLOAD-TRAILER"
UNSIGNED_WITH_TRAILER: Final = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"
KINDS: Final = (SIGNED, SIGNED_WITH_TRAILER, UNSIGNED_WITH_TRAILER)
"""What stands in place of a body's digest, in `x-amz-content-sha256`."""

_HEAD: Final = re.compile(rb"([0-9a-fA-F]{1,16})(?:;chunk-signature=([0-9a-f]{64}))?")
_TRAILER_SIGNATURE: Final = b"x-amz-trailer-signature"
_CUT: Final = "The request body terminated unexpectedly"
_MALFORMED: Final = (
    "The request contained trailing data that was not well-formed or did not conform to our published schema."
)


class ChunksError(Exception):
    """
    A body that is not in chunks as it should be.

    Args:
        code: S3's name of the error.
        message: The text as the caller sees it.
    """

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message


class Chunk(NamedTuple):
    """A chunk's content, and its signature in hexadecimal; empty if it has none."""

    content: memoryview
    signature: str


class Chunked(NamedTuple):
    """
    A body, taken apart.

    Args:
        chunks: In order; the last one is empty.
        trailers: Names in lower case, without the trailer's signature.
        trailer_signature: In hexadecimal; empty if there is none.
    """

    chunks: Sequence[Chunk]
    trailers: Sequence[Header]
    trailer_signature: str

    def content(self) -> bytes:
        """Return the content as it was before it was put into chunks."""
        return b"".join(chunk.content for chunk in self.chunks)


def read_chunks(kind: str, body: bytes, *, length: bytes = b"", announced: bytes = b"") -> Chunked:
    """
    Take a body apart.

    Args:
        kind: One of `KINDS`.
        body: As it came.
        length: The header `x-amz-decoded-content-length`; empty if there was none.
        announced: The header `x-amz-trailer`: names of trailers, with commas between.

    Raises:
        ChunksError: IncompleteBody if the end is missing or the length is another; MalformedTrailerError if
            there are not the trailers that were announced.
    """
    view, chunks, at = memoryview(body), list[Chunk](), 0
    while not chunks or chunks[-1].content:
        end = body.find(b"\r\n", at, at + 128)
        head = _HEAD.fullmatch(body[at:end]) if end >= 0 else None
        if head is None or (head[2] is None) is not (kind == UNSIGNED_WITH_TRAILER):
            raise ChunksError("IncompleteBody", _CUT)
        begin, size = end + 2, int(head[1], 16)
        at = begin + size
        if size and body[at : at + 2] != b"\r\n":
            raise ChunksError("IncompleteBody", _CUT)
        chunks.append(Chunk(view[begin:at], (head[2] or b"").decode()))
        at += 2 if size else 0
    if length and length != b"%d" % sum(len(chunk.content) for chunk in chunks):
        raise ChunksError("IncompleteBody", "The content is not as long as x-amz-decoded-content-length says")
    trailers = _read_trailers(body[at:])
    signature = trailers.pop(_TRAILER_SIGNATURE, b"").decode("latin-1")
    wanted = {name.strip().lower() for name in announced.split(b",") if name.strip()}
    if trailers.keys() != wanted or bool(signature) is not (kind == SIGNED_WITH_TRAILER):
        raise ChunksError("MalformedTrailerError", _MALFORMED)
    return Chunked(chunks, list(trailers.items()), signature)


def _read_trailers(rest: bytes) -> dict[bytes, bytes]:
    trailers: dict[bytes, bytes] = {}
    for line in rest.split(b"\r\n"):
        name, colon, value = line.partition(b":")
        if colon and name.lower() not in trailers:
            trailers[name.lower()] = value.strip()
        elif line.strip():
            raise ChunksError("MalformedTrailerError", _MALFORMED)
    return trailers


def check_chunks(claim: Claim, secret: str, chunked: Chunked) -> None:
    """
    Check the signatures of a body's chunks and of its trailer.

    Args:
        claim: Of the request's head, which has been checked.
        secret: The key's secret.
        chunked: The body, of a kind that is signed.

    Raises:
        SignatureError: InvalidSignatureException.
    """
    previous = claim.signature
    for content, signature in chunked.chunks:
        digest = hashlib.sha256(content).hexdigest()
        _check(claim, secret, "PAYLOAD", f"{previous}\n{EMPTY_DIGEST}\n{digest}", signature)
        previous = signature
    if chunked.trailer_signature:
        lines = b"".join(b"%s:%s\n" % trailer for trailer in sorted(chunked.trailers))
        digest = hashlib.sha256(lines).hexdigest()
        _check(claim, secret, "TRAILER", f"{previous}\n{digest}", chunked.trailer_signature)


def _check(claim: Claim, secret: str, what: str, covered: str, signature: str) -> None:
    expected = sign(claim, secret, f"{ALGORITHM}-{what}\n{claim.moment}\n{claim.scope}\n{covered}")
    if not hmac.compare_digest(expected.encode(), signature.encode()):
        raise SignatureError("InvalidSignatureException", MISMATCH)
