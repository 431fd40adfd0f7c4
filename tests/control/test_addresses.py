"""Function URLs, the pure parts: requests to events, results to answers, cross-origin rules, access."""

import base64
import json
from types import SimpleNamespace
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from remora.control.addresses import cors
from remora.control.addresses.access import claimed_signer, is_open
from remora.control.addresses.replies import HttpReply, Malformed, reply_of, split_prelude
from remora.control.addresses.requests import Signer, UrlRequest, event_of
from remora.resources.names import Place

JSON = ("Content-Type", "application/json")
ARN = "arn:aws:lambda:us-east-1:000000000000:function:f"
PICTURE = json.dumps(
    {
        "statusCode": 200,
        "headers": {"content-type": "image/png", "Content-Length": "9"},
        "cookies": ["a=1"],
        "body": "AAE=",
        "isBase64Encoded": True,
    }
).encode()
OPEN = {
    "Effect": "Allow",
    "Principal": "*",
    "Action": "lambda:InvokeFunctionUrl",
    "Resource": ARN,
    "Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}},
}


def denied_from(address):
    return OPEN | {"Effect": "Deny", "Condition": {"IpAddress": {"aws:SourceIp": address}}}


def request(**members):
    usual = {
        "method": "POST",
        "path": "/a%20b/c",
        "query": "x=1&x=2&y=%26",
        "headers": [
            ("host", "i.lambda-url.us-east-1.localhost:9"),
            ("cookie", "a=1; b=2"),
            ("z", "1"),
            ("z", "2"),
        ],
        "body": b"",
        "host": "i.lambda-url.us-east-1.localhost",
        "url_id": "i",
        "source_ip": "127.0.0.1",
        "account": "000000000000",
        "request_id": "r",
        "now_ms": 1_583_348_638_390,
    }
    return json.loads(event_of(UrlRequest(**(usual | members))))


def test_a_request_is_an_event_of_version_two():
    event = request()
    assert (event["version"], event["routeKey"], event["rawPath"]) == ("2.0", "$default", "/a%20b/c")
    assert event["rawQueryString"] == "x=1&x=2&y=%26"
    assert event["queryStringParameters"] == {"x": "1,2", "y": "&"}
    assert event["cookies"] == ["a=1", "b=2"]
    assert event["headers"]["z"] == "1,2"
    context = event["requestContext"]
    assert context["http"] == {
        "method": "POST",
        "path": "/a%20b/c",
        "protocol": "HTTP/1.1",
        "sourceIp": "127.0.0.1",
        "userAgent": "",
    }
    assert (context["time"], context["timeEpoch"]) == ("04/Mar/2020:19:03:58 +0000", 1_583_348_638_390)
    assert (context["accountId"], context["apiId"], context["domainPrefix"]) == ("anonymous", "i", "i")
    assert "authorizer" not in context
    assert ("body" in event, event["isBase64Encoded"]) == (False, False)


@pytest.mark.parametrize(
    ("kind", "body", "is_encoded"),
    [
        ("text/plain; charset=utf-8", b"a", False),
        ("application/json", b"{}", False),
        ("application/vnd.api+json", b"{}", False),
        ("application/octet-stream", b"a", True),
        ("application/x-www-form-urlencoded", b"a=1", True),
        ("text/plain", b"\xff", True),
    ],
)
def test_a_body_that_is_no_text_is_encoded(kind, body, is_encoded):
    event = request(headers=[("content-type", kind)], body=body)
    assert event["isBase64Encoded"] is is_encoded
    assert (base64.b64decode(event["body"]) if is_encoded else event["body"].encode()) == body


def test_a_signed_request_tells_who():
    signer = Signer("AKIA", "arn:x", "AIDA", "111111111111")
    iam = request(signer=signer)["requestContext"]["authorizer"]["iam"]
    assert (iam["accessKey"], iam["userArn"], iam["accountId"]) == ("AKIA", "arn:x", "111111111111")


@pytest.mark.parametrize(
    ("payload", "reply"),
    [
        (b'{"statusCode":201,"headers":{"x":"1"},"body":"b"}', HttpReply(201, [JSON, ("x", "1")], b"b")),
        (b'"hello"', HttpReply(200, [JSON], b"hello")),
        (b"3", HttpReply(200, [JSON], b"3")),
        (b"null", HttpReply(200, [JSON], b"null")),
        (b'{"a":1}', HttpReply(200, [JSON], b'{"a":1}')),
        (b'{"statusCode":"204"}', HttpReply(204, [JSON], b"")),
        (b"not json", HttpReply(200, [JSON], b"not json")),
        (PICTURE, HttpReply(200, [("content-type", "image/png"), ("Set-Cookie", "a=1")], b"\0\1")),
    ],
)
def test_what_a_function_returns_is_an_answer(payload, reply):
    assert reply_of(payload) == reply


@pytest.mark.parametrize(
    "value",
    [
        {"statusCode": 99},
        {"statusCode": 700},
        {"statusCode": "9" * 5_000},
        {"statusCode": True},
        {"statusCode": None},
        {"statusCode": 200, "headers": []},
        {"statusCode": 200, "headers": {"x": "a\r\nSet-Cookie: b"}},
        {"statusCode": 200, "headers": {"x y": "a"}},
        {"statusCode": 200, "headers": {"x": {}}},
        {"statusCode": 200, "cookies": "a"},
        {"statusCode": 200, "cookies": ["a\nb"]},
        {"statusCode": 200, "body": {}},
        {"statusCode": 200, "body": "%", "isBase64Encoded": True},
    ],
)
def test_what_cannot_be_sent_is_no_answer(value):
    with pytest.raises(Malformed):
        reply_of(json.dumps(value).encode())


MEMBERS = st.sampled_from(["statusCode", "headers", "cookies", "body", "isBase64Encoded", "a"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda it: st.lists(it) | st.dictionaries(MEMBERS, it),
)


@pytest.mark.slow
@given(VALUES)
def test_whatever_a_function_returns_it_is_an_answer_or_malformed(value):
    try:
        reply = reply_of(json.dumps(value).encode())
    except Malformed:
        return
    assert 200 <= reply.status <= 599
    assert not any(each in text for pair in reply.headers for text in pair for each in "\r\n")


def test_a_stream_may_begin_with_its_head():
    head = b'{"statusCode":201,"headers":{"x":"1"},"cookies":["a=1"]}'
    begun = head + b"\0" * 8 + b"body"
    for cut in range(len(head) + 8):
        assert split_prelude(begun[:cut]) is None
    reply, rest = split_prelude(begun)
    assert (reply.status, rest) == (201, b"body")
    assert reply.headers == [JSON, ("x", "1"), ("Set-Cookie", "a=1")]
    for wrong in (b"[1]" + b"\0" * 8, b"{" + b"\0" * 8, b"x" * 200_000):
        with pytest.raises(Malformed):
            split_prelude(wrong)


ASKED = {
    "origin": "https://a.example",
    "access-control-request-method": "PUT",
    "access-control-request-headers": "x-a",
}


def test_a_preflight_says_what_is_allowed():
    rules = {
        "AllowOrigins": ["https://a.example"],
        "AllowMethods": ["PUT", "GET"],
        "AllowHeaders": ["x-a", "x-b"],
        "MaxAge": 60,
        "AllowCredentials": True,
        "ExposeHeaders": ["x-c"],
    }
    assert cors.is_preflight("OPTIONS", ASKED)
    assert not cors.is_preflight("OPTIONS", {"origin": "x"})
    assert dict(cors.preflight(rules, ASKED)) == {
        "Access-Control-Allow-Origin": "https://a.example",
        "Vary": "Origin",
        "Access-Control-Allow-Credentials": "true",
        "Access-Control-Allow-Methods": "PUT,GET",
        "Access-Control-Allow-Headers": "x-a,x-b",
        "Access-Control-Max-Age": "60",
    }
    assert cors.preflight(rules, ASKED | {"origin": "https://b.example"}) == []
    assert ("Access-Control-Expose-Headers", "x-c") in cors.allowed(rules, "https://a.example")


def test_everything_may_be_allowed():
    rules = {"AllowOrigins": ["*"], "AllowMethods": ["*"], "AllowHeaders": ["*"]}
    assert dict(cors.preflight(rules, ASKED)) == {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "PUT",
        "Access-Control-Allow-Headers": "x-a",
    }
    assert cors.allowed(rules, None) == []


@pytest.mark.parametrize(
    ("statements", "expected"),
    [
        ([], False),
        ([OPEN], True),
        ([OPEN | {"Principal": {"AWS": "*"}}], True),
        ([OPEN | {"Principal": {"AWS": "arn:aws:iam::123456789012:root"}}], False),
        ([OPEN | {"Action": "lambda:InvokeFunction"}], False),
        ([OPEN | {"Action": ["lambda:*"]}], True),
        ([OPEN | {"Resource": f"{ARN}:live"}], False),
        ([OPEN | {"Condition": {"StringEquals": {"lambda:FunctionUrlAuthType": "AWS_IAM"}}}], False),
        ([OPEN | {"Condition": {"StringEquals": {"aws:PrincipalOrgID": "o-1"}}}], False),
        ([{key: OPEN[key] for key in ("Effect", "Principal", "Action", "Resource")}], True),
        ([OPEN, OPEN | {"Effect": "Deny"}], False),
        (
            [OPEN, OPEN | {"Effect": "Deny", "Condition": {"IpAddress": {"aws:SourceIp": "127.0.0.0/8"}}}],
            False,
        ),
        ([OPEN, OPEN | {"Effect": "Deny", "Condition": {"IpAddress": {"aws:SourceIp": "1.2.3.4"}}}], True),
    ],
)
def test_a_policy_decides_who_may_use_an_open_url(statements, expected):
    assert is_open(statements, ARN, "127.0.0.1") is expected


def test_only_signed_requests_have_a_signer():
    place = Place("us-east-1", "000000000000")
    credential = "AKIA/20260101/us-east-1/lambda/aws4_request"
    header = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={'0' * 64}".encode()

    def signer(authorization):
        headers = [(b"authorization", authorization), (b"x-amz-date", b"20260101T000000Z")]
        return claimed_signer(SimpleNamespace(method=b"GET", path=b"/", query=b"", headers=headers), place)

    assert signer(header) == Signer("AKIA", "arn:aws:iam::000000000000:root", "000000000000", "000000000000")
    assert signer(header.replace(b"us-east-1", b"eu-west-1")) is None
    assert signer(header.replace(b"lambda", b"s3")) is None
    assert signer(b"Basic x") is None
    presigned = (
        f"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={quote(credential, safe='')}&X-Amz-Signature=0"
    )
    presigned += "&X-Amz-Date=20260101T000000Z&X-Amz-SignedHeaders=host&X-Amz-Expires=60"
    unsigned = SimpleNamespace(method=b"GET", path=b"/", query=b"a=b", headers=[])
    assert claimed_signer(unsigned, place) is None
    unsigned.query = presigned.encode()
    assert claimed_signer(unsigned, place).access_key == "AKIA"
