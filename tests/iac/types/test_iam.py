"""Roles and policies of IAM as resources."""

from __future__ import annotations

import pytest
from tests.iac.bench import LAMBDA_TRUST, open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES

ROLE = TYPES["AWS::IAM::Role"]
BASIC = "arn:aws:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
READ_ONLY = "arn:aws:iam::aws:policy/ReadOnlyAccess"


def allow(action: str) -> dict:
    return {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": action, "Resource": "*"}]}


def test_role(tmp_path, run):
    """A role is made with all its policies, changed to others, and deleted with them."""

    async def main():
        async with open_bench(tmp_path) as bench:
            # Given a role with everything
            context = bench.context("r")
            properties = {
                "AssumeRolePolicyDocument": LAMBDA_TRUST,
                "Path": "/service/",
                "Description": "first",
                "MaxSessionDuration": "7200",
                "PermissionsBoundary": READ_ONLY,
                "ManagedPolicyArns": [BASIC],
                "Policies": [
                    {"PolicyName": "a", "PolicyDocument": allow("s3:*")},
                    {"PolicyName": "b", "PolicyDocument": allow("sqs:*")},
                ],
                "Tags": [{"Key": "k", "Value": 1}],
            }
            made = await ROLE.create(context, properties)
            assert made.physical_id == "r" == ROLE.predicted_id(context, properties)
            assert made.attributes["Arn"] == "arn:aws:iam::000000000000:role/service/r"
            assert set(made.attributes) == ROLE.attributes
            role = bench.control.state.view.roles["r"]
            assert (role.description, role.max_session_s, role.boundary) == ("first", 7200, READ_ONLY)
            assert (list(role.attached), sorted(role.inline)) == ([BASIC], ["a", "b"])
            assert role.tags == {**context.tags, "k": "1"}
            # When it is changed
            other = {
                "AssumeRolePolicyDocument": LAMBDA_TRUST,
                "Path": "/service/",
                "ManagedPolicyArns": [READ_ONLY],
                "Policies": [{"PolicyName": "b", "PolicyDocument": allow("sns:*")}],
            }
            changed = await ROLE.update(context, "r", properties, other)
            # Then it has what is said now, and nothing of what was
            assert changed == made
            role = bench.control.state.view.roles["r"]
            assert (role.description, role.max_session_s, role.boundary) == ("", 3600, "")
            assert (list(role.attached), sorted(role.inline)) == ([READ_ONLY], ["b"])
            assert "sns:*" in role.inline["b"]
            assert role.tags == dict(context.tags)
            await ROLE.delete(context, "r", other)
            await ROLE.delete(context, "r", other)
            assert not bench.control.state.view.roles

    run(main())


def test_half_a_role(tmp_path, run):
    """A role whose policies are refused is removed; one of somebody else is left alone."""

    async def main():
        async with open_bench(tmp_path) as bench:
            properties = {
                "AssumeRolePolicyDocument": LAMBDA_TRUST,
                "ManagedPolicyArns": [BASIC, "arn:aws:iam::000000000000:policy/there-is-none"],
            }
            with pytest.raises(CallFailed, match="does not exist or is not attachable"):
                await ROLE.create(bench.context("r"), properties)
            assert not bench.control.state.view.roles
            await bench.role("r")
            with pytest.raises(CallFailed, match="Role with name r already exists"):
                await ROLE.create(bench.context("r"), properties)
            assert list(bench.control.state.view.roles) == ["r"]

    run(main())
