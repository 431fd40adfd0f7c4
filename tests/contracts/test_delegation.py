"""How a node that is not root finds a part of the cgroup tree to set limits in."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from remora.sandbox.delegation import enter_own_scope, scope_call, stepped_aside
from remora.sandbox.hierarchies import ASIDE, Hierarchy, is_own, possible_bases


def group(directory, *pids):
    directory.mkdir()
    (directory / "cgroup.procs").write_text("".join(f"{pid}\n" for pid in pids))
    return directory


def refused(base):
    """Find the group empty, as it is after stepping aside, and fail."""
    (base / "cgroup.procs").write_text("")
    raise PermissionError


def test_whoever_is_alone_in_a_group_steps_aside(tmp_path):
    base = group(tmp_path / "a.scope", os.getpid())
    with stepped_aside(base):
        assert (base / ASIDE / "cgroup.procs").read_text() == str(os.getpid())


def test_whoever_is_not_alone_or_not_there_stays(tmp_path):
    base = group(tmp_path / "a.scope", os.getpid(), 1)
    with stepped_aside(base):
        assert not (base / ASIDE).exists()
    elsewhere = group(tmp_path / "b.scope")
    with stepped_aside(elsewhere):
        assert not (elsewhere / ASIDE).exists()


def test_after_an_error_it_is_back(tmp_path):
    base = group(tmp_path / "a.scope", os.getpid())
    with pytest.raises(PermissionError), stepped_aside(base):
        refused(base)
    assert (base / "cgroup.procs").read_text() == str(os.getpid())


def test_having_stepped_aside_the_group_above_is_the_base(tmp_path):
    scope = tmp_path / "app.slice" / "a.scope"
    hierarchy = Hierarchy(2, tmp_path, scope / ASIDE, frozenset({"memory"}))
    assert possible_bases(hierarchy) == [scope, tmp_path / "app.slice", tmp_path]
    assert not is_own(hierarchy, scope)
    assert is_own(Hierarchy(2, tmp_path, scope, frozenset()), scope)
    assert not is_own(Hierarchy(1, tmp_path, scope, frozenset()), scope)


def test_systemd_is_asked_for_a_delegated_scope():
    words = " ".join(scope_call("remora-7.scope", 7))
    assert words.startswith("busctl --user ")
    assert words.endswith(
        "StartTransientUnit ssa(sv)a(sa(sv)) remora-7.scope fail 2 PIDs au 1 7 Delegate b true 0"
    )


@pytest.mark.parametrize("answer", ["no bus", "no program", "refusal"])
def test_where_nobody_can_be_asked_it_stays(tmp_path, monkeypatch, answer):
    (tmp_path / "bus").touch()
    program = tmp_path / "busctl"
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("PATH", str(tmp_path), prepend=os.pathsep)
    {"no bus": tmp_path / "bus", "no program": program}.get(answer, tmp_path / "none").unlink(missing_ok=True)
    if answer == "no program":
        monkeypatch.setenv("PATH", str(tmp_path))
    before = Path("/proc/self/cgroup").read_text()
    assert not enter_own_scope()
    assert Path("/proc/self/cgroup").read_text() == before


_NODE = """
import asyncio, json, os, sys
from pathlib import Path
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.testing.contracts.sandbox import Bench
directory = Path(sys.argv[1])
async def main():
    for name in ("environments", "task"):
        (directory / name).mkdir()
    driver = BubblewrapDriver(directory / "environments", "test")
    missing = [text for text in driver.check() if "cgroup" in text]
    bench = Bench(driver, directory / "environments", directory / "task")
    async with bench.sandbox(memory_mib=128) as living:
        place = living.sandbox._group.birthplace
        seen = {name: (place / name).read_text().strip() for name in ("memory.max", "cpu.weight", "pids.max")}
    print(json.dumps({"missing": missing, "group": str(place), "is_left": place.parent.exists(), **seen}))
asyncio.run(main())
"""


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() == 0 or not Path(f"/run/user/{os.geteuid()}/bus").exists(),
    reason="needs an ordinary user with a systemd of their own",
)
def test_a_user_of_systemd_has_every_limit_from_any_shell(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", _NODE, tmp_path], capture_output=True, text=True, check=False, timeout=240
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["missing"] == []
    assert f"user@{os.geteuid()}.service" in told["group"]
    # /tmp is in memory, which counts: 512 MiB more.
    assert (told["memory.max"], told["cpu.weight"], told["pids.max"]) == (str(640 << 20), "7", "1024")
    assert not told["is_left"]
