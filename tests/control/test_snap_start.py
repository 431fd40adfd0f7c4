"""Versions with SnapStart, through boto3: their states, and what becomes of snapshots in time."""

from __future__ import annotations

import errno
import time
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError

from remora.control import preparation, snap_start
from remora.lifecycle.messages import Failure
from remora.pool.snapshots import SnapshotDelayed

DAY_MS = 24 * 3600 * 1000
NOT_READY = (409, "SnapStartNotReadyException")


def eventually(is_true, within_s=60):
    end = time.monotonic() + within_s
    while not (value := is_true()):
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)
    return value


def published(node, runtime="java17", **members):
    """Create a function and publish it; return its name."""
    node.create(FunctionName="f", Runtime=runtime, SnapStart={"ApplyOn": "PublishedVersions"}, **members)
    node.client.publish_version(FunctionName="f")
    return "f"


def state(node, name="f", version="1"):
    found = node.client.get_function_configuration(FunctionName=name, Qualifier=version)
    return found["State"], found.get("StateReasonCode"), found["SnapStart"]["OptimizationStatus"]


def becomes(node, *wanted):
    eventually(lambda: state(node) == wanted)


ACTIVE = ("Active", None, "On")


@pytest.mark.case("SS-1")
def test_a_version_waits_for_its_snapshot(node):
    node.taker.gate.clear()
    name = published(node)
    assert state(node) == ("Pending", "Creating", "Off")
    assert state(node, version="$LATEST") == ("Active", None, "Off")
    assert node.refused("invoke", FunctionName=name, Qualifier="1")[:2] == (409, "ResourceConflictException")
    node.taker.gate.set()
    becomes(node, *ACTIVE)
    assert node.client.invoke(FunctionName=name, Qualifier="1", Payload=b"1")["Payload"].read() == b"1"


def test_a_version_that_is_created_with_its_function_waits_for_both(node):
    node.runtimes.gate.clear()
    node.create(
        FunctionName="f",
        Runtime="java17",
        SnapStart={"ApplyOn": "PublishedVersions"},
        Publish=True,
        wait=False,
    )
    assert node.taker.taken == []
    node.runtimes.gate.set()
    becomes(node, *ACTIVE)
    assert node.taker.taken == ["f:1"]


@pytest.mark.parametrize(
    ("error_type", "code"),
    [
        ("Sandbox.Timedout", "FunctionError.InitTimeout"),
        ("Runtime.ExitError", "FunctionError.RuntimeInitError"),
        ("Extension.Crash", "FunctionError.ExtensionInitError"),
        ("InternalError", "InternalError"),
    ],
)
def test_a_version_without_a_snapshot_has_failed(node, error_type, code):
    node.taker.failure = Failure(error_type, "for a test")
    name = published(node)
    becomes(node, "Failed", code, "Off")
    status, found, message = node.refused("invoke", FunctionName=name, Qualifier="1")
    assert (status, found) == (409, "ResourceConflictException")
    assert message.startswith("AWS Lambda could not invoke your SnapStart function.")


def test_a_snapshot_that_was_not_finished_is_taken_by_the_next_node(running, tmp_path):
    with running(tmp_path) as node:
        node.taker.gate.clear()
        published(node)
    with running(tmp_path) as node:
        becomes(node, *ACTIVE)
        assert node.taker.taken == ["f:1"]


@pytest.mark.case("CP-113")
@pytest.mark.case("SS-36")
def test_a_snapshot_that_nobody_uses_goes_and_is_made_anew(running, tmp_path):
    with running(tmp_path) as node:
        published(node)
        becomes(node, *ACTIVE)
    with running(tmp_path, shift_ms=13 * DAY_MS) as node:
        assert state(node) == ACTIVE
        deployment = node.used("f", "1")
        eventually(lambda: node.control.state.view.versions["f"][1].last_used_ms > deployment.last_used_ms)
    with running(tmp_path, shift_ms=15 * DAY_MS) as node:
        assert state(node) == ACTIVE
    with running(tmp_path, shift_ms=28 * DAY_MS) as node:
        becomes(node, "Inactive", "Idle", "Off")
        eventually(lambda: node.taker.dropped == ["f:1"])
        node.taker.gate.clear()
        assert node.refused("invoke", FunctionName="f", Qualifier="1")[:2] == NOT_READY
        becomes(node, "Pending", "Restoring", "Off")
        node.taker.gate.set()
        becomes(node, *ACTIVE)
        assert node.client.invoke(FunctionName="f", Qualifier="1")["StatusCode"] == 200


def test_snapshots_of_python_stay(running, tmp_path):
    with running(tmp_path) as node:
        published(node, "python3.12")
        becomes(node, *ACTIVE)
    with running(tmp_path, shift_ms=400 * DAY_MS) as node:
        assert state(node) == ACTIVE
        assert node.taker.dropped == []


@pytest.mark.case("SS-42")
def test_a_snapshot_that_is_lost_is_made_anew_and_if_that_fails_the_version_is_inactive(node):
    name = published(node)
    becomes(node, *ACTIVE)
    node.taker.failure = Failure("Runtime.ExitError", "for a test")
    node.lost(name, "1")
    becomes(node, "Inactive", "InternalError", "Off")
    refusal = node.refused("invoke", FunctionName=name, Qualifier="1")
    assert refusal[:2] == (409, "SnapStartRegenerationFailureException")
    node.taker.failure = None

    def is_back():
        with suppress(ClientError):
            return node.client.invoke(FunctionName=name, Qualifier="1")["StatusCode"] == 200

    eventually(is_back)
    assert state(node) == ACTIVE


@pytest.mark.case("SS-37")
def test_deleted_versions_leave_no_snapshots(node):
    name = published(node)
    becomes(node, *ACTIVE)
    node.client.update_function_configuration(FunctionName=name, Description="another")
    node.client.get_waiter("function_updated_v2").wait(FunctionName=name)
    node.client.publish_version(FunctionName=name)
    eventually(lambda: state(node, version="2") == ACTIVE)
    node.client.delete_function(FunctionName=name, Qualifier="1")
    eventually(lambda: node.taker.dropped == ["f:1"])
    node.client.delete_function(FunctionName=name)
    eventually(lambda: node.taker.dropped == ["f:1", "f:2"])


@pytest.mark.case("SS-33")
def test_what_does_not_go_with_it_is_refused_either_way(node):
    name = published(node)
    becomes(node, *ACTIVE)
    config = {"FunctionName": name, "Qualifier": "1", "ProvisionedConcurrentExecutions": 1}
    for operation, members in (
        ("put_provisioned_concurrency_config", config),
        ("update_function_configuration", {"FunctionName": name, "EphemeralStorage": {"Size": 1024}}),
        ("update_function_configuration", {"FunctionName": name, "Runtime": "provided.al2023"}),
    ):
        status, code, message = node.refused(operation, **members)
        assert (status, code) == (400, "InvalidParameterValueException")
        assert "SnapStart enabled functions." in message
    node.create("large", EphemeralStorage={"Size": 1024}, Runtime="java17")
    status, code, message = node.refused(
        "update_function_configuration", FunctionName="large", SnapStart={"ApplyOn": "PublishedVersions"}
    )
    assert (status, code) == (400, "InvalidParameterValueException")


def test_a_version_gets_its_snapshot_although_an_update_of_its_function_fails(node):
    node.taker.gate.clear()
    name = published(node)
    assert state(node) == ("Pending", "Creating", "Off")
    node.client.update_function_configuration(FunctionName=name, Description="first")
    node.client.get_waiter("function_updated_v2").wait(FunctionName=name)
    node.runtimes.gate.clear()
    node.runtimes.missing.add("java17")
    node.client.update_function_configuration(FunctionName=name, Description="another", MemorySize=256)
    node.taker.gate.set()
    becomes(node, *ACTIVE)
    node.runtimes.gate.set()
    eventually(
        lambda: node.client.get_function_configuration(FunctionName=name)["LastUpdateStatus"] == "Failed"
    )
    assert state(node) == ACTIVE


def test_a_snapshot_that_many_find_lost_is_made_anew_once(node):
    name = published(node)
    becomes(node, *ACTIVE)
    node.taker.gate.clear()
    for _ in range(5):
        node.lost(name, "1")
        assert state(node) == ("Pending", "Restoring", "Off")  # before who found it out is answered
    node.taker.gate.set()
    becomes(node, *ACTIVE)
    assert node.taker.taken == ["f:1"] * 2


def test_a_snapshot_that_is_lost_while_the_disk_is_full_is_made_anew_when_there_is_room(node, monkeypatch):
    monkeypatch.setattr(preparation, "RETRY_S", 0.05)
    name = published(node)
    becomes(node, *ACTIVE)
    node.commits_fail("the disk is full")
    node.lost(name, "1")
    node.wait_for_commit()
    assert state(node) == ACTIVE
    node.commits_fail(None)
    eventually(lambda: node.taker.taken == ["f:1"] * 2)
    becomes(node, *ACTIVE)


@pytest.mark.case("SS-33")
def test_an_alias_with_provisioned_concurrency_takes_no_version_with_snapstart(node):
    node.create(FunctionName="f", Runtime="java17")
    node.client.publish_version(FunctionName="f")
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    config = {"FunctionName": "f", "Qualifier": "live", "ProvisionedConcurrentExecutions": 1}
    node.client.put_provisioned_concurrency_config(**config)
    node.client.update_function_configuration(
        FunctionName="f", SnapStart={"ApplyOn": "PublishedVersions"}, Description="restored"
    )
    node.client.get_waiter("function_updated_v2").wait(FunctionName="f")
    node.client.publish_version(FunctionName="f")
    refusal = node.refused("update_alias", FunctionName="f", Name="live", FunctionVersion="2")
    assert refusal[:2] == (400, "InvalidParameterValueException")


def test_what_may_pass_is_tried_again_but_not_for_ever(node, monkeypatch):
    monkeypatch.setattr(snap_start, "RETRY_S", 0)
    node.taker.error = SnapshotDelayed("a request is under way")
    name = published(node)
    becomes(node, "Failed", "InternalError", "Off")
    assert node.taker.refusals == snap_start.TRIES_MAX
    found = node.client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert found["StateReason"] == "a request is under way"


def test_no_room_may_be_the_cause_of_another_error(node, monkeypatch):
    monkeypatch.setattr(snap_start, "RETRY_S", 0)
    node.taker.error = SnapshotDelayed("no sandbox")
    node.taker.error.__cause__ = OSError(errno.EDQUOT, "Disk quota exceeded")
    published(node)
    eventually(lambda: node.taker.refusals > snap_start.TRIES_MAX)
    assert state(node) == ("Pending", "Creating", "Off")
    node.taker.error = None
    becomes(node, *ACTIVE)


def test_a_snapshot_for_which_there_is_no_room_is_taken_when_there_is(node, monkeypatch):
    monkeypatch.setattr(snap_start, "RETRY_S", 0)
    node.taker.error = OSError(errno.ENOSPC, "No space left on device")
    published(node)
    eventually(lambda: node.taker.refusals > 1)
    assert state(node) == ("Pending", "Creating", "Off")
    node.taker.error = None
    becomes(node, *ACTIVE)
