"""What the tests of templates have in common."""

from __future__ import annotations

import json

import pytest

from remora.control.services.neighbour import ServiceError
from remora.iac.templates.parameters import read_parameters
from remora.iac.templates.program import compile_program
from remora.iac.templates.reading import read_template

PSEUDO = {
    "AWS::AccountId": "123456789012",
    "AWS::NotificationARNs": ["arn:aws:sns:eu-west-1:123456789012:told"],
    "AWS::Partition": "aws",
    "AWS::Region": "eu-west-1",
    "AWS::StackId": "arn:aws:cloudformation:eu-west-1:123456789012:stack/s1/9a",
    "AWS::StackName": "s1",
    "AWS::URLSuffix": "amazonaws.com",
}
TYPES = frozenset(("AWS::Lambda::Function", "AWS::S3::Bucket", "AWS::CloudFormation::CustomResource"))
STORED = {"/app/size": "512", "/app/size:2": "256", "/app/list": "a, b"}
EXPORTS = {"shared-bucket": "the-bucket"}


def compiled(document, given=None, *, types=TYPES, stored=None, exports=None):
    """Compile a template, given as a document or as text."""
    text = document if isinstance(document, str) else json.dumps(document)
    found = read_template(text)
    fetch = (STORED if stored is None else stored).get
    return compile_program(
        found,
        read_parameters(found, given or {}, fetch),
        PSEUDO,
        imports=(EXPORTS if exports is None else exports).get,
        ssm=fetch,
        known_types=types,
    )


def bucket(**members):
    return {"Type": "AWS::S3::Bucket", **members}


def evaluated(value, **sections):
    """Evaluate one value as a property of a resource, next to a resource called Other."""
    resources = {"It": bucket(Properties={"Value": value}), "Other": bucket()}
    return compiled({**sections, "Resources": resources}).resources["It"].properties.get("Value")


def refused(call, *args, **kwargs):
    """Return the message of the ValidationError that a call raises."""
    with pytest.raises(ServiceError) as raised:
        call(*args, **kwargs)
    assert (raised.value.code, raised.value.status) == ("ValidationError", 400)
    return raised.value.message
