"""Parameters as resources."""

from __future__ import annotations

import pytest
from tests.iac.bench import open_bench

from remora.iac.calls import CallFailed
from remora.iac.types.table import TYPES

PARAMETER = TYPES["AWS::SSM::Parameter"]


def test_parameter(tmp_path, run):
    """A parameter is made, changed and deleted."""

    async def main():
        async with open_bench(tmp_path) as bench:
            context = bench.context("/a/b")
            first = {"Type": "String", "Value": 27, "Description": "d", "Tags": {"k": "v", "n": 1}}
            assert await PARAMETER.create(context, first) == ("/a/b", {"Type": "String", "Value": "27"})
            parameters = bench.control.state.view.parameters
            assert parameters["/a/b"].tags == {**context.tags, "k": "v", "n": "1"}
            second = {"Type": "StringList", "Value": "a,b", "Tags": {"n": "2"}}
            made = await PARAMETER.update(context, "/a/b", first, second)
            assert made == ("/a/b", {"Type": "StringList", "Value": "a,b"})
            found = parameters["/a/b"]
            assert (found.value, found.type, found.description) == ("a,b", "StringList", "")
            assert found.tags == {**context.tags, "n": "2"}
            with pytest.raises(CallFailed, match="already exists"):
                await PARAMETER.create(context, first)
            for _ in range(2):
                await PARAMETER.delete(context, "/a/b", second)
                assert not parameters
            with pytest.raises(CallFailed, match="SecureString is not a valid enum value"):
                await PARAMETER.create(context, {"Type": "SecureString", "Value": "x"})

    run(main())
