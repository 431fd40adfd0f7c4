"""Versions and aliases as resources."""

from __future__ import annotations

import asyncio

import pytest
from tests.control.conftest import ARN
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES
from remora.pool.base import ProvisionedStatus

VERSION, ALIAS = TYPES["AWS::Lambda::Version"], TYPES["AWS::Lambda::Alias"]
READY = ProvisionedStatus("READY", 2, 2)
TWO = {"ProvisionedConcurrentExecutions": "2"}


def test_version(tmp_path, run):
    """A version is published, and deleted again with its ARN alone."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            context, properties = bench.context(), {"FunctionName": f"{ARN}:function:f", "Description": "d"}
            made = await VERSION.create(context, properties)
            arn = f"{ARN}:function:f:1"
            assert made == (arn, {"Version": "1", "FunctionArn": arn})
            found = await bench.call("lambda", "GetFunctionConfiguration", FunctionName=arn)
            assert (found["State"], found["Description"]) == ("Active", "d")
            for _ in range(2):
                await VERSION.delete(context, arn, properties)
                assert not bench.control.state.view.versions.get("f")

    run(main())


def test_a_version_is_published_once(tmp_path, run):
    """What has been published is not taken for another version, which would be deleted with it."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            await VERSION.create(bench.context(), {"FunctionName": "f"})
            text = r"A version for this Lambda function exists \( 1 \)\. Modify the function"
            with pytest.raises(CallFailed, match=text) as caught:
                await VERSION.create(bench.context(), {"FunctionName": "f"})
            assert caught.value.code == "AlreadyExists"
            assert list(bench.control.state.view.versions["f"]) == [1]

    run(main())


def test_version_with_runtime_policy(tmp_path, run):
    """What is said of a version's runtime is set for that version."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            policy = {"UpdateRuntimeOn": "FunctionUpdate"}
            await VERSION.create(bench.context(), {"FunctionName": "f", "RuntimePolicy": policy})
            found = await bench.call("lambda", "GetRuntimeManagementConfig", FunctionName="f", Qualifier="1")
            assert found["UpdateRuntimeOn"] == "FunctionUpdate"

    run(main())


def test_version_that_is_provisioned(tmp_path, run):
    """A version is there when its environments are; if they cannot be, it is not."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            bench.provisioning.statuses["f", "1"] = ProvisionedStatus("FAILED", 0, 0, "INIT_FAILURE")
            properties = {"FunctionName": "f", "ProvisionedConcurrencyConfig": TWO}
            with pytest.raises(CallFailed, match="failed: INIT_FAILURE") as caught:
                await VERSION.create(bench.context(), properties)
            assert caught.value.code == "NotStabilized"
            assert not bench.control.state.view.versions.get("f")
            assert not bench.control.state.view.provisioned.get("f")
            bench.waited.clear()
            creation = asyncio.ensure_future(VERSION.create(bench.context(), properties))
            await bench.waited["GetProvisionedConcurrencyConfig"].wait()
            assert not creation.done()
            bench.provisioning.become("f", "2", READY)
            assert (await creation).physical_id == f"{ARN}:function:f:2"
            assert bench.control.state.view.provisioned["f"]["2"].requested == 2

    run(main())


def test_alias(tmp_path, run):
    """An alias is made, led elsewhere in parts, and deleted."""

    async def main():
        async with open_bench(tmp_path) as bench:
            properties = await bench.function("f")
            await VERSION.create(bench.context(), {"FunctionName": "f"})
            function = TYPES["AWS::Lambda::Function"]
            await function.update(bench.context(), "f", properties, {**properties, "Timeout": 9})
            await VERSION.create(bench.context(), {"FunctionName": "f"})
            first = {"FunctionName": "f", "Name": "live", "FunctionVersion": 1, "Description": "d"}
            context, arn = bench.context(), f"{ARN}:function:f:live"
            made = await ALIAS.create(context, first)
            assert made == (arn, {"AliasArn": arn})
            assert ALIAS.predicted_id(context, first) == arn
            second = {
                "FunctionName": f"{ARN}:function:f",
                "Name": "live",
                "FunctionVersion": "2",
                "RoutingConfig": {
                    "AdditionalVersionWeights": [{"FunctionVersion": "1", "FunctionWeight": "0.25"}]
                },
            }
            assert await ALIAS.update(context, arn, first, second) == made
            found = await bench.call("lambda", "GetAlias", FunctionName="f", Name="live")
            assert (found["FunctionVersion"], found["Description"]) == ("2", "")
            assert found["RoutingConfig"] == {"AdditionalVersionWeights": {"1": 0.25}}
            await ALIAS.update(context, arn, second, {**first, "FunctionName": f"{ARN}:function:f"})
            found = await bench.call("lambda", "GetAlias", FunctionName="f", Name="live")
            assert (found["FunctionVersion"], found.get("RoutingConfig")) == ("1", None)
            for _ in range(2):
                await ALIAS.delete(context, arn, first)
                assert not bench.control.state.view.aliases.get("f")

    run(main())


def test_alias_that_is_provisioned(tmp_path, run):
    """What is provisioned for an alias comes and goes with its property."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            await VERSION.create(bench.context(), {"FunctionName": "f"})
            plain = {"FunctionName": "f", "Name": "live", "FunctionVersion": "1"}
            ready = {**plain, "ProvisionedConcurrencyConfig": TWO}
            context, arn = bench.context(), f"{ARN}:function:f:live"
            bench.provisioning.statuses["f", "live"] = ProvisionedStatus("FAILED", 0, 0, "x")
            with pytest.raises(CallFailed, match="failed: x"):
                await ALIAS.create(context, ready)
            assert not bench.control.state.view.aliases.get("f")
            bench.provisioning.statuses["f", "live"] = READY
            await ALIAS.create(context, ready)
            assert bench.control.state.view.provisioned["f"]["live"].requested == 2
            await ALIAS.update(context, arn, ready, plain)
            assert not bench.control.state.view.provisioned.get("f")
            await ALIAS.update(context, arn, plain, ready)
            assert bench.control.state.view.provisioned["f"]["live"].requested == 2
            await ALIAS.delete(context, arn, ready)
            assert not bench.control.state.view.provisioned.get("f")

    run(main())


def test_alias_of_somebody_else(tmp_path, run):
    """An alias that there is already is neither taken nor removed."""

    async def main():
        async with open_bench(tmp_path) as bench:
            await bench.function("f")
            await VERSION.create(bench.context(), {"FunctionName": "f"})
            properties = {"FunctionName": "f", "Name": "live", "FunctionVersion": "1"}
            await ALIAS.create(bench.context(), properties)
            with pytest.raises(CallFailed, match="Alias already exists"):
                await ALIAS.create(bench.context(), properties)
            assert list(bench.control.state.view.aliases["f"]) == ["live"]

    run(main())
