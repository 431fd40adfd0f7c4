"""Stacks on a real node: by the aws command, and by the calls that SAM and CDK make, in their order."""

import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.exceptions import ClientError

from .nodes import PATIENCE_S, eventually, unique
from .packages import EXAMPLES, RUNTIME, zip_directory, zip_of

CODE = 'import os\n\n\ndef handler(event, context):\n    return os.environ["GREETING"]\n'
EXTENSION = EXAMPLES / "extensions" / "shell-extension"
UNCHANGED = "The submitted information didn't contain changes"
TRUST = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}
    ],
}
TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Description: A function with all that hangs on it.
Parameters:
  Greeting: {Type: String, Default: hello}
  Runtime: {Type: String}
Conditions:
  IsLoud: !Equals [!Ref Greeting, HELLO]
Resources:
  Role:
    Type: AWS::IAM::Role
    Properties:
      AssumeRolePolicyDocument:
        Version: "2012-10-17"
        Statement:
          - {Effect: Allow, Principal: {Service: lambda.amazonaws.com}, Action: sts:AssumeRole}
      ManagedPolicyArns:
        - !Sub arn:${AWS::Partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole
  Extension:
    Type: AWS::Lambda::LayerVersion
    Properties:
      Content: layer
      CompatibleRuntimes: [!Ref Runtime]
  Group:
    Type: AWS::Logs::LogGroup
    Properties: {RetentionInDays: 7}
  Hello:
    Type: AWS::Lambda::Function
    Properties:
      Code: code
      Handler: app.handler
      Runtime: !Ref Runtime
      Role: !GetAtt Role.Arn
      Layers: [!Ref Extension]
      LoggingConfig: {LogGroup: !Ref Group}
      MemorySize: !If [IsLoud, 512, 256]
      Environment:
        Variables: {GREETING: !Sub "${Greeting} from ${AWS::StackName}"}
  Version:
    Type: AWS::Lambda::Version
    Properties: {FunctionName: !Ref Hello}
  Live:
    Type: AWS::Lambda::Alias
    Properties: {FunctionName: !Ref Hello, FunctionVersion: !GetAtt Version.Version, Name: live}
  Url:
    Type: AWS::Lambda::Url
    Properties: {TargetFunctionArn: !Ref Live, AuthType: NONE}
  Everybody:
    Type: AWS::Lambda::Permission
    Properties:
      FunctionName: !Ref Live
      Action: lambda:InvokeFunctionUrl
      Principal: "*"
      FunctionUrlAuthType: NONE
  Retries:
    Type: AWS::Lambda::EventInvokeConfig
    Properties: {FunctionName: !Ref Hello, Qualifier: live, MaximumRetryAttempts: 0}
    DependsOn: Live
Outputs:
  Name: {Value: !Ref Hello}
  Url: {Value: !GetAtt Url.FunctionUrl}
"""
SAM_TEMPLATE = """
AWSTemplateFormatVersion: "2010-09-09"
Transform: AWS::Serverless-2016-10-31
Globals:
  Function: {Handler: app.handler, Timeout: 20}
Resources:
  Extension:
    Type: AWS::Serverless::LayerVersion
    Properties: {ContentUri: "s3://BUCKET/layer.zip", RetentionPolicy: Delete}
  Hello:
    Type: AWS::Serverless::Function
    Properties:
      CodeUri: s3://BUCKET/CODE.zip
      Runtime: RUNTIME
      Layers: [!Ref Extension]
      AutoPublishAlias: live
      FunctionUrlConfig: {AuthType: NONE}
      Environment: {Variables: {GREETING: hello}}
Outputs:
  Alias: {Value: !Ref HelloAliaslive}
"""


def client_of(node, service):
    """Make a client that waits briefly between looks."""
    return boto3.client(
        service,
        "us-east-1",
        endpoint_url=node.endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",
    )


@pytest.fixture
def cloudformation(node):
    return client_of(node, "cloudformation")


@pytest.fixture
def bucket(node):
    """A bucket that is emptied and deleted at the end."""
    s3, name = client_of(node, "s3"), unique("artifacts")
    s3.create_bucket(Bucket=name)
    yield name
    for each in s3.list_objects_v2(Bucket=name).get("Contents", []):
        s3.delete_object(Bucket=name, Key=each["Key"])
    s3.delete_bucket(Bucket=name)


@pytest.fixture
def aws(node, tmp_path):
    """Run the aws command in a directory of its own; it must end with `code`. Returns what it printed."""

    def run(*arguments, code=0):
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AWS_")},
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": node.endpoint,
            "AWS_CONFIG_FILE": str(tmp_path / "none"),
            "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "none"),
            "AWS_PAGER": "",
        }
        done = subprocess.run(
            [Path(sys.executable).with_name("aws"), *arguments],
            env=environment,
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, done.stdout
        return done.stdout

    return run


def outputs(cloudformation, stack):
    (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
    return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", [])}


def fetched(node, url):
    headers = {"Host": urlsplit(url).netloc}
    with urllib.request.urlopen(urllib.request.Request(node.endpoint, headers=headers)) as reply:
        return reply.read().decode()


def ended(cloudformation, stack, status):
    """Wait as the tools do, for the stack's own event that ends what was begun."""

    def newest():
        events = cloudformation.describe_stack_events(StackName=stack)["StackEvents"]
        own = next(each for each in events if each["PhysicalResourceId"] == each["StackId"])
        over = own["ResourceStatus"].endswith(("_COMPLETE", "_FAILED"))
        return own["ResourceStatus"] if over else None

    assert eventually(newest) == status


def refusal(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    error = caught.value.response["Error"]
    return error["Code"], error["Message"]


@pytest.mark.slow
@pytest.mark.case("CP-121")
def test_the_aws_command_packages_deploys_again_changes_and_deletes(
    node, cloudformation, aws, bucket, tmp_path
):
    stack = unique("stack")
    (tmp_path / "template.yaml").write_text(TEMPLATE)
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "app.py").write_text(CODE)
    shutil.copytree(EXTENSION, tmp_path / "layer")
    packaged = ("--template-file", "packaged.yaml", "--stack-name", stack, "--capabilities", "CAPABILITY_IAM")

    def deploy(greeting):
        time.sleep(1 - time.time() % 1)  # the command names change sets by the second, and may take less
        given = ("--parameter-overrides", f"Greeting={greeting}", f"Runtime={RUNTIME}")
        return aws("cloudformation", "deploy", *packaged, *given, "--no-fail-on-empty-changeset")

    # Given a stack that was deployed, and whose function runs
    aws(
        *("cloudformation", "package", "--template-file", "template.yaml", "--s3-bucket", bucket),
        *("--output-template-file", "packaged.yaml"),
    )
    deploy("hello")
    found = outputs(cloudformation, stack)
    assert fetched(node, found["Url"]) == f"hello from {stack}"
    answer = node.invoke(found["Name"], tail=True)
    assert "[shell-extension]" in answer.log, answer.log

    # When it is deployed again, there is nothing to do
    assert "No changes to deploy" in deploy("hello")

    # When it changes, it is changed in its place
    deploy("HELLO")
    assert outputs(cloudformation, stack) == found
    assert node.invoke(found["Name"]).payload == f"HELLO from {stack}"
    assert node.client.get_function_configuration(FunctionName=found["Name"])["MemorySize"] == 512
    assert "No changes to deploy" in deploy("HELLO")

    # When it is deleted, nothing is left of it
    listed = cloudformation.describe_stack_resources(StackName=stack)["StackResources"]
    assert len(listed) == 9
    aws("cloudformation", "delete-stack", "--stack-name", stack)
    aws("cloudformation", "wait", "stack-delete-complete", "--stack-name", stack)
    assert refusal(cloudformation.describe_stacks, StackName=stack) == (
        "ValidationError",
        f"Stack with id {stack} does not exist",
    )
    assert refusal(node.client.get_function, FunctionName=found["Name"])[0] == "ResourceNotFoundException"
    layers = [each["LayerName"] for each in node.client.list_layers()["Layers"]]
    roles = client_of(node, "iam").list_roles()["Roles"]
    left = [*layers, *(each["RoleName"] for each in roles)]
    assert not [each for each in left if each.startswith(stack)]
    # Its log group may be there again, as in AWS: extensions write while their environments are shut down.


@pytest.mark.slow
@pytest.mark.case("CP-121")
def test_a_deployment_as_sam_does_it(node, cloudformation, bucket):
    stack, s3 = unique("sam"), client_of(node, "s3")
    s3.put_object(Bucket=bucket, Key="layer.zip", Body=zip_directory(EXTENSION))
    for name in ("one", "two"):
        content = zip_of({"app.py": CODE.replace("return ", f"return '{name} ' + ")})
        s3.put_object(Bucket=bucket, Key=f"{name}.zip", Body=content)

    def propose(code, kind):
        template = SAM_TEMPLATE.replace("BUCKET", bucket).replace("CODE", code).replace("RUNTIME", RUNTIME)
        s3.put_object(Bucket=bucket, Key=f"{code}.template", Body=template.encode())
        return cloudformation.create_change_set(
            StackName=stack,
            ChangeSetName=unique("samcli-deploy"),
            ChangeSetType=kind,
            TemplateURL=f"{node.endpoint}/{bucket}/{code}.template",
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_AUTO_EXPAND"],
            Parameters=[],
            Description="Created by a test",
            Tags=[{"Key": "team", "Value": "t"}],
        )["Id"]

    def described(change_set):
        return cloudformation.describe_change_set(ChangeSetName=change_set, StackName=stack)

    # Given a stack that was not there
    assert refusal(cloudformation.describe_stacks, StackName=stack)[0] == "ValidationError"
    first = propose("one", "CREATE")
    shown = described(first)
    assert (shown["Status"], shown["ExecutionStatus"]) == ("CREATE_COMPLETE", "AVAILABLE")
    kinds = {
        each["ResourceChange"]["ResourceType"]: each["ResourceChange"]["Action"] for each in shown["Changes"]
    }
    assert set(kinds.values()) == {"Add"}
    assert {"AWS::Lambda::Function", "AWS::Lambda::Alias", "AWS::Lambda::Version", "AWS::IAM::Role"} <= set(
        kinds
    )
    cloudformation.execute_change_set(ChangeSetName=first, StackName=stack)
    ended(cloudformation, stack, "CREATE_COMPLETE")
    alias = outputs(cloudformation, stack)["Alias"]
    answer = node.invoke(alias, tail=True)
    assert (answer.payload, "[shell-extension]" in answer.log) == ("one hello", True), answer.log

    # When it is deployed again, the change set fails since there is nothing in it
    again = described(propose("one", "UPDATE"))
    assert (again["Status"], again["ExecutionStatus"]) == ("FAILED", "UNAVAILABLE")
    assert UNCHANGED in again["StatusReason"]

    # When the code changes, a new version is published, and the alias leads to it
    changed = propose("two", "UPDATE")
    actions = {
        each["ResourceChange"]["ResourceType"]: each["ResourceChange"]["Action"]
        for each in described(changed)["Changes"]
    }
    assert actions["AWS::Lambda::Function"] == actions["AWS::Lambda::Alias"] == "Modify"
    cloudformation.execute_change_set(ChangeSetName=changed, StackName=stack)
    ended(cloudformation, stack, "UPDATE_COMPLETE")
    assert node.invoke(alias).payload == "two hello"
    assert node.client.get_alias(FunctionName=alias.split(":")[6], Name="live")["FunctionVersion"] == "2"

    # When it is deleted, it is gone, and is found by its identifier only
    stack_id = cloudformation.describe_stacks(StackName=stack)["Stacks"][0]["StackId"]
    cloudformation.delete_stack(StackName=stack)
    eventually(
        lambda: (
            cloudformation.describe_stacks(StackName=stack_id)["Stacks"][0]["StackStatus"]
            == "DELETE_COMPLETE"
        )
    )
    assert refusal(cloudformation.describe_stacks, StackName=stack)[0] == "ValidationError"
    assert refusal(node.client.get_function, FunctionName=alias)[0] == "ResourceNotFoundException"


@pytest.mark.slow
@pytest.mark.case("CP-121")
def test_a_deployment_as_cdk_does_it(node, cloudformation, bucket):
    stack, version = unique("cdk"), f"/{unique('bootstrap')}/version"
    s3, ssm = client_of(node, "s3"), client_of(node, "ssm")
    ssm.put_parameter(Name=version, Value="30", Type="String")
    s3.put_object(Bucket=bucket, Key="code.zip", Body=zip_of({"app.py": CODE}))

    def template(greeting):
        return {
            "Resources": {
                "HelloRole": {"Type": "AWS::IAM::Role", "Properties": {"AssumeRolePolicyDocument": TRUST}},
                "Hello": {
                    "Type": "AWS::Lambda::Function",
                    "Properties": {
                        "Code": {"S3Bucket": bucket, "S3Key": "code.zip"},
                        "Environment": {"Variables": {"GREETING": greeting}},
                        "Handler": "app.handler",
                        "Role": {"Fn::GetAtt": ["HelloRole", "Arn"]},
                        "Runtime": RUNTIME,
                    },
                    "DependsOn": ["HelloRole"],
                    "Metadata": {"aws:cdk:path": "a/b"},
                },
                "CDKMetadata": {
                    "Type": "AWS::CDK::Metadata",
                    "Properties": {"Analytics": "v2:deflate64:x"},
                    "Condition": "CDKMetadataAvailable",
                },
            },
            "Conditions": {
                "CDKMetadataAvailable": {
                    "Fn::Or": [
                        {"Fn::Equals": [{"Ref": "AWS::Region"}, "af-south-1"]},
                        {"Fn::Equals": [{"Ref": "AWS::Region"}, "us-east-1"]},
                    ]
                }
            },
            "Outputs": {"Name": {"Value": {"Ref": "Hello"}}},
            "Parameters": {
                "BootstrapVersion": {"Type": "AWS::SSM::Parameter::Value<String>", "Default": version}
            },
            "Rules": {
                "CheckBootstrapVersion": {
                    "Assertions": [
                        {
                            "Assert": {
                                "Fn::Not": [{"Fn::Contains": [["1", "2"], {"Ref": "BootstrapVersion"}]}]
                            },
                            "AssertDescription": "Bootstrap it.",
                        }
                    ]
                }
            },
        }

    def propose(greeting, kind):
        s3.put_object(Bucket=bucket, Key="stack.json", Body=json.dumps(template(greeting)).encode())
        where = {"StackName": stack, "ChangeSetName": "cdk-deploy-change-set"}
        cloudformation.create_change_set(
            **where,
            ChangeSetType=kind,
            TemplateURL=f"https://s3.us-east-1.amazonaws.com/{bucket}/stack.json",
            Parameters=[],
            Capabilities=["CAPABILITY_IAM", "CAPABILITY_NAMED_IAM", "CAPABILITY_AUTO_EXPAND"],
        )
        return where, cloudformation.describe_change_set(**where)

    def forget(where):
        """Delete a change set, and look until it is not found, as CDK does; it would look for ever."""
        cloudformation.delete_change_set(**where)
        with pytest.raises(ClientError) as caught:
            cloudformation.describe_change_set(**where)
        assert caught.value.response["Error"]["Code"] == "ChangeSetNotFound"

    # Given a stack that was deployed
    where, shown = propose("hello", "CREATE")
    assert shown["Status"] == "CREATE_COMPLETE"
    cloudformation.execute_change_set(**where)
    ended(cloudformation, stack, "CREATE_COMPLETE")
    name = outputs(cloudformation, stack)["Name"]
    assert node.invoke(name).payload == "hello"

    # When it is deployed again, its template is the same, and the change set is empty
    kept = cloudformation.get_template(StackName=stack, TemplateStage="Original")["TemplateBody"]
    assert kept == template("hello")
    forget(where)
    where, shown = propose("hello", "UPDATE")
    assert shown["Status"] == "FAILED"
    assert UNCHANGED in shown["StatusReason"]
    forget(where)

    # When it changes, it is changed
    where, shown = propose("goodbye", "UPDATE")
    (change,) = shown["Changes"]
    assert change["ResourceChange"]["LogicalResourceId"] == "Hello"
    cloudformation.execute_change_set(**where)
    ended(cloudformation, stack, "UPDATE_COMPLETE")
    assert node.invoke(name).payload == "goodbye"

    # When it is destroyed, nothing is left
    cloudformation.delete_stack(StackName=stack)
    cloudformation.get_waiter("stack_delete_complete").wait(
        StackName=stack, WaiterConfig={"Delay": 1, "MaxAttempts": 240}
    )
    assert refusal(node.client.get_function, FunctionName=name)[0] == "ResourceNotFoundException"
    ssm.delete_parameter(Name=version)
