"""Programs: what a template amounts to before anything is made, and how the rest of it is resolved."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from remora.control.services.neighbour import ServiceError
from remora.iac.templates.checks import check_template
from remora.iac.templates.parameters import Parameter, read_parameters
from remora.iac.templates.program import UNKNOWN, compile_program, resolve
from remora.iac.templates.reading import check_sections

from .templates import PSEUDO, TYPES, bucket, compiled, refused

REF = {"Ref": "A"}
ARN = {"Fn::GetAtt": ["A", "Arn"]}


# --- resources -------------------------------------------------------------------------------------------


def test_a_resource_has_all_its_attributes():
    program = compiled(
        {
            "Description": "All of it",
            "Resources": {
                "A": bucket(),
                "B": bucket(),
                "C": bucket(
                    DependsOn=["B"],
                    DeletionPolicy="RetainExceptOnCreate",
                    UpdateReplacePolicy="Snapshot",
                    CreationPolicy={"ResourceSignal": {"Count": 1}},
                    UpdatePolicy={"CodeDeployLambdaAliasUpdate": {"ApplicationName": "x"}},
                    Metadata={"Where": {"Ref": "AWS::Region"}},
                    Properties={"Arn": ARN},
                ),
            },
        }
    )
    assert program.description == "All of it"
    found = program.resources["C"]
    assert (found.type, found.properties) == ("AWS::S3::Bucket", {"Arn": ARN})
    assert found.depends_on == {"A", "B"}
    assert (found.deletion_policy, found.update_replace_policy) == ("RetainExceptOnCreate", "Snapshot")
    assert found.metadata == {"Where": "eu-west-1"}
    plain = program.resources["A"]
    assert (plain.properties, plain.deletion_policy, plain.update_replace_policy) == ({}, "Delete", "Delete")
    assert plain.metadata is None


def test_resources_come_in_the_templates_order_after_what_they_need():
    resources = {
        "D": bucket(Properties={"V": {"Fn::Sub": "${B}"}}),
        "C": bucket(),
        "B": bucket(DependsOn="A"),
        "A": bucket(),
        "E": bucket(Metadata={"V": {"Fn::If": ["No", {"Ref": "Z"}, REF]}}),
        "Z": bucket(Properties={"V": {"Ref": "E"}}),
    }
    conditions = {"No": {"Fn::Equals": ["a", "b"]}}
    program = compiled({"Conditions": conditions, "Resources": resources})
    assert program.order == ("C", "A", "B", "D", "E", "Z")


def test_what_goes_round_in_circles_is_named_and_nothing_else():
    resources = {
        "Before": bucket(),
        "A": bucket(Properties={"V": [{"Ref": "B"}, {"Ref": "Before"}]}),
        "B": bucket(DependsOn="C"),
        "C": bucket(Metadata={"V": {"Fn::Sub": "${A.Arn}"}}),
        "After": bucket(DependsOn="A"),
    }
    told = refused(compiled, {"Resources": resources})
    assert told == "Circular dependency between resources: [A, B, C]"
    told = refused(compiled, {"Resources": {"A": bucket(Properties={"V": REF})}})
    assert told == "Circular dependency between resources: [A]"


@pytest.mark.slow
def test_circles_are_found_soon():
    names = [f"R{number}" for number in range(500)]
    resources = {name: bucket(DependsOn=names[:number]) for number, name in enumerate(names)}
    resources["R0"] = bucket(DependsOn="R1")
    begun = time.process_time()
    assert refused(compiled, {"Resources": resources}) == "Circular dependency between resources: [R0, R1]"
    assert time.process_time() - begun < 5


def test_custom_resources_are_known_by_their_prefix_where_there_are_any():
    document = {"Resources": {"A": {"Type": "Custom::Mine", "Version": "1.0"}}}
    assert compiled(document).resources["A"].type == "Custom::Mine"
    told = refused(compiled, document, types={"AWS::S3::Bucket"})
    assert told == "Template format error: Unrecognized resource types: [Custom::Mine]"


@pytest.mark.parametrize(
    ("resource", "expected"),
    [
        ("text", "Any Resources member must be an object."),
        ({}, "[/Resources/B] Every Resources object must contain a Type member."),
        ({"Type": 3}, "[/Resources/B/Type] Every Type member must be a string."),
        (
            {"Type": "AWS::EC2::Instance"},
            "Template format error: Unrecognized resource types: [AWS::EC2::Instance]",
        ),
        (bucket(Property={}), "Invalid template resource property 'Property'"),
        (bucket(Properties=[]), "[/Resources/B/Properties] Properties must be an object."),
        (
            bucket(Properties={"Fn::Join": [",", [REF]]}),
            "[/Resources/B/Properties] Properties must be an object.",
        ),
        (bucket(Metadata="x"), "[/Resources/B/Metadata] Metadata must be an object."),
        (bucket(DependsOn=[REF]), "Every DependsOn value must be a string."),
        (
            bucket(DependsOn="Nobody"),
            "Unresolved resource dependencies [Nobody] in the Resources block of the",
        ),
        (
            bucket(DependsOn=["Y", "X"]),
            "Unresolved resource dependencies [X, Y] in the Resources block of the",
        ),
        (bucket(Condition=["x"]), "Every Condition member must be a string."),
        (
            bucket(Condition="Nope"),
            "Unresolved condition dependency Nope in the Resources block of the template",
        ),
        (bucket(DeletionPolicy="Keep"), "Unrecognized DeletionPolicy Keep for resource B"),
        (bucket(DeletionPolicy=REF), "Every DeletionPolicy member must be a string."),
        (bucket(UpdateReplacePolicy="RetainExceptOnCreate"), "Unrecognized UpdateReplacePolicy RetainExcept"),
        (
            bucket(Properties={"V": {"Ref": "Nobody"}}),
            "Unresolved resource dependencies [Nobody] in the Resources",
        ),
        (bucket(Metadata={"V": {"Fn::Sub": "${Nobody}"}}), "Unresolved resource dependencies [Nobody]"),
    ],
)
def test_a_malformed_resource_is_refused(resource, expected):
    assert expected in refused(compiled, {"Resources": {"A": bucket(), "B": resource}})


def test_names_and_numbers_of_resources_have_limits():
    assert "Resource name a-b is non alphanumeric." in refused(compiled, {"Resources": {"a-b": bucket()}})
    many = {f"R{number}": bucket() for number in range(501)}
    told = refused(compiled, {"Resources": many})
    assert told == "Template format error: Number of resources, 501, is greater than maximum allowed, 500"


# --- conditions ------------------------------------------------------------------------------------------


def test_conditions_name_each_other_and_choose():
    document = {
        "Parameters": {
            "Stage": {"Type": "String", "Default": "prod"},
            "Count": {"Type": "Number", "Default": 3},
        },
        "Mappings": {"Of": {"prod": {"Big": True}}},
        "Conditions": {
            "Both": {"Fn::And": [{"Condition": "IsProd"}, {"Condition": "IsBig"}]},
            "IsProd": {"Fn::Equals": [{"Ref": "Stage"}, "prod"]},
            "IsBig": {"Fn::Equals": [{"Fn::FindInMap": ["Of", {"Ref": "Stage"}, "Big"]}, "true"]},
            "Neither": {"Fn::Not": [{"Fn::Or": [{"Condition": "Both"}, {"Fn::Equals": ["a", "a"]}]}]},
            "Wrapped": {"Fn::Not": [{"Condition": {"Condition": "Neither"}}]},
            "IsThree": {"Fn::Equals": [{"Ref": "Count"}, 3]},
        },
        "Resources": {
            "A": bucket(Condition="Wrapped", DependsOn="B"),
            "B": bucket(Condition="Neither"),
            "C": bucket(Properties={"V": {"Fn::If": ["IsThree", 1, {"Ref": "B"}]}}),
        },
        "Outputs": {
            "One": {"Value": {"Fn::If": ["Neither", {"Ref": "B"}, "none"]}},
            "Two": {"Condition": "Neither", "Value": {"Ref": "B"}},
        },
    }
    program = compiled(document)
    assert set(program.resources) == {"A", "C"}
    assert program.resources["A"].depends_on == frozenset()
    assert program.resources["C"].properties == {"V": 1}
    assert {name: output.value for name, output in program.outputs.items()} == {"One": "none"}
    program = compiled(document, {"Stage": "prod", "Count": "4"} | {"Count": "3"})
    assert program.order == ("A", "C")


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({"X": {"Condition": "Y"}, "Y": {"Condition": "X"}}, "Found circular condition dependency between"),
        ({"X": {"Condition": "X"}}, "Found circular condition dependency between X and X"),
        ({"X": {"Condition": "Y"}}, "unresolved condition dependency Y in Condition"),
        ({"X": True}, "Conditions can only be boolean operations on parameters and other conditions"),
        ({"X": {"Ref": "AWS::Region"}}, "Conditions can only be boolean operations"),
        ({"X": {"Fn::Equals": ["a"]}}, "every Fn::Equals object requires a list of two string parameters"),
        ({"X": {"Fn::Not": [1, 2]}}, "every Fn::Not object requires one boolean parameter."),
        ({"X": {"Fn::And": [{"Condition": "X"}]}}, "circular"),
        (
            {"X": {"Fn::And": [{"Fn::Equals": [1, 1]}]}},
            "every Fn::And object requires a list of at least 2 and",
        ),
        ({"X": {"Fn::Or": "text"}}, "every Fn::Or object requires a list of at least 2 and at most 10"),
        (
            {"X": {"Fn::Equals": [REF, "a"]}},
            "Unresolved dependencies [A]. Cannot reference resources in the Conditions block of the template",
        ),
        ({"X": {"Fn::Equals": [ARN, "a"]}}, "Cannot use Fn::GetAtt in Conditions"),
        ({"X": {"Fn::Equals": [{"Fn::ImportValue": "x"}, "a"]}}, "Cannot use Fn::ImportValue in Conditions"),
    ],
)
def test_a_malformed_condition_is_refused(conditions, expected):
    assert expected in refused(compiled, {"Conditions": conditions, "Resources": {"A": bucket()}})


def test_a_long_chain_of_conditions_is_decided():
    conditions = {f"C{number}": {"Condition": f"C{number + 1}"} for number in range(5000)}
    conditions["C5000"] = {"Fn::Equals": ["a", "a"]}
    program = compiled({"Conditions": conditions, "Resources": {"A": bucket(Condition="C0")}})
    assert program.order == ("A",)


def test_a_resource_that_is_not_wanted_cannot_be_referred_to():
    document = {
        "Conditions": {"No": {"Fn::Equals": ["a", "b"]}},
        "Resources": {"A": bucket(Condition="No"), "B": bucket(Properties={"V": REF})},
    }
    told = refused(compiled, document)
    assert told == (
        "Template format error: Unresolved resource dependencies [A] in the Resources block of the template"
    )
    document["Resources"]["B"] = bucket()
    document["Outputs"] = {"O": {"Value": ARN}}
    assert "Unresolved resource dependencies [A] in the Outputs block" in refused(compiled, document)


# --- other sections --------------------------------------------------------------------------------------


def test_outputs_have_values_descriptions_and_exports():
    outputs = {
        "Known": {"Value": {"Fn::Join": ["", ["a", 1]]}, "Description": "d"},
        "Number": {"Value": 3},
        "Later": {"Value": ARN, "Export": {"Name": {"Fn::Sub": "${AWS::StackName}-arn"}}},
    }
    found = compiled({"Resources": {"A": bucket()}, "Outputs": outputs}).outputs
    assert (found["Known"].value, found["Known"].description, found["Known"].export_name) == ("a1", "d", None)
    assert (found["Number"].value, found["Later"].value, found["Later"].export_name) == ("3", ARN, "s1-arn")


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("text", "Any Outputs member must be an object."),
        ({}, "Every Outputs member must contain a Value object"),
        ({"Value": "a", "Values": "b"}, "Invalid template output property 'Values'"),
        ({"Value": ["a"]}, "The Value field of every Outputs member must evaluate to a String."),
        (
            {"Value": {"Ref": "AWS::NoValue"}},
            "The Value field of every Outputs member must evaluate to a String.",
        ),
        ({"Value": {"Ref": "Nobody"}}, "Unresolved resource dependencies [Nobody] in the Outputs block"),
        ({"Value": "a", "Condition": "Nope"}, "Unresolved condition dependency Nope in the Outputs block"),
        ({"Value": "a", "Description": REF}, "Every Description member must be a string."),
        ({"Value": "a", "Export": "name"}, "Output O is malformed. The Name field of every Export member"),
        (
            {"Value": "a", "Export": {"Name": REF}},
            "Output O is malformed. The Name field of every Export member",
        ),
        (
            {"Value": "a", "Export": {"Name": ""}},
            "Output O is malformed. The Name field of every Export member",
        ),
    ],
)
def test_a_malformed_output_is_refused(output, expected):
    assert expected in refused(compiled, {"Resources": {"A": bucket()}, "Outputs": {"O": output}})


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ({"Mappings": {"M": {}}}, "Mappings element 'M' must be a non-empty object."),
        ({"Mappings": {"M": {"a": "b"}}}, "Every Mappings attribute must be an object."),
        ({"Mappings": {"M": {"a": {"b": {}}}}}, "Every Mappings attribute must be a String or a List."),
        ({"Mappings": {"M": {"a": {"b": [[]]}}}}, "Every Mappings attribute must be a String or a List."),
        (
            {"Mappings": {f"M{n}": {"a": {"b": "c"}} for n in range(201)}},
            "Number of mappings, 201, is greater",
        ),
        ({"Rules": {"R": {}}}, "Rule 'R' must contain a list of Assertions."),
        ({"Rules": {"R": {"Assertions": [{}]}}}, "Rule 'R' must contain a list of Assertions."),
        ({"Rules": {"R": {"Assertions": [], "Or": 1}}}, "Invalid template rule property 'Or'"),
    ],
)
def test_a_malformed_section_is_refused(section, expected):
    assert expected in refused(compiled, {"Resources": {"A": bucket()}, **section})


def test_rules_are_accepted():
    assertion = {"Assert": {"Fn::Contains": [["1"], {"Ref": "AWS::Region"}]}, "AssertDescription": "no"}
    rule = {"RuleCondition": {"Fn::Equals": ["a", "a"]}, "Assertions": [assertion]}
    assert compiled({"Rules": {"R": rule}, "Resources": {"A": bucket()}}).order == ("A",)


# --- dynamic references ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{resolve:ssm:/app/size}}", "512"),
        ("a{{resolve:ssm:/app/size:2}}-{{resolve:ssm:/app/size}}b", "a256-512b"),
        ({"Fn::Sub": "{{resolve:ssm:/${AWS::StackName}/x}}"}, "found"),
        ({"Fn::Join": ["", ["{{resolve:ssm:/app/size}}", REF]]}, {"Fn::Join": ["", ["512", REF]]}),
        ("{{other}}", "{{other}}"),
    ],
)
def test_a_dynamic_reference_is_replaced(value, expected):
    resources = {"A": bucket(), "B": bucket(Properties={"V": [value]})}
    stored = {"/app/size": "512", "/app/size:2": "256", "/s1/x": "found"}
    assert compiled({"Resources": resources}, stored=stored).resources["B"].properties == {"V": [expected]}


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("{{resolve:ssm:/no}}", "Unable to fetch parameters [/no] from parameter store for this account."),
        ("{{resolve:ssm-secure:/no:1}}", "Dynamic references to ssm-secure are not supported"),
        (
            "{{resolve:secretsmanager:a:SecretString:b}}",
            "Dynamic references to secretsmanager are not supported",
        ),
        ("{{resolve:ssm:}}", "Incorrect format is used in the following SSM reference: [{{resolve:ssm:}}]"),
        ("{{resolve:nothing:a}}", "Incorrect format is used in the following SSM reference"),
        ({"Fn::Sub": "{{resolve:secretsmanager:${A}::p}}"}, "references to secretsmanager are not supported"),
        ({"Fn::Sub": "{{resolve:ssm:/${A}}}"}, "Incorrect format is used in the following SSM reference"),
    ],
)
def test_a_dynamic_reference_to_nothing_is_refused(value, expected):
    resources = {"A": bucket(), "B": bucket(Properties={"V": value})}
    assert expected in refused(compiled, {"Resources": resources})


# --- what is resolved later ------------------------------------------------------------------------------


def known(name, attribute):
    """Look something up: of A all is known, of B nothing."""
    if name == "B":
        return UNKNOWN
    values = {None: "a-1", "Arn": "arn:a", "List": ["x", "y"], "Map": {"k": [1]}, "Number": 3}
    if attribute not in values:
        raise ServiceError("ValidationError", f"{attribute}?")
    return values[attribute]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("text", "text"),
        ([1, {"V": REF}], [1, {"V": "a-1"}]),
        ({"V": [{"Ref": "B"}, REF]}, {"V": [UNKNOWN, "a-1"]}),
        ({"Fn::Join": ["", ["<", ARN, ">"]]}, "<arn:a>"),
        ({"Fn::Join": ["", ["<", ARN, {"Ref": "B"}]]}, UNKNOWN),
        ({"Fn::Join": ["+", {"Fn::GetAtt": ["A", "List"]}]}, "x+y"),
        ({"Fn::Join": ["+", {"Fn::GetAtt": ["B", "List"]}]}, UNKNOWN),
        ({"Fn::Select": [1, {"Fn::GetAtt": ["A", "List"]}]}, "y"),
        ({"Fn::Select": [1, {"Fn::Split": [":", {"Ref": "B"}]}]}, UNKNOWN),
        ({"Fn::Select": [0, ["known", {"Ref": "B"}]]}, "known"),
        ({"Fn::Base64": REF}, "YS0x"),
        ({"Fn::Base64": {"Fn::Join": ["", [{"Ref": "B"}, "x"]]}}, UNKNOWN),
        ({"Fn::ToJsonString": {"A": {"Fn::GetAtt": ["A", "Map"]}}}, '{"A":{"k":[1]}}'),
        ({"Fn::ToJsonString": {"A": {"Ref": "B"}}}, UNKNOWN),
        ({"Fn::Length": {"Fn::GetAtt": ["A", "List"]}}, 2),
        ({"Fn::Length": {"Ref": "B"}}, UNKNOWN),
        ({"Fn::Cidr": [{"Ref": "B"}, 1, 2]}, UNKNOWN),
        ({"V": {"Ref": "AWS::NoValue"}, "W": 1}, {"W": 1}),
        ({"Fn::GetAtt": ["A", "Number"]}, 3),
    ],
)
def test_the_rest_is_resolved(value, expected):
    assert resolve(value, known) == expected


def test_an_attribute_that_there_is_not_is_the_lookups_error():
    assert refused(resolve, {"V": {"Fn::GetAtt": ["A", "Nothing"]}}, known) == "Nothing?"
    assert "every Fn::Join object requires" in refused(
        resolve, {"Fn::Join": ["", [{"Fn::GetAtt": ["A", "Map"]}]]}, known
    )


def test_what_is_compiled_resolves_to_what_was_meant():
    value = {
        "Fn::Sub": [
            "${AWS::Region}/${A}/${Which}/${!A}",
            {"Which": {"Fn::Select": [1, {"Fn::Split": [":", {"Fn::GetAtt": "A.Arn"}]}]}},
        ]
    }
    plan = compiled({"Resources": {"A": bucket(), "B": bucket(Properties={"V": value})}}).resources["B"]
    assert resolve(plan.properties, known) == {"V": "eu-west-1/a-1/a/${A}"}


# --- hostile documents -----------------------------------------------------------------------------------

_NAMES = st.sampled_from(
    ["A", "B", "P", "M", "C", "AWS::Region", "AWS::NoValue", "A.Arn", "${A}", "", "x", "1"]
)
_KEYS = st.sampled_from(
    [
        *("Ref", "Fn::GetAtt", "Fn::Sub", "Fn::Join", "Fn::If", "Fn::Equals", "Fn::Not", "Fn::And", "Fn::Or"),
        *("Condition", "Fn::Select", "Fn::Split", "Fn::FindInMap", "Fn::Base64", "Fn::GetAZs", "Fn::Cidr"),
        *(
            "Fn::ImportValue",
            "Fn::Transform",
            "Fn::Length",
            "Fn::ToJsonString",
            "Fn::Nothing",
            "DefaultValue",
        ),
        *(
            "Type",
            "Properties",
            "DependsOn",
            "Metadata",
            "DeletionPolicy",
            "Value",
            "Export",
            "Name",
            "Default",
        ),
        *("Assertions", "AllowedValues", "AllowedPattern", "A", "B", "x"),
    ]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | _NAMES | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)
_DOCUMENT = {
    "Parameters": {"P": {"Type": "String", "Default": "p"}},
    "Mappings": {"M": {"a": {"b": "c"}}},
    "Conditions": {"C": {"Fn::Equals": ["a", "a"]}},
    "Rules": {},
    "Resources": {"A": bucket(Properties={"V": 1}), "B": bucket()},
    "Outputs": {"A": {"Value": "a"}},
}


def _run(document):
    try:
        check_sections(document)
        parameters = read_parameters(document, {}, {"a": "1"}.get)
        program = compile_program(
            document, parameters, PSEUDO, imports={"A": "a"}.get, ssm={"a": "1"}.get, known_types=TYPES
        )
        for plan in program.resources.values():
            resolve(plan.properties, known)
            resolve(plan.metadata, known)
        for output in program.outputs.values():
            resolve(output.value, known)
    except ServiceError as error:
        return error.code
    return "ValidationError"


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.sampled_from(sorted(_DOCUMENT)), st.sampled_from([0, 1, 2]), _VALUES)
def test_whatever_stands_in_a_section_is_a_validation_error_at_most(section, depth, value):
    document = dict(_DOCUMENT)
    if depth == 0:
        document[section] = value
    elif depth == 1:
        document[section] = {**_DOCUMENT[section], "A": value}
    else:
        first = _DOCUMENT[section].get("A", {})
        document[section] = {**_DOCUMENT[section], "A": {**first, "Properties": {"V": value}, "Value": value}}
    assert _run(document) == "ValidationError"


@pytest.mark.slow
@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(_VALUES)
def test_whatever_a_property_is_made_of_is_a_validation_error_at_most(value):
    assert (
        _run({**_DOCUMENT, "Resources": {"A": bucket(), "B": bucket(Properties={"V": value})}})
        == "ValidationError"
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    "function", ["Fn::Join", "Fn::Sub", "Fn::If", "Fn::Select", "Fn::ToJsonString", "list"]
)
def test_large_and_deep_values_are_evaluated_soon(function):
    value = [REF] * 1000
    for _ in range(30):
        value = {
            "Fn::Join": {"Fn::Join": ["-", [*["x"] * 1000, value if isinstance(value, dict) else REF]]},
            "Fn::Sub": {"Fn::Sub": ["${V}" * 1000, {"V": value if isinstance(value, dict) else REF}]},
            "Fn::If": {"Fn::If": ["C", value, ["x"] * 1000]},
            "Fn::Select": {"Fn::Select": [0, [value, *["x"] * 1000]]},
            "Fn::ToJsonString": {"Fn::ToJsonString": {"V": value, "W": ["x"] * 1000}},
            "list": [value, *[{"Fn::Base64": REF}] * 1000],
        }[function]
    document = {
        "Conditions": {"C": {"Fn::Equals": ["a", "a"]}},
        "Resources": {"A": bucket(), "B": bucket(Properties={"V": value})},
    }
    begun = time.process_time()
    assert _run(document) == "ValidationError"
    assert time.process_time() - begun < 10


@pytest.mark.slow
@pytest.mark.parametrize(
    "value",
    [
        {"Fn::Join": ["x" * 100_000, ["a"] * 100_000]},
        {"Fn::Join": ["", [{"Ref": "P"}] * 20_000]},
        {"Fn::Sub": "${P}" * 20_000},
        [{"Fn::FindInMap": ["M", "a", "b"]}] * 20_000,
        [{"Fn::ImportValue": "long"}] * 20_000,
        [{"Fn::Sub": "{{resolve:ssm:long}}"}] * 20_000,
        {"Fn::Split": ["a", {"Fn::Join": ["a", [""] * 1_000_000]}]},
    ],
)
def test_small_templates_do_not_become_large_ones(value):
    long = "y" * 4_000
    document = {
        "Parameters": {"P": {"Type": "String", "Default": long}},
        "Mappings": {"M": {"a": {"b": long}}},
        "Resources": {"A": bucket(Properties={"V": value})},
    }
    call = {"imports": {"long": long}.get, "ssm": {"long": long}.get, "known_types": TYPES}
    given_one = {"P": Parameter(long, long, is_secret=False)}
    told = refused(compile_program, document, given_one, PSEUDO, **call)
    assert told == "Template error: the template is too large when its functions are evaluated."


def test_a_template_is_checked_without_values():
    document = {
        "Parameters": {"P": {"Type": "String"}},
        "Resources": {
            "A": bucket(Properties={"V": [{"Ref": "P"}, {"Ref": "AWS::StackId"}, {"Fn::Sub": "${A.B}"}]})
        },
    }
    check_template(document, TYPES)
    assert "Unrecognized resource types: [AWS::S3::Bucket]" in refused(check_template, document, ())
    document["Outputs"] = {"O": {"Value": {"Ref": "Q"}}}
    assert "Unresolved resource dependencies [Q] in the Outputs block" in refused(
        check_template, document, TYPES
    )


def test_parameters_have_to_be_given():
    document = {"Parameters": {"P": {"Type": "String"}}, "Resources": {"A": bucket()}}
    call = {"imports": {}.get, "ssm": {}.get, "known_types": TYPES}
    assert "Parameters: [P] must have values" in refused(compile_program, document, {}, PSEUDO, **call)
    given_one = {"P": Parameter("a", "a", is_secret=False)}
    assert compile_program(document, given_one, PSEUDO, **call).order == ("A",)
