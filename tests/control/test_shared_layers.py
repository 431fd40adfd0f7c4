"""Layers of other accounts on a node: when they are asked for, what is kept of them, what becomes of it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

ARN = "arn:aws:lambda:us-east-1:111111111111:layer:l"
OTHER = "arn:aws:lambda:us-east-1:222222222222:layer:l"


def blobs(node):
    return {path.name for path in (node.directory / "blobs").iterdir()}


def update(node, *arns):
    layers = node.client.update_function_configuration(FunctionName="f", Layers=list(arns))["Layers"]
    node.settle()
    return layers


def test_a_layer_is_attached_as_it_was_offered(node):
    node.elsewhere.layers[f"{ARN}:1"] = content = node.zip({"x": "1"})
    node.create()
    assert update(node, f"{ARN}:01") == [{"Arn": f"{ARN}:1", "CodeSize": len(content)}]
    assert node.elsewhere.found == [f"{ARN}:1"]


def test_layers_of_one_name_may_be_of_several_accounts(node):
    node.elsewhere.layers = {f"{ARN}:1": node.zip({"x": "1"}), f"{OTHER}:1": node.zip({"y": "2"})}
    own = node.layer("l")
    node.create(Layers=[f"{ARN}:1", own, f"{OTHER}:1"])
    found = node.client.get_function_configuration(FunctionName="f")["Layers"]
    assert [each["Arn"] for each in found] == [f"{ARN}:1", own, f"{OTHER}:1"]


def test_what_is_there_already_is_not_downloaded_twice(node):
    node.elsewhere.layers = {f"{ARN}:1": node.zip({"x": "1"}), f"{ARN}:2": node.zip({"x": "1"})}
    names = [f"f{number}" for number in range(5)]
    for name in names:
        node.create(name)
    with ThreadPoolExecutor(5) as threads:
        set_layers = node.client.update_function_configuration
        list(threads.map(lambda name: set_layers(FunctionName=name, Layers=[f"{ARN}:1"]), names))
    node.settle(names[0])
    node.client.update_function_configuration(FunctionName=names[0], Layers=[f"{ARN}:2"])
    assert node.elsewhere.downloads == 1


def test_a_copy_that_is_damaged_is_had_anew(node):
    content = node.elsewhere.layers[f"{ARN}:1"] = node.zip({"x": "1"})
    node.create()
    before = blobs(node)
    update(node, f"{ARN}:1")
    (digest,) = blobs(node) - before
    node.control.artifacts._sound.clear()  # as after a restart
    (node.directory / "blobs" / digest).write_bytes(content[:-1])
    update(node, f"{ARN}:1")
    assert node.elsewhere.downloads == 2
    assert (node.directory / "blobs" / digest).read_bytes() == content


def test_nothing_is_left_of_a_layer_that_was_not_attached(node):
    node.elsewhere.layers[f"{ARN}:1"] = node.zip({"x": "1"})
    node.create()
    before = blobs(node)
    node.commits_fail("for a test")
    refusal = node.refused("update_function_configuration", FunctionName="f", Layers=[f"{ARN}:1"])
    assert refusal[1] == "ServiceException"
    node.commits_fail(None)
    node.wait_until_cleaned()
    assert blobs(node) == before
    update(node, f"{ARN}:1")
    assert update_none(node) == before


def update_none(node):
    node.client.update_function_configuration(FunctionName="f", Layers=[])
    node.settle()
    node.wait_until_cleaned()
    return blobs(node)


@pytest.mark.parametrize(
    ("members", "code"),
    [
        ({"FunctionName": "none"}, "ResourceNotFoundException"),
        ({"RevisionId": "stale"}, "PreconditionFailedException"),
        ({"Runtime": "cobol"}, "InvalidParameterValueException"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException"),
        ({"Layers": [f"{ARN}:1", f"{ARN}:1"]}, "InvalidParameterValueException"),
        (
            {"Layers": [f"{ARN}:1", ARN.replace("us-east-1", "eu-west-1") + ":1"]},
            "InvalidParameterValueException",
        ),
        ({"Layers": [f"{ARN}:{n}" for n in range(1, 7)]}, "InvalidParameterValueException"),
        ({"Layers": [f"{ARN}:1", ARN.replace("1" * 12, "0" * 12) + ":9"]}, "InvalidParameterValueException"),
    ],
)
def test_nobody_is_asked_for_what_is_refused_anyway(node, members, code):
    node.create()
    request = {"FunctionName": "f", "Layers": [f"{ARN}:1"], **members}
    assert node.refused("update_function_configuration", **request)[1] == code
    assert node.elsewhere.found == []


def test_nobody_is_asked_for_a_function_that_exists(node):
    node.create()
    wanted = {"Runtime": "python3.12", "Role": node.role, "Handler": "h.h", "Code": {"ZipFile": node.zip()}}
    refusal = node.refused("create_function", FunctionName="f", Layers=[f"{ARN}:1"], **wanted)
    assert refusal[1] == "ResourceConflictException"
    assert node.elsewhere.found == []
