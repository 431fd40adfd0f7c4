"""Subscribers that are killed, close, or answer nonsense, and functions that print whatever they like."""

from __future__ import annotations

import http.client
import json
import time

import pytest

from .nodes import eventually
from .packages import HERE, zip_of

pytestmark = pytest.mark.slow

FICKLE = (HERE / "extensions" / "fickle.py").read_bytes()
NUMBERED = (
    "def handler(event, context):\n    if event >= 0:\n        print(f'line {event}')\n    return event\n"
)
SHOUTING = """
import os, time
def handler(event, context):
    what = {
        "binary": bytes(range(1, 10)) + bytes(range(11, 32)) + b"\\n",
        "invalid": b"\\xff\\xfe and \\xc3\\n",
        "long": "ü".encode() * 5_000_000 + b"\\n",
        "endless": b"without an end",
    }[event]
    while what:
        what = what[os.write(1, what):]
    return event
"""


def subscribers(*names):
    return zip_of({f"extensions/{name}": FICKLE for name in names}, mode=0o755)


def heard(node, function, name):
    """Return what a subscriber says that it heard: (type, length, beginning)."""
    begin = f"{name}: heard "
    messages = (line["message"] for line in read_log(node, function))
    return [
        tuple(message.removeprefix(begin).split(" ", 2)) for message in messages if message.startswith(begin)
    ]


def read_log(node, function):
    connection = http.client.HTTPConnection(node.address, timeout=240)
    try:
        connection.request("GET", f"/_remora/logs?function={function}")
        return [json.loads(line) for line in connection.getresponse()]
    finally:
        connection.close()


@pytest.mark.parametrize("name", ["killed", "closing", "garbage", "killed-tcp"])
def test_a_fickle_subscriber_delays_nobody_and_loses_nothing_it_could_take(node, function, name):
    # Given a subscriber that is not to be relied upon, beside one that is
    function_name = function(
        zip_of({"app.py": NUMBERED}), layers=[subscribers(name, "steady")], Handler="app.handler"
    )
    # When there are invocations
    took = []
    for number in range(6):
        began = time.monotonic()
        assert node.invoke(function_name, str(number).encode(), tail=True).payload == number
        took.append(time.monotonic() - began)

    # Then none of them waits for it, and its neighbour hears everything
    assert max(took[1:]) < 20
    lines = [("function", "7", f"'line {number}\\n'") for number in range(6)]

    def heard_by(subscriber):
        """Let time pass in the environment, and return the lines that a subscriber has heard so far."""
        node.invoke(function_name, b"-1")
        return [each for each in dict.fromkeys(heard(node, function_name, subscriber)) if each in lines]

    assert eventually(lambda: heard_by("steady")[-1:] == lines[-1:])
    assert heard_by("steady") == lines
    # and so does it, when it listens again; what a TCP connection had taken is gone with it
    assert eventually(lambda: heard_by(name)[-1:] == lines[-1:])
    assert name.endswith("-tcp") or heard_by(name) == lines
    # and the environment is the same all the time
    assert len(node.environments(function_name)) == 1


def test_a_function_may_print_whatever_it_likes(node, function):
    name = function(
        zip_of({"app.py": SHOUTING}),
        layers=[subscribers("steady", "steady-tcp")],
        Handler="app.handler",
        Timeout=60,
        MemorySize=512,
    )
    for event in ("binary", "invalid", "long", "endless"):
        answer = node.invoke(name, json.dumps(event).encode(), tail=True)
        assert (answer.payload, answer.error) == (event, None)
        assert f"REPORT RequestId: {answer.request_id}" in answer.log
    node.client.update_function_configuration(FunctionName=name, Timeout=9)
    node.log_until(name, "steady: the end", "steady-tcp: the end")

    # Then each subscriber has heard it, or of how much it could not be told; what has no end ends with the
    # runtime, after them
    said = ascii("".join(map(chr, [*range(1, 10), *range(11, 32)])))
    for subscriber in ("steady", "steady-tcp"):
        told = heard(node, name, subscriber)
        lines = [each for each in told if each[0] == "function"]
        assert lines[:2] == [("function", "31", said), ("function", "9", ascii("\ufffd\ufffd and \ufffd\n"))]
        assert all(ascii("ü" * 30) == begin for _, size, begin in lines[2:] if int(size) > 30)
        dropped = [int(count) for kind, count, _ in told if kind == "platform.logsDropped"]
        assert len(lines) + (dropped[-1] if dropped else 0) == 2 + 39
    # and the log has it all
    written = read_log(node, name)
    assert "without an end" in [line["message"] for line in written]
    messages = [line["message"] for line in written if line["request_id"]]
    assert sum(message.count("ü") for message in messages) == 5_000_000
    assert not any("\ufffd" in message for message in messages if "ü" in message)
