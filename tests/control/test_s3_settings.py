"""Settings of buckets and tags of objects, as boto3 and deploy tools set and read them."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

BUCKET = {"Bucket": "bucket"}
POLICY = {
    "Version": "2012-10-17",
    "Statement": {"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "arn:aws:s3:::bucket"},
}
BLOCK = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": False,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": False,
}
RULES = [
    {
        "ID": "old",
        "Status": "Enabled",
        "Filter": {"And": {"Prefix": "a/", "Tags": [{"Key": "k", "Value": "v & w"}]}},
        "Expiration": {"Days": 30},
        "NoncurrentVersionExpiration": {"NoncurrentDays": 7},
        "Transitions": [{"Days": 3, "StorageClass": "GLACIER"}, {"Days": 5, "StorageClass": "DEEP_ARCHIVE"}],
    },
    {
        "ID": "all",
        "Status": "Disabled",
        "Filter": {},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    },
]
ENCRYPTION = {
    "Rules": [
        {
            "ApplyServerSideEncryptionByDefault": {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "k"},
            "BucketKeyEnabled": True,
        }
    ]
}
CORS = [
    {
        "AllowedMethods": ["GET", "PUT"],
        "AllowedOrigins": ["*"],
        "AllowedHeaders": ["a", "b"],
        "MaxAgeSeconds": 9,
    }
]
DOCUMENTS = [
    (
        (
            "get_bucket_lifecycle_configuration",
            "put_bucket_lifecycle_configuration",
            "delete_bucket_lifecycle",
        ),
        {"LifecycleConfiguration": {"Rules": RULES}},
        {"Rules": RULES, "TransitionDefaultMinimumObjectSize": "all_storage_classes_128K"},
        "NoSuchLifecycleConfiguration",
    ),
    (
        ("get_bucket_encryption", "put_bucket_encryption", "delete_bucket_encryption"),
        {"ServerSideEncryptionConfiguration": ENCRYPTION},
        {"ServerSideEncryptionConfiguration": ENCRYPTION},
        "ServerSideEncryptionConfigurationNotFoundError",
    ),
    (
        ("get_public_access_block", "put_public_access_block", "delete_public_access_block"),
        {"PublicAccessBlockConfiguration": BLOCK},
        {"PublicAccessBlockConfiguration": BLOCK},
        "NoSuchPublicAccessBlockConfiguration",
    ),
    (
        ("get_bucket_tagging", "put_bucket_tagging", "delete_bucket_tagging"),
        {"Tagging": {"TagSet": [{"Key": "k", "Value": "v"}, {"Key": "ü", "Value": ""}]}},
        {"TagSet": [{"Key": "k", "Value": "v"}, {"Key": "ü", "Value": ""}]},
        "NoSuchTagSet",
    ),
    (
        ("get_bucket_cors", "put_bucket_cors", "delete_bucket_cors"),
        {"CORSConfiguration": {"CORSRules": CORS}},
        {"CORSRules": CORS},
        "NoSuchCORSConfiguration",
    ),
    (
        (
            "get_bucket_ownership_controls",
            "put_bucket_ownership_controls",
            "delete_bucket_ownership_controls",
        ),
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        {"OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]}},
        "OwnershipControlsNotFoundError",
    ),
]
STATUSES = [
    ("versioning", "VersioningConfiguration", {"Status": "Enabled"}, {}),
    ("logging", "BucketLoggingStatus", {"LoggingEnabled": {"TargetBucket": "b", "TargetPrefix": "p"}}, {}),
    ("accelerate_configuration", "AccelerateConfiguration", {"Status": "Suspended"}, {}),
    ("request_payment", "RequestPaymentConfiguration", {"Payer": "Requester"}, {"Payer": "BucketOwner"}),
]


@pytest.fixture
def s3(node):
    client = node.client_of("s3")
    client.create_bucket(**BUCKET)
    return client


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


def shown(call, **members):
    reply = call(**members)
    del reply["ResponseMetadata"]
    return reply


@pytest.mark.parametrize(("names", "given", "found", "missing"), DOCUMENTS)
def test_a_setting_is_missing_until_it_is_set_and_after_it_was_deleted(s3, names, given, found, missing):
    get, put, delete = (getattr(s3, name) for name in names)
    assert refused(get, **BUCKET) == (404, missing)
    delete(**BUCKET)
    put(**BUCKET, **given)
    assert shown(get, **BUCKET) == found
    delete(**BUCKET)
    assert refused(get, **BUCKET) == (404, missing)
    for call in (get, delete):
        assert refused(call, Bucket="none") == (404, "NoSuchBucket")
    assert refused(put, Bucket="none", **given) == (404, "NoSuchBucket")


@pytest.mark.parametrize(("name", "member", "given", "unset"), STATUSES)
def test_a_setting_that_is_always_shown(s3, name, member, given, unset):
    get, put = getattr(s3, f"get_bucket_{name}"), getattr(s3, f"put_bucket_{name}")
    assert shown(get, **BUCKET) == unset
    put(**BUCKET, **{member: given})
    assert shown(get, **BUCKET) == given
    assert refused(get, Bucket="none") == (404, "NoSuchBucket")


def test_settings_do_not_touch_each_other_and_end_with_the_bucket(s3):
    s3.put_bucket_versioning(**BUCKET, VersioningConfiguration={"Status": "Suspended"})
    s3.put_public_access_block(**BUCKET, PublicAccessBlockConfiguration=BLOCK)
    s3.delete_public_access_block(**BUCKET)
    assert s3.get_bucket_versioning(**BUCKET)["Status"] == "Suspended"
    s3.create_bucket(**BUCKET)
    assert s3.get_bucket_versioning(**BUCKET)["Status"] == "Suspended"
    s3.delete_bucket(**BUCKET)
    s3.create_bucket(**BUCKET)
    assert "Status" not in s3.get_bucket_versioning(**BUCKET)


def test_settings_survive_a_restart(tmp_path, running):
    with running(tmp_path) as node:
        s3 = node.client_of("s3")
        s3.create_bucket(**BUCKET)
        s3.put_bucket_lifecycle_configuration(
            **BUCKET,
            LifecycleConfiguration={"Rules": RULES},
            TransitionDefaultMinimumObjectSize="varies_by_storage_class",
        )
        s3.put_bucket_policy(**BUCKET, Policy=json.dumps(POLICY))
        s3.put_object(**BUCKET, Key="k", Body=b"x", Tagging="a=b")
    with running(tmp_path) as node:
        s3 = node.client_of("s3")
        found = s3.get_bucket_lifecycle_configuration(**BUCKET)
        assert found["Rules"] == RULES
        assert found["TransitionDefaultMinimumObjectSize"] == "varies_by_storage_class"
        assert s3.get_bucket_policy(**BUCKET)["Policy"] == json.dumps(POLICY)
        assert s3.get_object_tagging(**BUCKET, Key="k")["TagSet"] == [{"Key": "a", "Value": "b"}]


def test_the_policy_of_a_bucket(s3):
    assert refused(s3.get_bucket_policy, **BUCKET) == (404, "NoSuchBucketPolicy")
    assert refused(s3.get_bucket_policy_status, **BUCKET) == (404, "NoSuchBucketPolicy")
    for statement, is_public in (
        (POLICY["Statement"], True),
        (POLICY["Statement"] | {"Principal": {"AWS": ["*"]}}, True),
        (POLICY["Statement"] | {"Principal": {"AWS": "arn:aws:iam::1:role/*"}}, False),
        (POLICY["Statement"] | {"Principal": {"Service": "s3.amazonaws.com"}}, False),
        (POLICY["Statement"] | {"Effect": "Deny"}, False),
        (POLICY["Statement"] | {"Condition": {"Bool": {"aws:SecureTransport": "true"}}}, False),
    ):
        text = json.dumps(POLICY | {"Statement": [statement]}, indent=1)
        s3.put_bucket_policy(**BUCKET, Policy=text)
        assert s3.get_bucket_policy(**BUCKET)["Policy"] == text
        assert s3.get_bucket_policy_status(**BUCKET)["PolicyStatus"] == {"IsPublic": is_public}
    s3.delete_bucket_policy(**BUCKET)
    s3.delete_bucket_policy(**BUCKET)
    assert refused(s3.get_bucket_policy, **BUCKET) == (404, "NoSuchBucketPolicy")
    nobody = {name: value for name, value in POLICY["Statement"].items() if name != "Principal"}
    nothing = {name: value for name, value in POLICY["Statement"].items() if name != "Resource"}
    for bad in ("", "[1]", "{", *(json.dumps(POLICY | {"Statement": each}) for each in (nobody, nothing, 1))):
        assert refused(s3.put_bucket_policy, **BUCKET, Policy=bad) == (400, "MalformedPolicy")
    large = json.dumps(POLICY) + " " * 20 * 1024
    assert refused(s3.put_bucket_policy, **BUCKET, Policy=large)[0] == 400


def test_what_a_node_cannot_do_is_not_set_and_refused(s3):
    assert refused(s3.get_bucket_website, **BUCKET) == (404, "NoSuchWebsiteConfiguration")
    assert refused(s3.get_bucket_replication, **BUCKET) == (404, "ReplicationConfigurationNotFoundError")
    assert refused(s3.get_object_lock_configuration, **BUCKET) == (
        404,
        "ObjectLockConfigurationNotFoundError",
    )
    s3.delete_bucket_website(**BUCKET)
    s3.delete_bucket_replication(**BUCKET)
    site = {"IndexDocument": {"Suffix": "index.html"}}
    assert refused(s3.put_bucket_website, **BUCKET, WebsiteConfiguration=site) == (501, "NotImplemented")
    assert shown(s3.get_bucket_notification_configuration, **BUCKET) == {}
    s3.put_bucket_notification_configuration(**BUCKET, NotificationConfiguration={})
    wanted = {"LambdaFunctionConfigurations": [{"LambdaFunctionArn": "a", "Events": ["s3:ObjectCreated:*"]}]}
    assert refused(s3.put_bucket_notification_configuration, **BUCKET, NotificationConfiguration=wanted) == (
        501,
        "NotImplemented",
    )
    assert shown(s3.get_bucket_notification_configuration, **BUCKET) == {}
    assert refused(s3.create_bucket, Bucket="locked", ObjectLockEnabledForBucket=True)[1] == "NotImplemented"


@pytest.mark.parametrize(
    ("name", "body"),
    [
        ("versioning", b"<VersioningConfiguration><Status>On</Status></VersioningConfiguration>"),
        ("publicAccessBlock", b"<P><BlockPublicAcls>maybe</BlockPublicAcls></P>"),
        ("lifecycle", b"<LifecycleConfiguration><Rule><ID>x</ID></Rule></LifecycleConfiguration>"),
        ("lifecycle", b"<LifecycleConfiguration/>"),
        ("tagging", b"<Tagging/>"),
        ("tagging", b"<Tagging><TagSet><Tag><Key>k</Key></Tag></TagSet></Tagging>"),
        ("encryption", b"not XML"),
        ("encryption", b""),
        ("cors", b'<!DOCTYPE x [<!ENTITY y "z">]><x>&y;</x>'),
    ],
)
def test_documents_that_the_model_does_not_allow(node, s3, name, body):
    status, _, answer = node.raw("PUT", f"/bucket?{name}", body)
    assert (status, b"<Code>MalformedXML</Code>" in answer) == (400, True), answer


def test_access_lists_grant_the_owner_everything_and_nobody_else_anything(s3):
    s3.put_object(**BUCKET, Key="k", Body=b"")
    for found in (s3.get_bucket_acl(**BUCKET), s3.get_object_acl(**BUCKET, Key="k")):
        (grant,) = found["Grants"]
        assert grant["Permission"] == "FULL_CONTROL"
        assert grant["Grantee"] == {"Type": "CanonicalUser", "ID": found["Owner"]["ID"]}
    s3.put_bucket_acl(**BUCKET, ACL="private")
    assert refused(s3.put_bucket_acl, **BUCKET, ACL="public-read") == (400, "AccessControlListNotSupported")
    assert refused(s3.put_bucket_acl, **BUCKET, GrantRead="id=x") == (400, "AccessControlListNotSupported")
    assert refused(s3.get_object_acl, **BUCKET, Key="none") == (404, "NoSuchKey")


def test_a_bucket_is_made_with_tags(s3):
    tags = [{"Key": "k", "Value": "v"}]
    s3.create_bucket(
        Bucket="other", CreateBucketConfiguration={"Tags": tags}, ObjectOwnership="BucketOwnerEnforced"
    )
    assert s3.get_bucket_tagging(Bucket="other")["TagSet"] == tags
    assert s3.get_bucket_ownership_controls(Bucket="other")["OwnershipControls"] == {
        "Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]
    }
    twice = {"TagSet": tags * 2}
    assert refused(s3.put_bucket_tagging, Bucket="other", Tagging=twice) == (400, "InvalidTag")
    many = {"TagSet": [{"Key": str(number), "Value": ""} for number in range(51)]}
    assert refused(s3.put_bucket_tagging, Bucket="other", Tagging=many) == (400, "BadRequest")


def test_tags_of_an_object(s3):
    def tags(key):
        return {each["Key"]: each["Value"] for each in s3.get_object_tagging(**BUCKET, Key=key)["TagSet"]}

    at = {**BUCKET, "Key": "k"}
    s3.put_object(**at, Body=b"x", Tagging="a=1&b=%26")
    assert tags("k") == {"a": "1", "b": "&"}
    s3.copy_object(**BUCKET, Key="same", CopySource="bucket/k")
    s3.copy_object(**BUCKET, Key="other", CopySource="bucket/k", TaggingDirective="REPLACE", Tagging="c=2")
    assert (tags("same"), tags("other")) == (tags("k"), {"c": "2"})
    s3.put_object_tagging(**at, Tagging={"TagSet": [{"Key": "d", "Value": "3"}]})
    assert tags("k") == {"d": "3"}
    assert s3.get_object(**at)["Body"].read() == b"x"
    s3.delete_object_tagging(**at)
    assert tags("k") == {}
    upload = s3.create_multipart_upload(**at, Tagging="e=4")["UploadId"]
    etag = s3.upload_part(**at, UploadId=upload, PartNumber=1, Body=b"y")["ETag"]
    parts = {"Parts": [{"PartNumber": 1, "ETag": etag}]}
    s3.complete_multipart_upload(**at, UploadId=upload, MultipartUpload=parts)
    assert tags("k") == {"e": "4"}
    assert refused(s3.get_object_tagging, **BUCKET, Key="none") == (404, "NoSuchKey")
    many = {"TagSet": [{"Key": str(number), "Value": ""} for number in range(11)]}
    assert refused(s3.put_object_tagging, **at, Tagging=many) == (400, "BadRequest")
    assert refused(s3.put_object, **at, Body=b"", Tagging="a=1&a=2") == (400, "InvalidTag")
    assert refused(s3.put_object, **at, Body=b"", Tagging="a") == (400, "InvalidArgument")


def test_a_bucket_is_emptied_by_its_versions(s3):
    """As tools empty a bucket that keeps versions: list them, and delete each."""
    s3.put_bucket_versioning(**BUCKET, VersioningConfiguration={"Status": "Enabled"})
    for key in ("a", "b/c", "b/d", "ü"):
        s3.put_object(**BUCKET, Key=key, Body=b"x")
        s3.put_object(**BUCKET, Key=key, Body=b"y")
    pages = s3.get_paginator("list_object_versions").paginate(**BUCKET, PaginationConfig={"PageSize": 3})
    found = [each for page in pages for each in page["Versions"]]
    assert [each["Key"] for each in found] == ["a", "b/c", "b/d", "ü"]
    assert {(each["VersionId"], each["IsLatest"], each["Size"]) for each in found} == {("null", True, 1)}
    by_prefix = s3.list_object_versions(**BUCKET, Delimiter="/", Prefix="b")
    assert ([each["Prefix"] for each in by_prefix["CommonPrefixes"]], "Versions" in by_prefix) == (
        ["b/"],
        False,
    )
    assert s3.get_object(**BUCKET, Key="a", VersionId="null")["Body"].read() == b"y"
    for call in (s3.get_object, s3.head_object, s3.delete_object):
        assert refused(call, **BUCKET, Key="a", VersionId="1")[0] == 404
    s3.delete_object(**BUCKET, Key="a", VersionId="null")
    named = [{"Key": each["Key"], "VersionId": each["VersionId"]} for each in found]
    s3.delete_objects(**BUCKET, Delete={"Objects": named})
    assert "Versions" not in s3.list_object_versions(**BUCKET)
    s3.delete_bucket(**BUCKET)


def test_the_former_list_of_objects(s3):
    for key in ("a", "b/c", "b/d", "e", "ü"):
        s3.put_object(**BUCKET, Key=key, Body=b"x")
    pages = list(s3.get_paginator("list_objects").paginate(**BUCKET, PaginationConfig={"PageSize": 2}))
    assert [[each["Key"] for each in page["Contents"]] for page in pages] == [
        ["a", "b/c"],
        ["b/d", "e"],
        ["ü"],
    ]
    whole = s3.list_objects(**BUCKET, Delimiter="/")
    assert [each["Key"] for each in whole["Contents"]] == ["a", "e", "ü"]
    assert ([each["Prefix"] for each in whole["CommonPrefixes"]], whole["IsTruncated"]) == (["b/"], False)
    assert refused(s3.list_objects, Bucket="none") == (404, "NoSuchBucket")
