"""Function URLs of a real node, asked over plain HTTP."""

from __future__ import annotations

import http.client
import json
from typing import Any
from urllib.parse import urlsplit

import boto3
import pytest
from botocore.auth import SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from remora.testing.clients import read_at_once

from .conftest import running
from .nodes import PATIENCE_S, Node, eventually
from .packages import RUNTIME, zip_of
from .test_keys import new_key

pytestmark = pytest.mark.slow

PROGRAM = """
import json, time
def handler(event, context):
    if "queryStringParameters" in event:
        answer = event["queryStringParameters"].get("answer")
        if answer:
            return json.loads(answer)
        if "sleep" in event["queryStringParameters"]:
            time.sleep(5)
        if "raise" in event["queryStringParameters"]:
            raise ValueError
    return event
"""
CODE = zip_of({"app.py": PROGRAM})


class Answer:
    """What came back."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def ask(
    node: Node, url: str, path: str = "/", method: str = "GET", body: bytes = b"", **headers: str
) -> Answer:
    """Ask by the URL's host name, whose address is the node's."""
    connection = http.client.HTTPConnection(node.address, timeout=PATIENCE_S)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body or None, {"Host": urlsplit(url).netloc, **named})
        return Answer(connection.getresponse())
    finally:
        connection.close()


def opened(node: Node, name: str, **members: Any) -> str:
    """Give a function an address that everybody may use; returns it."""
    settings = {"AuthType": "NONE", **members}
    url: str = node.client.create_function_url_config(FunctionName=name, **settings)["FunctionUrl"]
    qualified = {"Qualifier": members["Qualifier"]} if "Qualifier" in members else {}
    if settings["AuthType"] == "NONE":
        node.client.add_permission(
            FunctionName=name,
            StatementId="url",
            Action="lambda:InvokeFunctionUrl",
            Principal="*",
            FunctionUrlAuthType="NONE",
            **qualified,
        )
    return url


@pytest.fixture
def url(node: Node, function: Any) -> str:
    return opened(node, function(CODE, Timeout=2))


@pytest.mark.case("CP-107")
def test_a_url_needs_permission(node, function):
    name = function(CODE)
    url = node.client.create_function_url_config(FunctionName=name, AuthType="NONE")["FunctionUrl"]
    answer = ask(node, url)
    assert answer.status == 403
    assert answer.headers["x-amzn-ErrorType"] == "AccessDeniedException"
    assert answer.json["Message"].startswith(
        "Forbidden. For troubleshooting Function URL authorization issues"
    )
    node.client.add_permission(
        FunctionName=name,
        StatementId="url",
        Action="lambda:InvokeFunctionUrl",
        Principal="*",
        FunctionUrlAuthType="NONE",
    )
    assert ask(node, url).status == 200
    node.client.delete_function_url_config(FunctionName=name)
    assert ask(node, url).status == 403


@pytest.mark.case("CP-109")
@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ('{"statusCode":201,"headers":{"x":"1"},"body":"b"}', (201, "1", b"b")),
        ('"hello"', (200, None, b"hello")),
        ("3", (200, None, b"3")),
    ],
)
def test_a_url_answers_what_the_function_says(node, url, answer, expected):
    got = ask(node, url, f"/?answer={answer}")
    assert (got.status, got.headers["x"], got.body) == expected
    assert got.headers["Content-Type"] == "application/json"
    assert len(got.headers.get_all("Date")) == 1


def test_the_function_sees_the_request(node, url):
    event = ask(node, url, "/p/q?a=1", "PUT", b"\x00\x01", Content_Type="image/png", Cookie="c=1").json
    assert (event["rawPath"], event["rawQueryString"]) == ("/p/q", "a=1")
    assert (event["body"], event["isBase64Encoded"], event["cookies"]) == ("AAE=", True, ["c=1"])
    assert event["headers"]["host"] == urlsplit(url).netloc
    assert event["requestContext"]["http"]["method"] == "PUT"
    assert event["requestContext"]["domainName"] == urlsplit(url).hostname


def test_a_path_leads_there_too(node, url):
    url_id = urlsplit(url).hostname.partition(".")[0]
    connection = http.client.HTTPConnection(node.address, timeout=PATIENCE_S)
    connection.request("GET", f"/_url/{url_id}/2015-03-31/functions?b=2")
    event = Answer(connection.getresponse()).json
    connection.close()
    assert (event["rawPath"], event["rawQueryString"]) == ("/2015-03-31/functions", "b=2")


def test_a_host_goes_before_the_path(node, url):
    assert ask(node, url, "/2015-03-31/functions").json["rawPath"] == "/2015-03-31/functions"


def test_what_goes_wrong_has_its_status(node, url):
    for path, status in (("/?raise=1", 502), ("/?sleep=1", 504), ('/?answer={"statusCode":1}', 502)):
        answer = ask(node, url, path)
        assert answer.status == status
        assert "Message" in answer.json
    large = ask(node, url, "/", "POST", b"x" * 6_291_457)
    assert large.status == 413
    text = "Request must be smaller than 6291456 bytes for the InvokeFunction operation"
    assert large.json == {"Message": text}


def test_a_throttled_request_answers_429(node, function):
    name = function(CODE)
    url = opened(node, name)
    node.client.put_function_concurrency(FunctionName=name, ReservedConcurrentExecutions=0)
    answer = ask(node, url)
    assert (answer.status, answer.json) == (429, {"Message": "Rate Exceeded."})


def test_a_url_with_iam_needs_a_signature(node, function):
    url = opened(node, function(CODE), AuthType="AWS_IAM")
    assert ask(node, url).status == 403
    request = AWSRequest("GET", url)
    SigV4Auth(Credentials("AKIAEXAMPLE", "secret"), "lambda", "us-east-1").add_auth(request)
    event = ask(node, url, **dict(request.headers.items())).json
    assert event["requestContext"]["authorizer"]["iam"]["accessKey"] == "AKIAEXAMPLE"


def test_a_preflight_does_not_invoke(node, function):
    name = function(CODE)
    url = opened(
        node, name, Cors={"AllowOrigins": ["https://a.example"], "AllowMethods": ["GET"], "MaxAge": 5}
    )
    asked = {"Origin": "https://a.example", "Access_Control_Request_Method": "GET"}
    answer = ask(node, url, "/", "OPTIONS", **asked)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert answer.headers["Access-Control-Allow-Methods"] == "GET"
    assert node.environments(name) == []
    assert (
        ask(node, url, Origin="https://a.example").headers["Access-Control-Allow-Origin"]
        == "https://a.example"
    )
    assert "Access-Control-Allow-Origin" not in ask(node, url, Origin="https://b.example").headers


def test_an_alias_has_its_own_url(node, function):
    name = function(CODE)
    node.client.publish_version(FunctionName=name)
    node.client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    url = opened(node, name, Qualifier="live")
    assert ask(node, url).status == 200
    assert [each["version"] for each in node.environments(name)] == ["1"]
    eventually(lambda: node.client.delete_alias(FunctionName=name, Name="live"))
    assert ask(node, url).status == 403


BOOTSTRAP = r"""#!/bin/sh
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime/invocation"
while true; do
  id=$(curl -sS -D - -o /dev/null "$api/next" | tr -d '\r' | sed -n 's/^Lambda-Runtime-Aws-Request-Id: //Ip')
  { printf '{"statusCode":201,"headers":{"x":"1"},"cookies":["c=1"]}'; printf '\0\0\0\0\0\0\0\0'
    printf 'first,'; sleep 0.3; printf 'second'; } |
  curl -sS -X POST -H 'Lambda-Runtime-Function-Response-Mode: streaming' -H 'Transfer-Encoding: chunked' \
    -H 'Content-Type: application/vnd.awslambda.http-integration-response' -T - "$api/$id/response" >/dev/null
done
"""


@pytest.mark.parametrize("mode", ["RESPONSE_STREAM", "BUFFERED"])
def test_a_streamed_answer_begins_with_its_head(node, function, mode):
    code = zip_of({"bootstrap": BOOTSTRAP}, mode=0o755)
    url = opened(node, function(code, Runtime="provided.al2023", Handler="x"), InvokeMode=mode)
    answer = ask(node, url)
    assert (answer.status, answer.headers["x"], answer.body) == (201, "1", b"first,second")
    assert answer.headers["Set-Cookie"] == "c=1"
    is_chunked = answer.headers.get("Transfer-Encoding") == "chunked"
    assert is_chunked is (mode == "RESPONSE_STREAM")


def test_signatures_are_verified_on_a_node_that_asks_for_keys(data):
    key = new_key(data, "me")
    with running(data, "--auth", "keys") as node:
        node.client.close()
        node.client = read_at_once(boto3.client("lambda", "us-east-1", endpoint_url=node.endpoint, **key))
        name = node.create(CODE, Runtime=RUNTIME, Handler="app.handler")
        url = opened(node, name, AuthType="AWS_IAM")
        assert ask(node, url).status == 403
        own = Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])

        def asked(credentials, service="lambda", region="us-east-1", sent=b"body"):
            request = AWSRequest("POST", f"{url}p?q=1", data=b"body")
            SigV4Auth(credentials, service, region).add_auth(request)
            return ask(node, url, "/p?q=1", "POST", sent, **dict(request.headers.items()))

        def asked_presigned(credentials, query="q=1"):
            request = AWSRequest("GET", f"{url}p?q=1")
            SigV4QueryAuth(credentials, "lambda", "us-east-1", expires=60).add_auth(request)
            return ask(node, url, f"/p?{urlsplit(request.url).query.replace('q=1', query)}")

        event = asked(own).json
        iam = event["requestContext"]["authorizer"]["iam"]
        assert iam["userArn"] == "arn:aws:iam::000000000000:user/me"
        assert iam["userId"].startswith("AIDA")
        assert (iam["callerId"], iam["accessKey"], event["body"]) == (iam["userId"], own.access_key, "body")
        assert asked_presigned(own).status == 200
        key = new_key(data, "partner", "--account", "111111111111")
        theirs = Credentials(key["aws_access_key_id"], key["aws_secret_access_key"])
        assert asked(theirs).status == 403
        node.client.add_permission(
            FunctionName=name,
            StatementId="partner",
            Action="lambda:InvokeFunctionUrl",
            Principal="111111111111",
            FunctionUrlAuthType="AWS_IAM",
        )
        assert asked(theirs).json["requestContext"]["authorizer"]["iam"]["accountId"] == "111111111111"
        wrong = Credentials(own.access_key, "wrong")
        for refused in (
            asked(wrong),
            asked(own, "execute-api"),
            asked(own, region="eu-west-1"),
            asked(own, sent=b"another body"),
            asked_presigned(wrong),
            asked_presigned(own, "q=2"),
        ):
            assert (refused.status, refused.json) == (403, {"Message": "Forbidden"})
        document = {"Statement": {"Effect": "Allow", "Action": "lambda:InvokeFunctionUrl", "Resource": "*"}}
        (data / "policy").write_text(json.dumps(document))
        for name, policy, status in (
            ("may", data / "policy", 200),
            ("may-not", "arn:aws:iam::aws:policy/service-role/AWSLambdaRole", 403),
        ):
            limited = new_key(data, name, "--policy", policy)
            its = Credentials(limited["aws_access_key_id"], limited["aws_secret_access_key"])
            assert asked(its).status == status
