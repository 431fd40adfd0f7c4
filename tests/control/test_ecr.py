"""The node's ECR, as boto3 sees it: repositories without images."""

from __future__ import annotations

import json

import pytest
from botocore.exceptions import ClientError

ARN = "arn:aws:ecr:us-east-1:000000000000:repository/"
NAME = {"repositoryName": "team/app"}
LIFECYCLE = json.dumps(
    {
        "rules": [
            {
                "rulePriority": 1,
                "selection": {"tagStatus": "untagged", "countType": "imageCountMoreThan", "countNumber": 1},
                "action": {"type": "expire"},
            }
        ]
    }
)
POLICY = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {
                "Effect": "Allow",
                "Principal": {"Service": "lambda.amazonaws.com"},
                "Action": ["ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"],
            }
        ],
    }
)


@pytest.fixture
def ecr(node):
    return node.client_of("ecr")


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    return caught.value.response["Error"]["Code"]


def names(reply):
    return [each["repositoryName"] for each in reply["repositories"]]


def test_a_repository_is_made_described_and_deleted(ecr):
    made = ecr.create_repository(
        **NAME,
        imageTagMutability="IMMUTABLE",
        imageScanningConfiguration={"scanOnPush": True},
        tags=[{"Key": "k", "Value": "v"}],
    )["repository"]
    assert made["repositoryArn"] == ARN + "team/app"
    assert made["repositoryUri"] == "000000000000.dkr.ecr.us-east-1.amazonaws.com/team/app"
    assert (made["registryId"], made["imageTagMutability"]) == ("000000000000", "IMMUTABLE")
    assert made["imageScanningConfiguration"] == {"scanOnPush": True}
    assert made["encryptionConfiguration"] == {"encryptionType": "AES256"}
    assert ecr.describe_repositories(repositoryNames=["team/app"])["repositories"] == [made]
    assert refused(ecr.create_repository, **NAME) == "RepositoryAlreadyExistsException"
    assert (ecr.describe_images(**NAME)["imageDetails"], ecr.list_images(**NAME)["imageIds"]) == ([], [])
    image = [{"imageTag": "latest"}]
    assert refused(ecr.describe_images, **NAME, imageIds=image) == "ImageNotFoundException"
    assert ecr.delete_repository(**NAME, force=True)["repository"] == made
    assert ecr.describe_repositories()["repositories"] == []
    for call in (ecr.delete_repository, ecr.describe_images, ecr.list_images, ecr.get_lifecycle_policy):
        assert refused(call, **NAME) == "RepositoryNotFoundException"
    assert refused(ecr.describe_repositories, repositoryNames=["x1"]) == "RepositoryNotFoundException"
    assert refused(ecr.create_repository, **NAME, registryId="1" * 12) == "RepositoryNotFoundException"


@pytest.mark.parametrize("name", ["UPPER", "a", "-a-", "a//b", "a" * 257])
def test_a_name_that_is_no_repositorys(ecr, name):
    assert refused(ecr.create_repository, repositoryName=name) == "InvalidParameterException"


def test_repositories_come_in_pages(ecr):
    for number in range(5):
        ecr.create_repository(repositoryName=f"r{number}")
    pages = ecr.get_paginator("describe_repositories").paginate(PaginationConfig={"PageSize": 2})
    assert [names(page) for page in pages] == [["r0", "r1"], ["r2", "r3"], ["r4"]]


def test_what_a_repository_is_told(ecr):
    ecr.create_repository(**NAME)
    assert refused(ecr.get_lifecycle_policy, **NAME) == "LifecyclePolicyNotFoundException"
    assert refused(ecr.get_repository_policy, **NAME) == "RepositoryPolicyNotFoundException"
    ecr.put_lifecycle_policy(**NAME, lifecyclePolicyText=LIFECYCLE)
    ecr.set_repository_policy(**NAME, policyText=POLICY)
    assert ecr.get_lifecycle_policy(**NAME)["lifecyclePolicyText"] == LIFECYCLE
    assert ecr.get_repository_policy(**NAME)["policyText"] == POLICY
    assert ecr.delete_lifecycle_policy(**NAME)["lifecyclePolicyText"] == LIFECYCLE
    assert ecr.delete_repository_policy(**NAME)["policyText"] == POLICY
    assert refused(ecr.delete_lifecycle_policy, **NAME) == "LifecyclePolicyNotFoundException"
    assert refused(ecr.delete_repository_policy, **NAME) == "RepositoryPolicyNotFoundException"
    for bad in ("x" * 200, "[]" + " " * 100, '{"rules": 1}' + " " * 100):
        assert (
            refused(ecr.put_lifecycle_policy, **NAME, lifecyclePolicyText=bad) == "InvalidParameterException"
        )
    assert refused(ecr.set_repository_policy, **NAME, policyText="{}") == "InvalidParameterException"
    scans = {"scanOnPush": True}
    ecr.put_image_scanning_configuration(**NAME, imageScanningConfiguration=scans)
    ecr.put_image_tag_mutability(**NAME, imageTagMutability="IMMUTABLE")
    (found,) = ecr.describe_repositories()["repositories"]
    assert (found["imageScanningConfiguration"], found["imageTagMutability"]) == (scans, "IMMUTABLE")


def test_tags_of_a_repository(ecr):
    at = {"resourceArn": ARN + "team/app"}
    ecr.create_repository(**NAME, tags=[{"Key": "k", "Value": "v"}])
    ecr.tag_resource(**at, tags=[{"Key": "k", "Value": "w"}, {"Key": "l", "Value": ""}])
    ecr.untag_resource(**at, tagKeys=["k", "none"])
    assert ecr.list_tags_for_resource(**at)["tags"] == [{"Key": "l", "Value": ""}]
    many = [{"Key": str(number), "Value": ""} for number in range(50)]
    assert refused(ecr.tag_resource, **at, tags=many) == "TooManyTagsException"
    assert refused(ecr.tag_resource, resourceArn=ARN + "none", tags=[]) == "RepositoryNotFoundException"
    assert refused(ecr.list_tags_for_resource, resourceArn="arn:aws:s3:::b") == "InvalidParameterException"


def test_repositories_survive_a_restart(tmp_path, running):
    with running(tmp_path) as node:
        made = node.client_of("ecr").create_repository(**NAME)["repository"]
    with running(tmp_path) as node:
        assert node.client_of("ecr").describe_repositories()["repositories"] == [made]
