"""Reserved and provisioned concurrency of a real node, through boto3."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from .nodes import eventually
from .packages import zip_of

pytestmark = pytest.mark.slow

RESERVED = "ReservedFunctionConcurrentInvocationLimitExceeded"
TELL = "import os\ndef handler(event, context):\n    return os.environ['AWS_LAMBDA_INITIALIZATION_TYPE']\n"
BROKEN = "raise SystemExit(3)\n"


def throttled(node, name):
    """Invoke what must be throttled; return the response."""
    with pytest.raises(ClientError) as caught:
        node.client.invoke(FunctionName=name)
    return caught.value.response


def config(node, name, qualifier):
    reply = node.client.get_provisioned_concurrency_config(FunctionName=name, Qualifier=qualifier)
    return (
        reply["Status"],
        reply["AllocatedProvisionedConcurrentExecutions"],
        reply["AvailableProvisionedConcurrentExecutions"],
    )


def settled(node, name, qualifier):
    """Wait until a configuration is no longer in progress; return what became of it."""
    return eventually(lambda: (it := config(node, name, qualifier))[0] != "IN_PROGRESS" and it)


@pytest.mark.case("CP-90")
def test_nothing_reserved_throttles_every_invocation(node, function):
    name = function()
    node.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    response = throttled(node, name)
    assert response["Error"]["Code"] == "TooManyRequestsException"
    assert (response["Reason"], response["message"], response["Type"]) == (RESERVED, "Rate Exceeded.", "User")
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
    assert response["ResponseMetadata"]["HTTPHeaders"]["retry-after"] == "1"
    node.client.delete_function_concurrency(FunctionName=name)
    assert node.invoke(name).error is None


@pytest.mark.case("CP-92")
def test_of_two_invocations_at_once_one_is_throttled(node, function):
    name = function()
    node.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    with ThreadPoolExecutor(1) as threads:
        running = threads.submit(node.invoke, name, {"sleep_s": 3})
        eventually(lambda: [each["state"] for each in node.environments(name)] == ["busy"])
        assert throttled(node, name)["Reason"] == RESERVED
        assert running.result().error is None


@pytest.mark.case("CP-96", "CP-100")
def test_provisioned_environments_are_ready_before_the_first_invocation(node, function):
    name = function(zip_of({"app.py": TELL}))
    node.client.publish_version(FunctionName=name)
    put = node.client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=2
    )
    assert put["ResponseMetadata"]["HTTPStatusCode"] == 202
    assert (put["Status"], put["AllocatedProvisionedConcurrentExecutions"]) == ("IN_PROGRESS", 0)
    assert settled(node, name, "1") == ("READY", 2, 2)
    assert [each["invocations"] for each in node.environments(name)] == [0, 0]
    assert node.invoke(f"{name}:1").payload == "provisioned-concurrency"
    assert node.invoke(name).payload == "on-demand"
    for _ in range(2):
        node.client.delete_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    with pytest.raises(node.client.exceptions.ProvisionedConcurrencyConfigNotFoundException):
        config(node, name, "1")
    eventually(lambda: not any(each["provisioned"] for each in node.environments(name)))
    assert node.invoke(f"{name}:1").payload == "on-demand"


@pytest.mark.case("CP-97")
def test_an_init_that_fails_is_told(node, function):
    name = function(zip_of({"app.py": BROKEN}))
    node.client.publish_version(FunctionName=name)
    node.client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=2
    )
    assert settled(node, name, "1")[0] == "FAILED"
    reply = node.client.get_provisioned_concurrency_config(FunctionName=name, Qualifier="1")
    assert reply["StatusReason"] == "FUNCTION_ERROR_INIT_FAILURE"


@pytest.mark.case("CP-98")
def test_what_is_provisioned_follows_its_alias(node, function):
    name = function(zip_of({"app.py": TELL}))
    client = node.client
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=1
    )
    assert settled(node, name, "live") == ("READY", 1, 1)
    with pytest.raises(client.exceptions.ResourceConflictException, match="Provisioned Concurrency alias"):
        client.put_provisioned_concurrency_config(
            FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1
        )
    client.update_function_configuration(FunctionName=name, Description="another")
    node.wait("function_updated_v2", name)
    client.publish_version(FunctionName=name)
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    assert settled(node, name, "live") == ("READY", 1, 1)
    eventually(lambda: [each["version"] for each in node.environments(name)] == ["2"])
    assert node.invoke(f"{name}:live").payload == "provisioned-concurrency"


def versions_ready(node, name):
    """Return the versions of the function's provisioned environments that could serve."""
    ready = [each for each in node.environments(name) if each["provisioned"] and each["state"] == "idle"]
    return sorted(each["version"] for each in ready)


def test_what_is_provisioned_is_shared_by_the_versions_of_an_alias_with_weights(node, function):
    name = function(zip_of({"app.py": TELL}))
    client = node.client
    client.publish_version(FunctionName=name)
    client.update_function_configuration(FunctionName=name, Description="another")
    node.wait("function_updated_v2", name)
    client.publish_version(FunctionName=name)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier="live", ProvisionedConcurrentExecutions=4
    )
    assert settled(node, name, "live") == ("READY", 4, 4)
    # A quarter goes to the other version; those of the first that stay are not made anew.
    former = {each["id"] for each in node.environments(name)}
    routing = {"AdditionalVersionWeights": {"2": 0.25}}
    client.update_alias(FunctionName=name, Name="live", RoutingConfig=routing)
    assert settled(node, name, "live") == ("READY", 4, 4)
    eventually(lambda: versions_ready(node, name) == ["1", "1", "1", "2"])
    assert len(former & {each["id"] for each in node.environments(name)}) == 3
    answers = [client.invoke(FunctionName=f"{name}:live") for _ in range(40)]
    assert {answer["ExecutedVersion"] for answer in answers} == {"1", "2"}
    assert {answer["Payload"].read() for answer in answers} == {b'"provisioned-concurrency"'}
    # All of it goes to the other version at the end.
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2", RoutingConfig={})
    assert settled(node, name, "live") == ("READY", 4, 4)
    eventually(lambda: versions_ready(node, name) == ["2", "2", "2", "2"])


def test_a_node_that_starts_again_provisions_again(data, start):
    node = start(data)
    name = node.create(
        zip_of({"app.py": TELL}), Runtime="python3.11", Handler="app.handler", FunctionName="again"
    )
    node.client.publish_version(FunctionName=name)
    node.client.put_provisioned_concurrency_config(
        FunctionName=name, Qualifier="1", ProvisionedConcurrentExecutions=1
    )
    node.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=1)
    assert settled(node, name, "1") == ("READY", 1, 1)
    node.kill()
    node = start(data)
    assert settled(node, name, "1") == ("READY", 1, 1)
    assert node.invoke(f"{name}:1").payload == "provisioned-concurrency"
    assert throttled(node, name)["Reason"] == RESERVED
