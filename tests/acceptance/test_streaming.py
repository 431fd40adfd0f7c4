"""Responses that are streamed by a real process to boto3, through a real node."""

import time
from pathlib import Path

import pytest

from .packages import zip_of

MIB = 1024 * 1024
BOOTSTRAP = """#!/usr/bin/python3 -BIS
import base64, json, os, socket, time

def call(head, body=b""):
    host, port = os.environ["AWS_LAMBDA_RUNTIME_API"].split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall((head + "\\r\\nHost: x\\r\\n").encode())
    return connection

def answer(connection):
    data = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = data.partition(b"\\r\\n\\r\\n")
    return head.decode(), body

while True:
    connection = call("GET /2018-06-01/runtime/invocation/next HTTP/1.1\\r\\nConnection: close")
    connection.sendall(b"\\r\\n")
    head, body = answer(connection)
    lines = dict(line.lower().split(": ", 1) for line in head.split("\\r\\n")[1:])
    event = json.loads(body)
    connection = call("POST /2018-06-01/runtime/invocation/%s/response HTTP/1.1\\r\\nConnection: close\\r\\n"
                      "Content-Type: text/plain\\r\\nTransfer-Encoding: chunked\\r\\n"
                      "Lambda-Runtime-Function-Response-Mode: streaming"
                      % lines["lambda-runtime-aws-request-id"])
    connection.sendall(b"\\r\\n")
    for _ in range(event["chunks"]):
        connection.sendall(b"%x\\r\\n" % event["size"] + b"x" * event["size"] + b"\\r\\n")
        time.sleep(event.get("pause", 0))
    if event.get("exit"):
        os._exit(3)
    trailers = b""
    if event.get("error"):
        trailers = (b"Lambda-Runtime-Function-Error-Type: Function.Mine\\r\\n"
                    b"Lambda-Runtime-Function-Error-Body: %b\\r\\n"
                    % base64.b64encode(b'{"errorType":"Mine"}'))
    connection.sendall(b"0\\r\\n" + trailers + b"\\r\\n")
    print(answer(connection)[0].split("\\r\\n")[0], flush=True)
"""


@pytest.fixture
def streamed(node, function):
    name = function(zip_of({"bootstrap": BOOTSTRAP}, mode=0o755), Runtime="provided.al2023")

    def invoke(event, **settings):
        reply = node.client.invoke_with_response_stream(FunctionName=name, Payload=event, **settings)
        size, end = 0, None
        for found in reply["EventStream"]:
            size += len(found.get("PayloadChunk", {}).get("Payload", b""))
            end = found.get("InvokeComplete")
        return size, end

    invoke.function = name
    return invoke


@pytest.mark.slow
@pytest.mark.case("CP-88")
def test_chunks_arrive_one_by_one_and_then_the_end(node, streamed):
    event = b'{"chunks": 3, "size": 5, "pause": 0.3}'
    reply = node.client.invoke_with_response_stream(FunctionName=streamed.function, Payload=event)
    found = [(next(iter(each)), time.monotonic()) for each in reply["EventStream"]]
    assert [name for name, _ in found] == ["PayloadChunk"] * 3 + ["InvokeComplete"]
    assert found[2][1] - found[0][1] > 0.3


@pytest.mark.case("RT-30")
@pytest.mark.case("RT-31")
@pytest.mark.case("CP-89")
def test_a_stream_reaches_boto3_with_its_error_and_its_log(node, streamed):
    assert streamed(b'{"chunks": 3, "size": 5}') == (15, {})
    size, end = streamed(b'{"chunks": 1, "size": 4, "error": true}', LogType="Tail")
    assert size == 4
    assert (end["ErrorCode"], end["ErrorDetails"]) == ("Function.Mine", '{"errorType":"Mine"}')
    assert end["LogResult"]
    size, end = streamed(b'{"chunks": 2, "size": 4, "exit": true}')
    # Whether the node reads its last words before it hears of its end is for the kernel to say.
    assert size <= 8
    assert end["ErrorCode"] in ("Runtime.TruncatedResponse", "Runtime.ExitError", "Unhandled")
    assert node.invoke(streamed.function, {"chunks": 0, "size": 0}).error is None


def test_a_hundred_megabytes_leave_the_node_as_small_as_it_was(node, streamed):
    def peak_kib():
        status = Path(f"/proc/{node.process.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    streamed(b'{"chunks": 80, "size": 65536}')
    Path(f"/proc/{node.process.pid}/clear_refs").write_text("5")
    before_kib = peak_kib()
    assert streamed(b'{"chunks": 1600, "size": 65536}') == (100 * MIB, {})
    assert peak_kib() - before_kib < 16 * 1024
