"""What is told of values that do not fit."""

from __future__ import annotations

import pytest

from remora.iac.rules import property_problem
from remora.iac.types.table import TYPES


@pytest.mark.parametrize(
    ("name", "properties", "expected"),
    [
        (
            "AWS::IAM::Role",
            {"AssumeRolePolicyDocument": [], "Policies": [{"PolicyName": "p"}, 1]},
            [
                "#/AssumeRolePolicyDocument: expected type: JSONObject, found: JSONArray",
                "#/Policies/0: required key [PolicyDocument] not found",
                "#/Policies/1: expected type: JSONObject, found: Integer",
            ],
        ),
        (
            "AWS::Lambda::LayerVersion",
            {"Content": {"S3Bucket": "b", "S3Key": "k", "ZipFile": "x"}, "LayerName": {"Ref": "x"}},
            [
                "#/Content: extraneous key [ZipFile] is not permitted",
                "#/LayerName: expected type: String, found: JSONObject",
            ],
        ),
        (
            "AWS::Logs::LogGroup",
            {"Tags": [{"Key": "k", "Value": None}, {"Key": "k"}], "LogGroupName": True},
            [
                "#/Tags/0/Value: expected type: String, found: Null",
                "#/Tags/1: required key [Value] not found",
            ],
        ),
        ("AWS::S3::Bucket", {"Tags": {}}, ["#/Tags: expected type: JSONArray, found: JSONObject"]),
        ("AWS::Lambda::Version", {"FunctionName": 1.5}, []),
    ],
)
def test_misfits(name, properties, expected):
    """Each value is told with its place, what is expected there, and what it is."""
    told = property_problem(TYPES[name], "Thing", properties).split("\n")[1:]
    assert sorted(told) == sorted(expected)
