"""PublishLayerVersion and its likes, and layers on functions."""

from __future__ import annotations

import urllib.request

import pytest

INVALID = "InvalidParameterValueException"
LAYER = "arn:aws:lambda:us-east-1:000000000000:layer:l"


@pytest.mark.case("CP-55")
def test_each_publication_is_a_new_version(node):
    content = {"ZipFile": node.zip({"x": "1"})}
    for number in (1, 2):
        reply = node.client.publish_layer_version(
            LayerName="l",
            Content=content,
            CompatibleRuntimes=["python3.12"],
            Description="d",
            LicenseInfo="MIT",
        )
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert (reply["Version"], reply["LayerArn"]) == (number, LAYER)
        assert reply["LayerVersionArn"] == f"{LAYER}:{number}"
        assert reply["CompatibleRuntimes"] == ["python3.12"]
        assert (reply["Description"], reply["LicenseInfo"]) == ("d", "MIT")
        assert reply["CreatedDate"].endswith("+0000")
        assert reply["Content"]["CodeSize"] == len(content["ZipFile"])
        assert "CompatibleArchitectures" not in reply


@pytest.mark.case("CP-56")
def test_both_filters_are_checked_at_once(node):
    status, code, text = node.refused(
        "publish_layer_version",
        LayerName="l",
        Content={"ZipFile": node.zip()},
        CompatibleRuntimes=["bad"],
        CompatibleArchitectures=["bad"],
    )
    assert (status, code) == (400, "ValidationException")
    assert text.startswith("2 validation errors detected: ")
    assert "Value '[bad]' at 'compatibleRuntimes' failed to satisfy constraint: Member must satisfy" in text
    assert "; Value '[bad]' at 'compatible" in text
    assert "[Member must satisfy enum value set: [x86_64, arm64], Member must not be null]" in text


@pytest.mark.case("CP-57")
def test_a_version_is_found_by_its_arn_and_can_be_fetched(node):
    arn = node.layer(files={"x": "1"})
    by_arn = node.client.get_layer_version_by_arn(Arn=arn)
    by_number = node.client.get_layer_version(LayerName="l", VersionNumber=1)
    for reply in (by_arn, by_number):
        del reply["ResponseMetadata"]
        with urllib.request.urlopen(reply["Content"].pop("Location")) as answer:
            assert answer.read() == node.zip({"x": "1"})
    assert by_arn == by_number


@pytest.mark.case("CP-58")
def test_versions_begin_with_one(node):
    node.layer()
    for operation in ("get_layer_version", "delete_layer_version"):
        refusal = node.refused(operation, LayerName="l", VersionNumber=0)
        assert refusal == (400, INVALID, "Layer Version Cannot be less than 1")
    missing = (404, "ResourceNotFoundException", "The resource you requested does not exist.")
    assert node.refused("get_layer_version", LayerName="l", VersionNumber=99) == missing
    assert node.refused("get_layer_version", LayerName="other", VersionNumber=1) == missing
    assert node.refused("get_layer_version_by_arn", Arn=f"{LAYER}:99") == missing


@pytest.mark.case("CP-59")
def test_versions_are_listed_newest_first_and_filtered(node):
    for runtime in ("python3.12", "python3.13"):
        node.layer(CompatibleRuntimes=[runtime])
    versions = node.client.list_layer_versions(LayerName="l")["LayerVersions"]
    assert [version["Version"] for version in versions] == [2, 1]
    filtered = node.client.list_layer_versions(LayerName="l", CompatibleRuntime="python3.12")
    assert [version["Version"] for version in filtered["LayerVersions"]] == [1]
    assert node.client.list_layer_versions(LayerName="l", CompatibleRuntime="ruby3.3")["LayerVersions"] == []
    assert node.client.list_layer_versions(LayerName="unknown")["LayerVersions"] == []
    pages = node.client.get_paginator("list_layer_versions").paginate(
        LayerName="l", PaginationConfig={"PageSize": 1}
    )
    assert [page["LayerVersions"][0]["Version"] for page in pages] == [2, 1]


def test_layers_are_listed_with_their_newest_match(node):
    node.layer("a", CompatibleRuntimes=["python3.12"])
    node.layer("a", CompatibleRuntimes=["python3.13"])
    node.layer("b", CompatibleArchitectures=["arm64", "x86_64"])
    layers = node.client.list_layers()["Layers"]
    found = [(layer["LayerName"], layer["LatestMatchingVersion"]["Version"]) for layer in layers]
    assert found == [("a", 2), ("b", 1)]
    assert layers[1]["LatestMatchingVersion"]["CompatibleArchitectures"] == ["arm64", "x86_64"]
    older = node.client.list_layers(CompatibleRuntime="python3.12")["Layers"]
    assert [layer["LatestMatchingVersion"]["Version"] for layer in older] == [1]
    arm = node.client.list_layers(CompatibleArchitecture="arm64")["Layers"]
    assert [layer["LayerName"] for layer in arm] == ["b"]


@pytest.mark.case("CP-60")
def test_deletion_is_idempotent_and_numbers_are_not_used_again(node):
    node.layer()
    for _ in range(2):
        reply = node.client.delete_layer_version(LayerName="l", VersionNumber=1)
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204
    assert node.client.list_layers()["Layers"] == []
    assert node.layer() == f"{LAYER}:2"


@pytest.mark.case("CP-61")
def test_five_layers_at_most(node):
    node.create()
    arns = [node.layer(f"l{number}") for number in range(6)]
    refusal = node.refused("update_function_configuration", FunctionName="f", Layers=arns)
    assert refusal == (400, INVALID, "Cannot reference more than 5 layers.")
    node.client.update_function_configuration(FunctionName="f", Layers=arns[:5])
    assert [layer["Arn"] for layer in node.settle()["Layers"]] == arns[:5]


@pytest.mark.parametrize(
    ("arns", "code", "text"),
    [
        pytest.param(
            [f"{LAYER}:1", f"{LAYER}:2"],
            INVALID,
            "Two different versions of the same layer are not allowed to be referenced in the same function. "
            f"{LAYER}:1 and {LAYER}:2 are versions of the same layer.",
            marks=pytest.mark.case("CP-62"),
        ),
        pytest.param(
            ["arn:aws:lambda:us-east-1:000000000000:layer:doesnotexist:1"],
            INVALID,
            "Layer version arn:aws:lambda:us-east-1:000000000000:layer:doesnotexist:1 does not exist.",
            marks=pytest.mark.case("CP-63"),
        ),
        pytest.param([LAYER], "ValidationException", "at 'layers' failed", marks=pytest.mark.case("CP-64")),
        pytest.param(
            ["arn:aws:lambda:eu-west-1:000000000000:layer:l:1"],
            INVALID,
            "Layers are not in the same region as the function. Layers are expected to be in region us-",
            marks=pytest.mark.case("CP-65"),
        ),
    ],
)
def test_what_cannot_be_attached(node, arns, code, text):
    node.create()
    node.layer()
    node.layer()
    status, found, message = node.refused("update_function_configuration", FunctionName="f", Layers=arns)
    assert (status, found) == (400, code)
    assert text in message


def test_a_layer_of_another_account_is_forbidden(node):
    node.create()
    arn = "arn:aws:lambda:us-east-1:111111111111:layer:l:1"
    status, code, text = node.refused("update_function_configuration", FunctionName="f", Layers=[arn])
    assert (status, code) == (403, "AccessDeniedException")
    assert (
        f"is not authorized to perform: lambda:GetLayerVersion on resource: {arn} because no resource" in text
    )


def test_a_later_layer_overwrites_an_earlier_one(node):
    first, second = node.layer("a", {"x": "a", "only-a": "1"}), node.layer("b", {"x": "b"})
    node.create(Layers=[first, second])
    node.create("g", Layers=[second, first])
    node.invoke("f")
    node.invoke("g")
    f, g = (deployment.opt for deployment, _ in node.pool.calls)
    assert ((f / "x").read_text(), (f / "only-a").read_text()) == ("b", "1")
    assert (g / "x").read_text() == "a"


def test_an_extension_keeps_its_mode_and_the_function_shows_the_layer(node):
    content = node.zip({"extensions/e": "#!/bin/sh\n"}, {"extensions/e": 0o100755})
    arn = node.layer(Content={"ZipFile": content})
    node.create(Layers=[arn])
    assert node.settle()["Layers"] == [{"Arn": arn, "CodeSize": len(content)}]
    node.invoke()
    opt = node.pool.calls[0][0].opt
    assert (opt / "extensions/e").stat().st_mode & 0o777 == 0o755
    assert (opt / "extensions").stat().st_mode & 0o777 == 0o755


@pytest.mark.case("CP-68")
@pytest.mark.slow
def test_code_and_layers_together_have_a_limit(node):
    node.create(Code={"ZipFile": node.zip({"big": bytes(200_000_000)})})
    arn = node.layer(files={"big": bytes(62_144_001)})
    refusal = node.refused("update_function_configuration", FunctionName="f", Layers=[arn])
    assert refusal == (
        400,
        INVALID,
        (
            "Function code combined with layers exceeds the maximum allowed size of 262144000 bytes. "
            "The actual size is 262144001 bytes."
        ),
    )
    fits = node.layer(files={"big": bytes(62_144_000)})
    node.client.update_function_configuration(FunctionName="f", Layers=[fits])
    assert node.settle()["LastUpdateStatus"] == "Successful"


@pytest.mark.case("CP-72")
def test_a_deleted_layer_stays_with_its_functions(node):
    arn = node.layer("l", {"x": "1"})
    node.create(Layers=[arn])
    node.client.delete_layer_version(LayerName="l", VersionNumber=1)
    node.invoke()
    node.client.update_function_configuration(FunctionName="f", MemorySize=256)
    assert node.settle()["Layers"][0]["Arn"] == arn
    node.invoke()
    assert (node.pool.calls[1][0].opt / "x").read_text() == "1"
    refusal = node.refused("update_function_configuration", FunctionName="f", Layers=[arn])
    assert refusal == (400, INVALID, f"Layer version {arn} does not exist.")
    node.client.update_function_configuration(FunctionName="f", Layers=[])
    assert "Layers" not in node.settle()


def test_a_layer_name_has_a_limit(node):
    status, code, text = node.refused(
        "publish_layer_version", LayerName="n" * 141, Content={"ZipFile": node.zip()}
    )
    assert (status, code) == (400, "ValidationException")
    assert "at 'layerName' failed to satisfy constraint" in text
