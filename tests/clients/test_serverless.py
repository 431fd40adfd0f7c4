"""The Serverless Framework, as it comes: what it deploys runs; a second time there is nothing to deploy."""

import re
import shutil
from urllib.parse import urlsplit

import pytest
from tests.acceptance.nodes import unique
from tests.acceptance.packages import RUNTIME

from .asking import fetched
from .conftest import CLIENTS

SERVERLESS = CLIENTS / "serverless" / "node_modules" / ".bin" / "serverless"


@pytest.mark.skipif(shutil.which("node") is None, reason="node is not on the PATH")
def test_deploy_again_change_and_remove(node, run, project):
    service = unique("serverless")
    (project / "node_modules").symlink_to(CLIENTS / "serverless" / "node_modules")
    source = (project / "code").rename(project / "greeter") / "app.py"  # `code` is a module of Python's own

    def serverless(*arguments, greeting="hello"):
        variables = {
            "SERVICE": service,
            "PORT": str(urlsplit(node.endpoint).port),
            "RUNTIME": RUNTIME,
            "GREETING": greeting,
            "SLS_TELEMETRY_DISABLED": "1",
            "SLS_NOTIFICATIONS_MODE": "off",
        }
        return run(SERVERLESS, *arguments, **variables)

    # Given a service that was deployed, whose results go to an alias that is made later
    printed = serverless("deploy")
    assert f"Service deployed to stack {service}-dev" in printed, printed
    url = re.search(r"endpoint: (\S+)", printed)[1]
    assert fetched(node, url) == b"hello world"
    answer = node.invoke(f"{service}-dev-hello", {"name": "you"}, tail=True)
    assert (answer.payload, "[shell-extension]" in answer.log) == ("hello you", True), answer.log
    provisioned = node.client.get_provisioned_concurrency_config(
        FunctionName=f"{service}-dev-after", Qualifier="provisioned"
    )
    assert provisioned["RequestedProvisionedConcurrentExecutions"] == 1

    # When it is deployed again, nothing differs
    assert "No changes to deploy" in serverless("deploy")

    # When it changes, then so does what it answers
    serverless("deploy", greeting="goodbye")
    assert fetched(node, url) == b"goodbye world"

    # When the code of one function changes, it can be swapped without a stack
    source.write_text(source.read_text().replace("{os.environ", "swapped {os.environ"))
    serverless("deploy", "function", "--function", "hello", greeting="goodbye")
    assert '"swapped goodbye world"' in serverless("invoke", "--function", "hello")
    assert "END" in serverless("logs", "--function", "hello")

    # When it is removed, nothing is left of it
    serverless("remove")
    left = [each["FunctionName"] for each in node.client.list_functions()["Functions"]]
    assert not any(name.startswith(service) for name in left)
