"""Parameters: what a template may declare, what a deployment may give, and AWS's words when it may not."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from remora.iac.templates.parameters import (
    Declaration,
    Parameter,
    items_of,
    read_declarations,
    read_parameters,
)

from .templates import STORED, bucket, compiled, refused


def read(declared, given=None):
    """Read the parameter P, declared so."""
    document = {"Parameters": {"P": declared}, "Resources": {"A": bucket()}}
    return read_parameters(document, {} if given is None else {"P": given}, STORED.get)["P"]


def test_a_declaration_has_every_attribute():
    declared = {
        "Type": "String",
        "Default": "ab",
        "Description": "which",
        "NoEcho": "TRUE",
        "AllowedValues": ["ab", 3, True],
        "AllowedPattern": "[a-z0-9]+",
        "ConstraintDescription": "be brief",
        "MinLength": "1",
        "MaxLength": 4,
        "MinValue": -1.5,
        "MaxValue": "1e3",
    }
    assert read_declarations({"Parameters": {"P": declared}}) == {
        "P": Declaration(
            type="String",
            default="ab",
            description="which",
            is_secret=True,
            allowed=("ab", "3", "true"),
            pattern="[a-z0-9]+",
            explanation="be brief",
            length_min=1,
            length_max=4,
            least=Decimal("-1.5"),
            most=Decimal("1e3"),
        )
    }


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ({"Type": "String"}, "a", ("a", "a", False)),
        ({"Type": "String"}, "", ("", "", False)),
        ({"Type": "String", "Default": "d"}, None, ("d", "d", False)),
        ({"Type": "String", "Default": ""}, None, ("", "", False)),
        ({"Type": "String", "Default": "d"}, "a", ("a", "a", False)),
        ({"Type": "String", "Default": True}, None, ("true", "true", False)),
        ({"Type": "Number", "Default": 3}, None, ("3", "3", False)),
        ({"Type": "Number", "NoEcho": True}, "1.50", ("1.50", "1.50", True)),
        ({"Type": "AWS::EC2::VPC::Id"}, "vpc-1", ("vpc-1", "vpc-1", False)),
        ({"Type": "AWS::SSM::Parameter::Name"}, "/app/size", ("/app/size", "/app/size", False)),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "/app/size", ("/app/size", "512", False)),
        ({"Type": "AWS::SSM::Parameter::Value<String>"}, "/app/size:2", ("/app/size:2", "256", False)),
        ({"Type": "CommaDelimitedList", "AllowedValues": ["a", "b"]}, "a, b", ("a, b", "a, b", False)),
        ({"Type": "String", "AllowedPattern": r"\p{Alpha}+[0-9]"}, "ab1", ("ab1", "ab1", False)),
    ],
)
def test_a_value_is_given_or_the_default(declared, given, expected):
    assert read(declared, given) == Parameter(*expected)


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ({"Type": "String"}, "a,b", "a,b"),
        ({"Type": "Number"}, "07", "07"),
        ({"Type": "CommaDelimitedList"}, "a, b ,,c", ["a", "b", "", "c"]),
        ({"Type": "CommaDelimitedList"}, "", []),
        ({"Type": "List<Number>"}, "1,2.5", ["1", "2.5"]),
        ({"Type": "List<AWS::EC2::Subnet::Id>"}, "s-1,s-2", ["s-1", "s-2"]),
        ({"Type": "AWS::SSM::Parameter::Value<List<String>>"}, "/app/list", ["a", "b"]),
        ({"Type": "AWS::SSM::Parameter::Value<CommaDelimitedList>"}, "/app/list", ["a", "b"]),
    ],
)
def test_ref_gives_text_or_a_list_of_it(declared, given, expected):
    resources = {"A": bucket(Properties={"Value": {"Ref": "P"}})}
    program = compiled({"Parameters": {"P": declared}, "Resources": resources}, {"P": given})
    assert program.resources["A"].properties == {"Value": expected}
    assert program.resources["A"].depends_on == frozenset()


def test_items_are_what_lies_between_commas():
    assert (items_of(""), items_of(" a ,b"), items_of(",")) == ([], ["a", "b"], ["", ""])


@pytest.mark.parametrize(
    ("declared", "given", "expected"),
    [
        ({"Type": "String"}, None, "Parameters: [P] must have values"),
        ({"Type": "String", "AllowedValues": ["a"]}, "b", "Parameter 'P' must be one of AllowedValues"),
        ({"Type": "String", "AllowedValues": ["a"], "Default": "b"}, None, "must be one of AllowedValues"),
        ({"Type": "CommaDelimitedList", "AllowedValues": ["a"]}, "a,b", "must be one of AllowedValues"),
        ({"Type": "String", "MinLength": 2}, "a", "Parameter 'P' must contain at least 2 characters"),
        ({"Type": "String", "MaxLength": 2}, "abc", "Parameter 'P' must contain at most 2 characters"),
        ({"Type": "String", "AllowedPattern": "[a-z]"}, "ab", "Parameter 'P' must match pattern [a-z]"),
        (
            {"Type": "String", "AllowedPattern": "[a-z]", "ConstraintDescription": "one letter"},
            "ab",
            "Parameter 'P' failed to satisfy constraint: one letter",
        ),
        ({"Type": "Number"}, "many", "Parameter 'P' must be a number"),
        ({"Type": "Number"}, "NaN", "Parameter 'P' must be a number"),
        ({"Type": "Number"}, "1_0", "Parameter 'P' must be a number"),
        ({"Type": "Number"}, "٣", "Parameter 'P' must be a number"),
        ({"Type": "Number", "MinValue": 3}, "2.9", "Parameter 'P' must be a number not less than 3"),
        ({"Type": "Number", "MaxValue": 3}, "3.1", "Parameter 'P' must be a number not greater than 3"),
        ({"Type": "List<Number>"}, "1,x", "Parameter 'P' must be a number list"),
        ({"Type": "String"}, "é" * 2049, "Parameter 'P' must not be longer than 4096 bytes."),
        (
            {"Type": "AWS::SSM::Parameter::Value<String>"},
            "/nothing",
            "Unable to fetch parameters [/nothing] from parameter store for this account.",
        ),
        ({"Type": "String", "AllowedPattern": "("}, "a", "its AllowedPattern is no regular expression"),
        ({"Type": "String", "AllowedPattern": "a{999999999999}"}, "a", "Parameter 'P'"),
        ({}, "a", "Every Parameters object must contain a Type member."),
        ({"Type": "Text"}, "a", "Unrecognized parameter type: Text"),
        ({"Type": ["String"]}, "a", "Unrecognized parameter type: ['String']"),
        ({"Type": "AWS::SSM::Parameter::Value<Text>"}, "a", "Unrecognized parameter type: AWS::SSM::"),
        ({"Type": "String", "Defualt": "a"}, "a", "Invalid template parameter property 'Defualt'"),
        ({"Type": "String", "Default": ["a"]}, "a", "Every Default member must be a string."),
        ({"Type": "String", "Description": {}}, "a", "Every Description member must be a string."),
        (
            {"Type": "String", "AllowedValues": "a"},
            "a",
            "Every AllowedValues member must be a list of strings.",
        ),
        (
            {"Type": "String", "AllowedValues": [[]]},
            "a",
            "Every AllowedValues member must be a list of strings.",
        ),
        ({"Type": "String", "MinLength": "a"}, "a", "Every MinLength member must be a number."),
        ({"Type": "String", "MinLength": -1}, "a", "Every MinLength member must be a number."),
        ({"Type": "String", "MaxLength": 1.5}, "a", "Every MaxLength member must be a number."),
        ({"Type": "Number", "MinValue": "1e1000"}, "1", "Every MinValue member must be a number."),
        ("String", "a", "Any Parameters member must be an object."),
    ],
)
def test_what_is_not_allowed_is_refused(declared, given, expected):
    assert expected in refused(read, declared, given)


def test_all_that_is_missing_and_all_that_is_too_much_is_named():
    document = {"Parameters": {"A": {"Type": "String"}, "B": {"Type": "String"}, "C": {"Type": "String"}}}
    given = {"B": "b", "C": None}
    assert refused(read_parameters, document, given, {}.get) == "Parameters: [A, C] must have values"
    given |= {"Y": "y", "Z": None}
    assert (
        refused(read_parameters, document, given, {}.get) == "Parameters: [Y, Z] do not exist in the template"
    )
    stored = {"Type": "AWS::SSM::Parameter::Value<String>"}
    document = {"Parameters": {"A": stored, "B": stored}}
    told = refused(read_parameters, document, {"A": "/a", "B": "/b"}, {}.get)
    assert told == "Unable to fetch parameters [/a,/b] from parameter store for this account."


def test_names_and_numbers_of_parameters_have_limits():
    document = {"Parameters": {"P-1": {"Type": "String"}}}
    assert refused(read_declarations, document).endswith("Parameter name P-1 is non alphanumeric.")
    document = {"Parameters": {f"P{number}": {"Type": "String"} for number in range(201)}}
    assert "Number of parameters, 201, is greater than maximum allowed, 200" in refused(
        read_declarations, document
    )


@pytest.mark.slow
@pytest.mark.parametrize("pattern", [r"(?:(a+)\1)+[bc]", "((a{1000}){1000}){1000}"])
def test_a_hostile_pattern_is_given_up(pattern):
    begun = time.process_time()
    told = refused(read, {"Type": "String", "AllowedPattern": pattern}, "a" * 4000)
    assert told == "Parameter 'P': its AllowedPattern takes too long, or too much memory."
    assert time.process_time() - begun < 30
