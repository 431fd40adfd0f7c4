"""What a node finds again: after an orderly end, after a kill, after a full disk."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from remora.control import preparation
from remora.store.base import StoreError


def test_a_restart_finds_everything_again(tmp_path, running):
    with running(tmp_path / "data") as node:
        arn = node.layer("l", {"x": "1"})
        node.create(Layers=[arn], Tags={"a": "b"}, Environment={"Variables": {"AA": "1"}})
        before = node.client.get_function(FunctionName="f")
        layers = node.client.list_layer_versions(LayerName="l")["LayerVersions"]
    with running(tmp_path / "data") as node:
        after = node.client.get_function(FunctionName="f")
        assert after["Configuration"] == before["Configuration"]
        assert after["Tags"] == {"a": "b"}
        with urllib.request.urlopen(after["Code"]["Location"]) as answer:
            assert answer.read() == node.zip()
        assert node.client.list_layer_versions(LayerName="l")["LayerVersions"] == layers
        assert node.invoke() == {}
        assert (node.pool.calls[0][0].opt / "x").read_text() == "1"
        assert node.layer("l") == arn.removesuffix("1") + "2"


def test_a_deployment_is_the_same_after_a_restart(tmp_path, running):
    keys = []
    for _ in range(2):
        with running(tmp_path / "data") as node:
            if not keys:
                node.create()
            node.invoke()
            keys.append(node.pool.calls[0][0].key)
    assert keys[0] == keys[1]


def test_preparations_that_were_interrupted_are_begun_again(tmp_path, running):
    with running(tmp_path / "data") as node:
        node.create("updated")
        node.runtimes.gate.clear()
        node.create("created", wait=False)
        node.client.update_function_configuration(FunctionName="updated", Timeout=9)
    with running(tmp_path / "data") as node:
        for name in ("created", "updated"):
            found = node.settle(name)
            assert (found["State"], found["LastUpdateStatus"]) == ("Active", "Successful")
        assert node.settle("updated")["Timeout"] == 9


def test_directories_are_made_again_when_they_are_gone(tmp_path, running):
    with running(tmp_path / "data") as node:
        node.create(Layers=[node.layer("l", {"x": "1"})])
    (tmp_path / "data/boot-id").write_text("another start of the machine\n")
    with running(tmp_path / "data") as node:
        assert list((tmp_path / "data/code").iterdir()) == []
        node.invoke()
        deployment, _ = node.pool.calls[0]
        assert (deployment.task / "h.py").exists()
        assert (deployment.opt / "x").exists()


def test_a_second_node_is_told_who_has_the_data(tmp_path, running):
    with running(tmp_path / "data") as node:
        with pytest.raises(StoreError, match=f"used by another node \\(process {os.getpid()}\\)"):
            running(tmp_path / "data").__enter__()
        node.create()


def test_what_nobody_refers_to_is_removed(tmp_path, running):
    data = tmp_path / "data"
    with running(data) as node:
        node.create()
        node.client.update_function_code(FunctionName="f", ZipFile=node.zip({"h.py": "2"}))
        node.settle()
        node.client.publish_layer_version(LayerName="l", Content={"ZipFile": node.zip({"x": "1"})})
        node.client.delete_layer_version(LayerName="l", VersionNumber=1)
        node.refused("create_function", FunctionName="g", Code={"ZipFile": node.zip({"g": "1"})})
        node.wait_until_cleaned()
        assert _kept(data / "blobs") == 1
        assert _kept(data / "code") == 1
    (data / "blobs" / ".new-left").write_bytes(b"1")
    (data / "blobs" / ("0" * 64)).write_bytes(b"1")
    (data / "code" / ".new-left").mkdir()
    with running(data) as node:
        node.wait_until_cleaned()
        assert _kept(data / "blobs") == 1
        assert _kept(data / "code") == 1
        node.invoke()


def test_directories_stay_while_an_environment_may_use_them(node):
    node.create()
    node.invoke()
    deployment = node.pool.calls.pop()[0]
    node.client.delete_function(FunctionName="f")
    node.wait_until_cleaned()
    assert (deployment.task / "h.py").exists()
    task = deployment.task
    del deployment
    node.wait_until_cleaned()
    assert not task.exists()


def test_a_full_disk_is_told_and_nothing_is_half_done(node, monkeypatch):
    monkeypatch.setattr(preparation, "RETRY_S", 0.01)
    node.create()
    node.commits_fail("the disk is full")
    for operation, members in (
        ("create_function", {"Runtime": "python3.12", "Role": node.role, "Handler": "h.h"}),
        ("delete_function", {}),
        ("update_function_configuration", {"Timeout": 7}),
    ):
        name = "g" if operation == "create_function" else "f"
        if operation == "create_function":
            members["Code"] = {"ZipFile": node.zip({"g": "1"})}
        status, code, text = node.refused(operation, FunctionName=name, **members)
        assert (status, code) == (500, "ServiceException")
        assert "the disk is full" in text
    assert [function["FunctionName"] for function in node.client.list_functions()["Functions"]] == ["f"]
    assert node.settle()["Timeout"] == 3
    node.wait_until_cleaned()
    assert _kept(node.directory / "blobs") == 1
    node.commits_fail(None)
    node.create("g")


def test_a_preparation_outlasts_a_full_disk(node, monkeypatch):
    monkeypatch.setattr(preparation, "RETRY_S", 0.01)
    node.runtimes.gate.clear()
    node.create(wait=False)
    node.commits_fail("the disk is full")
    node.runtimes.gate.set()
    node.wait_for_commit()
    assert node.client.get_function_configuration(FunctionName="f")["State"] == "Pending"
    node.commits_fail(None)
    assert node.settle()["State"] == "Active"


_NODE = """
import importlib.util, pathlib, sys
spec = importlib.util.spec_from_file_location("parts", sys.argv[1])
parts = importlib.util.module_from_spec(spec)
sys.modules["parts"] = parts
spec.loader.exec_module(parts)
node = parts.Node(pathlib.Path(sys.argv[2]))
node.start()
print(node.port, flush=True)
node._thread.join()
"""


@pytest.mark.slow
@pytest.mark.parametrize("acknowledged_min", [1, 9, 23])
def test_a_kill_loses_nothing_that_was_acknowledged(tmp_path, running, acknowledged_min):
    data = tmp_path / "data"
    process = subprocess.Popen(
        [sys.executable, "-c", _NODE, str(Path(__file__).with_name("conftest.py")), str(data)],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout:
        endpoint = f"http://127.0.0.1:{int(process.stdout.readline())}"
    client = boto3.client(
        "lambda",
        region_name="us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id="any",
        aws_secret_access_key="any",
        config=Config(retries={"max_attempts": 0}, max_pool_connections=8),
    )
    acknowledged: dict[str, str] = {}
    enough = threading.Event()

    def create(number: int) -> None:
        content = _zip_of(number)
        for step in range(1000):
            name = f"f{number}-{step}"
            try:
                reply = client.create_function(
                    FunctionName=name,
                    Runtime="python3.12",
                    Role="arn:aws:iam::000000000000:role/anything",
                    Handler="h.h",
                    Code={"ZipFile": content},
                )
            except (BotoCoreError, ClientError, HTTPClientError):
                return
            acknowledged[name] = reply["CodeSha256"]
            if len(acknowledged) >= acknowledged_min:
                enough.set()

    with ThreadPoolExecutor(4) as threads:
        futures = [threads.submit(create, number) for number in range(4)]
        enough.wait(60)
        process.send_signal(signal.SIGKILL)
        process.wait()
        for future in futures:
            future.result()
    client.close()
    assert len(acknowledged) >= acknowledged_min

    with running(data) as node:
        for name, sha in acknowledged.items():
            found = node.settle(name)
            assert (found["State"], found["CodeSha256"]) == ("Active", sha)
            assert node.invoke(name) == {}
    # The sweep at the start may still have been at work; nothing is when the node has stopped.
    assert not list(data.rglob(".new-*"))


def _kept(directory: Path) -> int:
    """Count what has a name of its own; what a sweep in the background is removing has none any more."""
    return sum(not path.name.startswith(".new-") for path in directory.iterdir())


def _zip_of(number: int) -> bytes:
    import io
    import zipfile

    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("h.py", json.dumps(number))
    return buffer.getvalue()
