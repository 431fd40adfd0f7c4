"""Roles and policies of IAM as resources."""

from __future__ import annotations

import json

import pytest
from tests.iac.bench import LAMBDA_TRUST, open_bench

from remora.control.callers import Caller
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


def test_half_a_role_that_may_not_be_removed(tmp_path, run):
    """Who may make a role but not delete one is told what stays."""

    async def main():
        async with open_bench(tmp_path, asks_for_keys=True) as bench:
            may = {"Statement": [{"Effect": "Allow", "Action": "iam:CreateRole", "Resource": "*"}]}
            arn = "arn:aws:iam::000000000000:user/maker"
            bench.caller = Caller(arn, policies=(json.dumps(may),))
            properties = {"AssumeRolePolicyDocument": LAMBDA_TRUST, "ManagedPolicyArns": [BASIC]}
            with pytest.raises(CallFailed) as caught:
                await ROLE.create(bench.context("r"), properties)
            first, stays = caught.value.message.split(" What was made before could not be removed: ")
            assert f"{arn} is not authorized to perform: iam:AttachRolePolicy" in first
            assert "is not authorized to perform: iam:DeleteRole" in stays
            assert str(caught.value).endswith(f"Status Code: 403, Request ID: {caught.value.request_id})")

    run(main())


POLICY, MANAGED = TYPES["AWS::IAM::Policy"], TYPES["AWS::IAM::ManagedPolicy"]


def test_policy(tmp_path, run):
    """A policy is a part of roles: of those that the template says, under the name that it says."""

    async def main():
        async with open_bench(tmp_path) as bench:
            for name in ("r", "s", "t"):
                await bench.role(name)
            roles, context = bench.control.state.view.roles, bench.context()
            first = {"PolicyName": "p", "PolicyDocument": allow("s3:*"), "Roles": ["r", "s"]}
            assert await POLICY.create(context, first) == ("p", {})
            assert [sorted(roles[name].inline) for name in "rst"] == [["p"], ["p"], []]
            second = {**first, "Roles": ["s", "t"], "PolicyDocument": allow("sqs:*")}
            assert await POLICY.update(context, "p", first, second) == ("p", {})
            assert [sorted(roles[name].inline) for name in "rst"] == [[], ["p"], ["p"]]
            assert "sqs:*" in roles["s"].inline["p"]
            third = {**second, "PolicyName": "q"}
            assert await POLICY.update(context, "p", second, third) == ("p", {})
            assert [sorted(roles[name].inline) for name in "rst"] == [[], ["q"], ["q"]]
            await ROLE.delete(context, "t", {"Policies": [{"PolicyName": "q", "PolicyDocument": {}}]})
            for _ in range(2):
                await POLICY.delete(context, "p", third)
                assert not roles["s"].inline

    run(main())


def test_half_a_policy(tmp_path, run):
    """A policy that one role cannot have, no role has."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.role("r")
            properties = {"PolicyName": "p", "PolicyDocument": allow("s3:*"), "Roles": ["r", "none"]}
            with pytest.raises(CallFailed, match="role with name none cannot be found"):
                await POLICY.create(bench.context(), properties)
            assert not bench.control.state.view.roles["r"].inline
            for broken in ({"Roles": []}, {"Roles": ["r"], "Users": ["u"]}, {"Groups": ["g"]}):
                with pytest.raises(CallFailed) as caught:
                    await POLICY.create(bench.context(), {**properties, "Roles": None, **broken})
                assert caught.value.code == "InvalidRequest"

    run(main())


def test_managed_policy(tmp_path, run):
    """A managed policy has a version for each time that it changed, of which the last ones are kept."""

    async def main():
        async with open_bench(tmp_path) as bench:
            for name in ("r", "s"):
                await bench.role(name)
            roles, context = bench.control.state.view.roles, bench.context("p")
            properties = {"PolicyDocument": allow("a:b"), "Roles": ["r"], "Path": "/x/", "Description": "d"}
            made = await MANAGED.create(context, properties)
            arn = "arn:aws:iam::000000000000:policy/x/p"
            assert made.physical_id == arn == MANAGED.predicted_id(context, properties)
            assert set(made.attributes) == MANAGED.attributes
            assert (list(roles["r"].attached), made.attributes["AttachmentCount"]) == ([arn], 1)
            for number in range(7):
                former, action = properties, f"a:c{number}"
                properties = {**properties, "PolicyDocument": allow(action), "Roles": ["s"]}
                await MANAGED.update(context, arn, former, properties)
            policy = bench.control.state.view.managed_policies["p"]
            assert (policy.default, list(policy.versions)) == ("v8", ["v4", "v5", "v6", "v7", "v8"])
            assert "a:c6" in policy.versions["v8"].document
            assert (list(roles["r"].attached), list(roles["s"].attached)) == ([], [arn])
            for _ in range(2):
                await MANAGED.delete(context, arn, properties)
                assert not bench.control.state.view.managed_policies
            with pytest.raises(CallFailed, match="role with name none cannot be found"):
                await MANAGED.create(context, {**properties, "Roles": ["s", "none"]})
            assert not bench.control.state.view.managed_policies
            assert not roles["s"].attached

    run(main())
