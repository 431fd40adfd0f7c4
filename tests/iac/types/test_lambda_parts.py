"""Layers, permissions, addresses and configurations of events as resources."""

from __future__ import annotations

import json

import pytest
from tests.control.conftest import ARN
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.lambda_code import zipped
from remora.iac.types.table import TYPES

LAYER, LAYER_PERMISSION = TYPES["AWS::Lambda::LayerVersion"], TYPES["AWS::Lambda::LayerVersionPermission"]
PERMISSION, URL = TYPES["AWS::Lambda::Permission"], TYPES["AWS::Lambda::Url"]
EVENTS = TYPES["AWS::Lambda::EventInvokeConfig"]


async def with_alias(bench) -> str:
    """Make a function `f` with an alias `live`; return the alias's ARN."""
    await bench.function("f")
    await bench.call("lambda", "PublishVersion", FunctionName="f")
    alias = await bench.call("lambda", "CreateAlias", FunctionName="f", Name="live", FunctionVersion="1")
    return alias["AliasArn"]


def test_layer(tmp_path, run):
    """A layer version comes from a bucket, is called as its resource, and may be used by others."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.call("s3", "CreateBucket", Bucket="bucket")
            content = zipped("x = 1", "python3.12")
            await bench.call("s3", "PutObject", Bucket="bucket", Key="k", Body=content)
            properties = {
                "Content": {"S3Bucket": "bucket", "S3Key": "k"},
                "CompatibleRuntimes": ["python3.12"],
                "Description": "d",
                "LicenseInfo": "MIT",
            }
            context = bench.context()
            made = await LAYER.create(context, properties)
            arn = f"{ARN}:layer:Thing:1"
            assert made == (arn, {"LayerVersionArn": arn})
            named = await LAYER.create(context, {**properties, "LayerName": "mine"})
            assert named.physical_id == f"{ARN}:layer:mine:1"
            found = await bench.call("lambda", "GetLayerVersionByArn", Arn=arn)
            assert (found["Description"], found["LicenseInfo"]) == ("d", "MIT")
            permission = {"LayerVersionArn": arn, "Action": "lambda:GetLayerVersion", "Principal": "*"}
            permitted = await LAYER_PERMISSION.create(context, permission)
            assert permitted == (f"{arn}#{context.token}", {"Id": f"{arn}#{context.token}"})
            assert LAYER_PERMISSION.predicted_id(context, permission) == permitted.physical_id
            request = {"LayerName": "Thing", "VersionNumber": 1}
            assert "Policy" in await bench.call("lambda", "GetLayerVersionPolicy", **request)
            for _ in range(2):
                await LAYER_PERMISSION.delete(context, permitted.physical_id, permission)
            with pytest.raises(CallFailed):
                await bench.call("lambda", "GetLayerVersionPolicy", **request)
            for _ in range(2):
                await LAYER.delete(context, arn, properties)
            await LAYER_PERMISSION.delete(context, permitted.physical_id, permission)
            assert 1 not in bench.control.state.view.layer_versions.get("Thing", {})
            with pytest.raises(CallFailed, match="is not the ARN of a layer version"):
                await LAYER_PERMISSION.create(context, {**permission, "LayerVersionArn": "Thing"})

    run(main())


@pytest.mark.parametrize("qualifier", [None, "1", "live"])
def test_permission(tmp_path, run, qualifier):
    """A permission is for what its ARN names: the function, a version, an alias."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await with_alias(bench)
            arn = f"{ARN}:function:f" + (f":{qualifier}" if qualifier else "")
            properties = {
                "FunctionName": arn,
                "Action": "lambda:InvokeFunction",
                "Principal": "s3.amazonaws.com",
                "SourceAccount": 123456789012,
                "SourceArn": "arn:aws:s3:::bucket",
            }
            context = bench.context()
            made = await PERMISSION.create(context, properties)
            assert made == (context.token, {"Id": context.token})
            of = {"FunctionName": "f", "Qualifier": qualifier}
            policy = json.loads((await bench.call("lambda", "GetPolicy", **of))["Policy"])
            (statement,) = policy["Statement"]
            assert (statement["Sid"], statement["Resource"]) == (context.token, arn)
            assert statement["Condition"]["StringEquals"] == {"AWS:SourceAccount": "123456789012"}
            for _ in range(2):
                await PERMISSION.delete(context, made.physical_id, properties)
            with pytest.raises(CallFailed):
                await bench.call("lambda", "GetPolicy", **of)
            await TYPES["AWS::Lambda::Function"].delete(context, "f", {})
            await PERMISSION.delete(context, made.physical_id, properties)

    run(main())


def test_permission_for_an_address(tmp_path, run):
    """Permissions of addresses have conditions of their own."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            properties = {
                "FunctionName": "f",
                "Action": "lambda:InvokeFunction",
                "Principal": "*",
                "InvokedViaFunctionUrl": "true",
            }
            await PERMISSION.create(bench.context(), properties)
            properties = {
                "FunctionName": "f",
                "Action": "lambda:InvokeFunctionUrl",
                "Principal": "*",
                "FunctionUrlAuthType": "NONE",
            }
            await PERMISSION.create(bench.context(), properties)
            policy = json.loads((await bench.call("lambda", "GetPolicy", FunctionName="f"))["Policy"])
            first, second = (statement["Condition"] for statement in policy["Statement"])
            assert first == {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}}
            assert second == {"StringEquals": {"lambda:FunctionUrlAuthType": "NONE"}}

    run(main())


@pytest.mark.parametrize("given", ["alias ARN", "Qualifier", "name"])
def test_url(tmp_path, run, given):
    """An address leads to a function or an alias, however that is named."""

    async def main():
        async with open_bench(tmp_path) as bench:
            alias = await with_alias(bench)
            named = {
                "alias ARN": {"TargetFunctionArn": alias},
                "Qualifier": {"TargetFunctionArn": f"{ARN}:function:f", "Qualifier": "live"},
                "name": {"TargetFunctionArn": "f"},
            }[given]
            arn = f"{ARN}:function:f" if given == "name" else alias
            cors = {"AllowOrigins": ["*"], "MaxAge": "5", "AllowCredentials": "false"}
            properties = {**named, "AuthType": "NONE", "InvokeMode": "RESPONSE_STREAM", "Cors": cors}
            context = bench.context()
            made = await URL.create(context, properties)
            assert made.physical_id == arn == URL.predicted_id(context, properties)
            assert made.attributes["FunctionUrl"].startswith("http://")
            other = {**named, "AuthType": "AWS_IAM"}
            assert await URL.update(context, arn, properties, other) == made
            of = {"FunctionName": "f", "Qualifier": None if given == "name" else "live"}
            found = await bench.call("lambda", "GetFunctionUrlConfig", **of)
            assert (found["AuthType"], found["InvokeMode"]) == ("AWS_IAM", "BUFFERED")
            assert not found.get("Cors")
            with pytest.raises(CallFailed, match="exists for this Lambda function"):
                await URL.create(context, properties)
            for _ in range(2):
                await URL.delete(context, arn, other)
            assert not bench.control.state.view.urls.get("f")

    run(main())


def test_events(tmp_path, run):
    """A configuration is put, changed and deleted; that of somebody else is left alone."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            context = bench.context()
            properties = {"FunctionName": "f", "Qualifier": "$LATEST", "MaximumRetryAttempts": "0"}
            made = await EVENTS.create(context, properties)
            assert made == (context.token, {})
            of = {"FunctionName": "f", "Qualifier": "$LATEST"}
            found = await bench.call("lambda", "GetFunctionEventInvokeConfig", **of)
            assert found["MaximumRetryAttempts"] == 0
            with pytest.raises(CallFailed, match="already exists"):
                await EVENTS.create(bench.context(), properties)
            other = {"FunctionName": "f", "Qualifier": "$LATEST", "DestinationConfig": {}}
            assert await EVENTS.update(context, context.token, properties, other) == made
            found = await bench.call("lambda", "GetFunctionEventInvokeConfig", **of)
            assert "MaximumRetryAttempts" not in found
            for _ in range(2):
                await EVENTS.delete(context, context.token, other)
            assert not bench.control.state.view.event_invoke_configs.get("f")

    run(main())


def test_functions_elsewhere(tmp_path, run):
    """What is no function of this node is refused in words."""

    async def main():
        async with open_bench(tmp_path) as bench:
            for arn in ("arn:aws:lambda:eu-west-1:000000000000:function:f", "two words", "arn:aws:s3:::b"):
                properties = {"FunctionName": arn, "Qualifier": "$LATEST"}
                with pytest.raises(CallFailed, match=r"reachable|is not the name") as caught:
                    await EVENTS.create(bench.context(), properties)
                assert caught.value.code == "InvalidRequest"

    run(main())


def test_code_signing(tmp_path, run):
    """Whose code functions may have is said, changed, and said of functions."""

    async def main():
        async with open_bench(tmp_path) as bench:
            kind, context = TYPES["AWS::Lambda::CodeSigningConfig"], bench.context()
            profiles = [f"arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/{x * 10}" for x in "ab"]
            first, second = (
                {"AllowedPublishers": {"SigningProfileVersionArns": [each]}} for each in profiles
            )
            first |= {"Description": "d", "Tags": [{"Key": "k", "Value": "v"}]}
            first |= {"CodeSigningPolicies": {"UntrustedArtifactOnDeployment": "Enforce"}}
            made = await kind.create(context, first)
            assert set(made.attributes) == kind.attributes
            (config,) = bench.control.state.view.signing_configs.values()
            assert (config.arn, config.tags) == (made.physical_id, {**context.tags, "k": "v"})
            assert await kind.update(context, made.physical_id, first, second) == made
            found = await bench.call("lambda", "GetCodeSigningConfig", CodeSigningConfigArn=made.physical_id)
            found = found["CodeSigningConfig"]
            assert found["AllowedPublishers"] == second["AllowedPublishers"]
            assert not found.get("Description")
            assert found["CodeSigningPolicies"] == {"UntrustedArtifactOnDeployment": "Warn"}
            function = TYPES["AWS::Lambda::Function"]
            plain = await bench.function("f")
            signed = {**plain, "CodeSigningConfigArn": made.physical_id}
            await function.update(bench.context("f"), "f", plain, signed)
            of = await bench.call("lambda", "GetFunctionCodeSigningConfig", FunctionName="f")
            assert of["CodeSigningConfigArn"] == made.physical_id
            with pytest.raises(CallFailed, match="is in use"):
                await kind.delete(context, made.physical_id, second)
            await function.update(bench.context("f"), "f", signed, plain)
            for _ in range(2):
                await kind.delete(context, made.physical_id, second)
            assert not bench.control.state.view.signing_configs

    run(main())
