"""Callers of other accounts, on a node that asks for keys: what resources allow them, and nothing else."""

import json

import pytest
from botocore.exceptions import ClientError

THEIRS = "111111111111"
USER = f"arn:aws:iam::{THEIRS}:user/partner"


def refusal(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    assert error["Code"] in {"AccessDeniedException", "AccessDenied"}
    return error["Message"]


def policy(*actions):
    statement = {"Effect": "Allow", "Action": list(actions), "Resource": "*"}
    return json.dumps({"Version": "2012-10-17", "Statement": [statement]})


@pytest.mark.slow
def test_a_partner_is_told_apart(guarded):
    sts = guarded.client_of("sts", guarded.partner(THEIRS))
    found = sts.get_caller_identity()
    assert (found["Account"], found["Arn"]) == (THEIRS, USER)
    ours = guarded.client_of("sts", guarded.partner("000000000000")).get_caller_identity()
    assert ours["Account"] == "000000000000"
    assert ours["UserId"] != found["UserId"]


@pytest.mark.slow
def test_a_partner_may_do_nothing_by_itself(guarded):
    guarded.create()
    theirs = guarded.partner(THEIRS)
    its = guarded.client_of("lambda", theirs)
    assert refusal(its.list_functions) == (
        f"User: {USER} is not authorized to perform: lambda:ListFunctions on resource: * "
        "because no resource-based policy allows the lambda:ListFunctions action"
    )
    assert "no resource-based policy" in refusal(its.invoke, FunctionName="f")
    assert "no resource-based policy" in refusal(its.delete_function, FunctionName="f")
    for service, operation in (
        ("s3", "list_buckets"),
        ("iam", "list_roles"),
        ("logs", "describe_log_groups"),
    ):
        refusal(getattr(guarded.client_of(service, theirs), operation))
    refusal(guarded.client_of("cloudformation", theirs).list_stacks)


@pytest.mark.slow
@pytest.mark.parametrize("principal", [THEIRS, f"arn:aws:iam::{THEIRS}:root", USER])
def test_a_partner_invokes_what_its_account_may(guarded, principal):
    guarded.create()
    guarded.client.add_permission(
        FunctionName="f", StatementId="s", Action="lambda:InvokeFunction", Principal=principal
    )
    its = guarded.client_of("lambda", guarded.partner(THEIRS))
    assert json.load(its.invoke(FunctionName=f"{guarded.arn}:function:f", Payload=b"7")["Payload"]) == 7
    refusal(its.get_function, FunctionName="f")
    another = guarded.client_of("lambda", guarded.partner("222222222222"))
    assert "no resource-based policy" in refusal(another.invoke, FunctionName="f")


@pytest.mark.slow
def test_a_partner_needs_its_own_policies_too(guarded):
    guarded.create()
    guarded.client.add_permission(
        FunctionName="f", StatementId="s", Action="lambda:InvokeFunction", Principal=THEIRS
    )
    may = guarded.client_of("lambda", guarded.partner(THEIRS, policy("lambda:Invoke*")))
    may.invoke(FunctionName="f")
    may_not = guarded.client_of("lambda", guarded.partner(THEIRS, policy("lambda:Get*")))
    assert "no identity-based policy" in refusal(may_not.invoke, FunctionName="f")


@pytest.mark.slow
def test_a_partner_gets_a_layer_that_is_shared(guarded):
    guarded.layer()
    its = guarded.client_of("lambda", guarded.partner(THEIRS))
    one = {"LayerName": f"{guarded.arn}:layer:l", "VersionNumber": 1}
    assert "no resource-based policy" in refusal(its.get_layer_version, **one)
    share = {"LayerName": "l", "VersionNumber": 1, "StatementId": "s", "Action": "lambda:GetLayerVersion"}
    guarded.client.add_layer_version_permission(**share, Principal=THEIRS)
    assert its.get_layer_version(**one)["Version"] == 1
    assert its.get_layer_version_by_arn(Arn=f"{guarded.arn}:layer:l:1")["Version"] == 1
    refusal(its.delete_layer_version, **one)
    guarded.client.remove_layer_version_permission(LayerName="l", VersionNumber=1, StatementId="s")
    refusal(its.get_layer_version, **one)


@pytest.mark.slow
def test_a_partner_takes_on_a_role_that_trusts_its_account(guarded):
    iam = guarded.client_of("iam")

    def trust(*principals):
        statements = [
            {"Effect": "Allow", "Action": "sts:AssumeRole", "Principal": {"AWS": each}} for each in principals
        ]
        return json.dumps({"Version": "2012-10-17", "Statement": statements})

    ours = "arn:aws:iam::000000000000:root"
    arn = iam.create_role(RoleName="r", AssumeRolePolicyDocument=trust(ours))["Role"]["Arn"]
    iam.put_role_policy(RoleName="r", PolicyName="p", PolicyDocument=policy("lambda:ListFunctions"))
    sts = guarded.client_of("sts", guarded.partner(THEIRS))
    role = {"RoleArn": arn, "RoleSessionName": "me"}
    refusal(sts.assume_role, **role)
    iam.update_assume_role_policy(RoleName="r", PolicyDocument=trust(ours, THEIRS))
    found = sts.assume_role(**role)["Credentials"]
    assert found["SessionToken"]
    may_not = guarded.client_of("sts", guarded.partner(THEIRS, policy("lambda:*")))
    refusal(may_not.assume_role, **role)


@pytest.mark.slow
def test_our_own_people_need_the_permission_for_layers_of_others(guarded):
    guarded.create()
    its = guarded.client_of("lambda", guarded.key("ann", policy("lambda:UpdateFunctionConfiguration")))
    arn = f"arn:aws:lambda:us-east-1:{THEIRS}:layer:l:1"
    text = refusal(its.update_function_configuration, FunctionName="f", Layers=[arn])
    assert text.endswith("because no identity-based policy allows the lambda:GetLayerVersion action")
    node = guarded
    node.layer("l")
    share = {"LayerName": "l", "VersionNumber": 1, "StatementId": "s", "Action": "lambda:GetLayerVersion"}
    node.client.add_layer_version_permission(**share, Principal="*")
    refusal(its.update_function_configuration, FunctionName="f", Layers=[arn])
    its.update_function_configuration(FunctionName="f", Layers=[f"{node.arn}:layer:l:1"])


@pytest.mark.slow
def test_who_may_not_use_a_layer_is_named(guarded):
    guarded.create()
    its = guarded.client_of("lambda", guarded.key("ann", policy("lambda:*")))
    arn = f"arn:aws:lambda:us-east-1:{THEIRS}:layer:l:1"
    text = refusal(its.update_function_configuration, FunctionName="f", Layers=[arn])
    assert text.startswith("User: arn:aws:iam::000000000000:user/ann is not authorized")
    assert text.endswith("because no resource-based policy allows the lambda:GetLayerVersion action")
