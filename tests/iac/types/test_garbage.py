"""Whatever a template says of a resource, what comes of it is a resource or an error in words."""

from __future__ import annotations

from contextlib import suppress

import pytest
from tests.control.conftest import ARN
from tests.iac.bench import LAMBDA_TRUST, open_bench

from remora.iac.calls import CallFailed
from remora.iac.rules import property_problem
from remora.iac.types.lambda_code import zipped
from remora.iac.types.table import TYPES

ROLE = "arn:aws:iam::000000000000:role/r"
PROFILE = "arn:aws:signer:us-east-1:000000000000:/signing-profiles/p/abcdefghij"
PLAIN = {
    "AWS::ECR::Repository": {},
    "AWS::IAM::ManagedPolicy": {"PolicyDocument": {"Statement": []}},
    "AWS::IAM::Policy": {"PolicyDocument": {"Statement": []}, "PolicyName": "p", "Roles": ["r"]},
    "AWS::IAM::Role": {"AssumeRolePolicyDocument": LAMBDA_TRUST},
    "AWS::Lambda::Alias": {"FunctionName": "f", "FunctionVersion": "1", "Name": "a"},
    "AWS::Lambda::CodeSigningConfig": {"AllowedPublishers": {"SigningProfileVersionArns": [PROFILE]}},
    "AWS::Lambda::EventInvokeConfig": {"FunctionName": "f", "Qualifier": "1"},
    "AWS::Lambda::Function": {
        "Code": {"ZipFile": "x = 1"},
        "Role": ROLE,
        "Runtime": "python3.12",
        "Handler": "index.h",
    },
    "AWS::Lambda::LayerVersion": {"Content": {"S3Bucket": "bucket", "S3Key": "k"}},
    "AWS::Lambda::LayerVersionPermission": {
        "LayerVersionArn": f"{ARN}:layer:l:1",
        "Action": "lambda:GetLayerVersion",
        "Principal": "*",
    },
    "AWS::Lambda::Permission": {"FunctionName": "f", "Action": "lambda:Invoke", "Principal": "*"},
    "AWS::Lambda::Url": {"TargetFunctionArn": "f", "AuthType": "NONE"},
    "AWS::Lambda::Version": {"FunctionName": "f"},
    "AWS::Logs::LogGroup": {},
    "AWS::S3::Bucket": {},
    "AWS::S3::BucketPolicy": {"Bucket": "bucket", "PolicyDocument": {"Statement": []}},
    "AWS::SSM::Parameter": {"Type": "String", "Value": "v"},
}
GARBAGE = (
    *([""], ["ü" * 300], [{"PolicyName": "", "PolicyDocument": {"Statement": []}}]),
    *("", "x", "ü" * 5000, "{", 0, -1, 1.5, True, [], {}, ["x"], [1], [[]], [{}], [None], [{"Key": "k"}]),
    *({"x": "y"}, {"": []}, {"Rules": 1}, {"Rules": [1]}, {"Rules": [{}]}, {"Key": "k", "Value": {}}),
    *([{"Key": ["k"], "Value": "v"}], [{"Key": "k", "Value": ["v"]}], {"ZipFile": 1}, {"ZipFile": ["x"]}),
    *([{"PolicyName": "n"}], [{"PolicyName": {}, "PolicyDocument": 1}]),
    *({"AdditionalVersionWeights": 1}, {"AdditionalVersionWeights": [{"FunctionVersion": "1"}]}),
    *({"ServerSideEncryptionConfiguration": 1}, {"ServerSideEncryptionConfiguration": ["x"]}),
    *({"LifecyclePolicyText": []}, {"OnSuccess": 1}, {"Variables": {"A": {}}}, {"LogFormat": []}),
)
_FEW = 16
"""Making functions takes a while."""


@pytest.mark.slow
@pytest.mark.parametrize("name", PLAIN)
def test_garbage(tmp_path, run, name):
    """Every property may be anything: nothing but words comes of that, and nothing is left."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await _surroundings(bench)
            kind, plain = TYPES[name], PLAIN[name]
            before = _there(bench)
            assert property_problem(kind, "Thing", plain) == ""
            for member in kind.properties:
                for value in GARBAGE[: _FEW if name == "AWS::Lambda::Function" else None]:
                    properties = {**plain, member: value}
                    if property_problem(kind, "Thing", properties):
                        continue
                    context = bench.context("thing")
                    with suppress(CallFailed):
                        made = await kind.create(context, properties)
                        await kind.delete(context, made.physical_id, properties)
                    assert _there(bench) == before, f"{member}: {value} leaves something"
                    if kind.properties[member].replaces:
                        continue
                    made = await kind.create(context, plain)
                    with suppress(CallFailed):
                        await kind.update(context, made.physical_id, plain, properties)
                    restored = await kind.update(context, made.physical_id, properties, plain)
                    assert restored.physical_id == made.physical_id
                    await kind.delete(context, made.physical_id, plain)
                    assert _there(bench) == before, f"a change to {member}: {value} leaves something"

    run(main())


async def _surroundings(bench) -> None:
    """Make what resources of all types refer to."""
    await bench.role("r")
    await bench.function("f")
    await bench.call("lambda", "PublishVersion", FunctionName="f")
    await bench.call("s3", "CreateBucket", Bucket="bucket")
    content = zipped("x = 1", "python3.12")
    await bench.call("s3", "PutObject", Bucket="bucket", Key="k", Body=content)
    await bench.call("lambda", "PublishLayerVersion", LayerName="l", Content={"ZipFile": content})
    properties = await bench.function("g")
    function = TYPES["AWS::Lambda::Function"]
    await function.update(bench.context("f"), "f", properties, {**properties, "Timeout": 9})


def _there(bench) -> dict[str, set[str]]:
    """Return the names of all that there is, by kind."""
    view = bench.control.state.view
    flat = (
        "buckets",
        "functions",
        "managed_policies",
        "parameters",
        "repositories",
        "roles",
        "signing_configs",
    )
    of_functions = ("aliases", "event_invoke_configs", "layer_policies", "policies", "urls", "versions")
    return {name: set(getattr(view, name)) for name in flat} | {
        name: {f"{key}:{part}" for key, parts in getattr(view, name).items() for part in parts}
        for name in of_functions
    }
