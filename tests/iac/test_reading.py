"""Templates as text: JSON and YAML as CloudFormation reads them, and what it refuses."""

from __future__ import annotations

import json
import time
from textwrap import dedent

import pytest

from remora.iac.templates import reading
from remora.iac.templates.reading import read_template, transforms
from remora.spec import limits

from .templates import refused

RESOURCES = "Resources: {A: {Type: 'AWS::S3::Bucket'}}\n"


def read_value(text):
    """Read one YAML value, in the place of metadata."""
    return read_template(f"{RESOURCES}Metadata:\n  Value: {text}\n")["Metadata"]["Value"]


@pytest.fixture(params=["libyaml", "python"])
def _either_reader(request, monkeypatch):
    if request.param == "python":
        monkeypatch.setattr(reading, "_LOADER", reading.yaml.BaseLoader)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("!Ref A", {"Ref": "A"}),
        ("!Ref 012", {"Ref": "012"}),
        ("!Condition A", {"Condition": "A"}),
        ("!GetAtt A.B.C", {"Fn::GetAtt": ["A", "B.C"]}),
        ("!GetAtt [A, B]", {"Fn::GetAtt": ["A", "B"]}),
        ("!Sub 'a${B}'", {"Fn::Sub": "a${B}"}),
        ("!Sub ['a${B}', {B: !Ref C}]", {"Fn::Sub": ["a${B}", {"B": {"Ref": "C"}}]}),
        ("!Join ['-', [a, !Ref B]]", {"Fn::Join": ["-", ["a", {"Ref": "B"}]]}),
        ("!If [A, 1, !Ref 'AWS::NoValue']", {"Fn::If": ["A", 1, {"Ref": "AWS::NoValue"}]}),
        ("!Equals [a, b]", {"Fn::Equals": ["a", "b"]}),
        ("!Select [0, !Split [',', 'a,b']]", {"Fn::Select": [0, {"Fn::Split": [",", "a,b"]}]}),
        ("!FindInMap [A, B, C]", {"Fn::FindInMap": ["A", "B", "C"]}),
        ("!GetAZs ''", {"Fn::GetAZs": ""}),
        ("!Base64 |\n    one\n    two", {"Fn::Base64": "one\ntwo\n"}),
        ("!ImportValue a-b", {"Fn::ImportValue": "a-b"}),
        ("!Cidr [10.0.0.0/24, 2, 5]", {"Fn::Cidr": ["10.0.0.0/24", 2, 5]}),
        ("!Not [!And [!Or [!Condition B]]]", {"Fn::Not": [{"Fn::And": [{"Fn::Or": [{"Condition": "B"}]}]}]}),
        ("!Transform {Name: A}", {"Fn::Transform": {"Name": "A"}}),
    ],
)
@pytest.mark.usefixtures("_either_reader")
def test_short_forms_become_long_ones(text, expected):
    assert read_value(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("Off", False),
        ("NO", False),
        ("y", "y"),
        ("tRUE", "tRUE"),
        ("'yes'", "yes"),
        ("!!str yes", "yes"),
        ("! yes", "yes"),
        ("!!bool 'yes'", True),
        ("!!int '7'", 7),
        ("!!float '7'", 7.0),
        ("2012-10-17", "2012-10-17"),
        ("2001-12-14t21:59:43.10-05:00", "2001-12-14t21:59:43.10-05:00"),
        ("0123", 83),
        ("0b101", 5),
        ("-0x1F", -31),
        ("012345678901", "012345678901"),
        ("0_1", 1),
        ("1_000", 1000),
        ("+12", 12),
        ("22:30", 1350),
        ("1.10", 1.1),
        ("1e3", "1e3"),
        ("1.0e+3", 1000.0),
        ("1.0e+999", "1.0e+999"),
        (".inf", ".inf"),
        (".nan", ".nan"),
        (".", "."),
        ("-", ["x"]),
        ("=", "="),
        ("<<", "<<"),
        ("0x", "0x"),
        ("0b_", "0b_"),
        ("9" * 200, "9" * 200),
        ("arn:aws:s3:::b", "arn:aws:s3:::b"),
        ("{on: 1, 2: 3, 012: 4, ~: 5}", {"on": 1, "2": 3, "012": 4, "~": 5}),
        ("!!map {a: !!seq [1]}", {"a": [1]}),
        ("{a: 1, a: 2}", {"a": 2}),
    ],
)
@pytest.mark.usefixtures("_either_reader")
def test_plain_values_are_those_of_yaml_1_1(text, expected):
    found = read_value(text if text != "-" else "\n    - x")
    assert found == expected
    assert type(found) is type(expected)


def test_json_and_yaml_give_the_same():
    document = {
        "AWSTemplateFormatVersion": "2010-09-09",
        "Description": "é",
        "Parameters": {"P": {"Type": "Number", "Default": 3}},
        "Resources": {"A": {"Type": "AWS::S3::Bucket", "Properties": {"N": 1.5, "B": True, "L": [[], {}]}}},
    }
    yaml = dedent("""\
        AWSTemplateFormatVersion: 2010-09-09
        Description: "\\xE9"
        Parameters:
          P: {Type: Number, Default: 3}
        Resources:
          A:
            Type: AWS::S3::Bucket
            Properties:
              N: 1.5
              B: true
              L:
              - []
              - {}
        """)
    assert read_template(json.dumps(document)) == read_template(yaml) == document
    assert read_template(" \n" + json.dumps(document, indent=2)) == document


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "Template format error: unsupported structure."),
        ("---\n", "Template format error: unsupported structure."),
        ("just text", "Template format error: unsupported structure."),
        ("[1]", "Template format error: unsupported structure."),
        ("{", "JSON not well-formed. (line 1, column 2)"),
        ('{"Resources":\n {"A": 1}}}', "JSON not well-formed. (line 2, column 11)"),
        ('{"Resources": NaN}', "JSON not well-formed."),
        ('{"Resources": 1e999}', "JSON not well-formed."),
        (f'{{"Resources": {"1" * 5000}}}', "JSON not well-formed."),
        ('{"Resources": ' + "[" * 100_000, "JSON not well-formed."),
        ("a: [\nb: 1", "YAML not well-formed. (line "),
        ("a: 1\n---\nb: 1", "YAML not well-formed. (line 2, column 1)"),
        ("a: !Nobody b", "YAML not well-formed. (line 1, column 4)"),
        ("a: !!binary b", "YAML not well-formed. (line 1, column 4)"),
        ("a: !!set {b}", "YAML not well-formed. (line 1, column 4)"),
        ("a: !!int b", "YAML not well-formed. (line 1, column 4)"),
        ("a: 1\nb: !!bool b", "YAML not well-formed. (line 2, column 4)"),
        ("? [a]\n: b", "YAML not well-formed. (line 1, column 3)"),
        ("a: \x00", "YAML not well-formed."),
        ("%TAG !a! tag:x\n---\na: 1", "YAML not well-formed."),
        ("%YAML 1.1\n%TAG\t!a! tag:x\n---\na: 1", "YAML not well-formed."),
        ("a: &x [1]\nb: *x", "YAML aliases are not allowed in CloudFormation templates"),
        ("a: " + "[" * 500, "more than 100 levels are not supported."),
        (RESOURCES + "Metadata: {A: {B: [1, null]}}", "[/Metadata/A/B/1] 'null' values are not allowed in"),
        (RESOURCES + "Outputs:\n", "[/Outputs] 'null' values are not allowed in templates"),
        (
            RESOURCES + "Resource: {}\nGlobals: {}",
            "Invalid template property or properties [Resource, Globals]",
        ),
        (
            RESOURCES + "AWSTemplateFormatVersion: 2010-09-08",
            "2010-09-08 is not a supported value for AWSTempl",
        ),
        (RESOURCES + "Description: [a]", "Description must be a string."),
        (RESOURCES + f"Description: {'é' * 513}", "'Description' length is greater than 1024."),
        (RESOURCES + "Mappings: [a]", "[/Mappings] The Mappings section must be an object."),
        (RESOURCES + "Transform: {A: 1}", "The Transform section must be a string or a list of strings."),
        ("Resources: {}", "At least one Resources member must be defined."),
        ("Description: none", "At least one Resources member must be defined."),
        ('{"Resources": {"A": "\\ud800"}}', "half of a surrogate pair is no character."),
        (
            RESOURCES + "Outputs: {'Fn::ForEach::A': [I, [1], {}]}",
            "Fn::ForEach::A needs the transform AWS::LanguageExtensions",
        ),
    ],
)
@pytest.mark.usefixtures("_either_reader")
def test_what_is_no_template_is_refused(text, expected):
    assert expected in refused(read_template, text)


def test_globals_are_a_section_of_serverless_templates_only():
    text = f"{RESOURCES}Globals: {{Function: {{Timeout: 3}}}}\nTransform: AWS::Serverless-2016-10-31\n"
    assert transforms(read_template(text)) == ("AWS::Serverless-2016-10-31",)


def test_nulls_are_for_transforms_only():
    text = "Resources: {A: {Type: 'AWS::S3::Bucket', Events: null}}\nTransform: AWS::Serverless-2016-10-31\n"
    assert read_template(text)["Resources"]["A"]["Events"] is None
    assert "[/Outputs/A] 'null' values are not allowed in templates" in refused(
        read_template, text + "Outputs: {A: null}"
    )
    assert "[/Resources] The Resources section must be an object." in refused(
        read_template, "Resources:\nTransform: AWS::Serverless-2016-10-31\n"
    )


def test_a_nest_of_aliases_is_refused_at_once():
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 30)]
    begun = time.process_time()
    assert "YAML aliases are not allowed" in refused(read_template, "\n".join(lines))
    assert time.process_time() - begun < 5


@pytest.mark.slow
@pytest.mark.parametrize(
    "part",
    [
        "[",
        "{",
        "{a: ",
        "- ",
        "? ",
        "a: !Ref &x ",
        "!Sub ",
        "'",
        '"',
        "a: |\n",
        "%Y",
        "[x, ",
        "a: {}\n",
        "%TAG !a! x\n",
        "#",
        "\t",
        "\ufeff",
        "*",
    ],
)
def test_monotonous_text_is_refused_soon(part):
    text = part * ((limits.TEMPLATE_BYTES_MAX - 100) // len(part.encode()))
    begun = time.process_time()
    assert refused(read_template, text)
    assert time.process_time() - begun < 10


def test_an_error_is_shorter_than_its_template():
    told = refused(read_template, "".join(f"section{number}: 1\n" for number in range(1_000)))
    assert told.startswith("Invalid template property or properties [section0, section1, ")
    assert len(told) < 5_000


@pytest.mark.parametrize("text", ["x" * 1_000_001, "é" * 500_001, "\ud800" * 400_000])
def test_a_template_has_a_largest_size(text):
    assert refused(read_template, text) == "Template may not exceed 1000000 bytes in size."
