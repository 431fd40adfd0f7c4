"""
Random requests to the services next to Lambda: each is answered, none from 500 on but with "not offered".

The node is real but for its pool and its runtimes.
"""

from __future__ import annotations

import http.client
import json
from pathlib import Path
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.control.conftest import _run_node

from .endurance import PATIENCE_S, endure, examples
from .shapes import odd_texts, texts

ANSWER_S = 20
NOT_OFFERED = 501

words = st.one_of(texts, odd_texts)
keys = st.one_of(st.sampled_from(["k", "a/b", "", "/", "..", "a b"]), words)
queries = st.dictionaries(
    st.sampled_from(
        [
            *("uploads", "uploadId", "partNumber", "list-type", "prefix", "delimiter", "max-keys", "acl"),
            *("continuation-token", "encoding-type", "delete", "location", "versioning", "start-after"),
            "versionId",
        ]
    ),
    st.one_of(st.sampled_from(["", "2", "1", "url", "/", "0", "-1"]), words),
    max_size=3,
)
s3_headers = st.dictionaries(
    st.sampled_from(
        [
            *("Range", "If-Match", "If-None-Match", "x-amz-copy-source", "x-amz-content-sha256"),
            *("x-amz-checksum-crc32", "Content-Type", "x-amz-meta-a", "x-amz-metadata-directive"),
            "Content-MD5",
        ]
    ),
    st.one_of(
        st.sampled_from(
            ["*", "bytes=0-", "bytes=-1", "bytes=5-1", "/bucket/k", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"]
        ),
        words,
    ),
    max_size=2,
)
bodies = st.one_of(
    st.sampled_from(
        [
            b"",
            b"content",
            b"5\r\nhello\r\n0\r\n\r\n",
            b"<Delete><Object><Key>k</Key></Object><Object/></Delete>",
            b"<CompleteMultipartUpload><Part><PartNumber>1</PartNumber><ETag>x</ETag></Part></CompleteMultipartUpload>",
            b"<CreateBucketConfiguration/>",
            b"<a" * 2000,
        ]
    ),
    st.binary(max_size=40),
)


@st.composite
def of_s3(draw):
    method = draw(st.sampled_from(["GET", "PUT", "POST", "DELETE", "HEAD", "PATCH"]))
    bucket = draw(st.one_of(st.sampled_from(["bucket", "bucket", "bucket", "other", "BAD"]), words))
    target = f"/{quote(bucket, safe='')}/{quote(draw(keys), safe=draw(st.sampled_from(['/', ''])))}"
    if query := draw(queries):
        target += f"?{urlencode(query)}"
    return method, target, "s3", draw(s3_headers), draw(bodies)


FORM_NAMES = [
    *("RoleName", "AssumeRolePolicyDocument", "PolicyName", "PolicyArn", "PolicyDocument", "Path", "Marker"),
    *("MaxItems", "MaxSessionDuration", "Tags.member.1.Key", "Tags.member.1.Value", "TagKeys.member.1"),
    *("RoleArn", "RoleSessionName", "DurationSeconds", "Tags", "Tags.member.9999.Key"),
    *("VersionId", "SetAsDefault", "Scope", "OnlyAttached", "PermissionsBoundary", "Policy"),
    *("PolicyArns.member.1.arn", "ExternalId"),
]
FORM_VALUES = [
    "arn:aws:iam::000000000000:policy/p",
    "p",
    "v1",
    "true",
    "r",
    "r",
    "{}",
    '{"Statement":[]}',
    "arn:aws:iam::000000000000:role/r",
    "1",
    "-1",
    "3600",
    "/",
]
ACTIONS = [
    *(
        "CreateRole",
        "GetRole",
        "DeleteRole",
        "ListRoles",
        "PutRolePolicy",
        "GetRolePolicy",
        "TagRole",
        "UntagRole",
    ),
    *("AttachRolePolicy", "ListAttachedRolePolicies", "UpdateRole", "GetPolicy", "AssumeRole", "Other", ""),
    *("CreatePolicy", "CreatePolicyVersion", "GetPolicyVersion", "ListPolicies", "ListPolicyVersions"),
    *("SetDefaultPolicyVersion", "DeletePolicyVersion", "DeletePolicy", "ListEntitiesForPolicy", "TagPolicy"),
    *("PutRolePermissionsBoundary", "DeleteRolePermissionsBoundary"),
]


@st.composite
def of_forms(draw):
    values = st.one_of(st.sampled_from(FORM_VALUES), words)
    form = draw(st.dictionaries(st.sampled_from(FORM_NAMES), values, max_size=5))
    body = urlencode({"Action": draw(st.sampled_from(ACTIONS)), **form}).encode()
    return "POST", "/", draw(st.sampled_from(["iam", "sts"])), {}, body


@st.composite
def of_ssm(draw):
    name = draw(
        st.sampled_from(
            [
                *("PutParameter", "GetParameter", "GetParameters", "DeleteParameter", "Other"),
                *("GetParametersByPath", "DescribeParameters", "DeleteParameters", "ListTagsForResource"),
                *("AddTagsToResource", "RemoveTagsFromResource"),
            ]
        )
    )
    lists = [["p", "q"], [{"Key": "Name", "Values": ["p"]}], [{"Key": "tag:", "Option": "Near"}]]
    values = st.one_of(
        st.sampled_from(["p", "/a/b", "String", "SecureString", "Parameter", True, None, 1, {}, *lists]),
        words,
    )
    members = st.sampled_from(
        [
            *("Name", "Names", "Value", "Type", "Overwrite", "Description", "DataType", "Path", "KeyId"),
            *("ParameterFilters", "Filters", "NextToken", "MaxResults", "WithDecryption", "Recursive"),
            *("ResourceType", "ResourceId", "Tags", "TagKeys"),
        ]
    )
    body = json.dumps(draw(st.dictionaries(members, values, max_size=5))).encode()
    return "POST", "/", "ssm", {"X-Amz-Target": f"AmazonSSM.{name}"}, body


@pytest.fixture
def ask(tmp_path: Path, caplog):
    """Send a request to a node; nothing may go wrong with it, whatever it is."""
    with _run_node(tmp_path / "data") as node:
        node.client_of("s3").create_bucket(Bucket="bucket")

        def run(method, target, service, headers, body):
            scope = f"AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/{service}/aws4_request, Signature=0"
            lines = [f"{method} {target} HTTP/1.1", "Host: localhost", f"Authorization: {scope}"]
            lines += [f"{name}: {value}" for name, value in headers.items()]
            lines += [f"Content-Length: {len(body)}", "Connection: close"]
            safe = [
                line.encode().replace(b"\r", b"").replace(b"\n", b"").replace(b"\0", b"") for line in lines
            ]
            with node.connect() as connection:
                connection.settimeout(ANSWER_S)
                connection.sendall(b"\r\n".join(safe) + b"\r\n\r\n" + body)
                answer = http.client.HTTPResponse(connection, method=method)
                answer.begin()
                content = answer.read()
            assert answer.status < 500 or answer.status == NOT_OFFERED, (answer.status, content)
            assert caplog.text == ""

        yield run


requests = st.one_of(of_s3(), of_s3(), of_forms(), of_ssm())


@pytest.mark.slow
@examples(500)
@given(request=requests)
def test_whatever_is_asked_is_answered(ask, request):
    ask(*request)


@pytest.mark.slow_soak
@pytest.mark.timeout(PATIENCE_S)
def test_whatever_is_asked_for_minutes_is_answered(ask):
    def make():
        @given(request=requests)
        def answered(request):
            ask(*request)

        return answered

    endure(make)
