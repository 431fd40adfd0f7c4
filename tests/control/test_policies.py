"""Permissions of functions, versions, aliases and layer versions, as boto3 sees them."""

from __future__ import annotations

import json
from collections import deque

import pytest

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l"
INVALID = "InvalidParameterValueException"
CONFLICT = "ResourceConflictException"
MISSING = "ResourceNotFoundException"
CHECKED = "ValidationException"
STALE = "PreconditionFailedException"
NO_POLICY = "No policy is associated with the given resource."
NOTHING = "The resource you requested does not exist."

S3 = {
    "FunctionName": "f",
    "StatementId": "s3",
    "Action": "lambda:InvokeFunction",
    "Principal": "s3.amazonaws.com",
}


def policy(node, **members):
    reply = node.client.get_policy(FunctionName="f", **members)
    return json.loads(reply["Policy"]), reply["RevisionId"]


@pytest.mark.case("CP-73")
def test_a_permission_becomes_a_statement(node):
    node.create()
    before = node.settle()["RevisionId"]
    arn = "arn:aws:s3:::bucket"
    reply = node.client.add_permission(**S3, SourceArn=arn, SourceAccount="000000000000")
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = {
        "Sid": "s3",
        "Effect": "Allow",
        "Principal": {"Service": "s3.amazonaws.com"},
        "Action": "lambda:InvokeFunction",
        "Resource": FUNCTION,
        "Condition": {
            "ArnLike": {"AWS:SourceArn": arn},
            "StringEquals": {"AWS:SourceAccount": "000000000000"},
        },
    }
    assert json.loads(reply["Statement"]) == statement
    document, revision = policy(node)
    assert document == {"Version": "2012-10-17", "Id": "default", "Statement": [statement]}
    assert revision == node.settle()["RevisionId"] != before


@pytest.mark.parametrize(
    ("principal", "shown"),
    [
        ("*", "*"),
        ("123456789012", {"AWS": "arn:aws:iam::123456789012:root"}),
        ("arn:aws:iam::123456789012:role/r", {"AWS": "arn:aws:iam::123456789012:role/r"}),
        ("events.amazonaws.com", {"Service": "events.amazonaws.com"}),
    ],
)
def test_principals(node, principal, shown):
    node.create()
    reply = node.client.add_permission(**{**S3, "Principal": principal})
    assert json.loads(reply["Statement"])["Principal"] == shown


def test_conditions_for_urls(node):
    node.create()
    request = {**S3, "Action": "lambda:InvokeFunctionUrl", "Principal": "*"}
    first = node.client.add_permission(**request, FunctionUrlAuthType="NONE", PrincipalOrgID="o-abcdefghij")
    assert json.loads(first["Statement"])["Condition"] == {
        "StringEquals": {"lambda:FunctionUrlAuthType": "NONE", "aws:PrincipalOrgID": "o-abcdefghij"}
    }
    second = node.client.add_permission(**{**request, "StatementId": "2"}, InvokedViaFunctionUrl=True)
    assert json.loads(second["Statement"])["Condition"] == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}


@pytest.mark.case("CP-74")
def test_statements_that_cannot_be(node):
    node.create()
    node.client.add_permission(**S3)
    assert node.refused("add_permission", **S3) == (
        409,
        CONFLICT,
        (
            "The statement id (s3) provided already exists. Please provide a new statement id, or remove the "
            "existing statement."
        ),
    )
    other = {**S3, "StatementId": "other"}
    assert node.refused("add_permission", **other, Qualifier="$LATEST") == (
        400,
        INVALID,
        "We currently do not support adding policies for $LATEST.",
    )
    text = "The provided principal was invalid. Please check the principal and try again."
    for principal in ("nobody", "arn:aws:s3:::bucket", "12345"):
        refusal = node.refused("add_permission", **{**other, "Principal": principal})
        assert refusal == (400, INVALID, text)
    assert node.refused("add_permission", **{**other, "Principal": "bad principal!"})[1] == CHECKED
    assert node.refused("add_permission", **{**other, "FunctionName": "g"}) == (
        404,
        MISSING,
        f"Function not found: {FUNCTION[:-1]}g",
    )
    assert node.refused("add_permission", **other, Qualifier="live") == (
        404,
        MISSING,
        f"Cannot find alias arn: {FUNCTION}:live",
    )
    assert node.refused("add_permission", **other, Qualifier="7") == (
        404,
        MISSING,
        f"Function not found: {FUNCTION}:7",
    )


@pytest.mark.case("CP-75")
def test_each_version_and_alias_has_its_own_policy(node):
    node.create()
    node.publish()
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    for qualifier in ("1", "live"):
        before = policy_revision(node, qualifier)
        reply = node.client.add_permission(**{**S3, "StatementId": f"of-{qualifier}"}, Qualifier=qualifier)
        assert json.loads(reply["Statement"])["Resource"] == f"{FUNCTION}:{qualifier}"
        document, revision = policy(node, Qualifier=qualifier)
        assert [statement["Sid"] for statement in document["Statement"]] == [f"of-{qualifier}"]
        assert revision == policy_revision(node, qualifier) != before
    assert node.refused("get_policy", FunctionName="f") == (404, MISSING, NOTHING)
    assert node.publish(Timeout=9) == "2"
    assert node.refused("get_policy", FunctionName="f", Qualifier="2") == (404, MISSING, NOTHING)
    node.client.delete_alias(FunctionName="f", Name="live")
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="2")
    assert node.refused("get_policy", FunctionName="f", Qualifier="live") == (404, MISSING, NOTHING)
    # A policy of a version makes no other version of it.
    assert node.client.invoke(FunctionName="f:1")["ExecutedVersion"] == "1"


def policy_revision(node, qualifier):
    if qualifier == "live":
        return node.client.get_alias(FunctionName="f", Name=qualifier)["RevisionId"]
    return node.client.get_function_configuration(FunctionName="f", Qualifier=qualifier)["RevisionId"]


@pytest.mark.case("CP-76")
def test_statements_are_removed_one_by_one(node):
    node.create()
    assert node.refused("remove_permission", FunctionName="g", StatementId="s3") == (
        404,
        MISSING,
        f"No policy found for: {FUNCTION[:-1]}g",
    )
    refusal = node.refused("remove_permission", FunctionName="f", StatementId="s3")
    assert refusal == (404, MISSING, NO_POLICY)
    node.client.add_permission(**S3)
    refusal = node.refused("remove_permission", FunctionName="f", StatementId="other")
    assert refusal == (404, MISSING, "Statement other is not found in resource policy.")
    reply = node.client.remove_permission(FunctionName="f", StatementId="s3")
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert node.refused("get_policy", FunctionName="f") == (404, MISSING, NOTHING)


def test_a_policy_is_changed_by_those_who_have_seen_it(node):
    node.create()
    stale = node.settle()["RevisionId"]
    node.client.add_permission(**S3, RevisionId=stale)
    status, code, text = node.refused("add_permission", **{**S3, "StatementId": "other"}, RevisionId=stale)
    assert (status, code) == (412, STALE)
    assert "Call the GetPolicy API" in text
    request = {"FunctionName": "f", "StatementId": "s3"}
    assert node.refused("remove_permission", **request, RevisionId=stale)[1] == STALE
    node.client.remove_permission(**request, RevisionId=policy(node)[1])


def test_a_policy_has_an_end(node):
    node.create()
    refused = node.client.exceptions.PolicyLengthExceededException

    def add(number):
        request = {
            **S3,
            "StatementId": f"{'s' * 90}{number}",
            "SourceArn": f"arn:aws:s3:::{'b' * 60}{number}",
        }
        node.client.add_permission(**request)

    for number in range(50):
        add(number)
    with pytest.raises(refused):
        deque(map(add, range(50, 200)))
    assert len(json.dumps(policy(node)[0], separators=(",", ":"))) <= 20_480


def test_a_policy_given_while_a_function_is_prepared_does_not_disturb_it(node):
    node.runtimes.gate.clear()
    node.create(wait=False)
    node.client.add_permission(**S3)
    node.runtimes.gate.set()
    assert node.settle()["State"] == "Active"
    assert policy(node)[1] == node.settle()["RevisionId"]


def test_a_whole_policy_is_replaced_and_deleted(node):
    node.create()
    statement = {"Sid": "all", "Effect": "Allow", "Principal": "*", "Action": "lambda:InvokeFunction"}
    document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
    reply = node.client.put_resource_policy(ResourceArn=FUNCTION, Policy=document)
    assert json.loads(reply["Policy"])["Statement"] == [{**statement, "Resource": FUNCTION}]
    assert policy(node)[1] == reply["RevisionId"]
    assert node.client.get_resource_policy(ResourceArn=FUNCTION)["Policy"] == reply["Policy"]
    node.client.delete_resource_policy(ResourceArn=FUNCTION, RevisionId=reply["RevisionId"])
    assert node.refused("get_resource_policy", ResourceArn=FUNCTION)[1] == MISSING
    assert node.refused("delete_resource_policy", ResourceArn=FUNCTION)[1] == MISSING


@pytest.mark.parametrize(
    "document",
    [
        "{",
        "[]",
        "{}",
        '{"Statement": []}',
        '{"Statement": [1]}',
        '{"Statement": {"Effect": "Allow"}}',
        '{"Statement": {"Effect": "Maybe", "Principal": "*", "Action": "*"}}',
        '{"Statement": {"Effect": "Allow", "Principal": "*", "Action": "*", "Resource": "arn:other"}}',
    ],
)
def test_what_is_no_policy_is_refused(node, document):
    node.create()
    refusal = node.refused("put_resource_policy", ResourceArn=FUNCTION, Policy=document)
    assert refusal[:2] == (400, INVALID)


LAYERED = {"LayerName": "l", "VersionNumber": 1}
SHARED = {
    **LAYERED,
    "StatementId": "all",
    "Action": "lambda:GetLayerVersion",
    "Principal": "123456789012",
}


@pytest.mark.case("CP-70")
def test_a_layer_version_may_be_shared(node):
    node.layer()
    status, code, text = node.refused("add_layer_version_permission", **{**SHARED, "Action": "*"})
    assert (status, code) == (400, CHECKED)
    assert "Member must satisfy regular expression pattern: lambda:GetLayerVersion" in text
    reply = node.client.add_layer_version_permission(**SHARED)
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    statement = json.loads(reply["Statement"])
    assert statement == {
        "Sid": "all",
        "Effect": "Allow",
        "Principal": {"AWS": "arn:aws:iam::123456789012:root"},
        "Action": "lambda:GetLayerVersion",
        "Resource": f"{LAYER}:1",
    }
    found = node.client.get_layer_version_policy(**LAYERED)
    assert json.loads(found["Policy"])["Statement"] == [statement]
    assert found["RevisionId"] == reply["RevisionId"]
    organization = {**SHARED, "StatementId": "org", "Principal": "*", "OrganizationId": "o-abcdefghij"}
    shared = json.loads(node.client.add_layer_version_permission(**organization)["Statement"])
    assert shared["Condition"] == {"StringEquals": {"aws:PrincipalOrgID": "o-abcdefghij"}}


@pytest.mark.case("CP-71")
def test_a_layers_policy_is_changed_by_those_who_have_seen_it(node):
    node.layer()
    node.client.add_layer_version_permission(**SHARED)
    assert node.refused("add_layer_version_permission", **SHARED)[:2] == (409, CONFLICT)
    other = {**SHARED, "StatementId": "other", "RevisionId": "00000000-0000-4000-8000-000000000000"}
    status, code, text = node.refused("add_layer_version_permission", **other)
    assert (status, code) == (412, STALE)
    assert "Call the GetLayerPolicy API" in text
    request = {**LAYERED, "StatementId": "all"}
    assert node.refused("remove_layer_version_permission", **request, RevisionId=other["RevisionId"])[1] == (
        STALE
    )
    node.client.remove_layer_version_permission(**request)
    assert node.refused("get_layer_version_policy", **LAYERED) == (404, MISSING, NO_POLICY)
    assert node.refused("remove_layer_version_permission", **request) == (404, MISSING, NO_POLICY)


def test_a_layers_policy_goes_with_it(node):
    node.layer()
    node.client.add_layer_version_permission(**SHARED)
    node.client.delete_layer_version(**LAYERED)
    text = f"Layer version {LAYER}:1 does not exist."
    for operation, members in (
        ("get_layer_version_policy", LAYERED),
        ("add_layer_version_permission", SHARED),
        ("remove_layer_version_permission", {**LAYERED, "StatementId": "all"}),
    ):
        assert node.refused(operation, **members) == (404, MISSING, text)


@pytest.mark.case("CP-69")
def test_a_layer_of_another_account_is_not_to_be_had(node):
    node.create()
    arn = "arn:aws:lambda:us-east-1:111111111111:layer:l:1"
    refusal = node.refused("update_function_configuration", FunctionName="f", Layers=[arn])
    assert refusal[:2] == (403, "AccessDeniedException")
    assert f"is not authorized to perform: lambda:GetLayerVersion on resource: {arn}" in refusal[2]
