"""Signatures: made by botocore, as most clients make them, and checked here."""

from __future__ import annotations

import time
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given, settings
from hypothesis import strategies as st

from remora.auth import sigv4
from remora.auth.sigv4 import SignatureError, Signed

SECRET = "secret-of-the-key"
ARN = quote("arn:aws:lambda:us-east-1:000000000000:function:f:live", safe="")


def signed(method, path, body=b"", *, service="lambda", auth=SigV4Auth, token=None, headers=None, **options):
    """Sign a request with botocore; return it as it arrives."""
    request = AWSRequest(method, f"http://127.0.0.1:9000{path}", headers=headers or {}, data=body)
    request.headers["Host"] = "127.0.0.1:9000"
    auth(Credentials("AKIDEXAMPLE", SECRET, token), service, "us-east-1", **options).add_auth(request)
    url = urlsplit(request.url)
    arrived = [(name.lower().encode(), str(value).encode()) for name, value in request.headers.items()]
    return Signed(method.encode(), url.path.encode(), url.query.encode(), arrived)


def check(request, body=b"", *, secret=SECRET, now_s=None):
    claim = sigv4.read_claim(request)
    assert claim is not None
    digest = sigv4.payload_digest(claim, request, body)
    sigv4.verify(claim, secret, request, digest, time.time() if now_s is None else now_s)
    return claim


def refusal(request, body=b"", **how):
    with pytest.raises(SignatureError) as caught:
        check(request, body, **how)
    return caught.value


def replaced(request, name, value):
    return request._replace(headers=[(n, value if n == name else v) for n, v in request.headers])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2015-03-31/functions"),
        ("GET", "/2015-03-31/functions/"),
        ("POST", f"/2015-03-31/functions/{ARN}/invocations?Qualifier=%24LATEST"),
        ("GET", "/2017-03-31/tags/a%2Fb%20c?x=&b=2&a=%C3%A9&a=1"),
        ("GET", "/a//b/./c/../d"),
        ("GET", "/2015-03-31/functions?Marker=a%2Bb%3D%3D&FunctionVersion=ALL"),
    ],
)
def test_what_botocore_signs_is_accepted(method, path):
    body = b'{"a": 1}' if method == "POST" else b""
    claim = check(signed(method, path, body), body)
    found = (claim.access_key, claim.region, claim.service, claim.token)
    assert found == ("AKIDEXAMPLE", "us-east-1", "lambda", "")


def test_a_session_token_is_read():
    assert check(signed("GET", "/x", token="the token")).token == "the token"


@pytest.mark.parametrize("path", ["/bucket/a%20key//with/../dots", "/bucket/%C3%BC%2B?uploads"])
def test_paths_of_s3_are_signed_as_they_are(path):
    request = signed("PUT", path, b"content", service="s3", auth=S3SigV4Auth)
    check(request, b"content")
    assert refusal(request, b"other").code in ("XAmzContentSHA256Mismatch", "InvalidSignatureException")


@pytest.mark.parametrize(("auth", "service"), [(SigV4QueryAuth, "lambda"), (S3SigV4QueryAuth, "s3")])
def test_presigned_urls_hold_for_their_time(auth, service):
    request = signed("GET", "/a/b?c=d", service=service, auth=auth, expires=60)
    check(request, now_s=time.time() + 55)
    expired = refusal(request, now_s=time.time() + 65)
    early = refusal(request, now_s=time.time() - 1000)
    if service == "s3":
        assert (expired.code, expired.message) == ("AccessDenied", "Request has expired")
        assert (early.code, early.message) == ("AccessDenied", "Request is not yet valid")
    else:
        assert expired.message.startswith("Signature expired: ")
        assert early.message.startswith("Signature not yet current: ")
    longer = request._replace(query=request.query.replace(b"X-Amz-Expires=60", b"X-Amz-Expires=600"))
    assert refusal(longer).message == sigv4.MISMATCH


def test_every_part_of_a_request_is_covered():
    body = b'{"amount": 1}'
    request = signed("POST", "/2015-03-31/functions/f/invocations?Qualifier=1", body)
    check(request, body)
    changed = [
        request._replace(method=b"PUT"),
        request._replace(path=b"/2015-03-31/functions/g/invocations"),
        request._replace(query=b"Qualifier=2"),
        request._replace(query=b"Qualifier=1&more="),
        replaced(request, b"host", b"127.0.0.1:9001"),
    ]
    assert {refusal(each, body).message for each in changed} == {sigv4.MISMATCH}
    assert refusal(request, b'{"amount": 2}').message == sigv4.MISMATCH
    assert refusal(request, body, secret="another").message == sigv4.MISMATCH
    unsigned = request._replace(headers=[*request.headers, (b"x-amz-more", b"1")])
    assert (
        refusal(unsigned, body).message == "'x-amz-more' must be a 'SignedHeader' in the AWS Authorization."
    )


@pytest.mark.parametrize("signature", [b"\xe9" * 64, b"f" * 64, b"f"])
def test_whatever_stands_in_place_of_a_signature_is_compared(signature):
    request = signed("GET", "/x")
    start, _, _ = dict(request.headers)[b"authorization"].rpartition(b"=")
    odd = replaced(request, b"authorization", start + b"=" + signature)
    assert refusal(odd).message == sigv4.MISMATCH


def test_the_clock_may_be_wrong_by_five_minutes():
    request, now = signed("GET", "/x"), time.time()
    check(request, now_s=now + 290)
    check(request, now_s=now - 290)
    assert refusal(request, now_s=now + 310).message.startswith("Signature expired: ")
    assert refusal(request, now_s=now - 310).message.startswith("Signature not yet current: ")


def test_s3_is_patient_for_fifteen_minutes():
    request, now = signed("GET", "/b/k", service="s3", auth=S3SigV4Auth), time.time()
    check(request, now_s=now + 890)
    check(request, now_s=now - 890)
    for moment in (now + 910, now - 910):
        assert refusal(request, now_s=moment).code == "RequestTimeTooSkewed"


def test_the_scope_has_the_day_of_the_request():
    request = signed("GET", "/x")
    headers = dict(request.headers)
    day = headers[b"x-amz-date"][:8]
    other = replaced(request, b"authorization", headers[b"authorization"].replace(day, b"20200101"))
    assert refusal(other).message.startswith("Date in Credential scope does not match")


@pytest.mark.parametrize(
    ("authorization", "text"),
    [
        (b"Basic abc", "Unsupported AWS 'algorithm': 'Basic'."),
        (b"AWS4-HMAC-SHA256 ", "Authorization header requires 'Credential' parameter."),
        (b"AWS4-HMAC-SHA256 Credential=a/b", "Authorization header requires 'Signature' parameter."),
        (
            b"AWS4-HMAC-SHA256 Credential=a/b, SignedHeaders=host, Signature=c",
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term.",
        ),
        (
            b"AWS4-HMAC-SHA256 Credential=a/TODAY/r/s/aws4_request, SignedHeaders=x, Signature=c",
            "'Host' must be a 'SignedHeader' in the AWS Authorization.",
        ),
    ],
)
def test_claims_that_lack_something(authorization, text):
    now = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime()).encode()
    authorization = authorization.replace(b"TODAY", now[:8])
    request = Signed(b"GET", b"/", b"", [(b"authorization", authorization), (b"x-amz-date", now)])
    assert refusal(request).message == text


@pytest.mark.parametrize("expires", ["0", "604801", "9" * 5_000, "-1", "x", ""])
def test_lifetimes_that_are_none(expires):
    request = signed("GET", "/x", auth=SigV4QueryAuth, expires=60)
    query = request.query.replace(b"X-Amz-Expires=60", b"X-Amz-Expires=" + expires.encode())
    assert refusal(request._replace(query=query)).code == "IncompleteSignatureException"


def test_a_request_without_a_signature_makes_no_claim():
    assert sigv4.read_claim(Signed(b"GET", b"/", b"a=b", [(b"host", b"x")])) is None


@settings(max_examples=150, deadline=None)
@given(
    st.text(min_size=1, max_size=20),
    st.dictionaries(st.text(min_size=1, max_size=5), st.text(max_size=8), max_size=4),
)
def test_any_path_and_query_are_canonical(segment, query):
    text = "&".join(f"{quote(n, safe='')}={quote(v, safe='')}" for n, v in query.items())
    check(signed("GET", f"/2015-03-31/{quote(segment, safe='')}?{text}"))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=120), st.binary(max_size=120))
def test_garbage_is_refused_in_order(authorization, query):
    request = Signed(b"GET", b"/", query, [(b"authorization", b"AWS4-HMAC-SHA256 " + authorization)])
    assert refusal(request).code == "IncompleteSignatureException"
