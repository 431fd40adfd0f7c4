"""Buckets and their policies as resources."""

from __future__ import annotations

import pytest
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES

BUCKET, POLICY = TYPES["AWS::S3::Bucket"], TYPES["AWS::S3::BucketPolicy"]
FULL = {
    "AccelerateConfiguration": {"AccelerationStatus": "Enabled"},
    "AccessControl": "Private",
    "BucketEncryption": {
        "ServerSideEncryptionConfiguration": [
            {"BucketKeyEnabled": "true", "ServerSideEncryptionByDefault": {"SSEAlgorithm": "AES256"}}
        ]
    },
    "CorsConfiguration": {
        "CorsRules": [
            {"AllowedMethods": ["GET"], "AllowedOrigins": ["*"], "ExposedHeaders": ["x"], "MaxAge": "9"}
        ]
    },
    "LifecycleConfiguration": {
        "Rules": [
            {
                "Id": "CleanupOldVersions",
                "Status": "Enabled",
                "NoncurrentVersionExpiration": {"NoncurrentDays": "30"},
                "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
            },
            {
                "Status": "Disabled",
                "Prefix": "old/",
                "TagFilters": [{"Key": "a", "Value": "b"}],
                "ExpirationInDays": 3,
                "Transitions": [{"StorageClass": "GLACIER", "TransitionInDays": 1}],
                "NoncurrentVersionExpirationInDays": 5,
                "NoncurrentVersionTransition": {"StorageClass": "GLACIER", "TransitionInDays": 2},
            },
        ]
    },
    "LoggingConfiguration": {"DestinationBucketName": "logs", "LogFilePrefix": "p/"},
    "OwnershipControls": {"Rules": [{"ObjectOwnership": "BucketOwnerEnforced"}]},
    "PublicAccessBlockConfiguration": {
        "BlockPublicAcls": True,
        "BlockPublicPolicy": True,
        "IgnorePublicAcls": True,
        "RestrictPublicBuckets": True,
    },
    "Tags": [{"Key": "k", "Value": "v"}],
    "VersioningConfiguration": {"Status": "Enabled"},
}


def test_bucket(tmp_path, run):
    """A bucket is made with all its settings, loses them, and is deleted."""

    async def main():
        async with open_bench(tmp_path) as bench:
            context = bench.context("bucket")
            made = await BUCKET.create(context, FULL)
            assert made.physical_id == "bucket"
            assert set(made.attributes) == BUCKET.attributes
            assert made.attributes["Arn"] == "arn:aws:s3:::bucket"
            of = {"Bucket": "bucket"}
            found = await bench.call("s3", "GetBucketLifecycleConfiguration", **of)
            first, second = found["Rules"]
            assert (first["ID"], first["NoncurrentVersionExpiration"]) == (
                "CleanupOldVersions",
                {"NoncurrentDays": 30},
            )
            assert second["Filter"] == {"And": {"Prefix": "old/", "Tags": [{"Key": "a", "Value": "b"}]}}
            assert second["Transitions"] == [{"StorageClass": "GLACIER", "Days": 1}]
            assert second["NoncurrentVersionTransitions"] == [
                {"StorageClass": "GLACIER", "NoncurrentDays": 2}
            ]
            rules = (await bench.call("s3", "GetBucketEncryption", **of))["ServerSideEncryptionConfiguration"]
            assert rules["Rules"][0]["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
            assert (await bench.call("s3", "GetBucketVersioning", **of))["Status"] == "Enabled"
            (rule,) = (await bench.call("s3", "GetBucketCors", **of))["CORSRules"]
            assert (rule["ExposeHeaders"], rule["MaxAgeSeconds"]) == (["x"], 9)
            logged = (await bench.call("s3", "GetBucketLogging", **of))["LoggingEnabled"]
            assert logged == {"TargetBucket": "logs", "TargetPrefix": "p/"}
            assert (await bench.call("s3", "GetBucketAccelerateConfiguration", **of))["Status"] == "Enabled"
            tags = (await bench.call("s3", "GetBucketTagging", **of))["TagSet"]
            assert {tag["Key"]: tag["Value"] for tag in tags} == {**context.tags, "k": "v"}
            await BUCKET.update(context, "bucket", FULL, {})
            assert (await bench.call("s3", "GetBucketVersioning", **of))["Status"] == "Suspended"
            assert "LoggingEnabled" not in await bench.call("s3", "GetBucketLogging", **of)
            for operation in ("GetBucketLifecycleConfiguration", "GetPublicAccessBlock", "GetBucketCors"):
                with pytest.raises(CallFailed):
                    await bench.call("s3", operation, **of)
            await BUCKET.delete(context, "bucket", {})
            await BUCKET.delete(context, "bucket", {})
            assert not bench.control.state.view.buckets

    run(main())


def test_bucket_of_somebody_else(tmp_path, run):
    """A bucket that there is already is neither taken nor removed."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.call("s3", "CreateBucket", Bucket="bucket")
            with pytest.raises(CallFailed, match="already exists") as caught:
                await BUCKET.create(bench.context("bucket"), {})
            assert caught.value.code == "AlreadyExists"
            assert list(bench.control.state.view.buckets) == ["bucket"]

    run(main())


def test_half_a_bucket(tmp_path, run):
    """A bucket whose settings are refused is removed again."""

    async def main():
        async with open_bench(tmp_path) as bench:
            properties = {"LifecycleConfiguration": {"Rules": [{"Status": "Enabled", "Unheard": 1}]}}
            with pytest.raises(CallFailed, match="extraneous key"):
                await BUCKET.create(bench.context("bucket"), properties)
            assert not bench.control.state.view.buckets

    run(main())


def test_bucket_with_objects(tmp_path, run):
    """A bucket with something in it is not deleted."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await BUCKET.create(bench.context("bucket"), {})
            await bench.call("s3", "PutObject", Bucket="bucket", Key="k", Body=b"1")
            with pytest.raises(CallFailed) as caught:
                await BUCKET.delete(bench.context("bucket"), "bucket", {})
            assert caught.value.code == "BucketNotEmpty"

    run(main())


def test_bucket_policy(tmp_path, run):
    """A policy is put, changed and taken away; also after its bucket."""

    async def main():
        async with open_bench(tmp_path) as bench:
            context = bench.context("bucket")
            await BUCKET.create(context, {})
            first, second = (_policy(effect) for effect in ("Deny", "Allow"))
            made = await POLICY.create(context, {"Bucket": "bucket", "PolicyDocument": first})
            assert made.physical_id == "bucket"
            assert '"Deny"' in (await bench.call("s3", "GetBucketPolicy", Bucket="bucket"))["Policy"]
            former, properties = ({"Bucket": "bucket", "PolicyDocument": each} for each in (first, second))
            await POLICY.update(context, "bucket", former, properties)
            assert '"Allow"' in (await bench.call("s3", "GetBucketPolicy", Bucket="bucket"))["Policy"]
            await POLICY.delete(context, "bucket", properties)
            await POLICY.delete(context, "bucket", properties)
            await BUCKET.delete(context, "bucket", {})
            await POLICY.delete(context, "bucket", properties)

    run(main())


def _policy(effect: str) -> dict:
    statement = {
        "Effect": effect,
        "Principal": "*",
        "Action": "s3:*",
        "Resource": ["arn:aws:s3:::bucket", "arn:aws:s3:::bucket/*"],
        "Condition": {"Bool": {"aws:SecureTransport": "false"}},
    }
    return {"Version": "2012-10-17", "Statement": [statement]}
