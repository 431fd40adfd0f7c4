"""What every type has in common, and those that nothing is made for."""

from __future__ import annotations

import pytest
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES


@pytest.mark.parametrize("name", TYPES)
def test_types_are_whole(name):
    """A name is a property whose change replaces; what is not offered cannot be made half-way."""
    kind = TYPES[name]
    assert kind.name_property is None or kind.properties[kind.name_property].replaces
    assert kind.name_length_max >= 32
    assert kind.name_length_max <= 1011


@pytest.mark.parametrize("name", ["AWS::CDK::Metadata", "AWS::CloudFormation::WaitConditionHandle"])
def test_nothing_is_made(tmp_path, run, name):
    """Some resources are identifiers only, each its own, and none changes."""

    async def main():
        async with open_bench(tmp_path) as bench:
            kind, context = TYPES[name], bench.context()
            made = await kind.create(context, {})
            assert made.physical_id == kind.predicted_id(context, {}) != ""
            assert made.physical_id != (await kind.create(bench.context(), {})).physical_id
            assert await kind.update(context, made.physical_id, {}, {"Analytics": "x"}) == made
            await kind.delete(context, made.physical_id, {})
            assert not bench.calls_made

    run(main())


@pytest.mark.parametrize("name", ["AWS::KMS::Key", "AWS::KMS::Alias"])
def test_keys_are_refused(tmp_path, run, name):
    """A key is known, so that a template may have one under a condition, but cannot be made."""

    async def main():
        async with open_bench(tmp_path) as bench:
            with pytest.raises(CallFailed, match="This node has no KMS"):
                await TYPES[name].create(bench.context(), {})

    run(main())
