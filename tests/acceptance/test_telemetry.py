"""Telemetry of a real node: subscribers that are programs in Python, JavaScript and C, over HTTP and TCP."""

from __future__ import annotations

import json
import shutil

import pytest

from .packages import HERE, compiled, extension, zip_of

EXTENSIONS = HERE / "extensions"
LOGS_API = ("js",)
HANDLER = """
import logging, sys
def handler(event, context):
    print("printed", event)
    print("complained", file=sys.stderr)
    logging.getLogger().warning("logged\\nin two lines")
    if event == "raise":
        raise ValueError("as it was told")
    return event
"""


def program(language, directory):
    if language == "c":
        return compiled(EXTENSIONS / "listener.c", directory / "listener")
    return EXTENSIONS / f"listener.{language}"


@pytest.mark.slow
@pytest.mark.parametrize("transport", ["HTTP", "TCP"])
@pytest.mark.parametrize("language", ["py", "c", *(["js"] if shutil.which("node") else [])])
def test_subscribers_in_any_language(node, function, tmp_path, language, transport):
    # Given an extension that prints what it is told
    layers = [extension("listener", program(language, tmp_path))]
    name = function(
        zip_of({"app.py": HANDLER}),
        layers=layers,
        Handler="app.handler",
        variables={"LISTEN_OVER": transport},
    )

    # When there are two invocations and a shutdown
    ids = [node.invoke(name, json.dumps(event).encode()).request_id for event in ("first", "raise")]
    said = []
    with node.following(name) as lines:
        node.client.update_function_configuration(FunctionName=name, Timeout=9)
        for line in lines:
            said.append(line["message"])
            if said[-1] == "the end":
                break

    # Then it was told of everything, each thing once
    assert 'subscribed: "OK"' in said
    events = [json.loads(line.removeprefix("heard: ")) for line in said if line.startswith("heard: ")]
    of = lambda kind: [event["record"] for event in events if event["type"] == kind]
    assert [record["requestId"] for record in of("platform.start")] == ids
    assert [record["requestId"] for record in of("platform.report")] == ids
    assert [record["status"] for record in of("platform.runtimeDone")] == ["success", "success"]
    assert len(of("platform.end")) == (2 if language in LOGS_API else 0)
    lines = of("function")
    assert [line for line in lines if line.startswith("printed")] == ["printed first\n", "printed raise\n"]
    assert lines.count("complained\n") == 2
    logged = [line for line in lines if "logged" in line]
    assert len(logged) == 2
    assert all(line.startswith("[WARNING]\t") and "in two lines" in line for line in logged)
    (trace,) = [line for line in lines if "as it was told" in line]
    assert trace.startswith("[ERROR] ValueError")
    assert "Traceback" in trace, "what is logged through the channel is one event, however long"
