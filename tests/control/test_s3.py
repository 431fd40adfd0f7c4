"""The node's S3, as boto3 sees it: buckets, objects, uploads in parts, and code that comes from there."""

from __future__ import annotations

import hashlib
import io
import urllib.request
import zipfile
import zlib
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

MIB = 1024 * 1024
INVALID = "InvalidParameterValueException"


@pytest.fixture
def s3(node):
    client = node.client_of("s3")
    client.create_bucket(Bucket="bucket")
    return client


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def put(s3, key, body=b"x", **members):
    return s3.put_object(Bucket="bucket", Key=key, Body=body, **members)


def keys(reply):
    return [each["Key"] for each in reply.get("Contents", [])]


def test_buckets(s3):
    s3.create_bucket(Bucket="another")
    s3.create_bucket(Bucket="another")
    assert [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]] == ["another", "bucket"]
    assert s3.head_bucket(Bucket="bucket")["BucketRegion"] == "us-east-1"
    assert s3.get_bucket_location(Bucket="bucket")["LocationConstraint"] is None
    assert "Status" not in s3.get_bucket_versioning(Bucket="bucket")
    assert refused(s3.head_bucket, Bucket="missing") == (404, "404")
    assert refused(s3.get_bucket_encryption, Bucket="bucket") == (
        404,
        "ServerSideEncryptionConfigurationNotFoundError",
    )
    put(s3, "k")
    assert refused(s3.delete_bucket, Bucket="bucket") == (409, "BucketNotEmpty")
    s3.delete_bucket(Bucket="another")
    assert refused(s3.delete_bucket, Bucket="another") == (404, "NoSuchBucket")
    elsewhere = {"LocationConstraint": "eu-west-1"}
    assert refused(s3.create_bucket, Bucket="other", CreateBucketConfiguration=elsewhere)[1] == (
        "IllegalLocationConstraintException"
    )


@pytest.mark.parametrize("name", ["UPPER", "a..b", "-a-", "x_y"])
def test_a_name_that_is_no_buckets(node, name):
    status, _, body = node.raw("PUT", f"/{name}")
    assert status == 400
    assert b"<Code>InvalidBucketName</Code>" in body


@pytest.mark.parametrize("key", ["plain", "a/b c/ü+%2F&=?.zip", "./..//x", "a" * 1024])
def test_an_object_comes_back_as_it_went(s3, key):
    reply = put(s3, key, b"content", ContentType="text/plain", Metadata={"who": "me"})
    assert reply["ETag"] == '"9a0364b9e99bb480dd25e1f0284c8555"'
    found = s3.get_object(Bucket="bucket", Key=key)
    assert found["Body"].read() == b"content"
    assert (found["ContentLength"], found["ContentType"]) == (7, "text/plain")
    assert (found["ETag"], found["Metadata"]) == (reply["ETag"], {"who": "me"})
    head = s3.head_object(Bucket="bucket", Key=key)
    assert (head["ContentLength"], head["ETag"]) == (7, reply["ETag"])
    assert head["LastModified"] == found["LastModified"]
    assert keys(s3.list_objects_v2(Bucket="bucket")) == [key]
    s3.delete_object(Bucket="bucket", Key=key)
    s3.delete_object(Bucket="bucket", Key=key)
    assert refused(s3.get_object, Bucket="bucket", Key=key) == (404, "NoSuchKey")
    assert refused(s3.head_object, Bucket="bucket", Key=key) == (404, "404")


def test_an_empty_object(s3):
    put(s3, "k", b"")
    assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b""


@pytest.mark.parametrize(
    ("wanted", "content", "shown"),
    [
        ("bytes=0-0", b"0", "bytes 0-0/10"),
        ("bytes=3-5", b"345", "bytes 3-5/10"),
        ("bytes=7-", b"789", "bytes 7-9/10"),
        ("bytes=-2", b"89", "bytes 8-9/10"),
        ("bytes=5-100", b"56789", "bytes 5-9/10"),
        ("bytes=0-", b"0123456789", "bytes 0-9/10"),
        (f"bytes=-{'9' * 5_000}", b"0123456789", "bytes 0-9/10"),
        (f"bytes=5-{'9' * 5_000}", b"56789", "bytes 5-9/10"),
    ],
)
def test_a_part_of_an_object(s3, wanted, content, shown):
    put(s3, "k", b"0123456789")
    found = s3.get_object(Bucket="bucket", Key="k", Range=wanted)
    assert (found["Body"].read(), found["ContentRange"]) == (content, shown)
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 206


def test_a_range_outside(s3):
    put(s3, "k", b"0123456789")
    for begin in ("10", "9" * 5_000):
        assert refused(s3.get_object, Bucket="bucket", Key="k", Range=f"bytes={begin}-") == (
            416,
            "InvalidRange",
        )
    found = s3.get_object(Bucket="bucket", Key="k", Range="lines=1-2")
    assert found["Body"].read() == b"0123456789"
    assert found["ResponseMetadata"]["HTTPStatusCode"] == 200


def test_conditions(s3):
    etag = put(s3, "k")["ETag"]
    at = {"Bucket": "bucket", "Key": "k"}
    assert refused(s3.get_object, **at, IfNoneMatch=etag) == (304, "304")
    assert refused(s3.get_object, **at, IfMatch='"other"') == (412, "PreconditionFailed")
    assert s3.get_object(**at, IfMatch=etag)["ETag"] == etag
    assert refused(s3.put_object, **at, Body=b"y", IfNoneMatch="*") == (412, "PreconditionFailed")


def test_content_that_is_not_what_its_checksum_says(s3):
    at = {"Bucket": "bucket", "Key": "k", "Body": b"content"}
    right = b64encode(zlib.crc32(b"content").to_bytes(4, "big")).decode()
    assert s3.put_object(**at, ChecksumCRC32=right)["ChecksumCRC32"] == right
    assert refused(s3.put_object, **at, ChecksumCRC32="AAAAAA==") == (400, "BadDigest")
    assert refused(s3.put_object, **at, ContentMD5="AAAAAAAAAAAAAAAAAAAAAA==") == (400, "BadDigest")


# What the catalogue of CRCs, RFC 1321, FIPS 180 and the specification of xxHash give for the nine digits.
@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [
        ("CRC32", "cbf43926"),
        ("CRC32C", "e3069283"),
        ("CRC64NVME", "ae8b14860a799888"),
        ("MD5", "25f9e794323b453885f5181f1b624d0b"),
        ("SHA1", "f7c3bc1d808e04732adf679965ccc34ca7ae3441"),
        ("SHA256", "15e2b0d3c33891ebb0f1ef609ec419420c20e320ce94c65fbc8c3312448eb225"),
        ("SHA512", hashlib.sha512(b"123456789").hexdigest()),
        ("XXHASH64", "8cb841db40e6ae83"),
        ("XXHASH3", "72dcb18b67a17dff"),
        ("XXHASH128", "33119477ede5dcd5e9716427681d5860"),
    ],
)
def test_every_kind_of_checksum_is_compared(s3, algorithm, digest):
    at = {"Bucket": "bucket", "Key": "k"}
    said = {f"Checksum{algorithm}": b64encode(bytes.fromhex(digest)).decode()}
    assert s3.put_object(**at, Body=b"123456789", **said).items() >= said.items()
    assert refused(s3.put_object, **at, Body=b"123456780", **said) == (400, "BadDigest")


def test_a_body_in_chunks(node, s3):
    # As the SDKs for Java, Go and JavaScript send it.
    chunks = b"5\r\nhello\r\n6\r\n world\r\n0\r\n"
    headers = {
        "x_amz_content_sha256": "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
        "Content_Encoding": "aws-chunked",
        "x_amz_trailer": "x-amz-checksum-crc32",
    }
    crc = b64encode(zlib.crc32(b"hello world").to_bytes(4, "big"))
    whole = chunks + b"x-amz-checksum-crc32:" + crc + b"\r\n\r\n"
    assert node.raw("PUT", "/bucket/k", whole, **headers)[0] == 200
    found = s3.get_object(Bucket="bucket", Key="k")
    assert found["Body"].read() == b"hello world"
    assert "ContentEncoding" not in found
    wrong = chunks + b"x-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    assert b"BadDigest" in node.raw("PUT", "/bucket/k", wrong, **headers)[2]
    for broken in (b"", b"5\r\nhel", b"zz\r\n", b"-1\r\n", b"5\r\nhelloXX0\r\n", b"5\r\nhello\r\n"):
        assert b"IncompleteBody" in node.raw("PUT", "/bucket/k", broken, **headers)[2]
    assert b"MalformedTrailerError" in node.raw("PUT", "/bucket/k", chunks + b"\r\n", **headers)[2]
    length = {"x_amz_decoded_content_length": "12"}
    assert b"IncompleteBody" in node.raw("PUT", "/bucket/k", whole, **headers, **length)[2]
    unknown = headers | {"x_amz_content_sha256": "STREAMING-SOMETHING"}
    assert b"InvalidArgument" in node.raw("PUT", "/bucket/k", whole, **unknown)[2]


def test_lists_come_in_pages(s3):
    names = [f"d{number % 3}/{number:02}" for number in range(20)]
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda name: put(s3, name), names))
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket="bucket", PaginationConfig={"PageSize": 7})
    assert [key for page in pages for key in keys(page)] == sorted(names)
    listed = s3.list_objects_v2(Bucket="bucket", Prefix="d1/", MaxKeys=1)
    assert (keys(listed), listed["KeyCount"], listed["IsTruncated"]) == (["d1/01"], 1, True)
    folders = s3.list_objects_v2(Bucket="bucket", Delimiter="/", MaxKeys=2)
    assert [each["Prefix"] for each in folders["CommonPrefixes"]] == ["d0/", "d1/"]
    rest = s3.list_objects_v2(
        Bucket="bucket", Delimiter="/", ContinuationToken=folders["NextContinuationToken"]
    )
    assert [each["Prefix"] for each in rest["CommonPrefixes"]] == ["d2/"]
    assert not rest["IsTruncated"]
    assert keys(s3.list_objects_v2(Bucket="bucket", StartAfter="d2/10")) == ["d2/11", "d2/14", "d2/17"]
    assert refused(s3.list_objects_v2, Bucket="bucket", ContinuationToken="?")[1] == "InvalidArgument"


def test_documents_that_define_entities_are_refused(node):
    text = (
        '<?xml version="1.0" encoding="{}"?><!DOCTYPE d [<!ENTITY a "k">]>'
        "<Delete><Object><Key>&a;</Key></Object></Delete>"
    )
    for encoding in ("UTF-8", "UTF-16"):
        body = text.format(encoding).encode(encoding)
        status, _, answer = node.raw("POST", "/bucket?delete", body)
        assert (status, b"MalformedXML" in answer) == (400, True)


def test_many_are_deleted_at_once(s3):
    for name in ("a", "b", "c"):
        put(s3, name)
    wanted = {"Objects": [{"Key": "a"}, {"Key": "c"}, {"Key": "missing"}]}
    reply = s3.delete_objects(Bucket="bucket", Delete=wanted)
    assert [each["Key"] for each in reply["Deleted"]] == ["a", "c", "missing"]
    assert keys(s3.list_objects_v2(Bucket="bucket")) == ["b"]


def test_a_copy(s3):
    put(s3, "a b", b"content", ContentType="text/plain")
    s3.copy_object(Bucket="bucket", Key="copy", CopySource={"Bucket": "bucket", "Key": "a b"})
    s3.delete_object(Bucket="bucket", Key="a b")
    found = s3.get_object(Bucket="bucket", Key="copy")
    assert (found["Body"].read(), found["ContentType"]) == (b"content", "text/plain")


@pytest.mark.slow
def test_a_large_file_goes_in_parts_and_comes_back(node, s3):
    content = bytes(range(256)) * (12 * MIB // 256) + b"the end"
    config = TransferConfig(multipart_threshold=8 * MIB, multipart_chunksize=5 * MIB)
    s3.upload_fileobj(io.BytesIO(content), "bucket", "large", Config=config)
    head = s3.head_object(Bucket="bucket", Key="large")
    assert head["ContentLength"] == len(content)
    assert head["ETag"].endswith('-3"')
    buffer = io.BytesIO()
    s3.download_fileobj("bucket", "large", buffer, Config=config)
    assert buffer.getvalue() == content
    assert node.control.state.view.uploads == {}
    node.wait_until_cleaned()
    assert len(list((node.directory / "blobs").iterdir())) == 1


def test_parts_that_do_not_fit(s3):
    at = {"Bucket": "bucket", "Key": "k"}
    upload = s3.create_multipart_upload(**at)["UploadId"]
    part = {**at, "UploadId": upload}
    first = s3.upload_part(**part, PartNumber=1, Body=b"small")["ETag"]
    second = s3.upload_part(**part, PartNumber=2, Body=b"last")["ETag"]
    listed = s3.list_parts(**part)["Parts"]
    assert [(each["PartNumber"], each["Size"]) for each in listed] == [(1, 5), (2, 4)]

    def complete(*parts):
        wanted = {"Parts": [{"PartNumber": number, "ETag": etag} for number, etag in parts]}
        return refused(s3.complete_multipart_upload, **part, MultipartUpload=wanted)

    assert complete((1, first), (2, second)) == (400, "EntityTooSmall")
    assert complete((2, second), (1, first)) == (400, "InvalidPartOrder")
    assert complete((1, second)) == (400, "InvalidPart")
    assert complete((3, first)) == (400, "InvalidPart")
    assert complete() == (400, "MalformedXML")
    assert refused(s3.upload_part, **part, PartNumber=10_001, Body=b"")[1] == "InvalidArgument"
    s3.abort_multipart_upload(**part)
    assert refused(s3.abort_multipart_upload, **part) == (404, "NoSuchUpload")
    assert complete((1, first)) == (404, "NoSuchUpload")


def test_a_presigned_link(s3):
    put(s3, "a b", b"content")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": "bucket", "Key": "a b"})
    with urllib.request.urlopen(link) as answer:
        assert answer.read() == b"content"


@pytest.mark.parametrize(
    "call",
    [
        ("get_bucket_analytics_configuration", {"Id": "i"}),
        ("get_bucket_inventory_configuration", {"Id": "i"}),
        ("get_object_attributes", {"Key": "k", "ObjectAttributes": ["ETag"]}),
        ("get_object_retention", {"Key": "k"}),
        ("list_multipart_uploads", {}),
    ],
)
def test_what_is_not_offered_says_so(s3, call):
    operation, members = call
    assert refused(getattr(s3, operation), Bucket="bucket", **members) == (501, "NotImplemented")


def test_garbage_instead_of_xml(node, s3):
    upload = s3.create_multipart_upload(Bucket="bucket", Key="k")["UploadId"]
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaa">]><CompleteMultipartUpload>&a;</CompleteMultipartUpload>'
    for body in (b"", b"<", b"\xff\xfe", bomb, b"<a><Part><PartNumber>x</PartNumber></Part></a>"):
        status, _, answer = node.raw("POST", f"/bucket/k?uploadId={upload}", body)
        assert (status, b"MalformedXML" in answer) == (400, True)


def test_objects_survive_a_restart(tmp_path, running):
    with running(tmp_path) as node:
        s3 = node.client_of("s3")
        s3.create_bucket(Bucket="bucket")
        put(s3, "k:1/x", b"content")
        upload = s3.create_multipart_upload(Bucket="bucket", Key="large")["UploadId"]
        part = {"Bucket": "bucket", "Key": "large", "UploadId": upload}
        etag = s3.upload_part(**part, PartNumber=1, Body=b"part")["ETag"]
    with running(tmp_path) as node:
        s3 = node.client_of("s3")
        node.wait_until_cleaned()
        wanted = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
        s3.complete_multipart_upload(**part, MultipartUpload=wanted)
        assert s3.get_object(Bucket="bucket", Key="large")["Body"].read() == b"part"
        assert s3.get_object(Bucket="bucket", Key="k:1/x")["Body"].read() == b"content"


# --- code from buckets --------------------------------------------------------------------------------------


def test_code_and_layers_come_from_a_bucket(node, s3):
    content = node.zip()
    put(s3, "code.zip", content)
    at = {"S3Bucket": "bucket", "S3Key": "code.zip"}
    created = node.create(Code=at)
    assert created["CodeSize"] == len(content)
    other = node.zip({"h.py": "other"})
    put(s3, "code.zip", other)
    reply = node.client.update_function_code(FunctionName="f", **at)
    assert reply["CodeSize"] == len(other)
    layer = node.client.publish_layer_version(LayerName="l", Content=at)
    assert layer["Content"]["CodeSize"] == len(other)
    node.settle()
    # The function keeps its code when the object goes.
    s3.delete_object(Bucket="bucket", Key="code.zip")
    node.wait_until_cleaned()
    with urllib.request.urlopen(node.client.get_function(FunctionName="f")["Code"]["Location"]) as answer:
        assert answer.read() == other


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"S3Bucket": "missing"}, "NoSuchBucket. S3 Error Message: The specified bucket does not exist"),
        ({"S3Key": "missing"}, "NoSuchKey. S3 Error Message: The specified key does not exist."),
        ({"S3ObjectVersion": "v7"}, "NoSuchVersion"),
    ],
)
def test_code_that_is_not_there(node, s3, source, text):
    put(s3, "k", node.zip())
    code = {"S3Bucket": "bucket", "S3Key": "k", **source}
    request = {"FunctionName": "f", "Runtime": "python3.12", "Role": node.role, "Handler": "h.h"}
    status, found, message = node.refused("create_function", **request, Code=code)
    assert (status, found) == (400, INVALID)
    assert message.startswith("Error occurred while GetObject. S3 Error Code: ")
    assert text in message


@pytest.mark.case("CP-23")
@pytest.mark.slow
def test_code_that_is_too_large_unzipped(node, s3):
    buffer = io.BytesIO()
    archive = zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1)
    with archive, archive.open("zeros", "w") as entry:
        left = 262_144_001
        while left:
            left -= entry.write(bytes(min(left, MIB)))
    put(s3, "k", buffer.getvalue())
    request = {"FunctionName": "f", "Runtime": "python3.12", "Role": node.role, "Handler": "h.h"}
    refusal = node.refused("create_function", **request, Code={"S3Bucket": "bucket", "S3Key": "k"})
    assert refusal == (400, INVALID, "Unzipped size must be smaller than 262144000 bytes")


def test_s3_control_is_refused_as_its_clients_understand(node):
    control = node.client_of("s3control")
    control.meta.events.register("before-send", reach)
    with pytest.raises(ClientError) as caught:
        control.list_tags_for_resource(AccountId="000000000000", ResourceArn="arn:aws:s3:::bucket")
    response = caught.value.response
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 405
    assert response["Error"]["Code"] == "MethodNotAllowed"


def reach(request, **_):
    """Ask the node itself: the client puts the account before the name of the host."""
    request.url = request.url.replace("//000000000000.", "//")
