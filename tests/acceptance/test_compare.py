"""`remora compare`: versions and layers of a real node, and directories without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess

import pytest

from .nodes import PATIENCE_S, REMORA, eventually
from .packages import actors, zip_of

pytestmark = pytest.mark.slow

HANDLER = "import time\ndef handler(event, context):\n    time.sleep({pause})\n    return event\n"


def remora_compare(*arguments, **settings):
    command = [str(REMORA), "compare", *map(str, arguments)]
    settings = {"capture_output": True, "text": True, "timeout": PATIENCE_S * 2, **settings}
    return subprocess.run(command, check=False, **settings)


def metrics(document):
    return {each["name"]: each for each in document["metrics"]}


@pytest.fixture
def versions(node, function):
    """A function whose second version takes 200 ms longer."""
    name = function(zip_of({"app.py": HANDLER.format(pause=0)}))
    node.client.publish_version(FunctionName=name)
    node.client.update_function_code(FunctionName=name, ZipFile=zip_of({"app.py": HANDLER.format(pause=0.2)}))
    node.wait("function_updated_v2", name)
    node.client.publish_version(FunctionName=name)
    node.client.create_alias(FunctionName=name, Name="live", FunctionVersion="2")
    return name


def test_two_versions_of_a_function(node, versions, tmp_path):
    event = tmp_path / "event.json"
    event.write_text('{"n": 1}')
    common = ("--endpoint", node.endpoint, "--rounds", 5, "--warm", 3, "--event", event)
    done = remora_compare(f"{versions}:1", f"{versions}:live", *common, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    # Then every round had an environment of its own
    for each, version in zip(told["functions"], ("1", "live"), strict=True):
        assert each["name"] == f"{versions}:{version}"
        assert [len(invocations) for invocations in each["rounds"]] == [4] * 5
        assert all(cold["init_ms"] > 0 for cold, *_ in each["rounds"])
        assert all(warm["init_ms"] is None for _, *others in each["rounds"] for warm in others)
    # and what differs is told, what does not is not
    found = metrics(told)
    slower = found["duration, warm"]["difference"]
    assert slower["is_beyond_noise"]
    assert slower["estimate"] > 150
    assert found["cost of 1M, warm"]["difference"]["is_beyond_noise"]
    assert "post-runtime, warm" not in found

    # and people can read it
    text = remora_compare(f"{versions}:1", f"{versions}:2", *common)
    (line,) = [line for line in text.stdout.splitlines() if line.startswith("duration, warm")]
    assert line.endswith("*")


def test_without_a_layer_of_a_function(node, function):
    name = function(does={"tracer": {"after_invoke_s": 0.2}}, MemorySize=256)
    before = {each["FunctionName"] for each in node.client.list_functions()["Functions"]}
    layer = node.client.get_function_configuration(FunctionName=name)["Layers"][0]["Arn"]
    common = ("--endpoint", node.endpoint, "--rounds", 5, "--warm", 2)
    for word in (layer, layer.split(":")[6]):
        done = remora_compare(name, "--without", word, *common, "--json")
        assert done.returncode == 0, done.stderr
        found = metrics(json.loads(done.stdout))
        assert found["duration, warm"]["difference"]["estimate"] < -100
        assert found["duration, warm"]["difference"]["is_beyond_noise"]
        assert found["post-runtime, warm"]["first"]["median"] > 50
        assert found["post-runtime, warm"]["second"] is None
    assert {each["FunctionName"] for each in node.client.list_functions()["Functions"]} == before


def test_a_copy_is_deleted_when_the_command_is_ended(node, function):
    name = function(does={"tracer": {}})
    copies = lambda: [
        each["FunctionName"]
        for each in node.client.list_functions()["Functions"]
        if each["FunctionName"].startswith(f"{name}-without-")
    ]
    layer = node.client.get_function_configuration(FunctionName=name)["Layers"][0]["Arn"]
    command = [
        str(REMORA),
        "compare",
        name,
        "--without",
        layer,
        "--rounds",
        "500",
        "--endpoint",
        node.endpoint,
    ]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        eventually(lambda: any(node.environments(each) for each in copies()))
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE_S) == 130
    assert copies() == []


def test_what_cannot_be_compared_is_said(node, function):
    name = function()
    at = ("--endpoint", node.endpoint)
    for arguments, code, text in (
        ((name, *at), 2, "--without"),
        ((name, f"{name}:7", *at), 1, "could not find"),
        ((name, "--without", "nothing", *at), 1, "no layer 'nothing'"),
        ((name, name, "--endpoint", "http://127.0.0.1:9"), 3, "could not reach"),
        ((f".{os.sep}nothing", "--without", "x"), 1, "no directory"),
        ((name, ".", *at), 2, "two of one kind"),
    ):
        done = remora_compare(*arguments)
        assert (done.returncode, text in done.stderr) == (code, True), done.stderr


def test_a_function_that_fails_is_measured_and_makes_it_fail(node, function):
    name = function(zip_of({"app.py": "def handler(event, context):\n    raise ValueError\n"}))
    done = remora_compare(name, name, "--endpoint", node.endpoint, "--rounds", 5, "--warm", 0)
    assert done.returncode == 1
    assert f"{name}: 5 of 5 invocations failed" in done.stdout


def test_directories_without_a_node(tmp_path):
    layer = tmp_path / "tracer.zip"
    layer.write_bytes(actors("tracer"))
    function = tmp_path / "function"
    function.mkdir()
    (function / "app.py").write_text(HANDLER.format(pause=0))
    does = json.dumps({"tracer": {"after_invoke_s": 0.05}})
    common = ("--layer", layer, "--env", f"ACTORS={does}", "--rounds", 5, "--warm", 1, "--json")
    done = remora_compare(function, "--without", "tracer.zip", *common)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert [each["name"] for each in told["functions"]] == [str(function), "without tracer.zip"]
    assert metrics(told)["duration, warm"]["difference"]["is_beyond_noise"]
    done = remora_compare(function, "--without", "other", *common)
    assert (done.returncode, "no layer 'other'" in done.stderr) == (1, True)
