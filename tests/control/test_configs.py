"""What hangs on a function: concurrency, event-invoke configurations, URLs, tags and the small settings."""

from __future__ import annotations

import re

import pytest

from remora.pool.base import ProvisionedStatus

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
INVALID = "InvalidParameterValueException"
CONFLICT = "ResourceConflictException"
MISSING = "ResourceNotFoundException"
CHECKED = "ValidationException"


# --- reserved concurrency ---------------------------------------------------------------------------------


@pytest.mark.case("CP-94")
def test_reserved_concurrency_is_set_and_forgotten(node):
    node.create()
    assert "ReservedConcurrentExecutions" not in node.client.get_function_concurrency(FunctionName="f")
    assert "Concurrency" not in node.client.get_function(FunctionName="f")
    reply = node.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=7)
    assert reply["ReservedConcurrentExecutions"] == 7
    found = node.client.get_function(FunctionName="f")["Concurrency"]
    assert found == {"ReservedConcurrentExecutions": 7}
    limit = node.client.get_account_settings()["AccountLimit"]
    assert (limit["ConcurrentExecutions"], limit["UnreservedConcurrentExecutions"]) == (1000, 993)
    for _ in range(2):
        node.client.delete_function_concurrency(FunctionName="f")
    assert "ReservedConcurrentExecutions" not in node.client.get_function_concurrency(FunctionName="f")


@pytest.mark.case("CP-93")
def test_a_part_of_the_account_is_for_everybody(node):
    node.create()
    node.create("g")
    node.client.put_function_concurrency(FunctionName="g", ReservedConcurrentExecutions=100)
    refusal = node.refused("put_function_concurrency", FunctionName="f", ReservedConcurrentExecutions=850)
    assert refusal == (
        400,
        INVALID,
        (
            "Specified ReservedConcurrentExecutions for function decreases account's "
            "UnreservedConcurrentExecution below its minimum value of [100]."
        ),
    )
    node.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=800)
    # Its own former reservation does not count against it.
    node.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=799)


@pytest.mark.case("CP-95")
def test_versions_have_no_reserved_concurrency(node):
    node.create()
    node.publish()
    text = (
        "This operation is permitted on Lambda functions only. Aliases and versions do not support this "
        "operation. Please specify either a function name or an unqualified function ARN."
    )
    for name in ("f:1", "f:$LATEST"):
        refusal = node.refused("put_function_concurrency", FunctionName=name, ReservedConcurrentExecutions=1)
        assert refusal == (400, INVALID, text)
    refusal = node.refused("put_function_concurrency", FunctionName="g", ReservedConcurrentExecutions=1)
    assert refusal == (404, MISSING, f"Function not found: {FUNCTION[:-1]}g:$LATEST")
    refusal = node.refused("get_function_concurrency", FunctionName="g")
    assert refusal == (404, MISSING, f"Function not found: {FUNCTION[:-1]}g")


# --- provisioned concurrency ------------------------------------------------------------------------------


def provision(node, qualifier="1", count=2):
    return node.client.put_provisioned_concurrency_config(
        FunctionName="f", Qualifier=qualifier, ProvisionedConcurrentExecutions=count
    )


def refused(node, qualifier, count=2):
    return node.refused(
        "put_provisioned_concurrency_config",
        FunctionName="f",
        Qualifier=qualifier,
        ProvisionedConcurrentExecutions=count,
    )


def test_provisioned_concurrency_says_what_has_become_of_it(node):
    node.create()
    node.publish()
    reply = provision(node)
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert reply["RequestedProvisionedConcurrentExecutions"] == 2
    assert reply["AllocatedProvisionedConcurrentExecutions"] == 0
    assert reply["AvailableProvisionedConcurrentExecutions"] == 0
    assert reply["Status"] == "IN_PROGRESS"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+0000", reply["LastModified"])
    request = {"FunctionName": "f", "Qualifier": "1"}
    node.provisioning.statuses["f", "1"] = ProvisionedStatus("READY", 2, 2)
    found = node.client.get_provisioned_concurrency_config(**request)
    assert (found["Status"], found["AvailableProvisionedConcurrentExecutions"]) == ("READY", 2)
    assert "StatusReason" not in found
    node.provisioning.statuses["f", "1"] = ProvisionedStatus("FAILED", 0, 0, "FUNCTION_ERROR_INIT_FAILURE")
    found = node.client.get_provisioned_concurrency_config(**request)
    assert (found["Status"], found["StatusReason"]) == ("FAILED", "FUNCTION_ERROR_INIT_FAILURE")
    listed = node.client.list_provisioned_concurrency_configs(FunctionName="f")
    assert [each["FunctionArn"] for each in listed["ProvisionedConcurrencyConfigs"]] == [f"{FUNCTION}:1"]


@pytest.mark.case("CP-98")
def test_an_alias_or_its_version_is_provisioned_not_both(node):
    node.create()
    node.publish()
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    provision(node)
    assert refused(node, "live") == (
        409,
        CONFLICT,
        "Alias can't be used for Provisioned Concurrency configuration on an already Provisioned version",
    )
    node.client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1")
    provision(node, "live")
    assert refused(node, "1") == (409, CONFLICT, "Version is pointed by a Provisioned Concurrency alias")


def test_an_alias_with_weights_is_not_to_be_provisioned(node):
    node.create()
    node.publish()
    node.publish(Timeout=9)
    routing = {"AdditionalVersionWeights": {"2": 0.5}}
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig=routing)
    text = "Alias with weights can not be used with Provisioned Concurrency"
    assert refused(node, "live") == (400, INVALID, text)
    node.client.update_alias(FunctionName="f", Name="live", RoutingConfig={})
    provision(node, "live")
    node.client.update_alias(FunctionName="f", Name="live", RoutingConfig=routing)
    assert refused(node, "live") == (400, INVALID, text)


@pytest.mark.case("CP-99")
def test_only_what_is_published_is_provisioned(node):
    node.create()
    assert refused(node, "$LATEST") == (
        400,
        INVALID,
        "Provisioned Concurrency Configs cannot be applied to unpublished function versions.",
    )
    status, code, text = refused(node, "1", 0)
    assert (status, code) == (400, CHECKED)
    assert "greater than or equal to 1" in text
    text = "The function resource provided must be an alias or a published version."
    for operation in ("get_provisioned_concurrency_config", "delete_provisioned_concurrency_config"):
        refusal = node.refused(operation, FunctionName="f", Qualifier="$LATEST")
        assert refusal == (400, INVALID, text)
    assert refused(node, "7") == (404, MISSING, f"Function not found: {FUNCTION}:7")
    assert refused(node, "live") == (404, MISSING, f"Cannot find alias arn: {FUNCTION}:live")


@pytest.mark.case("CP-100")
def test_a_provisioned_configuration_is_deleted_as_often_as_asked(node):
    node.create()
    node.publish()
    provision(node)
    request = {"FunctionName": "f", "Qualifier": "1"}
    for _ in range(2):
        reply = node.client.delete_provisioned_concurrency_config(**request)
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert node.refused("get_provisioned_concurrency_config", **request) == (
        404,
        "ProvisionedConcurrencyConfigNotFoundException",
        "No Provisioned Concurrency Config found for this function",
    )
    assert (
        node.client.list_provisioned_concurrency_configs(FunctionName="f")["ProvisionedConcurrencyConfigs"]
        == []
    )


def test_reserved_and_provisioned_concurrency_know_each_other(node):
    node.create()
    node.publish()
    node.client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=5)
    assert refused(node, "1", 6) == (
        400,
        INVALID,
        (
            "Requested Provisioned Concurrency should not be greater than the "
            "reservedConcurrentExecution for function"
        ),
    )
    provision(node, "1", 5)
    refusal = node.refused("put_function_concurrency", FunctionName="f", ReservedConcurrentExecutions=4)
    assert refusal == (
        400,
        INVALID,
        (
            " ReservedConcurrentExecutions  4 should not be lower than function's total "
            "provisioned concurrency [5]."
        ),
    )
    node.client.delete_function_concurrency(FunctionName="f")
    assert refused(node, "1", 1001) == (
        400,
        INVALID,
        (
            "Specified ConcurrentExecutions for function is greater than account's "
            "unreserved concurrency [1000]."
        ),
    )
    assert refused(node, "1", 901) == (
        400,
        INVALID,
        (
            "Specified ConcurrentExecutions for function decreases account's "
            "UnreservedConcurrentExecution below its minimum value of [100]."
        ),
    )
    provision(node, "1", 900)


# --- event-invoke configurations ----------------------------------------------------------------------------


def configure(node, **members):
    return node.client.put_function_event_invoke_config(FunctionName="f", **members)


QUEUE = "arn:aws:sqs:us-east-1:000000000000:q"


@pytest.mark.case("CP-104")
def test_event_configurations_that_cannot_be(node):
    node.create()

    def refused(**members):
        return node.refused("put_function_event_invoke_config", **{"FunctionName": "f", **members})

    def to(arn, outcome="OnSuccess"):
        return {"DestinationConfig": {outcome: {"Destination": arn}}}

    text = "You must specify at least one of error handling or destination setting."
    assert refused() == (400, INVALID, text)
    text = "You can't specify the function as a destination for itself."
    assert refused(**to(FUNCTION)) == (400, INVALID, text)
    missing = f"{FUNCTION[:-1]}g"
    assert refused(**to(missing)) == (400, INVALID, f"The destination ARN {missing} is invalid.")
    node.create("h")
    configure(node, **to(f"{FUNCTION[:-1]}h:soon"))
    foreign = "arn:aws:iam::000000000000:role/r"
    assert refused(**to(foreign)) == (
        400,
        INVALID,
        (
            f"The provided destination config DestinationConfig(onSuccess=OnSuccess(destination={foreign}), "
            "onFailure=null) is invalid."
        ),
    )
    assert refused(**to("arn:aws:s3:::bucket"))[1] == INVALID  # a bucket is for failures only
    for members in ({"FunctionName": "g"}, {"Qualifier": "live"}, {"Qualifier": "1"}):
        refusal = refused(**members, MaximumRetryAttempts=0)
        assert refusal == (404, MISSING, "The function doesn't exist.")
    assert refused(MaximumRetryAttempts=3)[1] == CHECKED
    assert refused(MaximumEventAgeInSeconds=59)[1] == CHECKED
    configure(node, **to("arn:aws:s3:::bucket", "OnFailure"))


@pytest.mark.case("CP-105")
def test_put_replaces_and_update_merges(node):
    node.create()
    first = configure(node, MaximumRetryAttempts=2, MaximumEventAgeInSeconds=60)
    assert first["FunctionArn"] == f"{FUNCTION}:$LATEST"
    assert first["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    second = node.client.update_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": QUEUE}}
    )
    assert (second["MaximumRetryAttempts"], second["MaximumEventAgeInSeconds"]) == (1, 60)
    assert second["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {"Destination": QUEUE}}
    assert second["LastModified"] >= first["LastModified"]
    third = configure(node, MaximumRetryAttempts=0)
    assert "MaximumEventAgeInSeconds" not in third
    assert third["DestinationConfig"] == {"OnSuccess": {}, "OnFailure": {}}
    found = node.client.get_function_event_invoke_config(FunctionName="f")
    assert found["MaximumRetryAttempts"] == 0


def test_every_qualifier_has_its_own_event_configuration(node):
    node.create()
    node.publish()
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    configure(node, MaximumRetryAttempts=0)
    configure(node, Qualifier="1", MaximumRetryAttempts=1)
    configure(node, Qualifier="live", MaximumRetryAttempts=2)
    listed = node.client.list_function_event_invoke_configs(FunctionName="f")["FunctionEventInvokeConfigs"]
    found = {each["FunctionArn"].rpartition(":")[2]: each["MaximumRetryAttempts"] for each in listed}
    assert found == {"$LATEST": 0, "1": 1, "live": 2}
    node.client.delete_function_event_invoke_config(FunctionName="f", Qualifier="1")
    text = f"The function {FUNCTION}:1 doesn't have an EventInvokeConfig"
    for operation in ("get", "delete"):
        refusal = node.refused(f"{operation}_function_event_invoke_config", FunctionName="f", Qualifier="1")
        assert refusal == (404, MISSING, text)
    refusal = node.refused("update_function_event_invoke_config", FunctionName="f:1", MaximumRetryAttempts=0)
    assert refusal == (404, MISSING, text)
    node.client.delete_function(FunctionName="f")
    node.create()
    assert node.refused("get_function_event_invoke_config", FunctionName="f")[1] == MISSING


# --- function URLs ------------------------------------------------------------------------------------------


@pytest.mark.case("CP-108")
def test_a_url_exists_once_and_not_for_a_number(node):
    node.create()
    node.publish()
    reply = node.client.create_function_url_config(FunctionName="f", AuthType="NONE")
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert reply["FunctionArn"] == FUNCTION
    assert not {"InvokeMode", "LastModifiedTime", "Cors"} & reply.keys()
    assert re.fullmatch(
        rf"http://[0-9a-f]{{32}}\.lambda-url\.us-east-1\.localhost:{node.port}/", reply["FunctionUrl"]
    )
    refusal = node.refused("create_function_url_config", FunctionName="f", AuthType="NONE")
    assert refusal == (
        409,
        CONFLICT,
        (
            f"Failed to create function url config for [functionArn = {FUNCTION}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function"
        ),
    )
    for qualifier in ("1", "$LATEST"):
        status, code, text = node.refused(
            "create_function_url_config", FunctionName="f", AuthType="NONE", Qualifier=qualifier
        )
        assert (status, code) == (400, CHECKED)
        assert "'qualifier'" in text


def test_a_url_keeps_its_address(node):
    node.create()
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="$LATEST")
    cors = {"AllowOrigins": ["*"], "AllowMethods": ["GET"], "MaxAge": 5}
    first = node.client.create_function_url_config(
        FunctionName="f", Qualifier="live", AuthType="AWS_IAM", Cors=cors, InvokeMode="RESPONSE_STREAM"
    )
    assert (first["InvokeMode"], first["Cors"]) == ("RESPONSE_STREAM", cors)
    assert first["FunctionArn"] == f"{FUNCTION}:live"
    node.client.update_function_url_config(FunctionName="f", Qualifier="live", AuthType="NONE")
    found = node.client.get_function_url_config(FunctionName="f", Qualifier="live")
    assert (found["AuthType"], found["InvokeMode"], found["Cors"]) == ("NONE", "RESPONSE_STREAM", cors)
    assert found["FunctionUrl"] == first["FunctionUrl"]
    assert found["LastModifiedTime"] >= found["CreationTime"]
    node.client.create_function_url_config(FunctionName="f", AuthType="NONE")
    listed = node.client.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"]
    assert [each["FunctionArn"] for each in listed] == [FUNCTION, f"{FUNCTION}:live"]
    node.client.delete_function_url_config(FunctionName="f")
    assert len(node.client.list_function_url_configs(FunctionName="f")["FunctionUrlConfigs"]) == 1


def test_a_url_that_is_not_there(node):
    node.create()
    nothing = (404, MISSING, "The resource you requested does not exist.")
    assert node.refused("get_function_url_config", FunctionName="f") == nothing
    assert node.refused("delete_function_url_config", FunctionName="g") == nothing
    unknown = (404, MISSING, "Function does not exist")
    assert node.refused("create_function_url_config", FunctionName="g", AuthType="NONE") == unknown
    refusal = node.refused("create_function_url_config", FunctionName="f", Qualifier="live", AuthType="NONE")
    assert refusal == unknown
    assert node.refused("update_function_url_config", FunctionName="g", AuthType="NONE") == unknown
    assert node.refused("list_function_url_configs", FunctionName="g") == unknown


# --- tags ---------------------------------------------------------------------------------------------------


@pytest.mark.case("CP-110")
def test_tags(node):
    node.create()
    client = node.client
    reply = client.tag_resource(Resource=FUNCTION, Tags={"a": "1", "b": "2"})
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
    client.tag_resource(Resource=FUNCTION, Tags={"b": "3", "c/d e": "ü"})
    assert client.list_tags(Resource=FUNCTION)["Tags"] == {"a": "1", "b": "3", "c/d e": "ü"}
    client.untag_resource(Resource=FUNCTION, TagKeys=["a", "c/d e", "unknown"])
    assert client.list_tags(Resource=FUNCTION)["Tags"] == {"b": "3"}
    assert client.get_function(FunctionName="f")["Tags"] == {"b": "3"}
    many = {f"k{number}": "v" for number in range(50)}
    text = "Number of tags exceeds resource tag limit."
    assert node.refused("tag_resource", Resource=FUNCTION, Tags=many) == (400, INVALID, text)
    text = "Tags on function aliases and versions are not supported. Please specify a function ARN."
    for operation, members in (
        ("tag_resource", {"Tags": {"a": "1"}}),
        ("untag_resource", {"TagKeys": ["a"]}),
        ("list_tags", {}),
    ):
        assert node.refused(operation, Resource=f"{FUNCTION}:1", **members) == (400, INVALID, text)
        refusal = node.refused(operation, Resource=f"{FUNCTION[:-1]}g", **members)
        assert refusal == (404, MISSING, f"Function not found: {FUNCTION[:-1]}g")
    refusal = node.refused("tag_resource", Resource=FUNCTION, Tags={})
    assert refusal == (400, INVALID, "An error occurred and the request cannot be processed.")
    status, code, text = node.refused("untag_resource", Resource=FUNCTION, TagKeys=[])
    assert (status, code) == (400, CHECKED)
    assert "Value null at 'tagKeys'" in text
    mapping = (
        f"{FUNCTION.rpartition(':function')[0]}:event-source-mapping:00000000-0000-4000-8000-000000000000"
    )
    assert node.refused("list_tags", Resource=mapping)[1] == MISSING


# --- the rest -----------------------------------------------------------------------------------------------


@pytest.mark.case("CP-116")
def test_recursion(node):
    node.create()
    assert node.client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Terminate"
    reply = node.client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
    assert reply["RecursiveLoop"] == "Allow"
    assert node.client.get_function_recursion_config(FunctionName="f")["RecursiveLoop"] == "Allow"
    refusal = node.refused("put_function_recursion_config", FunctionName="f", RecursiveLoop="InvalidValue")
    assert refusal[:2] == (400, CHECKED)


@pytest.mark.case("CP-117")
def test_runtime_management(node):
    node.create()
    node.publish()
    found = node.client.get_runtime_management_config(FunctionName="f")
    assert (found["UpdateRuntimeOn"], found["FunctionArn"]) == ("Auto", FUNCTION)
    arn = f"arn:aws:lambda:us-east-1::runtime:{'0' * 64}"
    request = {"FunctionName": "f", "Qualifier": "1"}
    reply = node.client.put_runtime_management_config(
        **request, UpdateRuntimeOn="Manual", RuntimeVersionArn=arn
    )
    assert (reply["RuntimeVersionArn"], reply["FunctionArn"]) == (arn, f"{FUNCTION}:1")
    found = node.client.get_runtime_management_config(**request)
    assert (found["UpdateRuntimeOn"], found["RuntimeVersionArn"]) == ("Manual", arn)
    assert node.client.get_runtime_management_config(FunctionName="f")["UpdateRuntimeOn"] == "Auto"
    assert node.refused("put_runtime_management_config", **request, UpdateRuntimeOn="Manual")[1] == INVALID
    node.client.delete_function(**request)
    assert node.refused("get_runtime_management_config", **request)[1] == MISSING


def test_what_terraform_asks_after_every_read(node):
    node.create()
    reply = node.client.get_function_code_signing_config(FunctionName="f")
    assert "CodeSigningConfigArn" not in reply
    assert node.refused("get_function_code_signing_config", FunctionName="g")[1] == MISSING
    assert node.client.list_event_source_mappings()["EventSourceMappings"] == []


def test_everything_survives_a_restart(tmp_path, running):
    def seen(node):
        client = node.client
        calls = (
            client.get_function_concurrency,
            client.get_function_event_invoke_config,
            client.get_function_url_config,
            client.get_policy,
            client.get_runtime_management_config,
            client.get_function_recursion_config,
        )
        found = [call(FunctionName="f") for call in calls]
        request = {"FunctionName": "f", "Qualifier": "1"}
        found += [
            client.get_provisioned_concurrency_config(**request),
            client.get_layer_version_policy(LayerName="l", VersionNumber=1),
        ]
        return [{**each, "ResponseMetadata": None, "FunctionUrl": None} for each in found]

    with running(tmp_path) as node:
        node.create()
        node.publish()
        node.layer()
        client = node.client
        client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=3)
        configure(node, MaximumRetryAttempts=1, DestinationConfig={"OnFailure": {"Destination": QUEUE}})
        client.create_function_url_config(FunctionName="f", AuthType="NONE", Cors={"AllowOrigins": ["*"]})
        client.add_permission(
            FunctionName="f", StatementId="s", Action="lambda:InvokeFunction", Principal="*"
        )
        client.put_runtime_management_config(FunctionName="f", UpdateRuntimeOn="FunctionUpdate")
        client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
        provision(node)
        client.add_layer_version_permission(
            LayerName="l", VersionNumber=1, StatementId="s", Action="lambda:GetLayerVersion", Principal="*"
        )
        before = seen(node)
    with running(tmp_path) as node:
        assert seen(node) == before
