"""Invoke, as boto3 and raw HTTP see it, over a pool that answers by itself."""

from __future__ import annotations

import asyncio
import base64
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from remora.pool.base import InvokeResult, PoolError, Throttled
from remora.resources import lineage

FUNCTION = "arn:aws:lambda:us-east-1:000000000000:function:f"
PATH = "/2015-03-31/functions/f/invocations"


@pytest.mark.case("CP-77")
def test_a_synchronous_invocation(node):
    node.create()
    reply = node.client.invoke(FunctionName="f", Payload=b'{"a":1}')
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert reply["Payload"].read() == b'{"a":1}'
    assert "FunctionError" not in reply
    assert "LogResult" not in reply
    _, request = node.pool.calls[0]
    assert request.invoked_arn == FUNCTION


def test_the_tail_of_the_log(node):
    node.create()
    reply = node.client.invoke(FunctionName="f", LogType="Tail")
    assert base64.b64decode(reply["LogResult"]).splitlines()[-1].startswith(b"REPORT")
    assert node.pool.calls[0][1].tail


def test_a_dry_run_runs_nothing(node):
    node.create()
    reply = node.client.invoke(FunctionName="f", InvocationType="DryRun")
    assert (reply["StatusCode"], reply["Payload"].read()) == (204, b"")
    assert node.pool.calls == []
    assert node.refused("invoke", FunctionName="g", InvocationType="DryRun")[0] == 404


def test_asynchronous_invocation_is_not_offered_yet(node):
    node.create()
    status, code, text = node.refused("invoke", FunctionName="f", InvocationType="Event")
    assert (status, code) == (400, "InvalidParameterValueException")
    assert "not offered" in text


def test_a_function_error_is_an_answer(node):
    node.create()
    document = b'{"errorMessage":"no","errorType":"E"}'
    node.pool.answer = lambda *_: InvokeResult("8f507cfc-xmpl-4697", document, "Unhandled", "$LATEST")
    reply = node.client.invoke(FunctionName="f")
    assert (reply["StatusCode"], reply["FunctionError"]) == (200, "Unhandled")
    assert reply["Payload"].read() == document
    assert reply["ResponseMetadata"]["RequestId"] == "8f507cfc-xmpl-4697"


@pytest.mark.case("CP-82")
@pytest.mark.parametrize(
    ("name", "qualifier", "shown"),
    [("doesnotexist", None, "$LATEST"), ("f", "7", "7"), ("f", "live", "live"), ("f:3", "3", "3")],
)
def test_what_is_not_there_is_named_with_its_qualifier(node, name, qualifier, shown):
    node.create()
    members = {"FunctionName": name} if qualifier is None else {"FunctionName": name, "Qualifier": qualifier}
    arn = f"arn:aws:lambda:us-east-1:000000000000:function:{name.partition(':')[0]}:{shown}"
    text = f"Function not found: {arn}"
    assert node.refused("invoke", **members) == (404, "ResourceNotFoundException", text)


@pytest.mark.case("CP-83")
@pytest.mark.parametrize(
    "payload",
    [
        b"\x99\xeb",
        b"{",
        b'{"a":}',
        b"[1,]",
        b'"\xff"',
        b"NaN",
        b'{"a": Infinity}',
        b" ",
        b"{} {}",
        b"[" * 100_000,
    ],
)
def test_a_payload_that_is_no_json_is_refused(node, payload):
    node.create()
    status, code, text = node.refused("invoke", FunctionName="f", Payload=payload)
    assert (status, code) == (400, "InvalidRequestContentException")
    assert text.startswith("Could not parse request body into json: Could not parse payload into json: ")
    assert node.pool.calls == []


@pytest.mark.parametrize(
    "payload", [b"3", b'"text"', b"null", b"[]", b' {"a" : 1e999} ', b'"\\ud800"', '"é"'.encode(), b"1" * 400]
)
def test_any_json_is_handed_over_as_it_came(node, payload):
    node.create()
    node.client.invoke(FunctionName="f", Payload=payload)
    assert node.pool.calls[0][1].payload == payload


def test_no_payload_is_an_empty_object(node):
    node.create()
    assert node.invoke() == {}


def test_the_content_type_does_not_matter(node):
    node.create()
    status, _, body = node.raw("POST", PATH, b'{"a":1}', Content_Type="application/x-www-form-urlencoded")
    assert (status, body) == (200, b'{"a":1}')


@pytest.mark.slow
def test_six_megabytes_at_most(node):
    node.create()
    largest = b'"' + b"a" * 6_291_454 + b'"'
    assert node.client.invoke(FunctionName="f", Payload=largest)["StatusCode"] == 200
    refusal = node.refused("invoke", FunctionName="f", Payload=largest + b" ")
    assert refusal == (
        413,
        "RequestEntityTooLargeException",
        "6291457 byte payload is too large for the RequestResponse invocation type (limit 6291456 bytes)",
    )
    assert node.refused("invoke", FunctionName="nothing", Payload=largest + b" ")[0] == 404


def test_nothing_returned_is_null(node):
    node.create()
    node.pool.answer = lambda *_: b"null"
    assert node.invoke() is None


def test_a_client_context_is_decoded(node):
    node.create()
    context = base64.b64encode(b'{"custom":{"k":"v"}}').decode()
    node.client.invoke(FunctionName="f", ClientContext=context)
    assert json.loads(node.pool.calls[0][1].client_context) == {"custom": {"k": "v"}}


@pytest.mark.parametrize(
    "context",
    ["!!!", base64.b64encode(b"no json").decode(), base64.b64encode(b"[]").decode(), "e30=" * 896],
)
def test_a_client_context_that_is_none_is_refused(node, context):
    node.create()
    status, code, _ = node.refused("invoke", FunctionName="f", ClientContext=context)
    assert (status, code) == (400, "InvalidRequestContentException")


def test_too_many_at_once_are_throttled(node):
    node.create()

    def refuse(*_):
        raise Throttled("ConcurrentInvocationLimitExceeded")

    node.pool.answer = refuse
    status, headers, body = node.raw("POST", PATH)
    assert (status, headers["retry-after"]) == (429, "1")
    assert headers["x-amzn-errortype"] == "TooManyRequestsException"
    assert json.loads(body) == {
        "Type": "User",
        "Reason": "ConcurrentInvocationLimitExceeded",
        "message": "Rate Exceeded.",
    }


def test_a_pool_that_cannot_and_a_pool_that_breaks(node, caplog):
    node.create()

    def refuse(*_):
        raise PoolError("no environment could be made: no memory")

    def break_down(*_):
        raise ZeroDivisionError

    node.pool.answer = refuse
    refusal = node.refused("invoke", FunctionName="f")
    assert refusal == (500, "ServiceException", "no environment could be made: no memory")
    node.pool.answer = break_down
    status, code, text = node.refused("invoke", FunctionName="f")
    assert (status, code) == (500, "ServiceException")
    assert "ZeroDivisionError" not in text
    assert "ZeroDivisionError" in caplog.text


@pytest.mark.parametrize(
    ("headers", "text"),
    [
        (
            {"X_Amz_Invocation_Type": "Soon"},
            "at 'invocationType' failed to satisfy constraint: Member must satisfy enum",
        ),
        (
            {"X_Amz_Log_Type": "All"},
            "at 'logType' failed to satisfy constraint: Member must satisfy enum value set",
        ),
        ({"X_Amz_Tenant_Id": "t"}, "TenantId is not offered"),
        ({"X_Amz_Durable_Execution_Name": "d"}, "DurableExecutionName is not offered"),
    ],
)
def test_odd_headers_are_refused_warm_and_cold(node, headers, text):
    node.create()
    for _ in range(2):
        status, _, body = node.raw("POST", PATH, **headers)
        assert status == 400
        assert text in body.decode()
        assert node.raw("POST", PATH)[0] == 200


@pytest.mark.parametrize(
    ("name", "members", "arn"),
    [
        ("f", {"Qualifier": "$LATEST"}, f"{FUNCTION}:$LATEST"),
        ("f:$LATEST", {}, f"{FUNCTION}:$LATEST"),
        (FUNCTION, {}, FUNCTION),
        (f"{FUNCTION}:$LATEST", {}, f"{FUNCTION}:$LATEST"),
        ("000000000000:function:f", {}, FUNCTION),
        ("function:f", {}, FUNCTION),
    ],
)
def test_every_form_of_a_name_and_the_arn_as_invoked(node, name, members, arn):
    node.create()
    for _ in range(2):
        node.client.invoke(FunctionName=name, **members)
    assert [request.invoked_arn for _, request in node.pool.calls] == [arn, arn]


def test_the_trace_is_passed_on(node):
    node.create()
    trace = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1"
    node.raw("POST", PATH, X_Amzn_Trace_Id=trace)
    assert node.pool.calls[0][1].trace_id == f"{trace};{lineage.first(FUNCTION)}"


def test_a_function_runs_sixteen_times_in_a_chain(node):
    node.create()
    trace, runs = "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=1", 0
    while (reply := node.raw("POST", PATH, X_Amzn_Trace_Id=trace))[0] == 200:
        trace, runs = node.pool.calls[-1][1].trace_id, runs + 1
    status, headers, body = reply
    assert (runs, status) == (16, 400)
    assert headers["x-amzn-errortype"] == "RecursiveInvocationException"
    assert json.loads(body).keys() == {"Type", "Message"}
    assert node.raw("POST", PATH)[0] == 200
    node.client.put_function_recursion_config(FunctionName="f", RecursiveLoop="Allow")
    assert node.raw("POST", PATH, X_Amzn_Trace_Id=trace)[0] == 200


@pytest.mark.slow
def test_fifty_invocations_run_at_once(node):
    node.create()
    running = 0
    everyone = asyncio.Event()

    async def answer() -> bytes:
        nonlocal running
        running += 1
        if running == 50:
            everyone.set()
        await everyone.wait()
        return b"1"

    node.pool.answer = lambda *_: answer()
    with ThreadPoolExecutor(50) as threads:
        results = list(threads.map(lambda _: node.invoke(), range(50)))
    assert results == [1] * 50


def test_a_client_that_leaves_does_not_stop_the_invocation(node):
    node.create()
    entered, leave, finished = (asyncio.Event() for _ in range(3))

    async def answer() -> bytes:
        entered.set()
        await leave.wait()
        finished.set()
        return b"1"

    node.pool.answer = lambda *_: answer()
    with node.connect() as connection:
        connection.sendall(f"POST {PATH} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
        node.wait_for(entered)
    node.call_soon(leave.set)
    node.wait_for(finished)
    node.pool.answer = lambda *_: b"2"
    assert node.invoke() == 2


def test_what_a_path_stands_for_is_remembered_until_that_changes(node):
    node.create()
    node.publish()
    node.client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")

    def executed():
        return node.client.invoke(FunctionName="f", Qualifier="live")["ExecutedVersion"]

    calls = []
    make = node.control.deployments.make

    async def counted(version):
        calls.append(version.version)
        return await make(version)

    vars(node.control.deployments)["make"] = counted
    assert executed() == executed() == "1"
    # What has nothing to do with functions changes nothing about it.
    node.client_of("ssm").put_parameter(Name="p", Value="x", Type="String")
    assert executed() == "1"
    assert calls == ["1"]
    node.client.update_alias(FunctionName="f", Name="live", FunctionVersion="$LATEST")
    assert executed() == "$LATEST"
    assert calls == ["1", "$LATEST"]
