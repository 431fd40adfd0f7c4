"""Versions and aliases of a real function: each runs in environments of its own, side by side."""

import json
import threading

import pytest

from .nodes import eventually
from .packages import zip_of

SOURCE = """
import os, time
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {
        "kind": os.environ["KIND"],
        "version": [context.function_version, os.environ["AWS_LAMBDA_FUNCTION_VERSION"]],
        "arn": context.invoked_function_arn,
        "stream": context.log_stream_name,
        "environment": context.log_stream_name[-32:],
    }
"""


@pytest.mark.slow
def test_versions_live_side_by_side(node, function):
    # Given two versions, and $LATEST which is newer than both
    name = function(zip_of({"app.py": SOURCE}), variables={"KIND": "first"})
    client = node.client
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    for number, kind in ((2, "second"), (3, None)):
        client.update_function_configuration(
            FunctionName=name, Environment={"Variables": {"KIND": kind or "latest"}}
        )
        node.wait("function_updated_v2", name)
        if kind:
            assert client.publish_version(FunctionName=name)["Version"] == str(number)
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")

    # When all of them are invoked at once
    def invoke(qualifier):
        reply = client.invoke(FunctionName=name, Qualifier=qualifier, Payload=b'{"sleep": 0.3}')
        return reply["ExecutedVersion"], json.loads(reply["Payload"].read())

    answers = {}
    threads = [
        threading.Thread(target=lambda each=qualifier: answers.update({each: invoke(each)}))
        for qualifier in ("1", "2", "$LATEST", "live")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    # Then each ran what it stands for, and the function knows it
    expected = {
        "1": ("1", "first"),
        "2": ("2", "second"),
        "$LATEST": ("$LATEST", "latest"),
        "live": ("1", "first"),
    }
    for qualifier, (version, kind) in expected.items():
        executed, told = answers[qualifier]
        assert executed == version
        assert (told["kind"], told["version"]) == (kind, [version, version])
        assert told["arn"].endswith(f":{name}:{qualifier}")
        assert f"/[{version}]" in told["stream"]
    assert len({told["environment"] for _, told in answers.values()}) == 4

    # And an update of $LATEST leaves the environments of versions alone
    client.update_function_configuration(FunctionName=name, Timeout=9)
    node.wait("function_updated_v2", name)
    again = {answers["1"][1]["environment"], answers["live"][1]["environment"]}
    assert invoke("1")[1]["environment"] in again
    assert invoke("$LATEST")[1]["environment"] != answers["$LATEST"][1]["environment"]


@pytest.mark.slow
@pytest.mark.case("CP-29")
def test_an_update_does_not_disturb_what_runs(node, function, tmp_path):
    # Given an invocation that runs until it is told to end
    source = """
import time
def handler(event, context):
    end = time.monotonic() + event["sleep"]
    while time.monotonic() < end:
        time.sleep(0.01)
    return "{}"
"""
    name = function(zip_of({"app.py": source.replace("{}", "old")}))
    node.invoke(name, {"sleep": 0})
    answers = []
    running = threading.Thread(target=lambda: answers.append(node.invoke(name, {"sleep": 3}).payload))
    running.start()
    eventually(lambda: any(each["state"] == "busy" for each in node.environments(name)))

    # When the code is updated, and invoked again
    code = zip_of({"app.py": source.replace("{}", "new")})
    node.client.update_function_code(FunctionName=name, ZipFile=code)
    node.wait("function_updated_v2", name)
    new = node.invoke(name, {"sleep": 0}).payload
    assert running.is_alive()
    running.join()

    # Then the first has the old result, the second the new
    assert (answers, new) == (["old"], "new")
