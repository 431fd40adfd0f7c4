"""Log groups as resources."""

from __future__ import annotations

import pytest
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES

GROUP = TYPES["AWS::Logs::LogGroup"]
ARN = "arn:aws:logs:us-east-1:000000000000:log-group:g"


def test_log_group(tmp_path, run):
    """A group is made, kept otherwise, and deleted."""

    async def main():
        async with open_bench(tmp_path) as bench:
            context = bench.context("g")
            properties = {"RetentionInDays": "7", "Tags": [{"Key": "k", "Value": "v"}]}
            made = await GROUP.create(context, properties)
            assert made == ("g", {"Arn": f"{ARN}:*"})
            found = (await bench.call("logs", "DescribeLogGroups"))["logGroups"][0]
            assert found["retentionInDays"] == 7
            tags = await bench.call("logs", "ListTagsForResource", resourceArn=ARN)
            assert tags["tags"] == {**context.tags, "k": "v"}
            assert await GROUP.update(context, "g", properties, {}) == made
            found = (await bench.call("logs", "DescribeLogGroups"))["logGroups"][0]
            assert "retentionInDays" not in found
            tags = await bench.call("logs", "ListTagsForResource", resourceArn=ARN)
            assert tags["tags"] == dict(context.tags)
            await GROUP.delete(context, "g", {})
            await GROUP.delete(context, "g", {})
            assert (await bench.call("logs", "DescribeLogGroups"))["logGroups"] == []

    run(main())


def test_half_a_group(tmp_path, run):
    """A group that cannot be kept for so long is not left behind."""

    async def main():
        async with open_bench(tmp_path) as bench:
            with pytest.raises(CallFailed, match="retentionInDays is one of"):
                await GROUP.create(bench.context("g"), {"RetentionInDays": 2})
            assert (await bench.call("logs", "DescribeLogGroups"))["logGroups"] == []

    run(main())
