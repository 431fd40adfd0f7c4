"""CPU time by memory size: a share by default; a ceiling for whoever wants times as Lambda has them."""

import json
import os
from pathlib import Path

import pytest
import uvloop

from remora.sandbox import node
from remora.sandbox.base import SandboxError
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.node import SandboxesOfNode
from remora.testing.contracts.sandbox import Bench

_BUSY = """
import json, time
began, used = time.monotonic(), time.process_time()
while time.monotonic() - began < 0.5:
    pass
print(json.dumps((time.process_time() - used) / (time.monotonic() - began)))
"""


def root_has_cpu_control() -> bool:
    """Look, by other means than what is tested, whether this is root where a group can limit CPU time."""
    if os.geteuid() != 0:
        return False
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, place, kind, options = line.split()[:4]
        controllers = Path(place, "cgroup.controllers")
        found = controllers.read_text().split() if kind == "cgroup2" and controllers.exists() else []
        if kind == "cgroup":
            found = options.split(",")
        if "cpu" in found and "rw" in options.split(","):
            return True
    return False


@pytest.fixture
def strict(tmp_path):
    for name in ("environments", "task"):
        (tmp_path / name).mkdir()
    driver = BubblewrapDriver(tmp_path / "environments", "strict", cpu="strict")
    try:
        driver.check()
    except SandboxError as error:
        if root_has_cpu_control() or "cannot be enforced" not in str(error):
            raise
        pytest.skip(f"whoever has no control of CPU time: {error}")
    return Bench(driver, tmp_path / "environments", tmp_path / "task")


@pytest.mark.slow
def test_who_is_strictly_limited_gets_no_more_than_the_memory_size_says(strict):
    async def main():
        async with strict.sandbox(memory_mib=354) as living:
            how, said = await living.run(living.python(_BUSY))
            assert how.code == 0
            return json.loads(said)

    # A fifth of a processor, and what the last period may go beyond it
    assert uvloop.run(main()) < 0.3


def test_a_ceiling_that_cannot_be_enforced_is_refused_and_a_share_only_missed(tmp_path, monkeypatch):
    monkeypatch.setattr(node, "find_hierarchies", list)
    with pytest.raises(SandboxError, match="cannot be enforced: no cgroup controller for cpu"):
        SandboxesOfNode(tmp_path, "n", "strict").missing()
    missing = SandboxesOfNode(tmp_path, "n").missing()
    assert any("CPU time does not follow the memory size" in text for text in missing)
    assert any("disk I/O is not shared by weights" in text for text in missing)
