"""What a node answers to nonsense over HTTP: AWS's errors, at once, and it goes on serving."""

import base64
import contextlib
import http.client
import json
import os
import random
import socket
import threading

import pytest
from botocore.exceptions import ClientError

from .nodes import PATIENCE_S, ROLE, unique
from .packages import PROBE, RUNTIME, zip_directory, zip_of

FUNCTIONS = "/2015-03-31/functions"


@pytest.fixture(autouse=True)
def _still_serving(node):
    """After all of this the node serves as before."""
    yield
    assert node.get("health")["status"] == "ok"
    node.client.list_functions()


@pytest.fixture
def ask(node):
    """Send a request as it is; returns status, headers and body."""

    def send(method, path, body=b"", **headers):
        connection = http.client.HTTPConnection(node.address, timeout=PATIENCE_S)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read()
        finally:
            connection.close()

    return send


def refusal(call, **arguments):
    """Return status and code of a refused call, and its message."""
    with pytest.raises(ClientError) as refused:
        call(**arguments)
    response = refused.value.response
    error = response["Error"]
    return response["ResponseMetadata"]["HTTPStatusCode"], error["Code"], error["Message"]


def creation(**changes):
    """Return the arguments of a good CreateFunction, with changes."""
    good = {
        "FunctionName": unique("refused"),
        "Runtime": RUNTIME,
        "Handler": "app.handler",
        "Role": ROLE,
        "Code": {"ZipFile": zip_directory(PROBE)},
    }
    return {name: value for name, value in {**good, **changes}.items() if value is not None}


LINK = {"link": 0o120777}


@pytest.mark.case("CP-10")
@pytest.mark.parametrize(
    "content",
    [
        b"zzz",
        zip_directory(PROBE)[:-30],
        zip_of({"../outside": "x"}),
        zip_of({"/etc/absolute": "x"}),
        zip_of({"a/../../outside": "x"}),
        zip_of({"link": "../../../etc/passwd"}, modes=LINK),
        zip_of({"link": "/etc", "link/passwd": "x"}, modes=LINK),
    ],
    ids=["no-zip", "cut", "parent", "absolute", "hidden-parent", "link-out", "through-link"],
)
def test_a_package_that_is_broken_or_malicious_is_refused(node, content):
    status, code, _ = refusal(node.client.create_function, **creation(Code={"ZipFile": content}))
    assert (status, code) == (400, "InvalidParameterValueException")
    status, code, _ = refusal(
        node.client.publish_layer_version, LayerName=unique("bad"), Content={"ZipFile": content}
    )
    assert (status, code) == (400, "InvalidParameterValueException")


def test_a_zip_bomb_is_refused(node):
    bomb = zip_of({f"zeros{number}": bytes(64 << 20) for number in range(5)})
    assert len(bomb) < 1 << 20
    status, code, message = refusal(node.client.create_function, **creation(Code={"ZipFile": bomb}))
    assert (status, code) == (400, "InvalidParameterValueException")
    assert message == "Unzipped size must be smaller than 262144000 bytes"


def test_code_and_layers_together_have_a_limit(node):
    arn = node.publish(zip_of({f"zeros{number}": bytes(64 << 20) for number in range(3)}))
    code = zip_of({"app.py": "", "zeros": bytes(64 << 20)})
    status, code, _ = refusal(node.client.create_function, **creation(Code={"ZipFile": code}, Layers=[arn]))
    assert (status, code) == (400, "InvalidParameterValueException")


@pytest.mark.case("CP-4", "CP-7", "CP-17")
@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"Handler": None}, "InvalidParameterValueException"),
        ({"Runtime": None}, "InvalidParameterValueException"),
        ({"Runtime": "cobol85"}, "InvalidParameterValueException"),
        ({"Role": "nobody"}, "ValidationException"),
        (
            {"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:none:1"]},
            "InvalidParameterValueException",
        ),
        ({"Code": {}}, "InvalidParameterValueException"),
        ({"Environment": {"Variables": {"AWS_REGION": "x"}}}, "InvalidParameterValueException"),
        ({"Environment": {"Variables": {"BIG": "x" * 5000}}}, "InvalidParameterValueException"),
        ({"FunctionName": "a b"}, "ValidationException"),
        ({"MemorySize": 10_241}, None),
        ({"Timeout": 901}, None),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_a_bad_creation_is_refused(node, changes, code):
    status, refused, _ = refusal(node.client.create_function, **creation(**changes))
    assert status == 400
    assert refused == code or code is None


@pytest.mark.slow
@pytest.mark.case("CP-22")
def test_a_package_of_more_than_fifty_megabytes_is_too_large(node):
    status, code, message = refusal(
        node.client.create_function, **creation(Code={"ZipFile": bytes(52_428_801)})
    )
    assert (status, code) == (413, "RequestEntityTooLargeException")
    assert message == "Zipped size must be smaller than 52428800 bytes"


@pytest.mark.slow
def test_a_body_of_a_hundred_megabytes_is_refused(node, ask, function):
    status, headers, body = ask("POST", FUNCTIONS, bytes(100 << 20))
    assert (status, headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")
    assert "70167211" in json.loads(body)["message"]
    name = function()
    status, headers, _ = ask("POST", f"{FUNCTIONS}/{name}/invocations", b" " * (100 << 20))
    assert (status, headers["x-amzn-ErrorType"]) == (413, "RequestEntityTooLargeException")


@pytest.mark.case("CP-120")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/2015-03-31/no-such-thing"),
        ("PATCH", FUNCTIONS),
        ("DELETE", FUNCTIONS),
        ("GET", "/2015-03-31/functions/a/b/c/d"),
    ],
)
def test_an_unknown_path_or_method_is_not_found_as_json(ask, method, path):
    status, headers, body = ask(method, path)
    assert status in (400, 404, 405)
    assert headers["Content-Type"] == "application/json"
    assert headers["x-amzn-ErrorType"]
    assert json.loads(body)


@pytest.mark.parametrize(
    ("method", "path"),
    [("PUT", "/"), ("GET", "//..//..//etc/passwd"), ("GET", "/%00%ff/%2e%2e"), ("OPTIONS", "*")],
)
def test_a_path_of_no_service_is_taken_for_a_bucket(ask, method, path):
    status, headers, body = ask(method, path)
    assert status in (400, 404, 501)
    assert headers["Content-Type"] == "application/xml"
    assert b"<Error><Code>" in body


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b"{}",
        b'{"FunctionName":1}',
        b"[" * 100_000,
        b'{"Code":{"ZipFile":"%"}}',
    ],
    ids=["open", "list", "text", "bytes", "empty", "number", "deep", "base64"],
)
def test_a_creation_that_is_no_json_is_refused(ask, body):
    status, headers, answer = ask("POST", FUNCTIONS, body)
    assert status == 400
    assert headers["x-amzn-ErrorType"].endswith("Exception")
    assert json.loads(answer)


@pytest.mark.parametrize("payload", [b"{", b"\xff", b"[" * 100_000 + b"]" * 99_999, b"nope", b"{} {}"])
def test_a_payload_that_is_no_json_is_refused(node, function, payload):
    status, code, message = refusal(node.client.invoke, FunctionName=function(), Payload=payload)
    assert (status, code) == (400, "InvalidRequestContentException")
    assert message.startswith("Could not parse request body into json: Could not parse payload into json: ")


@pytest.mark.case("RT-51")
@pytest.mark.parametrize("context", ["%%%", "AAAA", base64.b64encode(b"{}" + b" " * 3000).decode()])
def test_a_bad_client_context_is_refused(ask, function, context):
    name = function()
    status, headers, _ = ask(
        "POST", f"{FUNCTIONS}/{name}/invocations", b"{}", **{"X-Amz-Client-Context": context}
    )
    assert (status, headers["x-amzn-ErrorType"]) == (400, "InvalidRequestContentException")


def test_an_unknown_function_is_not_found(node):
    status, code, _ = refusal(node.client.invoke, FunctionName="nobody-made-this")
    assert (status, code) == (404, "ResourceNotFoundException")


def exchange(address, raw):
    """Send bytes, then nothing more; returns all that comes back until the node closes."""
    host, _, port = address.partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        with contextlib.suppress(OSError):
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
        got = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(65_536):
                got += part
        return got


GARBAGE = {
    "nothing": b"",
    "newlines": b"\r\n\r\n\r\n",
    "zeros": bytes(10_000),
    "tls": bytes.fromhex("1603010200010001fc0303") + os.urandom(100),
    "http2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "cut-head": b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Len",
    "cut-body": b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
    "two-lengths": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    "both": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
    "bad-chunk": b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "huge-line": b"GET /" + b"a" * (4 << 20) + b" HTTP/1.1\r\n\r\n",
    "huge-header": b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"a" * (4 << 20) + b"\r\n\r\n",
    "many-headers": b"GET / HTTP/1.1\r\n" + b"".join(b"X-%d: 1\r\n" % n for n in range(100_000)) + b"\r\n",
}


@pytest.mark.parametrize("raw", GARBAGE.values(), ids=GARBAGE)
def test_garbage_on_the_socket_is_answered_or_cut(node, raw):
    got = exchange(node.address, raw)
    assert got == b"" or got.startswith(b"HTTP/1.1 ")
    assert not got.startswith((b"HTTP/1.1 5", b"HTTP/1.1 2"))


def test_random_bytes_hurt_nothing(node):
    chance = random.Random(7)
    for _ in range(50):
        raw = chance.randbytes(chance.randrange(1, 3000))
        assert not exchange(node.address, raw).startswith((b"HTTP/1.1 5", b"HTTP/1.1 2"))


@pytest.mark.slow
def test_a_thousand_idle_connections_are_in_nobodys_way(node, function):
    name = function()
    host, _, port = node.address.partition(":")
    with contextlib.ExitStack() as stack:
        for number in range(900):
            connection = stack.enter_context(socket.create_connection((host, int(port)), timeout=PATIENCE_S))
            if number % 2:
                connection.sendall(
                    b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
                )
        assert node.invoke(name, {"echo": 1}).payload["echo"] == 1


def test_whoever_leaves_in_the_middle_hurts_nobody(node, function):
    name = function()
    node.invoke(name)
    host, _, port = node.address.partition(":")
    head = f"POST {FUNCTIONS}/{name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 15\r\n\r\n".encode()

    def leave():
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
            connection.sendall(head + b'{"sleep_s":0.2}')

    leavers = [threading.Thread(target=leave) for _ in range(5)]
    for leaver in leavers:
        leaver.start()
    for leaver in leavers:
        leaver.join()
    assert node.invoke(name, {"echo": 1}).payload["echo"] == 1
    node.settle(name)
