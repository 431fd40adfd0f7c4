"""Two nodes that play two accounts: layers of the one are used by functions of the other."""

import socket
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from .conftest import running
from .nodes import Node, eventually
from .packages import EXAMPLES, RUNTIME, zip_directory, zip_of
from .test_keys import client, new_key

OURS, THEIRS = "111111111111", "222222222222"
CODE = "def handler(event, context):\n    return event\n"


@pytest.fixture
def theirs(tmp_path):
    """A node of another account, which asks for keys, and a client of its owner."""
    data = tmp_path / "theirs"
    key = new_key(data, "owner")
    with running(data, "--auth", "keys", "--account", THEIRS) as node:
        yield node, client(node, "lambda", key)


@pytest.fixture
def ours(tmp_path, theirs):
    """A node that asks for layers there, as a partner."""
    key = new_key(tmp_path / "theirs", "partner", "--account", OURS)
    variables = [f"{name.upper()}={value}" for name, value in key.items()]
    arguments = ("--account", OURS, "--layers-endpoint", theirs[0].endpoint)
    with running(tmp_path / "ours", *arguments, prefix=["env", *variables]) as node:
        yield node


def published(owner, name="shared"):
    content = {"ZipFile": zip_directory(EXAMPLES / "extensions" / "shell-extension")}
    return owner.publish_layer_version(LayerName=name, Content=content)["LayerVersionArn"]


def share(owner, arn, principal=OURS):
    return owner.add_layer_version_permission(
        LayerName=arn.rpartition(":")[0],
        VersionNumber=int(arn.rpartition(":")[2]),
        StatementId="share",
        Action="lambda:GetLayerVersion",
        Principal=principal,
    )


def refused(call, **members):
    with pytest.raises(ClientError) as caught:
        call(**members)
    response = caught.value.response
    status = response["ResponseMetadata"]["HTTPStatusCode"]
    return status, response["Error"]["Code"], response["Error"]["Message"]


def create(node, name="f", **members):
    node.client.create_function(
        FunctionName=name,
        Runtime=RUNTIME,
        Role=f"arn:aws:iam::{OURS}:role/r",
        Handler="app.handler",
        Code={"ZipFile": zip_of({"app.py": CODE})},
        Timeout=60,
        **members,
    )
    node.client.get_waiter("function_active_v2").wait(FunctionName=name)


@pytest.mark.slow
@pytest.mark.case("CP-69")
def test_a_layer_of_another_account_needs_its_permission(ours, theirs):
    _, owner = theirs
    arn = published(owner)
    create(ours)

    # Given a layer that is not shared, it may not be used, and a function cannot be made with it
    update = {"FunctionName": "f", "Layers": [arn]}
    text = (
        f"User: arn:aws:iam::{OURS}:root is not authorized to perform: lambda:GetLayerVersion on resource: "
        f"{arn} because no resource-based policy allows the lambda:GetLayerVersion action"
    )
    found = refused(ours.client.update_function_configuration, **update)
    assert found == (403, "AccessDeniedException", text)
    assert "Layers" not in ours.client.get_function_configuration(FunctionName="f")

    # When it is shared, the extension in it runs beside the function
    share(owner, arn)
    layers = ours.client.update_function_configuration(**update)["Layers"]
    assert [each["Arn"] for each in layers] == [arn]
    ours.client.get_waiter("function_updated_v2").wait(FunctionName="f")
    answer = ours.invoke("f", {"a": 1}, tail=True)
    assert (answer.payload, "[shell-extension]" in answer.log) == ({"a": 1}, True), answer.log

    # When it is not shared any more, functions keep it, but it cannot be attached again
    number = int(arn.rpartition(":")[2])
    owner.remove_layer_version_permission(LayerName="shared", VersionNumber=number, StatementId="share")
    owner.delete_layer_version(LayerName="shared", VersionNumber=number)
    assert refused(ours.client.update_function_configuration, **update)[1] == "AccessDeniedException"
    ours.client.publish_version(FunctionName="f")
    ours.client.get_waiter("published_version_active").wait(FunctionName="f", Qualifier="1")
    assert "[shell-extension]" in ours.invoke("f:1", {}, tail=True).log


@pytest.mark.slow
def test_layers_that_are_shared_with_everybody(ours, theirs):
    _, owner = theirs
    arns = [published(owner, "one"), published(owner, "two")]
    for arn in arns:
        share(owner, arn, "*")
    own = ours.client.publish_layer_version(LayerName="one", Content={"ZipFile": zip_of({"x": "1"})})
    all_arns = [*arns, own["LayerVersionArn"]]
    create(ours, Layers=all_arns)
    found = ours.client.get_function_configuration(FunctionName="f")["Layers"]
    assert [each["Arn"] for each in found] == all_arns
    assert ours.invoke("f", 1).payload == 1


@pytest.mark.slow
def test_what_cannot_be_asked_is_said(ours, theirs):
    node, owner = theirs
    arn = published(owner)
    share(owner, arn)
    create(ours)
    assert node.terminate() == 0
    status, code, text = refused(ours.client.update_function_configuration, FunctionName="f", Layers=[arn])
    assert (status, code) == (500, "ServiceException")
    assert f"The layer {arn} could not be had from {node.endpoint}" in text
    assert ours.invoke("f", 1).payload == 1


@pytest.mark.slow
def test_a_node_that_knows_no_other_account_says_how(data):
    arn = f"arn:aws:lambda:us-east-1:{THEIRS}:layer:l:1"
    with running(data, "--account", OURS) as node:
        create(node)
        answer = refused(node.client.update_function_configuration, FunctionName="f", Layers=[arn])
        assert answer[1] == "AccessDeniedException"
        eventually(lambda: "--layers-endpoint" in node.errors.read_text())


@pytest.mark.slow
def test_who_does_not_answer_keeps_nobody_else_waiting(data):
    arns = [f"arn:aws:lambda:us-east-1:{THEIRS}:layer:l:{number}" for number in range(1, 9)]
    with socket.create_server(("127.0.0.1", 0), backlog=100) as silent:
        endpoint = f"http://127.0.0.1:{silent.getsockname()[1]}"
        node = Node(data, "--account", OURS, "--layers-endpoint", endpoint)
        with ThreadPoolExecutor(8) as threads:
            create(node)
            update = node.client.update_function_configuration
            asked = [threads.submit(update, FunctionName="f", Layers=[arn]) for arn in arns]
            with silent.accept()[0]:
                began = time.monotonic()
                assert node.invoke("f", "x" * 300_000).payload == "x" * 300_000
                create(node, "g")
                assert node.terminate() == 0
                assert time.monotonic() - began < 15  # it would be asked for 20 s
            assert all(each.exception() is not None for each in asked)
