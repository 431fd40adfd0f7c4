"""Bodies in chunks: taken apart, and their signatures checked, on AWS's own example and on broken ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.auth import chunks
from remora.auth.chunks import ChunksError, check_chunks, read_chunks
from remora.auth.sigv4 import Claim, SignatureError

SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
SIGNATURES = (
    "b474d8862b1487a5145d686f57f013e54db672cee1c953b3010fb58501ef5aa2",
    "1c1344b170168f8e65b41376b44b20fe354e373826ccbbe2c1d40a8cae51e5c7",
    "2ca2aba2005185cf7159c6277faf83795951dd77a3a99e6e65d5c9f85863f992",
)
TRAILER = "x-amz-checksum-crc32c:sOO8/Q=="
TRAILER_SIGNATURE = "d81f82fc3505edab99d459891051a732e8730629a2e4a59689829ca17fe2e435"
CONTENTS = ("a" * 65_536, "a" * 1_024, "")


def claim(signature):
    scope = ("AKIAIOSFODNN7EXAMPLE", "20130524", "us-east-1", "s3")
    return Claim(*scope, ("host",), signature, "20130524T000000Z", "", None)


CLAIM = claim("106e2a8a18243abcf37539882f36619c00e2dfc72633413f02d3b74544bfeb8e")
"""Of the request whose body the example sends."""


def body(
    signatures=SIGNATURES,
    contents=CONTENTS,
    end=f"{TRAILER}\r\nx-amz-trailer-signature:{TRAILER_SIGNATURE}\r\n",
):
    parts = [
        f"{len(content):x};chunk-signature={signature}\r\n{content}" + ("\r\n" if content else "")
        for content, signature in zip(contents, signatures, strict=True)
    ]
    return ("".join(parts) + end + "\r\n").encode()


def read(content, kind=chunks.SIGNED_WITH_TRAILER, length=b"66560", announced=b"X-Amz-Checksum-CRC32C"):
    return read_chunks(kind, content, length=length, announced=announced)


def test_the_example_of_the_documentation():
    chunked = read(body())
    check_chunks(CLAIM, SECRET, chunked)
    assert chunked.content() == b"a" * 66_560
    assert chunked.trailers == [(b"x-amz-checksum-crc32c", b"sOO8/Q==")]


def test_chunks_without_a_trailer():
    # The first chunk's signature is for the same head: whether a trailer follows, only the head says.
    chunked = read(body(end=""), chunks.SIGNED, announced=b"")
    check_chunks(CLAIM, SECRET, chunked)
    assert len(chunked.chunks) == 3


@pytest.mark.parametrize(
    "broken",
    [
        body().replace(b"a\r\n", b"b\r\n", 1),
        body().replace(b"a\r\n0;", b"b\r\n0;"),
        body((SIGNATURES[1], SIGNATURES[0], SIGNATURES[2]), (CONTENTS[1], CONTENTS[0], "")),
        body().replace(b"sOO8/Q==", b"sOO8/A=="),
        body().replace(TRAILER_SIGNATURE.encode(), b"0" * 64),
        body().replace(TRAILER_SIGNATURE.encode(), b"\xff"),
        body().replace(SIGNATURES[2].encode(), b"0" * 64),
    ],
)
def test_what_was_changed_is_refused(broken):
    with pytest.raises(SignatureError) as caught:
        check_chunks(CLAIM, SECRET, read(broken))
    assert caught.value.code == "InvalidSignatureException"


def test_chunks_of_another_request_are_refused():
    for other, secret in (
        (claim("0" * 64), SECRET),
        (CLAIM._replace(moment="20130524T000001Z"), SECRET),
        (CLAIM, "x"),
    ):
        with pytest.raises(SignatureError):
            check_chunks(other, secret, read(body()))


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (b"", "IncompleteBody"),
        (body()[:-300], "IncompleteBody"),
        (body(SIGNATURES[:2], CONTENTS[:2], end=""), "IncompleteBody"),
        (body(SIGNATURES[1:], CONTENTS[1:]), "IncompleteBody"),
        (body().replace(b"10000;", b"0x10000;"), "IncompleteBody"),
        (body().replace(b";chunk-signature=", b";"), "IncompleteBody"),
        (body(end=""), "MalformedTrailerError"),
        (body(end=f"{TRAILER}\r\n"), "MalformedTrailerError"),
        (body(end=f"x-amz-trailer-signature:{TRAILER_SIGNATURE}\r\n"), "MalformedTrailerError"),
        (body(end=f"{TRAILER}\r\n{TRAILER}\r\n"), "MalformedTrailerError"),
        (body(end="no trailer\r\n"), "MalformedTrailerError"),
    ],
)
def test_what_is_missing_is_named(broken, code):
    with pytest.raises(ChunksError) as caught:
        read(broken)
    assert caught.value.code == code


def test_more_than_was_announced_is_refused():
    for kind, announced in ((chunks.SIGNED, b""), (chunks.SIGNED_WITH_TRAILER, b"")):
        with pytest.raises(ChunksError) as caught:
            read(body(), kind, announced=announced)
        assert caught.value.code == "MalformedTrailerError"


def test_unsigned_chunks_have_no_signatures():
    plain = b"5\r\nhello\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    chunked = read_chunks(chunks.UNSIGNED_WITH_TRAILER, plain, announced=b"x-amz-checksum-crc32")
    assert chunked.content() == b"hello"
    with pytest.raises(ChunksError):
        read(body(), chunks.UNSIGNED_WITH_TRAILER)
    with pytest.raises(ChunksError):
        read_chunks(chunks.SIGNED, plain)


@given(st.sampled_from(chunks.KINDS), st.binary(max_size=60), st.sampled_from([b"", b"x", b"a,b"]))
def test_garbage_is_refused_in_order(kind, content, announced):
    with pytest.raises(ChunksError):
        read_chunks(kind, content + b"\xff", announced=announced)
