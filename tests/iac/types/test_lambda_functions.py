"""Functions as resources."""

from __future__ import annotations

import asyncio
import io
import zipfile

import pytest
from tests.control.conftest import ARN
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.lambda_code import zipped
from remora.iac.types.table import TYPES

FUNCTION = TYPES["AWS::Lambda::Function"]
ROLE = "arn:aws:iam::000000000000:role/anything"
PLAIN = {
    "Role": ROLE,
    "Runtime": "python3.12",
    "Handler": "index.handler",
    "Code": {"ZipFile": "def handler(event, context):\n    return event\n"},
}
FULL = {
    **PLAIN,
    "Architectures": ["x86_64"],
    "DeadLetterConfig": {"TargetArn": "arn:aws:sqs:us-east-1:000000000000:q"},
    "Description": "first",
    "Environment": {"Variables": {"NAME": 1}},
    "EphemeralStorage": {"Size": "1024"},
    "LoggingConfig": {"LogFormat": "JSON", "LogGroup": "/mine"},
    "MemorySize": "256",
    "RecursiveLoop": "Allow",
    "ReservedConcurrentExecutions": "5",
    "RuntimeManagementConfig": {"UpdateRuntimeOn": "FunctionUpdate"},
    "Tags": [{"Key": "k", "Value": "v"}],
    "Timeout": "7",
    "TracingConfig": {"Mode": "Active"},
}


async def described(bench, name="f"):
    """Return all that the API tells of a function."""
    return await bench.call("lambda", "GetFunction", FunctionName=name)


def test_every_setting(tmp_path, run):
    """A function is made with everything that it may have, and loses it again."""

    async def main():
        async with open_bench(tmp_path) as bench:
            # Given a function with everything
            layer = await _layer(bench)
            properties = {**FULL, "Layers": [layer]}
            context = bench.context("f")
            made = await FUNCTION.create(context, properties)
            # Then all of it has been told to the service
            assert made.physical_id == "f" == FUNCTION.predicted_id(context, properties)
            assert set(made.attributes) == FUNCTION.attributes
            assert made.attributes["Arn"] == f"{ARN}:function:f"
            assert made.attributes["SnapStartResponse.ApplyOn"] == "None"
            found = await described(bench)
            configuration = found["Configuration"]
            assert configuration["State"] == "Active"
            assert {name: configuration[name] for name in ("MemorySize", "Timeout", "Description")} == {
                "MemorySize": 256,
                "Timeout": 7,
                "Description": "first",
            }
            assert configuration["Environment"] == {"Variables": {"NAME": "1"}}
            assert configuration["EphemeralStorage"] == {"Size": 1024}
            assert configuration["LoggingConfig"]["LogGroup"] == "/mine"
            assert [each["Arn"] for each in configuration["Layers"]] == [layer]
            assert configuration["TracingConfig"] == {"Mode": "Active"}
            assert found["Tags"] == {**context.tags, "k": "v"}
            assert found["Concurrency"] == {"ReservedConcurrentExecutions": 5}
            assert await _aside(bench) == ("FunctionUpdate", "Allow")
            # When the template says nothing of all that any more
            await FUNCTION.update(context, "f", properties, PLAIN)
            # Then it is as if it had never said so
            found = await described(bench)
            await FUNCTION.create(bench.context("g"), PLAIN)
            plain = (await described(bench, "g"))["Configuration"]
            assert found["Configuration"]["LoggingConfig"]["LogGroup"] == "/aws/lambda/f"
            own = ("LoggingConfig", "FunctionName", "FunctionArn", "LastModified", "RevisionId")
            left = {name: value for name, value in found["Configuration"].items() if name not in own}
            assert left == {name: value for name, value in plain.items() if name not in own}
            assert found["Tags"] == dict(context.tags)
            assert "Concurrency" not in found
            assert await _aside(bench) == ("Auto", "Terminate")

    run(main())


def test_updates_come_in_order(tmp_path, run):
    """What changed is told to the operations it belongs to, code first, each awaited."""

    async def main():
        async with open_bench(tmp_path) as bench:
            context = bench.context("f")
            await FUNCTION.create(context, PLAIN)
            bench.operations()
            other = {**PLAIN, "Code": {"ZipFile": "x = 1"}, "Timeout": 9, "ReservedConcurrentExecutions": 1}
            await FUNCTION.update(context, "f", PLAIN, other)
            wait = "GetFunctionConfiguration"
            assert bench.operations() == [
                *("UpdateFunctionCode", wait, "UpdateFunctionConfiguration", wait),
                *("PutFunctionConcurrency", "TagResource", wait),
            ]
            await FUNCTION.update(context, "f", other, {**other, "Tags": [{"Key": "k", "Value": "v"}]})
            assert bench.operations() == ["TagResource", wait]
            await FUNCTION.update(context, "f", {**other, "Tags": [{"Key": "k", "Value": "v"}]}, other)
            assert bench.operations() == ["UntagResource", "TagResource", wait]
            nodejs = {**other, "Runtime": "nodejs22.x"}
            with pytest.raises(CallFailed):  # there is none here: but its text would be another file
                await FUNCTION.update(context, "f", other, nodejs)
            assert bench.operations() == ["UpdateFunctionCode", wait, "UpdateFunctionConfiguration"]

    run(main())


def test_code_of_a_bucket(tmp_path, run):
    """Code comes from the node's buckets, too."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.call("s3", "CreateBucket", Bucket="bucket")
            for key, text in (("a", "a = 1"), ("b", "b = 1")):
                content = zipped(text, "python3.12")
                await bench.call("s3", "PutObject", Bucket="bucket", Key=key, Body=content)
            first, second = ({**PLAIN, "Code": {"S3Bucket": "bucket", "S3Key": key}} for key in "ab")
            await FUNCTION.create(bench.context("f"), first)
            former = (await described(bench))["Configuration"]["CodeSha256"]
            await FUNCTION.update(bench.context("f"), "f", first, second)
            assert (await described(bench))["Configuration"]["CodeSha256"] != former
            missing = {**PLAIN, "Code": {"S3Bucket": "bucket", "S3Key": "c"}}
            with pytest.raises(CallFailed, match="S3 Error Code: NoSuchKey"):
                await FUNCTION.update(bench.context("f"), "f", second, missing)

    run(main())


def test_deletion(tmp_path, run):
    """A function is deleted with its versions; one that is gone already is, too."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await FUNCTION.create(bench.context("f"), PLAIN)
            await bench.call("lambda", "PublishVersion", FunctionName="f")
            for _ in range(2):
                await FUNCTION.delete(bench.context("f"), "f", PLAIN)
                assert not bench.control.state.view.functions

    run(main())


@pytest.mark.parametrize(
    "broken",
    [
        {"ReservedConcurrentExecutions": 5000},
        {"RuntimeManagementConfig": {"UpdateRuntimeOn": "Never"}},
        {"RecursiveLoop": "Perhaps"},
        {"Runtime": "provided.al2023", "Code": {"ZipFile": "text"}},
        {"MemorySize": 1},
        {"Code": {"Unheard": "x"}},
        {"Code": "text"},
    ],
)
def test_nothing_is_left_of_half_a_function(tmp_path, run, broken):
    """Whatever is refused after a function was made, the function does not stay."""

    async def main():
        async with open_bench(tmp_path) as bench:
            with pytest.raises(CallFailed):
                await FUNCTION.create(bench.context("f"), {**PLAIN, **broken})
            assert not bench.control.state.view.functions

    run(main())


def test_a_function_that_never_becomes_active(tmp_path, run):
    """A function that fails to become ready fails with the reason, and is removed."""

    async def main():
        async with open_bench(tmp_path) as bench:
            bench.runtimes.missing.add("python3.12")
            with pytest.raises(CallFailed, match=r"there is no python3\.12 here") as caught:
                await FUNCTION.create(bench.context("f"), PLAIN)
            assert caught.value.code == "NotStabilized"
            assert not bench.control.state.view.functions

    run(main())


def test_a_function_of_somebody_else(tmp_path, run):
    """A function that there is already is neither taken nor removed."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            with pytest.raises(CallFailed, match="Function already exist: f") as caught:
                await FUNCTION.create(bench.context("f"), PLAIN)
            assert caught.value.code == "ResourceConflictException"
            assert list(bench.control.state.view.functions) == ["f"]

    run(main())


def test_cancelled_creation(tmp_path, run):
    """A node that stops leaves what it began for the one that goes on."""

    async def main():
        async with open_bench(tmp_path) as bench:
            bench.runtimes.gate.clear()
            creation = asyncio.ensure_future(FUNCTION.create(bench.context("f"), PLAIN))
            await bench.waited["GetFunctionConfiguration"].wait()
            creation.cancel()
            with pytest.raises(asyncio.CancelledError):
                await creation
            assert list(bench.control.state.view.functions) == ["f"]
            bench.runtimes.gate.set()

    run(main())


@pytest.mark.parametrize(("runtime", "name"), [("python3.12", "index.py"), ("nodejs22.x", "index.js")])
def test_text_becomes_a_zip(runtime, name):
    """The same text is the same bytes; the file can be read by everybody."""
    content = zipped("# ü\n", runtime)
    assert content == zipped("# ü\n", runtime)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        (entry,) = archive.infolist()
        assert (entry.filename, entry.external_attr >> 16) == (name, 0o100644)
        assert archive.read(entry).decode() == "# ü\n"


def test_text_may_be_so_long():
    """Text of code has a limit."""
    assert len(zipped("x" * 4 * 1024 * 1024, "python3.12")) > 4 * 1024 * 1024
    with pytest.raises(CallFailed, match="expected maxLength: 4194304, actual: 4194305"):
        zipped("x" * (4 * 1024 * 1024 + 1), "python3.12")


async def _layer(bench) -> str:
    content = {"ZipFile": zipped("x = 1", "python3.12")}
    reply = await bench.call("lambda", "PublishLayerVersion", LayerName="l", Content=content)
    return reply["LayerVersionArn"]


async def _aside(bench) -> tuple[str, str]:
    runtime = await bench.call("lambda", "GetRuntimeManagementConfig", FunctionName="f")
    loops = await bench.call("lambda", "GetFunctionRecursionConfig", FunctionName="f")
    return runtime["UpdateRuntimeOn"], loops["RecursiveLoop"]
