"""InvokeWithResponseStream as boto3 reads it, and its messages byte by byte."""

import asyncio
import json
import tracemalloc

import pytest
from botocore.eventstream import EventStreamBuffer

from remora.control.operations.streaming import invoke_complete, payload_chunk
from remora.pool.base import InvokeResult, ResponseStream, StreamEnd

PATH = "/2021-11-15/functions/f/response-streaming-invocations"


class Tap:
    """A source that notes whether it is held."""

    def __init__(self):
        self.is_paused = False
        self.flowing = asyncio.Event()
        self.flowing.set()

    def pause(self):
        self.is_paused = True
        self.flowing.clear()

    def resume(self):
        self.is_paused = False
        self.flowing.set()


def decoded(*messages):
    buffer = EventStreamBuffer()
    buffer.add_data(b"".join(messages))
    return [(event.headers, event.payload) for event in buffer]


def test_messages_are_read_by_botocore():
    chunk, end = decoded(payload_chunk(b"\0\xff" * 10), invoke_complete(StreamEnd()))
    assert chunk == (
        {
            ":message-type": "event",
            ":event-type": "PayloadChunk",
            ":content-type": "application/octet-stream",
        },
        b"\0\xff" * 10,
    )
    assert end[0][":event-type"] == "InvokeComplete"
    assert end[0][":content-type"] == "application/json"
    assert end[1] == b"{}"


def test_a_message_byte_by_byte():
    headers = (
        b"\x0d:message-type\x07\x00\x05event"
        b"\x0b:event-type\x07\x00\x0cPayloadChunk"
        b"\x0d:content-type\x07\x00\x18application/octet-stream"
    )
    message = payload_chunk(b"abc")
    assert message[:8] == (16 + len(headers) + 3).to_bytes(4, "big") + len(headers).to_bytes(4, "big")
    assert message[12:-4] == headers + b"abc"


def test_the_end_tells_error_and_log():
    ((_, payload),) = decoded(invoke_complete(StreamEnd("Runtime.X", '{"a":"ü"}', b"log\n")))
    assert json.loads(payload) == {
        "ErrorCode": "Runtime.X",
        "ErrorDetails": '{"a":"ü"}',
        "LogResult": "bG9nCg==",
    }


def stream_of(node, produce, **members):
    """Let the pool answer with a stream that `produce` fills."""

    def answer(deployment, request):
        stream = ResponseStream(tap := Tap())
        node.control.spawn(produce(stream, tap), "produce")
        return InvokeResult("id", b"", None, "$LATEST", stream=stream, **members)

    node.pool.answer = answer


def events(node, **members):
    reply = node.client.invoke_with_response_stream(FunctionName="f", **members)
    return reply, list(reply["EventStream"])


def test_a_stream_reaches_boto3(node):
    async def produce(stream, _):
        for piece in (b"one", b"two", b"three"):
            stream.put(piece)
            await asyncio.sleep(0)
        stream.finish(StreamEnd("Function.X", "details"))

    node.create()
    stream_of(node, produce, content_type="text/html")
    reply, found = events(node, Payload=b'"x"')
    assert reply["StatusCode"] == 200
    assert reply["ExecutedVersion"] == "$LATEST"
    headers = reply["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/vnd.amazon.eventstream"
    assert headers["x-amzn-remapped-content-type"] == "text/html"
    assert [event["PayloadChunk"]["Payload"] for event in found[:-1]] == [b"one", b"two", b"three"]
    assert found[-1] == {"InvokeComplete": {"ErrorCode": "Function.X", "ErrorDetails": "details"}}
    assert node.pool.calls[0][1].streams


def test_what_is_whole_is_one_chunk(node):
    node.create()
    _, found = events(node, Payload=b'{"a":1}', LogType="Tail")
    assert found[0] == {"PayloadChunk": {"Payload": b'{"a":1}'}}
    assert set(found[1]["InvokeComplete"]) == {"LogResult"}


def test_a_function_error_is_told_by_the_end(node):
    node.create()
    error = b'{"errorType":"E"}'
    node.pool.answer = lambda *_: InvokeResult("id", error, "Unhandled", "$LATEST")
    _, found = events(node)
    assert found == [{"InvokeComplete": {"ErrorCode": "Unhandled", "ErrorDetails": error.decode()}}]


def test_refusals_are_ordinary_errors(node):
    assert node.refused("invoke_with_response_stream", FunctionName="none")[:2] == (
        404,
        "ResourceNotFoundException",
    )
    node.create()
    status, code, _ = node.refused("invoke_with_response_stream", FunctionName="f", InvocationType="Event")
    assert (status, code) == (400, "ValidationException")
    assert node.raw("POST", PATH, b"{", X_Amz_Log_Type="None")[0] == 400
    assert node.raw("POST", PATH, b"{}", X_Amz_Invocation_Type="DryRun")[0] == 204


@pytest.mark.slow
def test_a_slow_client_holds_the_runtime_back(node):
    produced = []

    async def produce(stream, tap):
        for _ in range(400):
            await tap.flowing.wait()
            stream.put(b"x" * 65536)
            produced.append(65536)
        stream.finish(StreamEnd())

    node.create()
    stream_of(node, produce)
    with node.connect() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        connection.recv(1)
        # The node is asked again and again: it has turned its loop often enough to produce everything.
        for _ in range(50):
            node.client.get_function_configuration(FunctionName="f")
        assert sum(produced) < 20 * 1024 * 1024
        received = 1
        while received < 400 * 65536:
            received += len(connection.recv(1 << 20))
    assert len(produced) == 400


@pytest.mark.slow
def test_memory_stays_flat(node):
    async def produce(stream, tap):
        tracemalloc.start()
        for _ in range(100 * 16):
            await tap.flowing.wait()
            stream.put(bytes(65536))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        stream.finish(StreamEnd())

    peaks = []
    node.create()
    stream_of(node, produce)
    reply = node.client.invoke_with_response_stream(FunctionName="f")
    size = sum(len(event.get("PayloadChunk", {}).get("Payload", b"")) for event in reply["EventStream"])
    assert size == 100 * 1024 * 1024
    assert peaks[0] < 8 * 1024 * 1024


def test_a_client_that_leaves_lets_the_function_finish(node):
    finished = asyncio.Event()

    async def produce(stream, tap):
        for _ in range(400):
            await tap.flowing.wait()
            stream.put(b"x" * 65536)
        stream.finish(StreamEnd())
        finished.set()

    node.create()
    stream_of(node, produce)
    with node.connect() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        connection.recv(1)
    node.wait_for(finished)
