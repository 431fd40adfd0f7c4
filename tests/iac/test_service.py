"""The service as boto3 sees it: stacks, change sets, events, templates, exports, and what is refused."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

pytestmark = pytest.mark.slow

ROLE = {
    "Type": "AWS::IAM::Role",
    "Properties": {
        "AssumeRolePolicyDocument": {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Action": "sts:AssumeRole",
                    "Principal": {"Service": "lambda.amazonaws.com"},
                }
            ],
        }
    },
}
FUNCTION = {
    "Type": "AWS::Lambda::Function",
    "Properties": {
        "Code": {"ZipFile": "def handler(event, context):\n    return event\n"},
        "Handler": "index.handler",
        "Role": {"Fn::GetAtt": ["Role", "Arn"]},
        "Runtime": "python3.12",
        "MemorySize": {"Ref": "Memory"},
    },
}
FULL = {
    "AWSTemplateFormatVersion": "2010-09-09",
    "Description": "a function",
    "Parameters": {"Memory": {"Type": "Number", "Default": 128, "Description": "MiB"}},
    "Resources": {"Role": ROLE, "Function": FUNCTION},
    "Outputs": {
        "Name": {"Value": {"Ref": "Function"}, "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-name"}}},
        "Arn": {"Value": {"Fn::GetAtt": ["Function", "Arn"]}, "Description": "where"},
    },
}
BUCKET = {"Resources": {"Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "own"}}}}
IAM = ["CAPABILITY_IAM"]


@pytest.fixture
def stacks(node):
    return node.client_of("cloudformation")


def refused(call, *arguments, **members):
    with pytest.raises(ClientError) as caught:
        call(*arguments, **members)
    error = caught.value.response
    return error["Error"]["Code"], error["Error"]["Message"], error["ResponseMetadata"]["HTTPStatusCode"]


def create(stacks, name, template, **members):
    stacks.create_stack(StackName=name, TemplateBody=json.dumps(template), **members)
    return described(stacks, name)


def described(stacks, name):
    """Describe a stack once nothing goes on with it: replies wait for that for a moment only."""
    while True:
        stack = stacks.describe_stacks(StackName=name)["Stacks"][0]
        if not stack["StackStatus"].endswith("_IN_PROGRESS") or stack["StackStatus"] == "REVIEW_IN_PROGRESS":
            return stack
        time.sleep(0.05)


def delete(stacks, name):
    """Delete a stack; its identifier stays, and its last description is returned."""
    stack_id = described(stacks, name)["StackId"]
    stacks.delete_stack(StackName=name)
    return described(stacks, stack_id)


def test_a_stack_is_made_described_and_deleted(node, stacks):
    made = create(stacks, "one", FULL, Capabilities=IAM, Tags=[{"Key": "team", "Value": "t"}])
    assert made["StackStatus"] == "CREATE_COMPLETE"
    assert made["StackId"].startswith("arn:aws:cloudformation:us-east-1:000000000000:stack/one/")
    outputs = {each["OutputKey"]: each for each in made["Outputs"]}
    name = outputs["Name"]["OutputValue"]
    assert outputs["Arn"] == {
        "OutputKey": "Arn",
        "OutputValue": f"arn:aws:lambda:us-east-1:000000000000:function:{name}",
        "Description": "where",
    }
    configuration = node.client.get_function(FunctionName=name)["Configuration"]
    assert configuration["MemorySize"] == 128
    assert name.startswith("one-Function-")
    assert made["Parameters"] == [{"ParameterKey": "Memory", "ParameterValue": "128"}]
    assert made["Tags"] == [{"Key": "team", "Value": "t"}]
    assert made["Capabilities"] == IAM

    resources = stacks.describe_stack_resources(StackName="one")["StackResources"]
    assert {each["LogicalResourceId"]: each["ResourceStatus"] for each in resources} == {
        "Role": "CREATE_COMPLETE",
        "Function": "CREATE_COMPLETE",
    }
    assert stacks.describe_stack_resources(PhysicalResourceId=name)["StackResources"][0]["StackName"] == "one"
    detail = stacks.describe_stack_resource(StackName="one", LogicalResourceId="Function")[
        "StackResourceDetail"
    ]
    assert detail["PhysicalResourceId"] == name
    listed = stacks.get_paginator("list_stack_resources").paginate(StackName="one").build_full_result()
    assert len(listed["StackResourceSummaries"]) == 2

    events = stacks.describe_stack_events(StackName="one")["StackEvents"]
    assert (events[0]["LogicalResourceId"], events[0]["ResourceStatus"]) == ("one", "CREATE_COMPLETE")
    assert (events[-1]["ResourceStatus"], events[-1]["ResourceStatusReason"]) == (
        "CREATE_IN_PROGRESS",
        "User Initiated",
    )
    assert events[0]["PhysicalResourceId"] == made["StackId"]
    assert len({each["EventId"] for each in events}) == len(events)

    assert delete(stacks, "one")["StackStatus"] == "DELETE_COMPLETE"
    assert refused(stacks.describe_stacks, StackName="one") == (
        "ValidationError",
        "Stack with id one does not exist",
        400,
    )
    assert described(stacks, made["StackId"])["StackStatus"] == "DELETE_COMPLETE"
    assert refused(node.client.get_function, FunctionName=name)[0] == "ResourceNotFoundException"
    assert node.client_of("iam").list_roles()["Roles"] == []
    stacks.delete_stack(StackName="one")  # there is none, which is a success


def test_an_update_changes_what_differs_and_no_more(node, stacks):
    made = create(stacks, "two", FULL, Capabilities=IAM)
    name = made["Outputs"][0]["OutputValue"]
    code, text, _ = refused(stacks.update_stack, StackName="two", UsePreviousTemplate=True, Capabilities=IAM)
    assert (code, text) == ("ValidationError", "No updates are to be performed.")
    memory = [{"ParameterKey": "Memory", "ParameterValue": "256"}]
    stacks.update_stack(StackName="two", UsePreviousTemplate=True, Capabilities=IAM, Parameters=memory)
    assert described(stacks, "two")["StackStatus"] == "UPDATE_COMPLETE"
    assert node.client.get_function_configuration(FunctionName=name)["MemorySize"] == 256
    previous = [{"ParameterKey": "Memory", "UsePreviousValue": True}]
    changed = json.loads(json.dumps(FULL))
    del changed["Outputs"]["Arn"]
    stacks.update_stack(
        StackName="two", TemplateBody=json.dumps(changed), Capabilities=IAM, Parameters=previous
    )
    after = described(stacks, "two")
    assert [each["OutputKey"] for each in after["Outputs"]] == ["Name"]
    assert after["Parameters"][0]["ParameterValue"] == "256"


def test_what_a_stack_is_made_of_takes_its_tags_on(node, stacks):
    made = create(
        stacks, "tags", FULL, Capabilities=IAM, Tags=[{"Key": "a", "Value": "1"}, {"Key": "b", "Value": "2"}]
    )
    arn = next(each["OutputValue"] for each in made["Outputs"] if each["OutputKey"] == "Arn")
    tags = node.client.list_tags(Resource=arn)["Tags"]
    assert (tags["a"], tags["b"], tags["aws:cloudformation:stack-name"]) == ("1", "2", "tags")
    stacks.update_stack(
        StackName="tags", UsePreviousTemplate=True, Capabilities=IAM, Tags=[{"Key": "a", "Value": "3"}]
    )
    assert described(stacks, "tags")["StackStatus"] == "UPDATE_COMPLETE"
    tags = node.client.list_tags(Resource=arn)["Tags"]
    assert (tags["a"], tags.get("b"), tags["aws:cloudformation:stack-name"]) == ("3", None, "tags")
    role = node.client_of("iam").list_roles()["Roles"][0]["RoleName"]
    assert {"Key": "a", "Value": "3"} in node.client_of("iam").list_role_tags(RoleName=role)["Tags"]


def test_a_change_set_is_made_executed_and_found_empty(stacks):
    body = json.dumps(FULL)
    made = stacks.create_change_set(
        StackName="three", ChangeSetName="first", ChangeSetType="CREATE", TemplateBody=body, Capabilities=IAM
    )
    assert described(stacks, "three")["StackStatus"] == "REVIEW_IN_PROGRESS"
    shown = stacks.describe_change_set(ChangeSetName=made["Id"])
    assert (shown["Status"], shown["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    assert [each["ResourceChange"]["Action"] for each in shown["Changes"]] == ["Add", "Add"]
    stacks.execute_change_set(ChangeSetName="first", StackName="three")
    done = described(stacks, "three")
    assert (done["StackStatus"], done["ChangeSetId"]) == ("CREATE_COMPLETE", made["Id"])
    assert stacks.describe_change_set(ChangeSetName=made["Id"])["ExecutionStatus"] == "EXECUTE_COMPLETE"
    assert refused(stacks.execute_change_set, ChangeSetName=made["Id"])[0] == "InvalidChangeSetStatus"

    stacks.create_change_set(StackName="three", ChangeSetName="same", TemplateBody=body, Capabilities=IAM)
    same = stacks.describe_change_set(StackName="three", ChangeSetName="same")
    assert (same["Status"], same["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert "The submitted information didn't contain changes" in same["StatusReason"]
    stacks.delete_change_set(StackName="three", ChangeSetName="same")
    code, text, status = refused(stacks.describe_change_set, StackName="three", ChangeSetName="same")
    assert (code, text, status) == ("ChangeSetNotFound", "ChangeSet [same] does not exist", 404)
    stacks.delete_change_set(StackName="three", ChangeSetName="same")

    memory = [{"ParameterKey": "Memory", "ParameterValue": "512"}]
    stacks.create_change_set(
        StackName="three", ChangeSetName="more", TemplateBody=body, Capabilities=IAM, Parameters=memory
    )
    change = stacks.describe_change_set(StackName="three", ChangeSetName="more")["Changes"][0][
        "ResourceChange"
    ]
    assert (change["Action"], change["LogicalResourceId"], change["Replacement"]) == (
        "Modify",
        "Function",
        "False",
    )
    assert change["Details"][0]["Target"]["Name"] == "MemorySize"
    assert (
        refused(
            stacks.create_change_set,
            StackName="three",
            ChangeSetName="more",
            TemplateBody=body,
            Capabilities=IAM,
        )[0]
        == "AlreadyExistsException"
    )
    assert [each["ChangeSetName"] for each in stacks.list_change_sets(StackName="three")["Summaries"]] == [
        "first",
        "more",
    ]


def test_what_is_secret_is_not_shown(node, stacks):
    secret = {
        "Parameters": {"Password": {"Type": "String", "NoEcho": True}},
        "Resources": {
            "Parameter": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Name": "p", "Type": "String", "Value": {"Fn::Sub": "it is ${Password}!"}},
            }
        },
    }

    def given(value):
        return [{"ParameterKey": "Password", "ParameterValue": value}]

    made = create(stacks, "secret", secret, Parameters=given("hunter2"))
    assert node.client_of("ssm").get_parameter(Name="p")["Parameter"]["Value"] == "it is hunter2!"
    stacks.create_change_set(
        StackName="secret", ChangeSetName="c", UsePreviousTemplate=True, Parameters=given("hunter3")
    )
    shown = stacks.describe_change_set(StackName="secret", ChangeSetName="c", IncludePropertyValues=True)
    events = stacks.describe_stack_events(StackName="secret")["StackEvents"]
    assert "it is ****!" in json.dumps(events, default=str)
    assert "it is ****!" in shown["Changes"][0]["ResourceChange"]["AfterContext"]
    assert made["Parameters"][0]["ParameterValue"] == "****"
    assert "hunter" not in json.dumps([made, shown, events], default=str)


def test_a_change_set_is_executed_once(stacks):
    stacks.create_change_set(
        StackName="once", ChangeSetName="c", ChangeSetType="CREATE", TemplateBody=json.dumps(BUCKET)
    )

    def execute(_):
        try:
            stacks.execute_change_set(StackName="once", ChangeSetName="c")
        except ClientError as error:
            return error.response["Error"]["Code"]
        return ""

    with ThreadPoolExecutor(4) as threads:
        told = sorted(threads.map(execute, range(4)))
    assert told[0] == ""
    assert set(told[1:]) <= {"InvalidChangeSetStatus", "ValidationError", "AlreadyExistsException"}
    assert described(stacks, "once")["StackStatus"] == "CREATE_COMPLETE"
    events = stacks.describe_stack_events(StackName="once")["StackEvents"]
    assert [each["ResourceStatus"] for each in events].count("CREATE_COMPLETE") == 2


def test_a_replacement_reaches_what_refers_to_it(node, stacks):
    template = {
        "Resources": {
            "Bucket": {"Type": "AWS::S3::Bucket", "Properties": {"BucketName": "before"}},
            "Parameter": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Type": "String", "Value": {"Ref": "Bucket"}},
            },
        }
    }
    create(stacks, "four", template)
    template["Resources"]["Bucket"]["Properties"]["BucketName"] = "after"
    stacks.create_change_set(StackName="four", ChangeSetName="c", TemplateBody=json.dumps(template))
    changes = {
        each["ResourceChange"]["LogicalResourceId"]: each["ResourceChange"]
        for each in stacks.describe_change_set(StackName="four", ChangeSetName="c")["Changes"]
    }
    assert (changes["Bucket"]["Replacement"], changes["Bucket"]["PolicyAction"]) == (
        "True",
        "ReplaceAndDelete",
    )
    assert changes["Parameter"]["Details"][0]["Evaluation"] == "Dynamic"
    stacks.execute_change_set(StackName="four", ChangeSetName="c")
    assert described(stacks, "four")["StackStatus"] == "UPDATE_COMPLETE"
    parameter = node.client_of("ssm").describe_parameters()["Parameters"][0]["Name"]
    assert node.client_of("ssm").get_parameter(Name=parameter)["Parameter"]["Value"] == "after"


def test_a_failing_resource_says_why_and_everything_goes(node, stacks):
    template = {
        "Parameters": {"Memory": {"Type": "Number", "Default": 100}},
        "Resources": {"Role": ROLE, "Function": FUNCTION},
    }
    made = create(stacks, "five", template, Capabilities=IAM)
    assert made["StackStatus"] == "ROLLBACK_COMPLETE"
    events = stacks.describe_stack_events(StackName="five")["StackEvents"]
    reason = next(each for each in events if each["ResourceStatus"] == "CREATE_FAILED")[
        "ResourceStatusReason"
    ]
    assert reason.startswith('Resource handler returned message: "')
    assert "(Service: Lambda, Status Code: 400, Request ID:" in reason
    assert node.client_of("iam").list_roles()["Roles"] == []


def test_exports_are_imported_and_kept(stacks):
    create(stacks, "from", FULL, Capabilities=IAM)
    user = {
        "Resources": {
            "Parameter": {
                "Type": "AWS::SSM::Parameter",
                "Properties": {"Type": "String", "Value": {"Fn::ImportValue": "from-name"}},
            }
        }
    }
    assert create(stacks, "to", user)["StackStatus"] == "CREATE_COMPLETE"
    assert stacks.list_exports()["Exports"][0]["Name"] == "from-name"
    assert stacks.list_imports(ExportName="from-name")["Imports"] == ["to"]
    left = delete(stacks, "from")
    assert left["StackStatus"] == "DELETE_FAILED"
    assert left["StackStatusReason"] == "Export from-name cannot be deleted as it is in use by to"
    delete(stacks, "to")
    delete(stacks, "from")
    assert stacks.list_exports()["Exports"] == []
    deleted = stacks.list_stacks(StackStatusFilter=["DELETE_COMPLETE"])["StackSummaries"]
    assert {each["StackName"] for each in deleted} == {"from", "to"}


def test_templates_are_given_back_and_summarised(stacks):
    create(stacks, "six", FULL, Capabilities=IAM)
    assert stacks.get_template(StackName="six")["TemplateBody"] == FULL
    for source in ({"StackName": "six"}, {"TemplateBody": json.dumps(FULL)}):
        summary = stacks.get_template_summary(**source)
        assert summary["Capabilities"] == IAM
        assert summary["Parameters"][0]["ParameterKey"] == "Memory"
        assert set(summary["ResourceTypes"]) == {"AWS::IAM::Role", "AWS::Lambda::Function"}
    checked = stacks.validate_template(TemplateBody=json.dumps(FULL))
    assert checked["Parameters"][0]["DefaultValue"] == "128"
    assert refused(stacks.validate_template, TemplateBody="[]")[0] == "ValidationError"
    broken = {**FULL, "Outputs": {"O": {"Value": {"Ref": "Nobody"}}}}
    told = refused(stacks.validate_template, TemplateBody=json.dumps(broken))[1]
    assert told.endswith("Unresolved resource dependencies [Nobody] in the Outputs block of the template")


def test_templates_come_from_buckets(node, stacks):
    s3 = node.client_of("s3")
    s3.create_bucket(Bucket="templates")
    s3.put_object(Bucket="templates", Key="a/b.json", Body=json.dumps(BUCKET).encode())
    urls = [
        f"{node.endpoint}/templates/a/b.json",
        "https://s3.amazonaws.com/templates/a/b.json",
        "https://s3.us-east-1.amazonaws.com/templates/a/b.json",
        "https://templates.s3.us-east-1.amazonaws.com/a/b.json",
    ]
    for url in urls:
        stacks.create_stack(StackName="seven", TemplateURL=url)
        assert described(stacks, "seven")["StackStatus"] == "CREATE_COMPLETE"
        delete(stacks, "seven")
    code, text, _ = refused(stacks.create_stack, StackName="x", TemplateURL=f"{node.endpoint}/templates/no")
    assert (code, text[:9]) == ("ValidationError", "S3 error:")


def test_what_is_not_right_is_refused(stacks):
    body = json.dumps(BUCKET)
    assert refused(stacks.create_stack, StackName="1x", TemplateBody=body)[0] == "ValidationError"
    assert refused(stacks.create_stack, StackName="x")[1] == (
        "Either Template URL or Template Body must be specified."
    )
    assert refused(stacks.create_stack, StackName="x", TemplateBody=json.dumps(FULL))[:2] == (
        "InsufficientCapabilitiesException",
        "Requires capabilities : [CAPABILITY_IAM]",
    )
    unknown = json.dumps({"Resources": {"X": {"Type": "AWS::EC2::Instance"}}})
    code, text, _ = refused(stacks.create_stack, StackName="x", TemplateBody=unknown)
    assert code == "ValidationError"
    assert "Unrecognized resource types: [AWS::EC2::Instance]" in text
    assert (
        refused(stacks.update_stack, StackName="x", TemplateBody=body)[1] == "Stack with id x does not exist"
    )
    assert refused(stacks.describe_stacks, NextToken="x")[0] == "ValidationError"
    missing = {
        "Resources": {"P": {"Type": "AWS::SSM::Parameter", "Properties": {"Value": {"Fn::GetAtt": "Q.X"}}}}
    }
    assert (
        refused(stacks.create_stack, StackName="x", TemplateBody=json.dumps(missing))[0] == "ValidationError"
    )
    create(stacks, "x", BUCKET)
    assert refused(stacks.create_stack, StackName="x", TemplateBody=body)[:2] == (
        "AlreadyExistsException",
        "Stack [x] already exists",
    )


def test_a_protected_stack_stays(stacks):
    create(stacks, "eight", BUCKET, EnableTerminationProtection=True)
    code, text, _ = refused(stacks.delete_stack, StackName="eight")
    assert (code, text) == (
        "ValidationError",
        "Stack [eight] cannot be deleted while TerminationProtection is enabled",
    )
    stacks.update_termination_protection(StackName="eight", EnableTerminationProtection=False)
    delete(stacks, "eight")
    assert stacks.describe_stacks()["Stacks"] == []


def test_a_stack_may_do_what_its_owner_or_its_role_may(guarded):
    allow = {"Effect": "Allow", "Action": ["cloudformation:*", "ssm:GetParameter"], "Resource": "*"}
    owner = guarded.client_of("cloudformation")
    somebody = guarded.somebody("deployer", allow)
    theirs = guarded.client_of("cloudformation", somebody)
    group = {
        "Resources": {"P": {"Type": "AWS::SSM::Parameter", "Properties": {"Type": "String", "Value": "v"}}}
    }
    made = create(theirs, "nine", group)
    assert made["StackStatus"] == "ROLLBACK_COMPLETE"
    events = owner.describe_stack_events(StackName="nine")["StackEvents"]
    assert any(
        "is not authorized to perform: ssm:PutParameter" in each.get("ResourceStatusReason", "")
        for each in events
    )
    delete(theirs, "nine")

    may = {"Effect": "Allow", "Action": "ssm:*", "Resource": "*"}
    guarded.somebody("worker", may)
    role = "arn:aws:iam::000000000000:role/worker"
    code, text, _ = refused(
        theirs.create_stack, StackName="ten", TemplateBody=json.dumps(group), RoleARN=role
    )
    assert code == "AccessDenied"
    assert "iam:PassRole" in text
    passing = guarded.somebody(
        "passer", allow, {"Effect": "Allow", "Action": "iam:PassRole", "Resource": role}
    )
    made = create(guarded.client_of("cloudformation", passing), "ten", group, RoleARN=role)
    assert (made["StackStatus"], made["RoleARN"]) == ("CREATE_COMPLETE", role)
    outsider = guarded.client_of("cloudformation", guarded.somebody("outsider", may))
    assert refused(outsider.describe_stacks)[0] == "AccessDenied"


def test_stacks_survive_a_restart(tmp_path, running):
    with running(tmp_path) as node:
        stacks = node.client_of("cloudformation")
        made = create(stacks, "eleven", FULL, Capabilities=IAM)
    with running(tmp_path) as node:
        stacks = node.client_of("cloudformation")
        assert described(stacks, "eleven")["Outputs"] == made["Outputs"]
        delete(stacks, "eleven")
        assert stacks.describe_stacks()["Stacks"] == []
        assert node.client.list_functions()["Functions"] == []
