"""What every answer looks like: routes, errors, sizes, garbage; and the `aws` command."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from remora.control.operations.offered import HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM
from remora.http.limits import Limits
from remora.spec import lambda_api

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
API = lambda_api.load()


OFFERED = {*HANDLERS, INVOKE, INVOKE_WITH_RESPONSE_STREAM}


@pytest.mark.parametrize("name", [name for name in API.operations if name not in OFFERED])
def test_an_operation_that_is_not_offered_says_so(shared_node, name):
    operation = API.operations[name]
    path = "/" + "/".join("x" if part.startswith("{") else part for part in operation.segments)
    if operation.constant:
        path += "?" + "=".join(operation.constant)
    status, headers, body = shared_node.raw(operation.method, path)
    assert (status, headers["x-amzn-errortype"]) == (404, "ResourceNotFoundException")
    assert json.loads(body)["Message"] == f"The operation {name} is not offered by this node yet."


def test_every_handler_is_an_operation_of_the_model():
    assert {*HANDLERS, INVOKE} <= API.operations.keys()


@pytest.mark.case("CP-120")
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/2015-03-31/nothing"),
        ("PATCH", "/2015-03-31/functions/f"),
        ("GET", "/2015-03-31/functions/f/invocations"),
        ("DELETE", "/2015-03-31/functions"),
        ("GET", "/2014-01-01/functions"),
        ("POST", "/2015-03-31/functions/f/invocations/more"),
        ("GET", "/_packages/" + "0" * 64),
        ("GET", "/_packages/../../etc/passwd"),
    ],
)
def test_an_unknown_path_or_method_is_answered_in_json(shared_node, method, path):
    status, headers, body = shared_node.raw(method, path)
    assert status == 404
    assert headers["x-amzn-errortype"] == "ResourceNotFoundException"
    assert headers["content-type"] == "application/json"
    assert json.loads(body)["Type"] == "User"


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "AWS4-HMAC-SHA256 Credential=AKID/20260101/us-east-1/sqs/aws4_request, Sig=1"},
        {"X_Amz_Target": "Logs_20140328.DescribeLogGroups"},
    ],
)
def test_another_service_is_not_offered(shared_node, headers):
    status, _, body = shared_node.raw("GET", "/2015-03-31/functions", **headers)
    if "X_Amz_Target" in headers:
        assert b"not logs" in body
    else:
        assert b"not sqs" in body
    assert status == 404


@pytest.mark.case("CP-119")
def test_both_spellings_of_an_arn_are_the_same(node):
    node.create()
    bare, encoded = f"{FUNCTION}:$LATEST", f"{FUNCTION}:%24LATEST".replace(":", "%3A")
    answers = [node.raw("GET", f"/2015-03-31/functions/{name}/configuration") for name in (bare, encoded)]
    assert [status for status, _, _ in answers] == [200, 200]
    assert answers[0][2] == answers[1][2]


def test_a_slash_at_the_end_is_passed_over(node):
    node.create()
    for path in ("/2015-03-31/functions/", "/2015-03-31/functions/f/versions/"):
        assert node.raw("GET", path)[0] == 200


def test_every_answer_has_an_identifier_and_one_date(node):
    for path in ("/2015-03-31/functions", "/2015-03-31/functions/f"):
        with node.connect() as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head = _read_all(connection).partition(b"\r\n\r\n")[0].lower()
        assert head.count(b"\r\ndate:") == 1
        assert head.count(b"\r\nx-amzn-requestid:") == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"{", "InvalidRequestContentException"),
        (b"\xff\xfe", "InvalidRequestContentException"),
        (b"[" * 200_000, "InvalidRequestContentException"),
        (b"[]", "SerializationException"),
        (b'{"FunctionName":1}', "SerializationException"),
        (b'{"FunctionName":"f","Code":{"ZipFile":"%%%"}}', "SerializationException"),
        (b'{"FunctionName":"f","Code":[]}', "SerializationException"),
        (b'{"FunctionName":"f","Layers":{}}', "SerializationException"),
        (b'{"FunctionName":"f","Environment":{"Variables":[1]}}', "SerializationException"),
        (b'{"FunctionName":"f","MemorySize":1.5}', "SerializationException"),
        (b'{"FunctionName":"f","MemorySize":true}', "SerializationException"),
        (b'{"FunctionName":"f","MemorySize":123456789012345678901234567890}', "SerializationException"),
        (b"", "ValidationException"),
        (b"null", "ValidationException"),
        (b'{"FunctionName":null,"Unknown":1}', "ValidationException"),
        (b'{"Environment":{"Variables":{"AA":null}}}', "ValidationException"),
        (b'{"FunctionName":"f","Role":"r\\u0000"}', "ValidationException"),
    ],
)
def test_garbage_is_refused(shared_node, body, code):
    status, headers, answer = shared_node.raw("POST", "/2015-03-31/functions", body)
    assert (status, headers["x-amzn-errortype"]) == (400, code)
    assert isinstance(json.loads(answer), dict)


def test_a_validation_error_has_no_type(shared_node):
    _, _, body = shared_node.raw("GET", "/2015-03-31/functions/*")
    assert json.loads(body).keys() == {"message"}


@pytest.mark.parametrize("query", ["MaxItems=x", "MaxItems=", "MaxItems=0", "MaxItems=10001", "Marker=%FF"])
def test_bad_query_values_are_refused(shared_node, query):
    assert shared_node.raw("GET", f"/2015-03-31/functions?{query}")[0] == 400


@pytest.mark.parametrize("name", ["%00", "%FF%FE", "a%2Fb", "a" * 2000, "%F0%9F%90%9F"])
def test_odd_names_are_refused(shared_node, name):
    status, headers, _ = shared_node.raw("GET", f"/2015-03-31/functions/{name}")
    assert (status, headers["x-amzn-errortype"]) == (400, "ValidationException")


@pytest.mark.case("CP-22")
@pytest.mark.slow
def test_a_zip_over_fifty_megabytes_is_too_large(node):
    content = base64.b64encode(bytes(52_428_801)).decode()
    document = {
        "FunctionName": "f",
        "Runtime": "python3.12",
        "Role": node.role,
        "Handler": "h.h",
        "Code": {"ZipFile": content},
    }
    status, headers, body = node.raw("POST", "/2015-03-31/functions", json.dumps(document).encode())
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    assert json.loads(body)["message"] == "Zipped size must be smaller than 52428800 bytes"


@pytest.mark.slow
def test_a_body_of_a_hundred_megabytes_is_neither_kept_nor_waited_for(node):
    status, headers, body = node.raw("POST", "/2015-03-31/functions", bytes(100_000_000))
    assert (status, headers["x-amzn-errortype"]) == (413, "RequestEntityTooLargeException")
    assert json.loads(body)["message"] == (
        "Request must be smaller than 70167211 bytes for the CreateFunction operation"
    )


def test_a_client_that_leaves_in_the_middle_harms_nobody(node):
    for fragment in (b"POST /2015-03-31/functions HT", b"POST /2015-03-31/functions HTTP/1.1\r\nContent-Le"):
        with node.connect() as connection:
            connection.sendall(fragment)
    with node.connect() as connection:
        connection.sendall(b"POST /2015-03-31/functions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{")
    node.create()


# --- downloads ----------------------------------------------------------------------------------------------


def _link(node) -> str:
    return node.client.get_function(FunctionName="f")["Code"]["Location"].removeprefix(node.endpoint)


def test_a_link_is_good_for_its_zip_only_and_for_ten_minutes(node):
    node.create()
    link = _link(node)
    status, headers, _ = node.raw("GET", link)
    assert (status, headers["content-type"]) == (200, "application/zip")
    assert node.raw("GET", link[:-1] + ("0" if link[-1] != "0" else "1"))[0] == 403
    assert node.raw("GET", link.replace("Expires=", "Expires=1"))[0] == 403
    assert node.raw("GET", link.partition("?")[0])[0] == 404
    assert node.raw("POST", link)[0] == 404
    node.client.delete_function(FunctionName="f")
    node.wait_until_cleaned()
    assert node.raw("GET", link)[0] == 404


@pytest.mark.slow
def test_a_large_zip_is_streamed_while_others_are_answered(node):
    content = node.zip({"big": os.urandom(20_000_000)})
    node.create(Code={"ZipFile": content})
    with node.connect() as connection:
        connection.sendall(f"GET {_link(node)} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        first = connection.recv(1024)
        assert node.invoke() == {}  # although nobody reads on
        rest = _read_all(connection)
    assert len(first + rest) > len(content)


def _read_all(connection: socket.socket) -> bytes:
    received = b""
    while chunk := connection.recv(1 << 20):
        received += chunk
    return received


# --- the aws command ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_aws_command(node, tmp_path):
    (tmp_path / "code.zip").write_bytes(node.zip())
    (tmp_path / "layer.zip").write_bytes(node.zip({"x": "1"}))

    def aws(*arguments: str) -> dict:
        command = [str(Path(sys.executable).with_name("aws")), "lambda", *arguments]
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(tmp_path),
            "AWS_ENDPOINT_URL": node.endpoint,
            "AWS_ACCESS_KEY_ID": "any",
            "AWS_SECRET_ACCESS_KEY": "any",
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_PAGER": "",
        }
        done = subprocess.run(
            command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
        )
        return json.loads(done.stdout or "{}")

    layer = aws("publish-layer-version", "--layer-name", "l", "--zip-file", "fileb://layer.zip")
    created = aws(
        *("create-function", "--function-name", "f", "--runtime", "python3.12", "--role", node.role),
        *("--handler", "h.h", "--zip-file", "fileb://code.zip"),
    )
    assert created["State"] == "Pending"
    aws("wait", "function-active-v2", "--function-name", "f")
    aws("update-function-configuration", "--function-name", "f", "--layers", layer["LayerVersionArn"])
    aws("wait", "function-updated-v2", "--function-name", "f")
    found = aws("get-function", "--function-name", "f")
    assert found["Configuration"]["Layers"][0]["Arn"] == layer["LayerVersionArn"]
    (tmp_path / "event.json").write_text('{"a": 1}')
    invoked = aws("invoke", "--function-name", "f", "--payload", "fileb://event.json", "out.json")
    assert invoked == {"StatusCode": 200, "ExecutedVersion": "$LATEST"}
    assert json.loads((tmp_path / "out.json").read_text()) == {"a": 1}
    aws("delete-function", "--function-name", "f")
    assert aws("list-functions")["Functions"] == []


def test_nothing_is_left_when_a_node_stops(tmp_path, running):
    before = threading.active_count()
    with running(tmp_path / "data") as node:
        node.create()
    assert threading.active_count() == before


def test_whoever_finds_no_room_is_told_so_in_the_words_of_the_service(node):
    node.stop()
    node.limits = Limits(held_bytes_max=1_000_000, held_wait_s=0.05)
    node.start()
    big = b"x" * 200_000
    with node.connect() as other:  # has all the room there is, and does not go on
        other.sendall(b"PUT /bucket/other HTTP/1.1\r\nContent-Length: 1000000\r\n\r\n" + big)
        while (reply := node.raw("POST", "/2015-03-31/functions", big))[0] != 429:
            assert reply[0] == 400, "the other one has not begun yet"
        _, headers, body = reply
        assert (headers["x-amzn-errortype"], headers["retry-after"]) == ("TooManyRequestsException", "1")
        assert json.loads(body)["Reason"] == "CallerRateLimitExceeded"
        status, _, body = node.raw("PUT", "/bucket/key", big)
        assert (status, b"<Code>SlowDown</Code>" in body) == (503, True)
        assert node.raw("POST", "/", big, X_Amz_Target="AmazonSSM.PutParameter")[0] == 503
        assert node.client.list_functions()["Functions"] == []
