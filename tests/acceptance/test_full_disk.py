"""A real node whose disk is full: what it refuses, what goes on, and what there is afterwards."""

from __future__ import annotations

import base64
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError

from .leftovers import leftovers
from .nodes import Node, eventually, unique
from .packages import RUNTIME, zip_of
from .services import client

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a node a small disk of its own"),
]

DISK = "64m"
CODE = zip_of(
    {"app.py": "def handler(event, context):\n    print('RUN', event.get('number'))\n    return 1\n"}
)
ACCOUNT = "123456789012"
"""The account that moto plays."""
ROLE = f"arn:aws:iam::{ACCOUNT}:role/r"


class Disk:
    """
    A small disk that only the node sees, and the node on it.

    Args:
        data: Where the node keeps what it keeps; the disk is mounted there.
        arguments: More of the node's command line.
    """

    def __init__(self, data: Path, *arguments: str) -> None:
        data.mkdir(parents=True)
        script = f'mount -t tmpfs -o size={DISK} none "$1" && echo && exec sleep infinity'
        self._holder = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", script, "sh", data], stdout=subprocess.PIPE
        )
        assert self._holder.stdout is not None
        assert self._holder.stdout.readline() == b"\n", "the disk could not be mounted"
        self._data, self._arguments = data, arguments
        self._ballast = Path(f"/proc/{self._holder.pid}/root{data}/ballast")
        self.node = self.start()

    def start(self) -> Node:
        """Start a node on the disk."""
        self.node = Node(
            self._data, *self._arguments, prefix=("nsenter", f"--mount=/proc/{self._holder.pid}/ns/mnt")
        )
        return self.node

    def fill(self) -> None:
        """Leave no room at all."""
        with self._ballast.open("ab", buffering=0) as file:
            for size in (1024 * 1024, 4096, 1):
                with suppress(OSError):
                    while file.write(bytes(size)) == size:
                        pass

    def empty(self) -> None:
        """Give the room back."""
        self._ballast.unlink()

    def close(self) -> None:
        if self.node.process.poll() is None:
            self.node.terminate()
        self._holder.kill()
        self._holder.communicate()


@pytest.fixture
def disk(data: Path, services: str) -> Iterator[Disk]:
    disk = Disk(data, "--account", ACCOUNT, "--aws-endpoint", services, "--event-pace", "0.01")
    try:
        yield disk
    finally:
        disk.close()
    assert leftovers(data) == []


def refused(call: Callable[[], object]) -> str:
    """Make a request until it is refused (SQLite has some MB of log to write over); return the text."""
    for _ in range(1_000):
        try:
            call()
        except ClientError as error:
            if error.response["ResponseMetadata"]["HTTPStatusCode"] != 500:
                raise
            return error.response["Error"]["Message"]
    raise AssertionError("the disk takes more and more")


def names(node: Node) -> set[str]:
    return {each["FunctionName"] for each in node.client.list_functions()["Functions"]}


def random_package() -> bytes:
    return zip_of({"app.py": base64.b64encode(os.urandom(300_000))})


def changes(node: Node, s3: Any, ssm: Any) -> dict[str, Any]:
    """Return what changes something, each to be called as often as it goes."""
    client, fresh = node.client, {"Runtime": RUNTIME, "Handler": "app.handler", "Role": ROLE}

    def publish() -> None:
        client.update_function_configuration(FunctionName="f", Description=unique("x" * 200))
        node.wait("function_updated_v2", "f")
        client.publish_version(FunctionName="f")  # without a change there is nothing to publish

    return {
        "CreateFunction": lambda: client.create_function(
            FunctionName=unique("new"), Code={"ZipFile": random_package()}, **fresh
        ),
        "UpdateFunctionCode": lambda: client.update_function_code(
            FunctionName="f", ZipFile=random_package(), Publish=True
        ),
        "PublishVersion": publish,
        "PublishLayerVersion": lambda: client.publish_layer_version(
            LayerName="l", Content={"ZipFile": random_package()}
        ),
        "PutObject": lambda: s3.put_object(Bucket="bucket", Key="large", Body=os.urandom(300_000)),
        "PutParameter": lambda: ssm.put_parameter(Name=unique("p"), Value="x" * 4000, Type="String"),
    }


def state(node: Node, s3: Any) -> Any:
    """Return what the node says that it has."""
    versions = node.client.list_versions_by_function(FunctionName="f")["Versions"]
    layers = node.client.list_layer_versions(LayerName="l")["LayerVersions"]
    objects = s3.list_objects_v2(Bucket="bucket")["Contents"]
    return [
        names(node),
        [(each["Version"], each["CodeSha256"], each["Description"]) for each in versions],
        [each["Version"] for each in layers],
        [(each["Key"], each["ETag"]) for each in objects],
    ]


@pytest.mark.parametrize("is_killed", [False, True], ids=["goes on", "killed"])
def test_a_full_disk_refuses_changes_and_loses_nothing_it_took(disk, queue, is_killed):
    node = disk.node
    s3, ssm = client("s3", node.endpoint), client("ssm", node.endpoint)
    s3.create_bucket(Bucket="bucket")
    s3.put_object(Bucket="bucket", Key="before", Body=b"1")
    node.create(CODE, FunctionName="f", Runtime=RUNTIME, Handler="app.handler", Timeout=20)
    targets = {how: {"Destination": queue.arn} for how in ("OnSuccess", "OnFailure")}
    node.client.put_function_event_invoke_config(FunctionName="f", DestinationConfig=targets)
    assert node.invoke("f").payload == 1
    disk.fill()
    # When something is changed, then it is refused in the end
    for name, change in changes(node, s3, ssm).items():
        text = refused(change)
        assert "disk" in text, f"{name}: {text}"
    # and events are accepted or refused
    accepted = set()

    def send() -> None:
        payload = b'{"much": "%s"}' % (b"x" * 200_000)
        got = node.client.invoke(FunctionName="f", InvocationType="Event", Payload=payload)
        accepted.add(got["ResponseMetadata"]["RequestId"])

    assert "disk" in refused(send)
    # and what needs no disk goes on.
    assert [node.invoke("f").payload for _ in range(20)] == [1] * 20
    assert node.get("health")["status"] == "ok"
    assert s3.get_object(Bucket="bucket", Key="before")["Body"].read() == b"1"
    before = state(node, s3)
    # When there is room again, then all that was taken is there, and everything works.
    if is_killed:
        node.kill()
        disk.empty()
        node = disk.start()
        s3, ssm = client("s3", node.endpoint), client("ssm", node.endpoint)
    else:
        disk.empty()
    assert state(node, s3) == before
    for change in changes(node, s3, ssm).values():
        change()
        node.wait("function_updated_v2", "f")
    send()
    ended: set[str] = set()

    def have_ended() -> bool:
        ended.update(record["requestContext"]["requestId"] for record in queue.all_records())
        return ended >= accepted

    eventually(have_ended)
    node.client.update_function_code(FunctionName="f", ZipFile=CODE)
    node.wait("function_updated_v2", "f")
    answer = node.invoke("f", {"number": "after"})
    assert answer.payload == 1
    node.log_until("f", "RUN after")
