"""AWS CDK, as it comes: what it deploys runs, and a second time there is nothing to deploy."""

import shutil

import pytest
from tests.acceptance.nodes import unique
from tests.acceptance.packages import RUNTIME

from .asking import fetched
from .conftest import CLIENTS

CDK = CLIENTS / "cdk" / "node_modules" / ".bin" / "cdk"


@pytest.mark.case("CP-121")
@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the PATH")
def test_bootstrap_deploy_again_change_and_destroy(node, cloudformation, run, project):
    stack = unique("cdk")
    (project / "node_modules").symlink_to(CLIENTS / "cdk" / "node_modules")

    def cdk(*arguments, greeting="hello", code=0):
        variables = {"STACK": stack, "RUNTIME": RUNTIME, "GREETING": greeting, "CI": "true"}
        return run(CDK, *arguments, code=code, **variables)

    def deploy(*arguments, greeting="hello"):
        return cdk("deploy", "--require-approval", "never", *arguments, greeting=greeting)

    def output(key):
        (found,) = cloudformation.describe_stacks(StackName=stack)["Stacks"]
        return next(each["OutputValue"] for each in found["Outputs"] if each["OutputKey"] == key)

    # Given an account that was bootstrapped, which is as good twice, and a stack
    cdk("bootstrap")
    assert "(no changes)" in cdk("bootstrap")
    deploy()
    name, url = output("Name"), output("Url")
    assert fetched(node, url) == b"hello world"
    answer = node.invoke(f"{name}:live", {"name": "you"}, tail=True)
    assert (answer.payload, "[shell-extension]" in answer.log) == ("hello you", True), answer.log

    # When it is deployed again, nothing differs
    assert "(no changes)" in deploy()
    assert "There were no differences" in cdk("diff", "--fail")

    # When it changes, the difference is shown, and the alias leads to a new version
    assert "goodbye" in cdk("diff", "--fail", greeting="goodbye", code=1)
    deploy(greeting="goodbye")
    assert fetched(node, url) == b"goodbye world"
    alias = node.client.get_alias(FunctionName=name, Name="live")
    assert alias["FunctionVersion"] == "2"

    # When the code alone changes, it can be swapped without a deployment
    source = project / "code" / "app.py"
    source.write_text(source.read_text().replace("{os.environ", "swapped {os.environ"))
    deploy("--hotswap", greeting="goodbye")
    assert node.invoke(name).payload == "swapped goodbye world"

    # When it is destroyed, nothing is left of it
    cdk("destroy", "--force")
    left = [each["FunctionName"] for each in node.client.list_functions()["Functions"]]
    assert name not in left
