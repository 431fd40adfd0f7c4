"""The node's own services, called in-process: checked, refused and permitted as over HTTP."""

from __future__ import annotations

import asyncio

import pytest
from tests.iac.bench import LAMBDA_TRUST, open_bench

from remora.control.callers import Caller
from remora.iac.calls import CallFailed

OWNER = Caller("arn:aws:iam::000000000000:user/owner")
READER = Caller(
    "arn:aws:iam::000000000000:user/reader",
    policies=('{"Statement": [{"Effect": "Allow", "Action": "iam:Get*", "Resource": "*"}]}',),
)


def test_every_protocol_is_spoken(tmp_path, run):
    """A rest-json, a query, a JSON and a rest-xml service answer with the members of their models."""

    async def main():
        async with open_bench(tmp_path) as bench:
            assert (await bench.call("lambda", "ListFunctions"))["Functions"] == []
            made = await bench.call("iam", "CreateRole", RoleName="r", AssumeRolePolicyDocument=_trust())
            assert made["Role"]["Arn"] == "arn:aws:iam::000000000000:role/r"
            await bench.call("ssm", "PutParameter", Name="p", Value="v", Type="String")
            assert (await bench.call("ssm", "GetParameter", Name="p"))["Parameter"]["Value"] == "v"
            await bench.call("logs", "CreateLogGroup", logGroupName="g")
            groups = (await bench.call("logs", "DescribeLogGroups"))["logGroups"]
            assert [group["logGroupName"] for group in groups] == ["g"]
            await bench.call("s3", "CreateBucket", Bucket="bucket")
            await bench.call("s3", "PutObject", Bucket="bucket", Key="a/b c", Body=b"content")
            found = await bench.call("s3", "GetObject", Bucket="bucket", Key="a/b c")
            assert found["Body"] == b"content"
            listed = await bench.call("s3", "ListBuckets")
            assert [each["Name"] for each in listed["Buckets"]] == ["bucket"]

    run(main())


def test_an_invocation_is_answered(tmp_path, run):
    """The answer may come later than the call of the application returns."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            reply = await bench.call("lambda", "Invoke", FunctionName="f", Payload=b'{"a": 1}')
            assert (reply["StatusCode"], reply["Payload"]) == (200, b'{"a": 1}')

    run(main())


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (("lambda", "GetFunction", {"FunctionName": "f"}), ("Lambda", "ResourceNotFoundException", 404)),
        (("iam", "GetRole", {"RoleName": "r"}), ("Iam", "NoSuchEntity", 404)),
        (("ssm", "GetParameter", {"Name": "p"}), ("Ssm", "ParameterNotFound", 400)),
        (
            ("logs", "DeleteLogGroup", {"logGroupName": "g"}),
            ("CloudWatchLogs", "ResourceNotFoundException", 400),
        ),
        (("s3", "GetObject", {"Bucket": "bucket", "Key": "k"}), ("S3", "NoSuchBucket", 404)),
        (("s3", "HeadBucket", {"Bucket": "bucket"}), ("S3", "404", 404)),
        (("lambda", "CreateFunction", {"FunctionName": "f"}), ("Lambda", "ValidationException", 400)),
        (("lambda", "DeleteEventSourceMapping", {"UUID": "u"}), ("Lambda", "ResourceNotFoundException", 404)),
    ],
)
def test_refusals(tmp_path, run, call, expected):
    """What is refused is so with the service's code, status and text."""

    async def main():
        service, operation, request = call
        async with open_bench(tmp_path) as bench:
            with pytest.raises(CallFailed) as caught:
                await bench.call(service, operation, **request)
            error = caught.value
            assert (error.service, error.code, error.status) == expected
            assert error.operation == operation
            assert str(error).endswith(
                f"(Service: {expected[0]}, Status Code: {expected[2]}, Request ID: {error.request_id})"
            )

    run(main())


def test_half_an_answer_is_none(tmp_path, run):
    """An answer that breaks off is a failure of the service."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.call("s3", "CreateBucket", Bucket="bucket")
            await bench.call("s3", "PutObject", Bucket="bucket", Key="k", Body=b"content")
            blob = bench.control.artifacts.blob(bench.control.state.view.objects["bucket"]["k"].digest)
            blob.unlink()
            blob.write_bytes(b"con")
            with pytest.raises(CallFailed) as caught:
                await bench.call("s3", "GetObject", Bucket="bucket", Key="k")
            assert (caught.value.code, caught.value.status) == ("InternalFailure", 0)

    run(main())


def test_a_failure_within_is_no_secret(tmp_path, run):
    """What goes wrong within a service is a failure of the service."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.call("s3", "CreateBucket", Bucket="bucket")
            await bench.call("s3", "PutObject", Bucket="bucket", Key="k", Body=b"content")
            digest = bench.control.state.view.objects["bucket"]["k"].digest
            bench.control.artifacts.blob(digest).unlink()
            with pytest.raises(CallFailed) as caught:
                await bench.call("s3", "GetObject", Bucket="bucket", Key="k")
            assert (caught.value.code, caught.value.status) == ("InternalError", 500)

    run(main())


def test_values_are_made_what_the_model_says(tmp_path, run):
    """Numbers and booleans may be texts in a template, and texts numbers."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function(
                "f", MemorySize="256", Timeout=5.0, Environment={"Variables": {"AA": 1, "BB": True}}
            )
            found = await bench.call("lambda", "GetFunctionConfiguration", FunctionName="f")
            assert (found["MemorySize"], found["Timeout"]) == (256, 5)
            assert found["Environment"]["Variables"] == {"AA": "1", "BB": "true"}

    run(main())


@pytest.mark.parametrize(
    ("member", "value", "text"),
    [
        ("MemorySize", "much", "#/MemorySize: expected type: Integer, found: String"),
        ("MemorySize", 128.5, "#/MemorySize: expected type: Integer, found: Number"),
        ("MemorySize", True, "#/MemorySize: expected type: Integer, found: Boolean"),
        ("Layers", "l", "#/Layers: expected type: JSONArray, found: String"),
        ("Environment", [], "#/Environment: expected type: JSONObject, found: JSONArray"),
        (
            "Environment",
            {"Variables": []},
            "#/Environment/Variables: expected type: JSONObject, found: JSONArray",
        ),
        ("Environment", {"Other": {}}, "#/Environment: extraneous key [Other] is not permitted"),
        ("Description", {"A": "b"}, "#/Description: expected type: String, found: JSONObject"),
        ("Publish", "perhaps", "#/Publish: expected type: Boolean, found: String"),
        ("Layers", ["l", {}], "#/Layers/1: expected type: String, found: JSONObject"),
    ],
)
def test_values_that_cannot_be(tmp_path, run, member, value, text):
    """What cannot be what the model says is refused before anything is asked for."""

    async def main():
        async with open_bench(tmp_path) as bench:
            with pytest.raises(CallFailed) as caught:
                await bench.call("lambda", "CreateFunction", **{member: value})
            assert caught.value.message == f"Model validation failed ({text})"
            assert str(caught.value) == caught.value.message

    run(main())


def test_who_calls_needs_permissions(tmp_path, run):
    """On a node that asks for keys, a call is as much as its caller may do; the owner may do everything."""

    async def main():
        async with open_bench(tmp_path, asks_for_keys=True) as bench:
            bench.caller = OWNER
            await bench.call("iam", "CreateRole", RoleName="r", AssumeRolePolicyDocument=_trust())
            bench.caller = READER
            assert (await bench.call("iam", "GetRole", RoleName="r"))["Role"]["RoleName"] == "r"
            for service, operation, request in [
                ("iam", "DeleteRole", {"RoleName": "r"}),
                ("lambda", "ListFunctions", {}),
                ("s3", "CreateBucket", {"Bucket": "bucket"}),
                ("ssm", "GetParameter", {"Name": "p"}),
            ]:
                with pytest.raises(CallFailed) as caught:
                    await bench.call(service, operation, **request)
                assert caught.value.code.startswith("AccessDenied")
                assert READER.arn in caught.value.message
            bench.caller = OWNER
            await bench.call("iam", "DeleteRole", RoleName="r")

    run(main())


def test_waiting_ends_with_the_change(tmp_path, run):
    """Who waits for something to become so is woken by the change of the records."""

    async def main():
        async with open_bench(tmp_path) as bench:
            bench.runtimes.gate.clear()
            creation = asyncio.ensure_future(bench.function("f"))
            await bench.waited["GetFunctionConfiguration"].wait()
            assert not creation.done()
            bench.runtimes.gate.set()
            await creation
            found = await bench.call("lambda", "GetFunctionConfiguration", FunctionName="f")
            assert found["State"] == "Active"

    run(main())


def test_a_hundred_at_once(tmp_path, run):
    """Calls do not get in each other's way."""

    async def main():
        async with open_bench(tmp_path) as bench:
            names = [f"g{number}" for number in range(100)]
            await asyncio.gather(*(bench.call("logs", "CreateLogGroup", logGroupName=name) for name in names))
            await asyncio.gather(
                *(
                    bench.call("iam", "CreateRole", RoleName=name, AssumeRolePolicyDocument=_trust())
                    for name in names
                )
            )
            roles = await asyncio.gather(*(bench.call("iam", "GetRole", RoleName=name) for name in names))
            assert [role["Role"]["RoleName"] for role in roles] == names

    run(main())


def _trust() -> str:
    return str(LAMBDA_TRUST).replace("'", '"')
