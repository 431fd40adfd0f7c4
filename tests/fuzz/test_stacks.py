"""Random requests to CloudFormation, and random templates: each is answered, and stacks come to an end."""

from __future__ import annotations

import json
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.fuzz.test_neighbours import ask, words

from remora.iac.types.table import TYPES

from .endurance import PATIENCE_S, endure, examples

__all__ = ["ask"]

ACTIONS = [
    *(
        "CreateStack",
        "CreateStack",
        "CreateStack",
        "UpdateStack",
        "UpdateStack",
        "DeleteStack",
        "DeleteStack",
    ),
    *("CreateChangeSet", "CreateChangeSet", "ExecuteChangeSet", "DescribeChangeSet", "DeleteChangeSet"),
    *("DescribeStacks", "DescribeStackEvents", "DescribeStackResource", "DescribeStackResources"),
    *("ListStacks", "ListStackResources", "ListChangeSets", "ListExports", "ListImports", "GetTemplate"),
    *("GetTemplateSummary", "ValidateTemplate", "CancelUpdateStack", "RollbackStack", "Other"),
    *("ContinueUpdateRollback", "UpdateTerminationProtection"),
]
NAMES = ["P", "Q", "B", "R"]
MEMBERS = {
    "StackName": ["s", "s", "t", "arn:aws:cloudformation:us-east-1:000000000000:stack/s/1"],
    "ChangeSetName": ["c", "d", "arn:aws:cloudformation:us-east-1:000000000000:changeSet/c/1"],
    "ChangeSetType": ["CREATE", "UPDATE", "IMPORT"],
    "UsePreviousTemplate": ["true", "false"],
    "TemplateURL": [
        "http://localhost/bucket/t",
        "http://",
        "s3://bucket/t",
        "https://bucket.s3.amazonaws.com/t",
    ],
    "Capabilities.member.1": ["CAPABILITY_NAMED_IAM", "CAPABILITY_IAM"],
    "Parameters.member.1.ParameterKey": ["One", "Two"],
    "Parameters.member.1.ParameterValue": ["1", "a,b", ""],
    "Parameters.member.1.UsePreviousValue": ["true", "maybe"],
    "OnFailure": ["DO_NOTHING", "ROLLBACK", "DELETE"],
    "DisableRollback": ["true"],
    "RoleARN": ["arn:aws:iam::000000000000:role/none"],
    "Tags.member.1.Key": ["k", "aws:k"],
    "Tags.member.1.Value": ["v"],
    "LogicalResourceId": NAMES,
    "PhysicalResourceId": ["own"],
    "RetainResources.member.1": NAMES,
    "ResourcesToSkip.member.1": NAMES,
    "EnableTerminationProtection": ["true", "false", "false"],
    "StackStatusFilter.member.1": ["CREATE_COMPLETE", "NONE"],
    "ExportName": ["e"],
    "NextToken": ["MQ==", "x"],
    "TemplateStage": ["Original", "Processed"],
    "TimeoutInMinutes": ["1", "0", "x"],
}

scalars = st.one_of(st.sampled_from(["String", "own", "1", "", 0, 1, True, None, "${P}", "${P.Arn}"]), words)


def functions(children):
    def of(name, argument):
        return st.builds(lambda value: {name: value}, argument)

    lists = st.lists(children, max_size=3)
    return st.one_of(
        of("Ref", st.sampled_from([*NAMES, "One", "AWS::StackName", "AWS::NoValue", "None"])),
        of("Fn::GetAtt", st.sampled_from(["P.Value", "B.Arn", ["R", "Arn"], ["Q"], "X.Y"])),
        of("Fn::Sub", st.one_of(children, lists)),
        *(
            of(f"Fn::{name}", lists)
            for name in ("Join", "Select", "Split", "If", "FindInMap", "Cidr", "Equals")
        ),
        *(of(f"Fn::{name}", children) for name in ("Base64", "ImportValue", "GetAZs", "Length", "Other")),
        st.dictionaries(words, children, max_size=2),
        lists,
    )


values = st.recursive(scalars, functions, max_leaves=8)
properties = st.one_of(
    st.dictionaries(
        st.sampled_from(["Type", "Value", "Name", "BucketName", "Tags", "PolicyDocument", "Description"]),
        values,
        max_size=4,
    ),
    values,
)
plain = st.fixed_dictionaries({"Type": st.just("String"), "Value": values})
resources = st.one_of(
    st.fixed_dictionaries(
        {"Type": st.just("AWS::SSM::Parameter"), "Properties": plain},
        optional={
            "DependsOn": st.one_of(st.sampled_from(NAMES), values),
            "Condition": st.sampled_from(["Yes", "No", "Ring"]),
            "DeletionPolicy": st.sampled_from(["Retain", "Delete", "Never", 1]),
            "Metadata": values,
        },
    ),
    st.fixed_dictionaries(
        {"Type": st.one_of(st.sampled_from(sorted(TYPES)), words), "Properties": properties}
    ),
    values,
)
templates = st.fixed_dictionaries(
    {"Resources": st.one_of(st.dictionaries(st.sampled_from(NAMES), resources, max_size=3), values)},
    optional={
        "Parameters": st.one_of(
            st.just(
                {
                    "One": {"Type": "Number", "Default": 1},
                    "Two": {"Type": "CommaDelimitedList", "Default": ""},
                }
            ),
            st.dictionaries(st.sampled_from(["One", "Two"]), values, max_size=2),
        ),
        "Conditions": st.one_of(
            st.just({"Yes": {"Fn::Equals": ["1", {"Ref": "One"}]}, "Ring": {"Condition": "Ring"}}), values
        ),
        "Mappings": st.one_of(st.just({"M": {"a": {"b": "c"}}}), values),
        "Outputs": st.dictionaries(
            words, st.one_of(values, st.fixed_dictionaries({"Value": values, "Export": values})), max_size=2
        ),
        "Transform": st.sampled_from(
            ["AWS::LanguageExtensions", "AWS::Other", ["AWS::LanguageExtensions"], 1]
        ),
        "Description": values,
        "Rules": values,
    },
)


@st.composite
def of_stacks(draw):
    form = {"Action": draw(st.sampled_from(ACTIONS)), "StackName": "s"}
    for name in draw(st.lists(st.sampled_from(sorted(MEMBERS)), max_size=4, unique=True)):
        form[name] = draw(st.one_of(st.sampled_from(MEMBERS[name]), st.sampled_from(MEMBERS[name]), words))
    if draw(st.booleans()):
        text = json.dumps(draw(templates))
        form["TemplateBody"] = draw(st.one_of(st.just(text), st.just(text), words))
    if form["Action"].endswith("ChangeSet"):
        form.setdefault("ChangeSetName", "c")
    return "POST", "/", "cloudformation", {}, urlencode(form).encode()


@pytest.mark.slow
@examples(300)
@given(request=of_stacks())
def test_whatever_is_asked_of_stacks_is_answered(ask, request):
    ask(*request)


@pytest.mark.slow_soak
@pytest.mark.timeout(PATIENCE_S)
def test_whatever_is_asked_of_stacks_for_minutes_is_answered(ask):
    def make():
        @given(request=of_stacks())
        def answered(request):
            ask(*request)

        return answered

    endure(make)
