"""What policies allow, deny, and leave open."""

from __future__ import annotations

import time

import pytest

from remora.auth.policy import Question, Verdict, judge, judge_resource, judge_trust, statements

FUNCTION = "arn:aws:lambda:us-east-1:123456789012:function:f"
ROLE = "arn:aws:iam::123456789012:role/r"
CALLER = "arn:aws:sts::123456789012:assumed-role/r/f"
CONTEXT = {"aws:principalaccount": "123456789012", "aws:sourceip": "10.1.2.3", "aws:epochtime": "1000"}
ASKED = Question("lambda:InvokeFunction", FUNCTION, CALLER, "123456789012", CONTEXT, ROLE)


def statement(effect="Allow", action="lambda:InvokeFunction", resource=FUNCTION, **more):
    return {"Effect": effect, "Action": action, "Resource": resource, **more}


@pytest.mark.parametrize(
    "allowing",
    [
        statement(),
        statement(action="*", resource="*"),
        statement(action=["s3:*", "LAMBDA:invoke*"]),
        statement(resource=["arn:aws:lambda:*:*:function:g", "arn:aws:lambda:us-????-1:*:function:?"]),
        {"Effect": "Allow", "NotAction": "lambda:Delete*", "NotResource": f"{FUNCTION}:*"},
        statement(Condition={"StringEquals": {"aws:PrincipalAccount": ["1", "123456789012"]}}),
        statement(Condition={"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}),
        statement(Condition={"NotIpAddress": {"aws:SourceIp": "10.2.0.0/16"}}),
        statement(Condition={"NumericLessThan": {"aws:EpochTime": 1001}}),
        statement(Condition={"DateGreaterThan": {"aws:EpochTime": "1970-01-01T00:00:01Z"}}),
        statement(Condition={"Null": {"aws:SourceArn": True}}),
        statement(Condition={"ArnLikeIfExists": {"aws:SourceArn": "arn:aws:s3:::b"}}),
        statement(Condition={"StringNotEquals": {"aws:SourceArn": "arn:aws:s3:::b"}}),
    ],
)
def test_what_is_allowed(allowing):
    assert judge([allowing], ASKED) is Verdict.ALLOW


@pytest.mark.parametrize(
    "silent",
    [
        statement(action="lambda:Invoke"),
        statement(resource=f"{FUNCTION}:*"),
        {"Effect": "Allow", "NotAction": "lambda:*", "Resource": "*"},
        statement(Condition={"StringEquals": {"aws:PrincipalAccount": "210987654321"}}),
        statement(Condition={"StringEquals": {"aws:SourceArn": "arn:aws:s3:::b"}}),
        statement(Condition={"IpAddress": {"aws:SourceIp": "10.2.0.0/16"}}),
        # What is not understood allows nothing.
        statement(Condition={"ForSomeValues:StringLike": {"aws:PrincipalAccount": "*"}}),
        statement(Condition={"StringEquals": {"aws:Unheard": "x"}}),
        statement(Condition={"IpAddress": {"aws:SourceIp": "everywhere"}}),
        statement(Condition="yes"),
        statement(Principal="*"),
        statement(Mood="good"),
        statement(NotAction="x"),
        statement(resource=[1]),
        {"Effect": "Allow", "Action": "*"},
    ],
)
def test_what_is_not_allowed(silent):
    assert judge([silent], ASKED) is Verdict.SILENT


@pytest.mark.parametrize(
    "denying",
    [
        statement("Deny", action="lambda:*"),
        # What is not understood denies.
        statement("Deny", Condition={"Fuzzy": {"aws:SourceIp": "x"}}),
        {"Effect": "Deny", "Action": "*"},
        {"Effect": "Perhaps"},
        "Deny",
    ],
)
def test_a_deny_goes_before_any_allow(denying):
    assert judge([statement(), denying, statement(action="*", resource="*")], ASKED) is Verdict.DENY
    assert judge([statement(), statement("Deny", resource="arn:other")], ASKED) is Verdict.ALLOW


@pytest.mark.parametrize(
    ("principal", "verdict"),
    [
        ("*", Verdict.ALLOW),
        ({"AWS": "*"}, Verdict.ALLOW),
        ({"AWS": ["210987654321", CALLER]}, Verdict.ALLOW),
        ({"AWS": ["210987654321", "123456789012"]}, Verdict.SILENT),
        ({"AWS": "arn:aws:iam::123456789012:root"}, Verdict.SILENT),
        ({"AWS": ""}, Verdict.SILENT),
        ({"AWS": ROLE}, Verdict.ALLOW),
        ({"AWS": CALLER}, Verdict.ALLOW),
        ({"AWS": "arn:aws:iam::123456789012:role/other"}, Verdict.SILENT),
        ({"AWS": "arn:aws:iam::123456789012:role/*"}, Verdict.SILENT),
        ({"Service": "s3.amazonaws.com"}, Verdict.SILENT),
        ("someone", Verdict.SILENT),
    ],
)
def test_a_resources_policy_names_whom_it_is_for(principal, verdict):
    assert judge_resource([statement(Principal=principal)], ASKED) is verdict


def test_an_account_may_do_what_its_people_are_allowed_besides():
    account = {"AWS": "123456789012"}
    assert judge_trust([statement(Principal=account)], ASKED) is Verdict.ALLOW
    assert judge_trust([statement(Principal={"AWS": "210987654321"})], ASKED) is Verdict.SILENT
    # To be denied something it needs no other policy.
    assert judge_resource([statement("Deny", Principal=account)], ASKED) is Verdict.DENY


@pytest.mark.parametrize(
    ("condition", "verdict"),
    [
        ({"ForAllValues:StringLike": {"lambda:Layer": "arn:l:*"}}, Verdict.ALLOW),
        ({"ForAllValues:StringLike": {"lambda:Layer": ["arn:l:1", "arn:m:*"]}}, Verdict.SILENT),
        ({"ForAnyValue:StringLike": {"lambda:Layer": "arn:l:2"}}, Verdict.ALLOW),
        ({"ForAnyValue:StringNotLike": {"lambda:Layer": "arn:l:*"}}, Verdict.SILENT),
        ({"ForAllValues:StringEquals": {"aws:TagKeys": "a"}}, Verdict.ALLOW),
        ({"ForAnyValue:StringEquals": {"aws:TagKeys": "a"}}, Verdict.SILENT),
        ({"ForAnyValue:StringEqualsIfExists": {"aws:TagKeys": "a"}}, Verdict.ALLOW),
        ({"Null": {"lambda:Layer": "false", "aws:TagKeys": "true"}}, Verdict.ALLOW),
        # A key with several values needs to be told how.
        ({"StringLike": {"lambda:Layer": "arn:l:*"}}, Verdict.SILENT),
        ({"ForSome:StringLike": {"lambda:Layer": "arn:l:*"}}, Verdict.SILENT),
        ({"ForAnyValue:Null": {"lambda:Layer": "false"}}, Verdict.SILENT),
    ],
)
def test_keys_with_several_values(condition, verdict):
    asked = ASKED._replace(context={"lambda:layer": ("arn:l:1", "arn:l:2")})
    assert judge([statement(Condition=condition)], asked) is verdict


@pytest.mark.parametrize(
    ("resource", "asked", "verdict"),
    [
        ("arn:b/${aws:username}/*", "arn:b/ann/x", Verdict.ALLOW),
        ("arn:b/${AWS:UserName}/*", "arn:b/bob/x", Verdict.SILENT),
        ("arn:b/${aws:username}/*", "arn:b/${aws:username}/x", Verdict.SILENT),
        ("arn:b/${aws:PrincipalTag/team}/*", "arn:b//x", Verdict.SILENT),
        ("arn:b/${aws:PrincipalTag/team, 'none'}/*", "arn:b/none/x", Verdict.ALLOW),
        ("arn:b/${*}", "arn:b/*", Verdict.ALLOW),
        ("arn:b/${*}", "arn:b/x", Verdict.SILENT),
        ("arn:b/${$}{x}", "arn:b/${x}", Verdict.ALLOW),
        (["arn:c", "arn:b/${aws:username}/*"], "arn:b/ann/", Verdict.ALLOW),
    ],
)
def test_variables_stand_for_values_of_the_request(resource, asked, verdict):
    question = ASKED._replace(resource=asked, context={"aws:username": "ann"})
    assert judge([statement(resource=resource)], question) is verdict


def test_what_a_variable_stands_for_is_no_pattern():
    star = ASKED._replace(resource="arn:b/ann/x", context={"aws:username": "*"})
    assert judge([statement(resource="arn:b/${aws:username}/*")], star) is Verdict.SILENT
    assert (
        judge([statement(resource="arn:b/${aws:username}/*")], star._replace(resource="arn:b/*/x"))
        is Verdict.ALLOW
    )
    like = {"StringLike": {"s3:prefix": "${aws:username}/*"}}
    listed = ASKED._replace(context={"aws:username": "ann", "s3:prefix": "ann/x"})
    assert judge([statement(Condition=like)], listed) is Verdict.ALLOW
    assert (
        judge([statement(Condition=like)], listed._replace(context={"s3:prefix": "ann/x"})) is Verdict.SILENT
    )
    equal = {"StringEquals": {"s3:prefix": "${aws:username}"}}
    same = ASKED._replace(context={"aws:username": "a*", "s3:prefix": "a*"})
    assert judge([statement(Condition=equal)], same) is Verdict.ALLOW
    # A Deny for somebody who is not known is one.
    denied = statement("Deny", resource="arn:b/${aws:username}")
    assert judge([statement(), denied], ASKED) is Verdict.DENY


def test_a_date_without_a_zone_is_in_utc(monkeypatch):
    monkeypatch.setenv("TZ", "Pacific/Auckland")
    time.tzset()
    try:
        asked = ASKED._replace(context={"aws:currenttime": "2026-01-01T12:00:00Z"})
        before = {"DateLessThan": {"aws:CurrentTime": "2026-01-01T11:59:59"}}
        assert judge([statement(Condition=before)], asked) is Verdict.SILENT
    finally:
        monkeypatch.undo()
        time.tzset()


def test_nobody_in_particular_is_only_everybody():
    anybody = Question("lambda:InvokeFunctionUrl", FUNCTION)
    allowing = statement(action="lambda:InvokeFunctionUrl", Principal="*")
    assert judge_resource([allowing], anybody) is Verdict.ALLOW
    assert judge_resource([allowing | {"Principal": {"AWS": "123456789012"}}], anybody) is Verdict.SILENT


def test_a_document_may_have_one_statement_alone():
    assert statements({"Statement": {"Effect": "Deny"}}) == [{"Effect": "Deny"}]
    assert statements({"Statement": []}) == statements({}) == []
