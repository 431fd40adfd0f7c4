"""Versions, aliases and invocations by qualifier, as boto3 sees them."""

from __future__ import annotations

from collections import Counter

import pytest

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
INVALID = "InvalidParameterValueException"
CONFLICT = "ResourceConflictException"
MISSING = "ResourceNotFoundException"
CHECKED = "ValidationException"


def versions(node):
    found = node.client.list_versions_by_function(FunctionName="f")["Versions"]
    return [version["Version"] for version in found]


@pytest.mark.case("CP-40")
def test_without_a_change_there_is_no_new_version(node):
    node.create()
    first = node.client.publish_version(FunctionName="f", Description="one")
    second = node.client.publish_version(FunctionName="f", Description="another")
    for reply in (first, second):
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
        assert (reply["Version"], reply["FunctionArn"]) == ("1", f"{FUNCTION}:1")
        assert reply["Description"] == "one"
    assert first["RevisionId"] == second["RevisionId"]
    assert versions(node) == ["$LATEST", "1"]


@pytest.mark.case("CP-41")
def test_a_version_keeps_what_latest_was(node):
    node.create(Timeout=5, Environment={"Variables": {"KIND": "first"}})
    assert node.publish() == "1"
    assert node.publish(Timeout=9, Environment={"Variables": {"KIND": "second"}}) == "2"
    reply = node.client.get_function_configuration(FunctionName="f", Qualifier="2")
    assert (reply["State"], reply["LastUpdateStatus"], reply["Timeout"]) == ("Active", "Successful", 9)
    first = node.client.get_function(FunctionName="f:1")
    assert first["Configuration"]["Timeout"] == 5
    assert first["Configuration"]["FunctionArn"] == f"{FUNCTION}:1"
    assert first["Code"]["Location"]
    node.client.update_function_code(FunctionName="f", ZipFile=node.zip({"h.py": "new"}))
    node.settle()
    assert node.publish() == "3"
    assert len({version["CodeSha256"] for version in list_all(node)}) == 2


def list_all(node):
    return node.client.list_versions_by_function(FunctionName="f")["Versions"]


def test_a_description_of_latest_is_a_change_too(node):
    node.create()
    assert node.publish() == "1"
    assert node.publish(Description="other") == "2"
    assert node.client.get_function_configuration(FunctionName="f:2")["Description"] == "other"
    assert node.publish() == "2"


@pytest.mark.case("CP-42")
def test_a_number_is_never_used_again(node):
    node.create()
    assert node.publish() == "1"
    assert node.publish(Timeout=4) == "2"
    node.client.delete_function(FunctionName="f", Qualifier="2")
    assert versions(node) == ["$LATEST", "1"]
    assert node.publish(Timeout=5) == "3"
    # The last version is gone: what is the same as before is published anew.
    node.client.delete_function(FunctionName="f:3")
    assert node.publish() == "4"


@pytest.mark.case("CP-43")
def test_other_code_than_the_caller_believes_is_not_published(node):
    sha = node.create()["CodeSha256"]
    text = (
        f"CodeSHA256 (x) is different from current CodeSHA256 in $LATEST ({sha}). "
        "Please try again with the CodeSHA256 in $LATEST."
    )
    assert node.refused("publish_version", FunctionName="f", CodeSha256="x") == (400, INVALID, text)
    assert node.client.publish_version(FunctionName="f", CodeSha256=sha)["Version"] == "1"


def test_a_stale_revision_is_not_published(node):
    node.create()
    stale = node.settle()["RevisionId"]
    node.client.publish_version(FunctionName="f", RevisionId=stale)
    assert node.settle()["RevisionId"] != stale
    status, code, _ = node.refused("publish_version", FunctionName="f", RevisionId=stale)
    assert (status, code) == (412, "PreconditionFailedException")


def test_what_is_pending_or_updated_is_not_published(node):
    node.runtimes.gate.clear()
    node.create(wait=False)
    status, code, text = node.refused("publish_version", FunctionName="f")
    assert (status, code) == (409, CONFLICT)
    assert text.endswith("currently in the following state: Pending")
    node.runtimes.gate.set()
    node.settle()
    node.runtimes.gate.clear()
    node.client.update_function_configuration(FunctionName="f", Timeout=7)
    assert node.refused("publish_version", FunctionName="f")[:2] == (409, CONFLICT)
    assert node.refused("publish_version", FunctionName="g") == (
        404,
        MISSING,
        f"Function not found: {FUNCTION[:-1]}g",
    )


@pytest.mark.case("CP-44")
def test_a_function_may_be_published_when_it_is_created(node):
    node.runtimes.gate.clear()
    reply = node.create(Publish=True, wait=False)
    assert (reply["Version"], reply["FunctionArn"], reply["State"]) == ("1", FUNCTION, "Pending")
    node.runtimes.gate.set()
    node.client.get_waiter("published_version_active").wait(FunctionName="f", Qualifier="1")
    assert versions(node) == ["$LATEST", "1"]
    for qualifier in ("1", "$LATEST"):
        found = node.client.get_function_configuration(FunctionName="f", Qualifier=qualifier)
        assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
    assert node.client.invoke(FunctionName="f:1")["ExecutedVersion"] == "1"


@pytest.mark.case("CP-45")
def test_code_may_be_published_when_it_is_updated(node):
    node.create()
    node.runtimes.gate.clear()
    code = node.zip({"h.py": "new"})
    reply = node.client.update_function_code(FunctionName="f", ZipFile=code, Publish=True)
    assert (reply["Version"], reply["FunctionArn"], reply["State"]) == ("1", f"{FUNCTION}:1", "Pending")
    latest = node.client.get_function_configuration(FunctionName="f")
    assert (latest["LastUpdateStatus"], latest["State"]) == ("InProgress", "Active")
    status, _, text = node.refused("invoke", FunctionName="f", Qualifier="1")
    assert (status, text.rpartition(" ")[2]) == (409, "Pending")
    assert node.client.invoke(FunctionName="f")["ExecutedVersion"] == "$LATEST"
    node.runtimes.gate.set()
    assert node.settle()["LastUpdateStatus"] == "Successful"
    assert node.client.get_function_configuration(FunctionName="f:1")["State"] == "Active"
    assert node.client.invoke(FunctionName="f:1")["ExecutedVersion"] == "1"


def test_a_version_published_with_code_that_cannot_be_prepared_has_failed(node):
    node.create()
    node.runtimes.missing.add("provided.al2")
    node.client.update_function_configuration(FunctionName="f", Runtime="provided.al2", Handler="x")
    node.settle()
    node.client.update_function_code(FunctionName="f", ZipFile=node.zip({"bootstrap": "x"}), Publish=True)
    assert node.settle()["LastUpdateStatus"] == "Failed"
    found = node.client.get_function_configuration(FunctionName="f:1")
    assert (found["State"], found["StateReasonCode"]) == ("Failed", "InvalidRuntime")
    assert node.refused("invoke", FunctionName="f:1")[:2] == (409, CONFLICT)


@pytest.mark.case("CP-35")
def test_every_version_is_listed_with_its_arn(node):
    node.create()
    node.publish()
    found = node.client.list_functions(FunctionVersion="ALL")["Functions"]
    assert [entry["FunctionArn"] for entry in found] == [f"{FUNCTION}:$LATEST", f"{FUNCTION}:1"]
    assert [entry["FunctionArn"] for entry in node.client.list_functions()["Functions"]] == [FUNCTION]


def test_versions_come_in_pages_in_their_order(node):
    node.create()
    for number in range(1, 12):
        assert node.publish(Timeout=number + 3) == str(number)
    pages = node.client.get_paginator("list_versions_by_function").paginate(
        FunctionName="f", PaginationConfig={"PageSize": 5}
    )
    found = [version["Version"] for page in pages for version in page["Versions"]]
    assert found == ["$LATEST", *(str(number) for number in range(1, 12))]


@pytest.mark.parametrize("qualifier", ["2", "01", "none"])
def test_what_a_qualifier_does_not_stand_for_is_not_found(node, qualifier):
    node.create()
    node.publish()
    for operation in ("get_function", "get_function_configuration", "invoke"):
        assert node.refused(operation, FunctionName="f", Qualifier=qualifier) == (
            404,
            MISSING,
            f"Function not found: {FUNCTION}:{qualifier}",
        )


def test_versions_run_side_by_side(node):
    node.create(Environment={"Variables": {"KIND": "first"}})
    node.publish()
    node.publish(Environment={"Variables": {"KIND": "second"}})
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    for qualifier in ("1", "2", "$LATEST", "live"):
        node.client.invoke(FunctionName="f", Qualifier=qualifier)
    calls = node.pool.calls
    assert [call.function.version for call, _ in calls] == ["1", "2", "$LATEST", "1"]
    assert [call.function.variables["KIND"] for call, _ in calls] == ["first", "second", "second", "first"]
    assert len({call.key for call, _ in calls}) == 3
    assert [request.invoked_arn for _, request in calls] == [
        f"{FUNCTION}:{qualifier}" for qualifier in ("1", "2", "$LATEST", "live")
    ]


def test_an_update_lets_the_environments_of_versions_be(node):
    node.create()
    node.publish()
    node.client.update_function_configuration(FunctionName="f", Timeout=8)
    node.settle()
    node.client.delete_function(FunctionName="f", Qualifier="1")
    node.client.delete_function(FunctionName="f")
    assert node.pool.retired == [(FUNCTION, "$LATEST"), (FUNCTION, "1"), (FUNCTION, None)]


def test_code_stays_while_a_version_has_it(node):
    node.create()
    node.publish()
    node.client.update_function_code(FunctionName="f", ZipFile=node.zip({"h.py": "new"}))
    node.settle()
    node.wait_until_cleaned()
    assert len(list((node.directory / "blobs").iterdir())) == 2
    node.client.delete_function(FunctionName="f:1")
    node.wait_until_cleaned()
    assert len(list((node.directory / "blobs").iterdir())) == 1


def test_everything_of_a_function_goes_with_it_and_survives_a_restart(tmp_path, running):
    with running(tmp_path) as node:
        node.create()
        node.publish()
        node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1", Description="d")
    with running(tmp_path) as node:
        assert versions(node) == ["$LATEST", "1"]
        assert node.client.invoke(FunctionName="f:live")["ExecutedVersion"] == "1"
        node.client.delete_function(FunctionName="f")
        assert node.refused("get_alias", FunctionName="f", Name="live")[0] == 404
        node.create()
        assert versions(node) == ["$LATEST"]
        assert node.client.list_aliases(FunctionName="f")["Aliases"] == []
        # Numbers begin anew with a new function.
        assert node.publish() == "1"


@pytest.mark.case("CP-46")
def test_an_alias_stands_for_its_version(node):
    node.create()
    node.publish()
    node.publish(Timeout=9)
    routing = {"AdditionalVersionWeights": {"2": 0.2}}
    reply = node.client.create_alias(
        FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig=routing, Description="d"
    )
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 201
    assert reply["AliasArn"] == f"{FUNCTION}:live"
    assert (reply["Name"], reply["FunctionVersion"], reply["Description"]) == ("live", "1", "d")
    assert reply["RoutingConfig"] == routing
    again = node.client.get_alias(FunctionName="f", Name="live")
    assert {**again, "ResponseMetadata": 0} == {**reply, "ResponseMetadata": 0}
    found = node.client.get_function(FunctionName="f:live")["Configuration"]
    assert (found["Version"], found["FunctionArn"]) == ("1", f"{FUNCTION}:live")


@pytest.mark.case("CP-47")
@pytest.mark.slow
def test_weights_share_invocations(node):
    node.create()
    node.publish()
    node.publish(Timeout=9)
    node.client.create_alias(
        FunctionName="f",
        Name="live",
        FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.2}},
    )
    executed = Counter(
        node.client.invoke(FunctionName="f", Qualifier="live")["ExecutedVersion"] for _ in range(1000)
    )
    assert executed.keys() == {"1", "2"}
    assert 150 <= executed["2"] <= 250


@pytest.mark.case("CP-48")
def test_an_empty_routing_removes_weights(node):
    node.create()
    node.publish()
    node.publish(Timeout=9)
    node.client.create_alias(
        FunctionName="f",
        Name="live",
        FunctionVersion="1",
        Description="kept",
        RoutingConfig={"AdditionalVersionWeights": {"2": 1.0}},
    )
    assert node.client.invoke(FunctionName="f:live")["ExecutedVersion"] == "2"
    reply = node.client.update_alias(FunctionName="f", Name="live", RoutingConfig={})
    assert "RoutingConfig" not in reply
    assert (reply["FunctionVersion"], reply["Description"]) == ("1", "kept")
    assert node.client.invoke(FunctionName="f:live")["ExecutedVersion"] == "1"
    node.client.update_alias(FunctionName="f", Name="live", FunctionVersion="2")
    assert node.client.invoke(FunctionName="f:live")["ExecutedVersion"] == "2"


@pytest.mark.parametrize(
    ("members", "code", "text"),
    [
        pytest.param(
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 0.1, "3": 0.1}}},
            INVALID,
            "Number of items in AdditionalVersionWeights cannot be greater than 1",
            marks=pytest.mark.case("CP-49"),
        ),
        pytest.param(
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
            INVALID,
            "Invalid function version 1. Function version 1 is already included in routing configuration.",
            marks=pytest.mark.case("CP-50"),
        ),
        pytest.param(
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"2": 2.0}}},
            CHECKED,
            "Map value must satisfy constraint: [Member must have value less than or equal to 1",
            marks=pytest.mark.case("CP-51"),
        ),
        pytest.param(
            {"FunctionVersion": "1", "Name": "2024"}, CHECKED, "at 'name'", marks=pytest.mark.case("CP-52")
        ),
        (
            {"FunctionVersion": "$LATEST", "RoutingConfig": {"AdditionalVersionWeights": {"1": 0.5}}},
            INVALID,
            "$LATEST is not supported for an alias pointing to more than 1 version",
        ),
        ({"FunctionVersion": "7"}, MISSING, f"Function not found: {FUNCTION}:7"),
        (
            {"FunctionVersion": "1", "RoutingConfig": {"AdditionalVersionWeights": {"7": 0.5}}},
            MISSING,
            f"Function not found: {FUNCTION}:7",
        ),
        ({"FunctionName": "g", "FunctionVersion": "1"}, MISSING, f"Function not found: {FUNCTION[:-1]}g"),
    ],
)
def test_an_alias_that_cannot_be(node, members, code, text):
    node.create()
    node.publish()
    _, found, message = node.refused("create_alias", **{"FunctionName": "f", "Name": "live", **members})
    assert found == code
    assert text in message
    assert node.client.list_aliases(FunctionName="f")["Aliases"] == []


@pytest.mark.case("CP-53")
def test_a_name_of_an_alias_is_taken_once(node):
    node.create()
    node.client.create_alias(FunctionName="f", Name="a", FunctionVersion="$LATEST")
    refusal = node.refused("create_alias", FunctionName="f", Name="a", FunctionVersion="$LATEST")
    assert refusal == (409, CONFLICT, f"Alias already exists: {FUNCTION}:a")


@pytest.mark.case("CP-54")
def test_an_unknown_alias_is_not_found(node):
    node.create()
    arn = f"{FUNCTION}:a"
    assert node.refused("get_alias", FunctionName="f", Name="a") == (
        404,
        MISSING,
        f"Cannot find alias arn: {arn}",
    )
    refusal = node.refused("update_alias", FunctionName="f", Name="a", Description="x")
    assert refusal == (404, MISSING, f"Alias not found: {arn}")
    for _ in range(2):
        reply = node.client.delete_alias(FunctionName="f", Name="a")
        assert reply["ResponseMetadata"]["HTTPStatusCode"] == 204


def test_aliases_are_listed_by_name_and_version(node):
    node.create()
    node.publish()
    for name, version in (("b", "1"), ("a", "$LATEST"), ("c", "1")):
        node.client.create_alias(FunctionName="f", Name=name, FunctionVersion=version)

    def listed(**members):
        found = node.client.list_aliases(FunctionName="f", **members)["Aliases"]
        return [alias["Name"] for alias in found]

    assert listed() == ["a", "b", "c"]
    assert listed(FunctionVersion="1") == ["b", "c"]
    assert node.refused("list_aliases", FunctionName="g")[1] == MISSING


def test_a_version_with_an_alias_is_not_deleted(node):
    node.create()
    node.publish()
    node.publish(Timeout=9)
    routing = {"AdditionalVersionWeights": {"2": 0.2}}
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1", RoutingConfig=routing)
    for version in ("1", "2"):
        status, code, text = node.refused("delete_function", FunctionName="f", Qualifier=version)
        assert (status, code) == (409, CONFLICT)
        assert text.endswith("[live]")
    node.client.delete_alias(FunctionName="f", Name="live")
    node.client.delete_function(FunctionName="f", Qualifier="1")
    assert versions(node) == ["$LATEST", "2"]
    assert node.refused("delete_function", FunctionName="f", Qualifier="live")[1] == INVALID


def test_a_stale_revision_of_an_alias_is_refused(node):
    node.create()
    first = node.client.create_alias(FunctionName="f", Name="a", FunctionVersion="$LATEST")["RevisionId"]
    second = node.client.update_alias(FunctionName="f", Name="a", Description="x", RevisionId=first)
    assert second["RevisionId"] != first
    refusal = node.refused("update_alias", FunctionName="f", Name="a", Description="y", RevisionId=first)
    assert refusal[:2] == (412, "PreconditionFailedException")


@pytest.mark.case("CP-118")
def test_every_version_counts_its_code(node):
    def usage():
        return node.client.get_account_settings()["AccountUsage"]

    assert usage() == {"TotalCodeSize": 0, "FunctionCount": 0}
    size = node.create()["CodeSize"]
    assert usage() == {"TotalCodeSize": size, "FunctionCount": 1}
    node.publish()
    assert usage() == {"TotalCodeSize": 2 * size, "FunctionCount": 1}
    node.publish(Timeout=9)
    assert usage() == {"TotalCodeSize": 3 * size, "FunctionCount": 1}
