"""Intrinsic functions: what each one gives, what it leaves in place, and how it is refused."""

from __future__ import annotations

import pytest

from .templates import evaluated, refused

MAPPINGS = {"Sizes": {"eu-west-1": {"Memory": 512, "Zones": ["a", "b"]}}}
CONDITIONS = {"Yes": {"Fn::Equals": ["a", "a"]}, "No": {"Fn::Equals": ["a", "b"]}}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "AWS::Region"}, "eu-west-1"),
        ({"Ref": "AWS::NotificationARNs"}, ["arn:aws:sns:eu-west-1:123456789012:told"]),
        ({"Ref": "AWS::NoValue"}, None),
        ([1, {"Ref": "AWS::NoValue"}, 2], [1, 2]),
        ({"A": {"Ref": "AWS::NoValue"}, "B": 1}, {"B": 1}),
        ({"Fn::Join": ["-", ["a", 1, True, {"Ref": "AWS::StackName"}]]}, "a-1-true-s1"),
        ({"Fn::Join": ["", []]}, ""),
        ({"Fn::Join": [",", {"Fn::Split": [":", "a:b"]}]}, "a,b"),
        ({"Fn::Join": [",", ["a", {"Ref": "AWS::NoValue"}, "b"]]}, "a,b"),
        ({"Fn::Sub": "${AWS::Partition}/${!AWS::Region}/$1/${"}, "aws/${AWS::Region}/$1/${"),
        ({"Fn::Sub": ["${Name}-${AWS::Region}", {"Name": {"Fn::Join": ["", ["a", "b"]]}}]}, "ab-eu-west-1"),
        ({"Fn::Sub": ["${AWS::Region}", {"AWS::Region": "mine"}]}, "mine"),
        ({"Fn::Select": ["1", ["a", "b"]]}, "b"),
        ({"Fn::Select": [0, {"Fn::Split": ["|", "x|y"]}]}, "x"),
        ({"Fn::Select": [0, ["a", {"Ref": "Other"}]]}, "a"),
        ({"Fn::Select": [1, [{"Ref": "AWS::NoValue"}, "b"]]}, "b"),
        ({"Fn::Split": [",", "a,,b"]}, ["a", "", "b"]),
        ({"Fn::Base64": "héllo"}, "aMOpbGxv"),
        ({"Fn::GetAZs": ""}, ["eu-west-1a", "eu-west-1b", "eu-west-1c"]),
        ({"Fn::GetAZs": "us-east-1"}, ["us-east-1a", "us-east-1b", "us-east-1c"]),
        ({"Fn::ImportValue": {"Fn::Sub": "shared-bucket"}}, "the-bucket"),
        ({"Fn::Cidr": ["10.0.0.0/24", 2, 5]}, ["10.0.0.0/27", "10.0.0.32/27"]),
        ({"Fn::Cidr": ["10.0.0.0/16", "1"]}, ["10.0.0.0/24"]),
        ({"Fn::Cidr": ["2001:db8::/56", 2, 64]}, ["2001:db8::/64", "2001:db8:0:1::/64"]),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "AWS::Region"}, "Memory"]}, 512),
        ({"Fn::FindInMap": ["Sizes", "eu-west-1", "Zones"]}, ["a", "b"]),
        ({"Fn::If": ["Yes", "a", {"Ref": "Other"}]}, "a"),
        ({"Fn::If": ["No", "a", {"Ref": "AWS::NoValue"}]}, None),
        ({"Fn::If": ["No", "a", {"Fn::If": ["Yes", {"B": [1]}, "c"]}]}, {"B": [1]}),
        # Not functions, but members that look like them.
        ({"Condition": "Yes"}, {"Condition": "Yes"}),
        ({"Ref": "Other", "More": 1}, {"Ref": "Other", "More": 1}),
    ],
)
def test_what_is_known_is_evaluated(value, expected):
    assert evaluated(value, Mappings=MAPPINGS, Conditions=CONDITIONS) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": "Other"}, {"Ref": "Other"}),
        ({"Fn::GetAtt": "Other.Nested.Arn"}, {"Fn::GetAtt": ["Other", "Nested.Arn"]}),
        ({"Fn::GetAtt": ["Other", "Nested", "Arn"]}, {"Fn::GetAtt": ["Other", "Nested.Arn"]}),
        ({"Fn::GetAtt": ["Other", {"Ref": "AWS::Region"}]}, {"Fn::GetAtt": ["Other", "eu-west-1"]}),
        (
            {"Fn::Sub": "a${AWS::Region}-${Other}/${Other.Arn}${!x}"},
            {
                "Fn::Join": [
                    "",
                    ["aeu-west-1-", {"Ref": "Other"}, "/", {"Fn::GetAtt": ["Other", "Arn"]}, "${x}"],
                ]
            },
        ),
        ({"Fn::Join": ["-", ["a", {"Ref": "Other"}]]}, {"Fn::Join": ["-", ["a", {"Ref": "Other"}]]}),
        (
            {"Fn::Select": [1, {"Fn::Split": [":", {"Ref": "Other"}]}]},
            {"Fn::Select": [1, {"Fn::Split": [":", {"Ref": "Other"}]}]},
        ),
        ({"Fn::Base64": {"Ref": "Other"}}, {"Fn::Base64": {"Ref": "Other"}}),
    ],
)
def test_what_depends_on_a_resource_stays(value, expected):
    assert evaluated(value) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"Ref": []}, "every Ref object must have a single String value."),
        ({"Ref": ""}, "every Ref object must have a single String value."),
        ({"Fn::GetAtt": "Other"}, "every Fn::GetAtt object requires two non-empty parameters"),
        ({"Fn::GetAtt": ["Other", 3]}, "every Fn::GetAtt object requires two non-empty parameters"),
        ({"Fn::GetAtt": ["Nobody", "Arn"]}, "instance of Fn::GetAtt references undefined resource Nobody"),
        ({"Fn::GetAtt": ["AWS::Region", "Arn"]}, "references undefined resource AWS::Region"),
        ({"Fn::Sub": "${Nobody.Arn}"}, "Fn::Sub references invalid resource attribute Nobody.Arn"),
        ({"Fn::Sub": "${No body}"}, "variable names in Fn::Sub syntax must contain only alphanumeric"),
        ({"Fn::Sub": ["a"]}, "Fn::Sub intrinsic functions don't specify expected arguments"),
        (
            {"Fn::Sub": ["${a}", {"a": ["list"]}]},
            "variable a in Fn::Sub expression does not resolve to a string",
        ),
        ({"Fn::Join": ["-"]}, "every Fn::Join object requires two parameters"),
        ({"Fn::Join": ["-", "text"]}, "every Fn::Join object requires two parameters"),
        ({"Fn::Join": ["-", [{"A": 1}]]}, "every Fn::Join object requires two parameters"),
        (
            {"Fn::Sub": "${AWS::NotificationARNs}"},
            "variable AWS::NotificationARNs in Fn::Sub expression does not",
        ),
        ({"Fn::Select": [2, ["a", "b"]]}, "cannot select nonexistent value at index 2"),
        ({"Fn::Select": ["-1", ["a", "b"]]}, "every Fn::Select object requires two non-null parameters"),
        ({"Fn::Select": [True, ["a", "b"]]}, "every Fn::Select object requires two non-null parameters"),
        ({"Fn::Split": ["", "text"]}, "every Fn::Split object requires two parameters"),
        ({"Fn::Base64": ["text"]}, "every Fn::Base64 object must have a String-typed value."),
        ({"Fn::GetAZs": 1}, "every Fn::GetAZs object must have a String-typed value."),
        ({"Fn::ImportValue": "nothing"}, "No export named nothing found."),
        ({"Fn::ImportValue": {"Ref": "Other"}}, "must not depend on any resources"),
        ({"Fn::Cidr": ["10.0.0.0/24", 300, 5]}, "every Fn::Cidr object requires"),
        ({"Fn::Cidr": ["10.0.0.0/24", 9, 5]}, "10.0.0.0/24 has no 9 blocks of 5 bits"),
        ({"Fn::Cidr": ["ten", 1, 5]}, "ten is no CIDR block"),
        ({"Fn::Cidr": ["10.0.0.0/24", 1, 32]}, "every Fn::Cidr object requires"),
        ({"Fn::FindInMap": ["Sizes", "x", "Memory"]}, "Unable to get mapping for Sizes::x::Memory"),
        (
            {"Fn::FindInMap": ["None", "x", "y"]},
            "Mapping named 'None' is not present in the 'Mappings' section",
        ),
        ({"Fn::FindInMap": ["Sizes", {"Ref": "Other"}, "y"]}, "every Fn::FindInMap object requires three"),
        ({"Fn::If": ["Yes", 1]}, "Fn::If requires a list argument with three elements"),
        ({"Fn::If": ["Maybe", 1, 2]}, "unresolved condition dependency Maybe in Fn::If"),
        ({"Fn::If": ["Yes", 1, {"Ref": "Nobody"}]}, "Unresolved resource dependencies [Nobody]"),
        ({"Fn::Explode": "x"}, "Encountered unsupported function: Fn::Explode Supported functions are: ["),
        ({"Fn::Equals": ["a", "a"]}, "Encountered unsupported function: Fn::Equals"),
        ({"Fn::Transform": {"Name": "AWS::Include"}}, "No transform named AWS::Include found."),
        ({"Fn::Length": [1]}, "Fn::Length needs the transform AWS::LanguageExtensions"),
    ],
)
def test_misuse_is_refused(value, expected):
    assert expected in refused(evaluated, value, Mappings=MAPPINGS, Conditions=CONDITIONS)
