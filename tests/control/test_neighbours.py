"""IAM, STS and SSM of the node, as boto3 and the aws command see them."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import boto3
import pytest
from botocore.exceptions import ClientError

from remora.control.services.neighbour import ServiceError
from remora.control.services.ssm import Ssm
from remora.resources.neighbours import Parameter

ACCOUNT = "000000000000"
ROLE_ARN = f"arn:aws:iam::{ACCOUNT}:role/r"
MANAGED = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
OTHER_TRUST = {"Version": "2012-10-17", "Statement": {**TRUST["Statement"][0], "Effect": "Deny"}}
POLICY = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    response = caught.value.response
    return response["ResponseMetadata"]["HTTPStatusCode"], response["Error"]["Code"]


@pytest.fixture
def iam(node):
    return node.client_of("iam")


def create(iam, name="r", **members):
    return iam.create_role(RoleName=name, AssumeRolePolicyDocument=json.dumps(TRUST), **members)["Role"]


# --- IAM ----------------------------------------------------------------------------------------------------


def test_a_role_is_made_changed_and_deleted(iam):
    made = create(iam, Path="/team/", Description="a <b> & c", Tags=[{"Key": "k", "Value": "v"}])
    assert made["Arn"] == f"arn:aws:iam::{ACCOUNT}:role/team/r"
    assert made["RoleId"].startswith("AROA")
    assert len(made["RoleId"]) == 21
    assert made["AssumeRolePolicyDocument"] == TRUST
    found = iam.get_role(RoleName="r")["Role"]
    assert found == made
    assert (found["Description"], found["MaxSessionDuration"]) == ("a <b> & c", 3600)
    assert found["Tags"] == [{"Key": "k", "Value": "v"}]
    iam.update_assume_role_policy(RoleName="r", PolicyDocument=json.dumps(OTHER_TRUST))
    iam.update_role(RoleName="r", MaxSessionDuration=7200)
    iam.tag_role(RoleName="r", Tags=[{"Key": "k2", "Value": ""}])
    iam.untag_role(RoleName="r", TagKeys=["k"])
    found = iam.get_role(RoleName="r")["Role"]
    assert (found["MaxSessionDuration"], found["Description"]) == (7200, "a <b> & c")
    assert found["AssumeRolePolicyDocument"] == OTHER_TRUST
    assert iam.list_role_tags(RoleName="r")["Tags"] == [{"Key": "k2", "Value": ""}]
    assert iam.list_instance_profiles_for_role(RoleName="r")["InstanceProfiles"] == []
    iam.delete_role(RoleName="r")
    for operation in (iam.get_role, iam.delete_role, iam.list_role_policies):
        assert refused(operation, RoleName="r") == (404, "NoSuchEntity")


def test_policies_of_a_role(iam):
    create(iam)
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=json.dumps(POLICY))
    assert iam.list_role_policies(RoleName="r")["PolicyNames"] == ["p"]
    assert iam.get_role_policy(RoleName="r", PolicyName="p")["PolicyDocument"] == POLICY
    iam.attach_role_policy(RoleName="r", PolicyArn=MANAGED)
    attached = iam.list_attached_role_policies(RoleName="r")["AttachedPolicies"]
    assert attached == [{"PolicyName": "AWSLambdaBasicExecutionRole", "PolicyArn": MANAGED}]
    assert iam.get_policy(PolicyArn=MANAGED)["Policy"]["AttachmentCount"] == 1
    assert refused(iam.delete_role, RoleName="r") == (409, "DeleteConflict")
    iam.detach_role_policy(RoleName="r", PolicyArn=MANAGED)
    assert refused(iam.delete_role, RoleName="r") == (409, "DeleteConflict")
    iam.delete_role_policy(RoleName="r", PolicyName="p")
    iam.delete_role(RoleName="r")


def test_roles_that_cannot_be(iam):
    create(iam)
    assert refused(create, iam=iam) == (409, "EntityAlreadyExists")
    for document in ("{", "[]", "{}"):
        refusal = refused(iam.create_role, RoleName="s", AssumeRolePolicyDocument=document)
        assert refusal == (400, "MalformedPolicyDocument")
    assert refused(create, iam=iam, name="bad name") == (400, "ValidationError")
    missing = f"arn:aws:iam::{ACCOUNT}:policy/mine"
    assert refused(iam.attach_role_policy, RoleName="r", PolicyArn=missing) == (404, "NoSuchEntity")
    assert refused(iam.detach_role_policy, RoleName="r", PolicyArn=MANAGED) == (404, "NoSuchEntity")
    for operation in (iam.get_role_policy, iam.delete_role_policy):
        assert refused(operation, RoleName="r", PolicyName="p") == (404, "NoSuchEntity")
    assert refused(iam.list_users)[1] == "InvalidAction"


def test_policies_of_the_account(iam):
    text = json.dumps(POLICY)
    made = iam.create_policy(
        PolicyName="p", Path="/team/", PolicyDocument=text, Description="d", Tags=[{"Key": "k", "Value": "v"}]
    )["Policy"]
    arn = f"arn:aws:iam::{ACCOUNT}:policy/team/p"
    assert (made["Arn"], made["DefaultVersionId"], made["AttachmentCount"]) == (arn, "v1", 0)
    assert re.fullmatch("ANPA[0-9A-F]{17}", made["PolicyId"])
    assert iam.get_policy(PolicyArn=arn)["Policy"] == made
    assert refused(iam.create_policy, PolicyName="p", PolicyDocument=text) == (409, "EntityAlreadyExists")
    version = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert (version["Document"], version["IsDefaultVersion"]) == (POLICY, True)
    create(iam)
    iam.attach_role_policy(RoleName="r", PolicyArn=arn)
    attached = iam.list_attached_role_policies(RoleName="r")["AttachedPolicies"]
    assert attached == [{"PolicyName": "p", "PolicyArn": arn}]
    assert [role["RoleName"] for role in iam.list_entities_for_policy(PolicyArn=arn)["PolicyRoles"]] == ["r"]
    assert refused(iam.delete_policy, PolicyArn=arn) == (409, "DeleteConflict")
    iam.detach_role_policy(RoleName="r", PolicyArn=arn)
    iam.tag_policy(PolicyArn=arn, Tags=[{"Key": "l", "Value": ""}])
    iam.untag_policy(PolicyArn=arn, TagKeys=["k"])
    assert iam.list_policy_tags(PolicyArn=arn)["Tags"] == [{"Key": "l", "Value": ""}]
    iam.delete_policy(PolicyArn=arn)
    for operation in (iam.get_policy, iam.delete_policy, iam.list_policy_versions):
        assert refused(operation, PolicyArn=arn) == (404, "NoSuchEntity")
    assert refused(iam.attach_role_policy, RoleName="r", PolicyArn=arn) == (404, "NoSuchEntity")


def test_versions_of_a_policy(iam):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"]
    for number in range(2, 6):
        made = iam.create_policy_version(
            PolicyArn=arn, PolicyDocument=json.dumps(POLICY), SetAsDefault=number == 3
        )["PolicyVersion"]
        assert (made["VersionId"], made["IsDefaultVersion"]) == (f"v{number}", number == 3)
    more = {"PolicyArn": arn, "PolicyDocument": json.dumps(POLICY)}
    assert refused(iam.create_policy_version, **more) == (409, "LimitExceeded")
    assert refused(iam.delete_policy_version, PolicyArn=arn, VersionId="v3") == (409, "DeleteConflict")
    iam.delete_policy_version(PolicyArn=arn, VersionId="v5")
    assert iam.create_policy_version(**more)["PolicyVersion"]["VersionId"] == "v6"
    iam.set_default_policy_version(PolicyArn=arn, VersionId="v6")
    pages = iam.get_paginator("list_policy_versions").paginate(
        PolicyArn=arn, PaginationConfig={"PageSize": 2}
    )
    found = {each["VersionId"]: each["IsDefaultVersion"] for page in pages for each in page["Versions"]}
    assert found == {"v1": False, "v2": False, "v3": False, "v4": False, "v6": True}
    assert refused(iam.delete_policy, PolicyArn=arn) == (409, "DeleteConflict")
    for name in ("v1", "v2", "v3", "v4"):
        iam.delete_policy_version(PolicyArn=arn, VersionId=name)
    assert refused(iam.get_policy_version, PolicyArn=arn, VersionId="v1") == (404, "NoSuchEntity")
    iam.delete_policy(PolicyArn=arn)


def test_policies_are_listed_by_whose_they_are(iam):
    arn = iam.create_policy(PolicyName="p", Path="/a/", PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"]

    def listed(**members):
        pages = iam.get_paginator("list_policies").paginate(PaginationConfig={"PageSize": 3}, **members)
        return [policy["Arn"] for page in pages for policy in page["Policies"]]

    assert listed(Scope="Local") == listed(PathPrefix="/a/") == [arn]
    assert sorted(listed()) == sorted([arn, *listed(Scope="AWS")])
    assert MANAGED in listed(PathPrefix="/service-role/")
    assert listed(OnlyAttached=True) == []
    create(iam)
    iam.attach_role_policy(RoleName="r", PolicyArn=MANAGED)
    assert listed(OnlyAttached=True) == [MANAGED]
    shown = iam.get_policy_version(PolicyArn=MANAGED, VersionId="v1")["PolicyVersion"]["Document"]
    assert "logs:PutLogEvents" in shown["Statement"][0]["Action"]
    assert iam.list_policy_versions(PolicyArn=MANAGED)["Versions"][0]["IsDefaultVersion"]


def test_a_boundary_of_a_role(iam):
    arn = iam.create_policy(PolicyName="p", PolicyDocument=json.dumps(POLICY))["Policy"]["Arn"]
    create(iam, PermissionsBoundary=arn)
    shown = iam.get_role(RoleName="r")["Role"]["PermissionsBoundary"]
    assert shown["PermissionsBoundaryArn"] == arn
    assert iam.get_policy(PolicyArn=arn)["Policy"]["PermissionsBoundaryUsageCount"] == 1
    assert refused(iam.delete_policy, PolicyArn=arn) == (409, "DeleteConflict")
    iam.delete_role_permissions_boundary(RoleName="r")
    assert "PermissionsBoundary" not in iam.get_role(RoleName="r")["Role"]
    assert refused(iam.delete_role_permissions_boundary, RoleName="r") == (404, "NoSuchEntity")
    missing = {"RoleName": "r", "PermissionsBoundary": f"{arn}x"}
    assert refused(iam.put_role_permissions_boundary, **missing) == (404, "NoSuchEntity")
    assert refused(create, iam=iam, name="s", PermissionsBoundary=f"{arn}x") == (404, "NoSuchEntity")


@pytest.mark.parametrize(
    "statement",
    [
        {"Effect": "Allow", "Action": "*"},
        {"Effect": "Allow", "Resource": "*"},
        {"Effect": "Maybe", "Action": "*", "Resource": "*"},
        {"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"},
        "Allow",
    ],
)
def test_policies_that_are_none(iam, statement):
    create(iam)
    text = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    for operation, members in (
        (iam.create_policy, {"PolicyName": "p"}),
        (iam.put_role_policy, {"RoleName": "r", "PolicyName": "p"}),
    ):
        assert refused(operation, PolicyDocument=text, **members) == (400, "MalformedPolicyDocument")
    large = json.dumps({"Statement": [{"Effect": "Allow", "Action": "x" * 6144, "Resource": "*"}]})
    assert refused(iam.create_policy, PolicyName="p", PolicyDocument=large) == (409, "LimitExceeded")


def test_roles_come_in_pages(iam):
    for name in ("c", "a", "b"):
        create(iam, name)
    pages = iam.get_paginator("list_roles").paginate(PaginationConfig={"PageSize": 2})
    assert [[role["RoleName"] for role in page["Roles"]] for page in pages] == [["a", "b"], ["c"]]


@pytest.mark.parametrize(
    "body", [b"", b"Action=GetRole", b"\xff\xfe", b"Action=CreateRole&Tags.member.1.Key=k"]
)
def test_forms_that_make_no_sense(node, body):
    scope = "AWS4-HMAC-SHA256 Credential=any/20260101/us-east-1/iam/aws4_request, Signature=0"
    status, headers, answer = node.raw("POST", "/", body, Authorization=scope)
    assert status == 400
    assert headers["content-type"] == "text/xml"
    assert b"<ErrorResponse" in answer


# --- STS ----------------------------------------------------------------------------------------------------


def test_who_the_caller_is(node, iam):
    sts = node.client_of("sts")
    assert sts.get_caller_identity()["Arn"] == f"arn:aws:iam::{ACCOUNT}:root"
    role = create(iam)
    assumed = sts.assume_role(RoleArn=ROLE_ARN, RoleSessionName="me")
    arn = f"arn:aws:sts::{ACCOUNT}:assumed-role/r/me"
    assert assumed["AssumedRoleUser"] == {"AssumedRoleId": f"{role['RoleId']}:me", "Arn": arn}
    given = assumed["Credentials"]
    session = boto3.client(
        "sts",
        "us-east-1",
        endpoint_url=node.endpoint,
        aws_access_key_id=given["AccessKeyId"],
        aws_secret_access_key=given["SecretAccessKey"],
        aws_session_token=given["SessionToken"],
    )
    found = session.get_caller_identity()
    assert (found["Arn"], found["Account"], found["UserId"]) == (arn, ACCOUNT, f"{role['RoleId']}:me")


def test_roles_that_may_not_be_assumed(node, iam):
    sts = node.client_of("sts")
    create(iam)
    for arn in (f"{ROLE_ARN}x", f"arn:aws:iam::{ACCOUNT}:role/path/r", "arn:aws:iam::111111111111:role/r"):
        assert refused(sts.assume_role, RoleArn=arn, RoleSessionName="me") == (403, "AccessDenied")
    long = {"RoleArn": ROLE_ARN, "RoleSessionName": "me", "DurationSeconds": 7200}
    assert refused(sts.assume_role, **long) == (400, "ValidationError")


# --- SSM ----------------------------------------------------------------------------------------------------


def test_parameters(node):
    ssm = node.client_of("ssm")
    name = "/cdk-bootstrap/hnb659fds/version"
    assert ssm.put_parameter(Name=name, Value="1", Type="String")["Version"] == 1
    assert refused(ssm.put_parameter, Name=name, Value="2", Type="String")[1] == "ParameterAlreadyExists"
    assert ssm.put_parameter(Name=name, Value="2", Overwrite=True)["Version"] == 2
    found = ssm.get_parameter(Name=name)["Parameter"]
    assert (found["Value"], found["Version"], found["Type"]) == ("2", 2, "String")
    assert found["ARN"] == f"arn:aws:ssm:us-east-1:{ACCOUNT}:parameter{name}"
    assert ssm.get_parameter(Name=found["ARN"])["Parameter"]["Value"] == "2"
    assert ssm.get_parameter(Name=f"{name}:2")["Parameter"]["Value"] == "2"
    assert refused(ssm.get_parameter, Name=f"{name}:1") == (400, "ParameterNotFound")
    several = ssm.get_parameters(Names=[name, "missing"])
    assert [each["Value"] for each in several["Parameters"]] == ["2"]
    assert several["InvalidParameters"] == ["missing"]
    ssm.delete_parameter(Name=name)
    assert refused(ssm.delete_parameter, Name=name) == (400, "ParameterNotFound")


def test_parameters_that_cannot_be(node):
    ssm = node.client_of("ssm")
    assert refused(ssm.put_parameter, Name="p", Value="x") == (400, "ValidationException")
    secret = {"Name": "p", "Value": "x", "Type": "SecureString"}
    assert refused(ssm.put_parameter, **secret, KeyId="alias/mine") == (400, "InvalidKeyId")
    plain = {"Name": "p", "Value": "x", "Type": "String"}
    assert refused(ssm.put_parameter, **plain, KeyId="alias/aws/ssm") == (400, "ValidationException")
    tagged = {**plain, "Tags": [{"Key": "k", "Value": "v"}], "Overwrite": True}
    assert refused(ssm.put_parameter, **tagged) == (400, "ValidationException")
    long = {"Name": "p", "Value": "x" * 4097, "Type": "String"}
    assert refused(ssm.put_parameter, **long) == (400, "ValidationException")


def test_secure_values_are_sealed_on_disk(tmp_path, running):
    with running(tmp_path) as node:
        ssm = node.client_of("ssm")
        ssm.put_parameter(
            Name="/app/password", Value="open sesame", Type="SecureString", KeyId="alias/aws/ssm"
        )
        ssm.put_parameter(Name="/app/user", Value="ali", Type="String")
        found = ssm.get_parameter(Name="/app/password")["Parameter"]
        assert (found["Type"], "sesame" in found["Value"]) == ("SecureString", False)
        both = ["/app/password", "/app/user"]
        opened = ssm.get_parameters(Names=both, WithDecryption=True)["Parameters"]
        assert [each["Value"] for each in opened] == ["open sesame", "ali"]
        ssm.put_parameter(Name="/app/password", Value="other sesame", Overwrite=True)
        node.client_of("ssm").put_parameter(Name="/moved", Value=found["Value"], Type="String")
    key = tmp_path / "vault.key"
    assert (key.stat().st_mode & 0o777, key.stat().st_size) == (0o600, 32)
    kept = b"".join(path.read_bytes() for path in tmp_path.glob("remora.db*"))
    assert (b"/app/password" in kept, b"sesame" in kept) == (True, False)
    with running(tmp_path) as node:
        ssm = node.client_of("ssm")
        asked = {"Name": "/app/password", "WithDecryption": True}
        assert ssm.get_parameter(**asked)["Parameter"]["Value"] == "other sesame"
    key.write_bytes(b"x" * 32)
    with running(tmp_path) as node:
        ssm = node.client_of("ssm")
        assert refused(ssm.get_parameter, **asked) == (400, "InvalidKeyId")
        assert ssm.get_parameter(Name="/app/user", WithDecryption=True)["Parameter"]["Value"] == "ali"


@pytest.mark.parametrize(("before", "then"), [("String", "SecureString"), ("SecureString", "String")])
def test_a_value_is_not_kept_as_another_type_than_it_was_sealed_for(tmp_path, before, then):
    def view(kind):
        parameter = Parameter(name="p", type=kind, value="former", version=1, modified_ms=0)
        return SimpleNamespace(parameters={"p": parameter})

    async def change(decide):
        return decide(view(then))[0]  # somebody else was first

    control = SimpleNamespace(
        clock=SimpleNamespace(wall_ms=lambda: 0),
        data=tmp_path,
        state=SimpleNamespace(view=view(before), change=change),
    )
    put = Ssm(control).put_parameter
    given = {"Name": "p", "Value": "new", "Overwrite": True}
    with pytest.raises(ServiceError, match="TooManyUpdates"):
        asyncio.run(put(given))
    assert asyncio.run(put({**given, "Type": "SecureString"}))["Version"] == 2


def test_parameters_below_a_path(node):
    ssm = node.client_of("ssm")
    for name in ("/a/1", "/a/2", "/a/b/3", "/ab/4", "a5"):
        kind = "SecureString" if name == "/a/2" else "String"
        ssm.put_parameter(Name=name, Value=f"value of {name}", Type=kind)

    def below(path, **members):
        pages = ssm.get_paginator("get_parameters_by_path").paginate(
            Path=path, PaginationConfig={"PageSize": 2}, **members
        )
        return [each["Name"] for page in pages for each in page["Parameters"]]

    assert below("/a") == below("/a/") == ["/a/1", "/a/2"]
    assert below("/a", Recursive=True) == ["/a/1", "/a/2", "/a/b/3"]
    assert below("/", Recursive=True) == ["/a/1", "/a/2", "/a/b/3", "/ab/4"]
    kind = [{"Key": "Type", "Option": "Equals", "Values": ["SecureString"]}]
    assert below("/a", ParameterFilters=kind) == ["/a/2"]
    found = ssm.get_parameters_by_path(Path="/a", WithDecryption=True)["Parameters"]
    assert [each["Value"] for each in found] == ["value of /a/1", "value of /a/2"]
    assert refused(ssm.get_parameters_by_path, Path="a") == (400, "ValidationException")
    unknown = [{"Key": "Colour", "Values": ["red"]}]
    assert refused(ssm.get_parameters_by_path, Path="/a", ParameterFilters=unknown)[0] == 400
    done = ssm.delete_parameters(Names=["/a/1", "a5", "/none"])
    assert (sorted(done["DeletedParameters"]), done["InvalidParameters"]) == (["/a/1", "a5"], ["/none"])


def test_parameters_are_described_without_their_values(node):
    ssm = node.client_of("ssm")
    ssm.put_parameter(
        Name="p", Value="x", Type="SecureString", Description="d", Tags=[{"Key": "k", "Value": "v"}]
    )
    ssm.put_parameter(Name="/q", Value="x", Type="String")

    def described(*filters):
        return [each["Name"] for each in ssm.describe_parameters(ParameterFilters=filters)["Parameters"]]

    (found,) = ssm.describe_parameters(Filters=[{"Key": "Name", "Values": ["p"]}])["Parameters"]
    assert (found["Description"], found["KeyId"], "Value" in found) == ("d", "alias/aws/ssm", False)
    assert described({"Key": "Name", "Option": "BeginsWith", "Values": ["/"]}) == ["/q"]
    assert described({"Key": "Path", "Option": "Recursive", "Values": ["/"]}) == ["/q"]
    assert described({"Key": "tag:k", "Values": ["v"]}) == described({"Key": "tag:k"}) == ["p"]
    bad = {"Key": "Name", "Option": "Near", "Values": ["p"]}
    assert refused(ssm.describe_parameters, ParameterFilters=[bad]) == (400, "InvalidFilterOption")
    at = {"ResourceType": "Parameter", "ResourceId": "p"}
    ssm.add_tags_to_resource(**at, Tags=[{"Key": "l", "Value": "w"}])
    ssm.remove_tags_from_resource(**at, TagKeys=["k"])
    assert ssm.list_tags_for_resource(**at)["TagList"] == [{"Key": "l", "Value": "w"}]
    ssm.put_parameter(Name="p", Value="y", Overwrite=True)
    assert ssm.list_tags_for_resource(**at)["TagList"] == [{"Key": "l", "Value": "w"}]
    assert refused(ssm.list_tags_for_resource, **at | {"ResourceId": "none"}) == (400, "InvalidResourceId")
    other = at | {"ResourceType": "Document"}
    assert refused(ssm.list_tags_for_resource, **other) == (400, "InvalidResourceType")


# --- all of them --------------------------------------------------------------------------------------------


def test_they_survive_a_restart(tmp_path, running):
    with running(tmp_path) as node:
        create(node.client_of("iam"))
        node.client_of("ssm").put_parameter(Name="p", Value="x", Type="StringList")
        key = node.client_of("sts").assume_role(RoleArn=ROLE_ARN, RoleSessionName="me")["Credentials"]
    with running(tmp_path) as node:
        assert node.client_of("iam").get_role(RoleName="r")["Role"]["Arn"] == ROLE_ARN
        assert node.client_of("ssm").get_parameter(Name="p")["Parameter"]["Type"] == "StringList"
        assert key["AccessKeyId"] in node.control.state.view.sessions


@pytest.mark.slow
def test_the_aws_command_deploys_from_a_bucket(node, tmp_path):
    """The sequence of a deployment with role, bucket, layer, version and alias, one command each."""
    (tmp_path / "code.zip").write_bytes(node.zip())
    (tmp_path / "large").write_bytes(bytes(9 * 1024 * 1024))
    (tmp_path / "trust.json").write_text(json.dumps(TRUST))
    settings = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "AWS_ENDPOINT_URL": node.endpoint,
        "AWS_ACCESS_KEY_ID": "any",
        "AWS_SECRET_ACCESS_KEY": "any",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_PAGER": "",
        "AWS_EC2_METADATA_DISABLED": "true",
    }

    def aws(*arguments):
        command = [Path(sys.executable).with_name("aws"), *arguments]
        done = subprocess.run(
            command, env=settings, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout) if done.stdout.startswith(("{", "[")) else done.stdout

    assert aws("sts", "get-caller-identity")["Account"] == ACCOUNT
    role = aws(
        *("iam", "create-role", "--role-name", "r", "--assume-role-policy-document", "file://trust.json")
    )["Role"]["Arn"]
    aws("iam", "attach-role-policy", "--role-name", "r", "--policy-arn", MANAGED)
    aws("s3", "mb", "s3://artifacts")
    aws("s3", "cp", "code.zip", "s3://artifacts/code.zip")
    aws("s3", "cp", "large", "s3://artifacts/large")  # in parts
    aws("s3", "cp", "s3://artifacts/large", "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "large").read_bytes()
    assert "code.zip" in aws("s3", "ls", "s3://artifacts/")
    at = "S3Bucket=artifacts,S3Key=code.zip"
    layer = aws("lambda", "publish-layer-version", "--layer-name", "l", "--content", at)["LayerVersionArn"]
    aws(
        *("lambda", "create-function", "--function-name", "f", "--runtime", "python3.12", "--role", role),
        *("--handler", "h.h", "--code", at, "--layers", layer),
    )
    aws("lambda", "wait", "function-active-v2", "--function-name", "f")
    assert aws("lambda", "publish-version", "--function-name", "f")["Version"] == "1"
    alias = ("lambda", "create-alias", "--function-name", "f", "--name", "live", "--function-version", "1")
    assert aws(*alias)["AliasArn"].endswith(":f:live")
    aws("lambda", "wait", "published-version-active", "--function-name", "f", "--qualifier", "1")
    permission = ("--statement-id", "s3", "--action", "lambda:InvokeFunction", "--principal")
    permission = (*permission, "s3.amazonaws.com")
    aws("lambda", "add-permission", "--function-name", "f", "--qualifier", "live", *permission)
    policy = aws("lambda", "get-policy", "--function-name", "f", "--qualifier", "live")["Policy"]
    assert json.loads(policy)["Statement"][0]["Sid"] == "s3"
    invoked = aws("lambda", "invoke", "--function-name", "f:live", "--payload", "{}", "out.json")
    assert invoked["ExecutedVersion"] == "1"
    aws("ssm", "put-parameter", "--name", "/app/alias", "--value", "live", "--type", "String")
    assert aws("ssm", "get-parameter", "--name", "/app/alias")["Parameter"]["Value"] == "live"
    aws("lambda", "delete-function", "--function-name", "f")
    aws("s3", "rm", "s3://artifacts", "--recursive")
    aws("s3", "rb", "s3://artifacts")
    aws("iam", "detach-role-policy", "--role-name", "r", "--policy-arn", MANAGED)
    aws("iam", "delete-role", "--role-name", "r")
