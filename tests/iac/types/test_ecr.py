"""Repositories of images as resources."""

from __future__ import annotations

import pytest
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES

LIFECYCLE = '{"rules": []}'.ljust(100)
REPOSITORY = TYPES["AWS::ECR::Repository"]
ALLOWED = {
    "Version": "2012-10-17",
    "Statement": [
        {
            "Effect": "Allow",
            "Principal": {"Service": "lambda.amazonaws.com"},
            "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
        }
    ],
}


def test_repository(tmp_path, run):
    """A repository is made with its policies, loses them, and is deleted."""

    async def main():
        async with open_bench(tmp_path) as bench:
            context = bench.context("images")
            first = {
                "EmptyOnDelete": "true",
                "EncryptionConfiguration": {"EncryptionType": "AES256"},
                "ImageScanningConfiguration": {"ScanOnPush": "true"},
                "ImageTagMutability": "IMMUTABLE",
                "LifecyclePolicy": {"LifecyclePolicyText": LIFECYCLE},
                "RepositoryPolicyText": ALLOWED,
                "Tags": [{"Key": "k", "Value": "v"}],
            }
            made = await REPOSITORY.create(context, first)
            assert made.physical_id == "images"
            assert made.attributes == {
                "Arn": "arn:aws:ecr:us-east-1:000000000000:repository/images",
                "RepositoryUri": "000000000000.dkr.ecr.us-east-1.amazonaws.com/images",
            }
            found = bench.control.state.view.repositories["images"]
            assert (found.mutability, found.scans_on_push) == ("IMMUTABLE", True)
            assert found.lifecycle_policy == LIFECYCLE
            assert "ecr:BatchGetImage" in found.policy
            assert found.tags == {**context.tags, "k": "v"}
            assert await REPOSITORY.update(context, "images", first, {}) == made
            found = bench.control.state.view.repositories["images"]
            assert (found.mutability, found.scans_on_push) == ("MUTABLE", False)
            assert (found.lifecycle_policy, found.policy) == ("", "")
            assert found.tags == dict(context.tags)
            with pytest.raises(CallFailed, match="already exists"):
                await REPOSITORY.create(context, {})
            for _ in range(2):
                await REPOSITORY.delete(context, "images", {})
                assert not bench.control.state.view.repositories

    run(main())


def test_half_a_repository(tmp_path, run):
    """A repository whose policy is refused is removed again."""

    async def main():
        async with open_bench(tmp_path) as bench:
            broken = {"LifecyclePolicyText": "no JSON" * 20}
            with pytest.raises(CallFailed, match="it is no JSON"):
                await REPOSITORY.create(bench.context("images"), {"LifecyclePolicy": broken})
            assert not bench.control.state.view.repositories

    run(main())
