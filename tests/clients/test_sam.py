"""AWS SAM's command line, as it comes: what it deploys runs, and a second time there is nothing to deploy."""

import json

import pytest
from botocore.exceptions import ClientError
from tests.acceptance.nodes import unique
from tests.acceptance.packages import RUNTIME

from .asking import fetched
from .conftest import CLIENTS

SAM = CLIENTS / "sam" / "bin" / "sam"


@pytest.mark.case(
    "CP-121", partly="Terraform's provider is on no index of packages: `make test-clients` runs it"
)
def test_deploy_again_change_and_delete(node, cloudformation, run, project):
    stack = unique("sam")

    def deploy(*arguments, greeting="hello", code=0):
        named = ("--stack-name", stack, "--resolve-s3", "--capabilities", "CAPABILITY_IAM")
        given = ("--parameter-overrides", f"Runtime={RUNTIME}", f"Greeting={greeting}")
        return run(SAM, "deploy", *named, *given, "--no-confirm-changeset", *arguments, code=code)

    def output(key):
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        return next(each["OutputValue"] for each in found["Outputs"] if each["OutputKey"] == key)

    # Given a stack that was deployed
    run(SAM, "validate", "--lint")
    printed = deploy()
    assert "Successfully created/updated stack" in printed, printed
    name, url = output("Name"), output("Url")
    assert fetched(node, url) == b"hello world"
    answer = node.invoke(output("Alias"), {"name": "you"}, tail=True)
    assert (answer.payload, "[shell-extension]" in answer.log) == ("hello you", True), answer.log

    # When it is deployed again, there is nothing to do: an error unless one says otherwise
    assert "No changes to deploy" in deploy(code=1)
    assert "is up to date" in deploy("--no-fail-on-empty-changeset")

    # When parameter and code change, the alias leads to a new version
    (project / "code" / "more.txt").write_text("more")
    deploy(greeting="goodbye")
    assert fetched(node, url) == b"goodbye world"
    alias = node.client.get_alias(FunctionName=name, Name="live")
    assert alias["FunctionVersion"] == "2"

    # Then its logs and its resources are listed
    assert "REPORT RequestId" in run(SAM, "logs", "--stack-name", stack, "--name", "Hello")
    listed = json.loads(run(SAM, "list", "stack-outputs", "--stack-name", stack, "--output", "json"))
    assert {each["OutputKey"] for each in listed} == {"Name", "Alias", "Url"}
    assert "goodbye world" in run(SAM, "remote", "invoke", "Hello", "--stack-name", stack)

    # When it is deleted, nothing is left of it
    run(SAM, "delete", "--stack-name", stack, "--no-prompts")
    left = [each["FunctionName"] for each in node.client.list_functions()["Functions"]]
    assert name not in left
    with pytest.raises(ClientError, match="does not exist"):
        cloudformation.describe_stacks(StackName=stack)
