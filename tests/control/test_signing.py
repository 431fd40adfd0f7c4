"""Code signing configurations: made, given to functions, and what they refuse."""

from __future__ import annotations

import re

PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abcdefghij"
PUBLISHERS = {"SigningProfileVersionArns": [PROFILE]}
ENFORCE = {"UntrustedArtifactOnDeployment": "Enforce"}
UNKNOWN = "arn:aws:lambda:us-east-1:000000000000:code-signing-config:csc-00000000000000000"


def made(node, **members):
    reply = node.client.create_code_signing_config(AllowedPublishers=PUBLISHERS, **members)
    return reply["CodeSigningConfig"]


def test_a_configuration_is_made_changed_and_deleted(node):
    config = made(node, Description="d", Tags={"k": "v"})
    arn = config["CodeSigningConfigArn"]
    assert re.fullmatch(r"csc-[a-z0-9]{17}", config["CodeSigningConfigId"])
    assert arn.endswith(f":000000000000:code-signing-config:{config['CodeSigningConfigId']}")
    assert config["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
    assert config["AllowedPublishers"] == PUBLISHERS
    here = {"CodeSigningConfigArn": arn}
    assert node.client.get_code_signing_config(**here)["CodeSigningConfig"] == config
    changed = node.client.update_code_signing_config(**here, CodeSigningPolicies=ENFORCE)["CodeSigningConfig"]
    assert (changed["CodeSigningPolicies"], changed["Description"]) == (ENFORCE, "d")
    assert node.client.list_tags(Resource=arn)["Tags"] == {"k": "v"}
    node.client.tag_resource(Resource=arn, Tags={"l": "w"})
    node.client.untag_resource(Resource=arn, TagKeys=["k", "other"])
    assert node.client.list_tags(Resource=arn)["Tags"] == {"l": "w"}
    node.client.delete_code_signing_config(**here)
    for operation in ("get_code_signing_config", "delete_code_signing_config", "update_code_signing_config"):
        assert node.refused(operation, **here)[:2] == (404, "ResourceNotFoundException")
    assert node.refused("list_tags", Resource=arn)[1] == "ResourceNotFoundException"


def test_configurations_come_in_pages(node):
    arns = sorted(made(node)["CodeSigningConfigArn"] for _ in range(3))
    pages = node.client.get_paginator("list_code_signing_configs").paginate(PaginationConfig={"PageSize": 2})
    found = [[each["CodeSigningConfigArn"] for each in page["CodeSigningConfigs"]] for page in pages]
    assert found == [arns[:2], arns[2:]]


def test_a_function_has_a_configuration(node):
    arn = made(node)["CodeSigningConfigArn"]
    node.create("f", CodeSigningConfigArn=arn)
    node.create("g")
    given = {"CodeSigningConfigArn": arn, "FunctionName": "f"}

    def shown(name):
        reply = node.client.get_function_code_signing_config(FunctionName=name)
        return {key: value for key, value in reply.items() if key != "ResponseMetadata"}

    assert (shown("f"), shown("g")) == (given, {})
    reply = node.client.put_function_code_signing_config(**given | {"FunctionName": "g"})
    assert (reply["FunctionName"], shown("g")["CodeSigningConfigArn"]) == ("g", arn)
    listed = node.client.list_functions_by_code_signing_config(CodeSigningConfigArn=arn)["FunctionArns"]
    assert listed == [f"{node.arn}:function:f", f"{node.arn}:function:g"]
    refusal = node.refused("delete_code_signing_config", CodeSigningConfigArn=arn)
    assert refusal[:2] == (409, "ResourceConflictException")
    for name in ("f", "g", "g"):
        node.client.delete_function_code_signing_config(FunctionName=name)
    assert shown("f") == shown("g") == {}
    node.client.delete_code_signing_config(CodeSigningConfigArn=arn)


def test_what_is_not_signed_is_refused_where_that_counts(node):
    arn = made(node, CodeSigningPolicies=ENFORCE)["CodeSigningConfigArn"]
    unsigned = (400, "CodeVerificationFailedException")
    request = {"Runtime": "python3.12", "Role": node.role, "Handler": "h.h", "Code": {"ZipFile": node.zip()}}
    refusal = node.refused("create_function", FunctionName="f", CodeSigningConfigArn=arn, **request)
    assert refusal[:2] == unsigned
    node.create("f")
    node.client.put_function_code_signing_config(FunctionName="f", CodeSigningConfigArn=arn)
    assert node.refused("update_function_code", FunctionName="f", ZipFile=node.zip())[:2] == unsigned
    refusal = node.refused("update_function_configuration", FunctionName="f", Layers=[node.layer()])
    assert refusal[:2] == unsigned
    node.client.update_function_configuration(FunctionName="f", Description="its code stays")
    node.settle()
    assert node.invoke() == {}
    warn = {"UntrustedArtifactOnDeployment": "Warn"}
    node.client.update_code_signing_config(CodeSigningConfigArn=arn, CodeSigningPolicies=warn)
    node.client.update_function_code(FunctionName="f", ZipFile=node.zip())


def test_a_configuration_that_there_is_not(node):
    node.create("f")
    missing = (404, "CodeSigningConfigNotFoundException")
    request = {"Runtime": "python3.12", "Role": node.role, "Handler": "h.h", "Code": {"ZipFile": node.zip()}}
    refusal = node.refused("create_function", FunctionName="g", CodeSigningConfigArn=UNKNOWN, **request)
    assert refusal[:2] == missing
    given = {"FunctionName": "f", "CodeSigningConfigArn": UNKNOWN}
    assert node.refused("put_function_code_signing_config", **given)[:2] == missing
    refusal = node.refused("list_functions_by_code_signing_config", CodeSigningConfigArn=UNKNOWN)
    assert refusal[1] == "ResourceNotFoundException"
    assert node.refused("delete_function_code_signing_config", FunctionName="g")[1] == refusal[1]


def test_configurations_survive_a_restart(tmp_path, running):
    with running(tmp_path / "data") as node:
        config = made(node)
        node.create("f", CodeSigningConfigArn=config["CodeSigningConfigArn"])
    with running(tmp_path / "data") as node:
        arn = node.client.get_function_code_signing_config(FunctionName="f")["CodeSigningConfigArn"]
        assert node.client.get_code_signing_config(CodeSigningConfigArn=arn)["CodeSigningConfig"] == config
