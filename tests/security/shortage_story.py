"""
Makes sandboxes while the machine is short of something, a little less each time, until one can be made.

Run by `test_shortages.py` with the kind of shortage and a directory of its own; prints as JSON how often it
failed, and what of each failure was left.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import uvloop

from remora.sandbox.base import SandboxError
from remora.sandbox.bubblewrap import BubblewrapDriver
from remora.sandbox.cgroups import digest_of
from remora.sandbox.hierarchies import choose_hierarchies, find_hierarchies
from remora.testing.contracts.sandbox import Bench, Living, Recorder, processes_with

CGROUPS = Path("/sys/fs/cgroup")
_MORE_MAX = 400
_SETTLE_S = 10.0


class Story:
    """A driver below a directory, and a way to count what there is of its sandboxes."""

    def __init__(self, directory: Path) -> None:
        self.environments = directory / "environments"
        self.environments.mkdir(exist_ok=True)
        (directory / "task").mkdir(exist_ok=True)
        self.driver = BubblewrapDriver(self.environments, "short")
        self.bench = Bench(self.driver, self.environments, directory / "task")

    def left(self) -> list[str]:
        """Return what there is of sandboxes: processes, directories, mounts, cgroups, devices."""
        digest = digest_of(self.environments)
        found = [f"process {pid}" for pid in processes_with(str(self.environments))]
        found += [f"directory {path.name}" for path in self.environments.iterdir()]
        mounts = Path("/proc/self/mountinfo").read_text().splitlines()
        found += [f"mount {line}" for line in mounts if f"{self.environments}/" in line]
        for place in (CGROUPS, *CGROUPS.glob("*/")):
            found += [f"cgroup {path}" for path in place.glob(f"remora-*-{digest}/*")]
        names = [name for _, name in socket.if_nameindex()]
        found += [f"device {name}" for name in names if name.startswith(f"rmr{digest[:4]}")]
        for file in Path("/sys/block").glob("loop*/loop/backing_file"):
            try:
                found += [f"loop {file}"] if str(self.environments) in file.read_text() else []
            except OSError:
                continue  # gone meanwhile
        return found

    async def settled(self, descriptors: int) -> list[str]:
        """Return what is left after the kernel had time to remove devices and mounts of the dead."""
        end = asyncio.get_running_loop().time() + _SETTLE_S
        while True:
            found = self.left()
            more = len(os.listdir("/proc/self/fd")) - descriptors  # noqa: PTH208 - it is no disk
            found += [f"{more} descriptors"] if more > 0 else []
            if not found or asyncio.get_running_loop().time() > end:
                return found
            await asyncio.sleep(0.01)

    async def attempt(self) -> str:
        """Make a sandbox, run something in it, let it go; return what was in the way, empty if nothing."""
        watcher = Recorder()
        plan = replace(self.bench.plan(ephemeral_mib=16), network="nat")
        try:
            living = Living(await self.driver.create(plan, watcher), watcher)
        except SandboxError as error:
            return str(error)
        try:
            how, _ = await living.run(("/bin/sh", "-c", "exit 3"))
            assert how.code == 3, how
        except (OSError, AssertionError) as error:
            return str(error) or type(error).__name__
        finally:
            await living.sandbox.close()
        return ""


async def tell(story: Story, allow: Callable[[int], Callable[[], None]]) -> dict[str, object]:
    """Allow one more of something each time."""
    assert await story.attempt() == "", "without a shortage it works"
    descriptors = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - it is no disk
    reasons, left = [], {}
    for more in range(_MORE_MAX):
        # One without threads, which are as hard to have as processes
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor())
        end = allow(more)
        try:
            reason = await asyncio.wait_for(story.attempt(), 60)
        finally:
            end()
        if found := await story.settled(descriptors):
            left[more] = [reason, *found]
        if not reason:
            return {"reasons": reasons, "left": left}
        reasons.append(reason)
    raise AssertionError(f"still not possible: {reasons[-1]}")


def descriptors(more: int) -> Callable[[], None]:
    """Allow so many descriptors more than there are."""
    former = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + more, former[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_NOFILE, former)


def own_group() -> Path:
    """Return a group that limits how many processes there may be of this one and those it starts."""
    return choose_hierarchies(find_hierarchies())["pids"].root / f"remora-shortage-{os.getpid()}"


def processes(more: int) -> Callable[[], None]:
    """Allow so many processes and threads more than there are."""
    group = own_group()
    limit = group / "pids.max"
    limit.write_text(str(int((group / "pids.current").read_text()) + more))
    return lambda: limit.write_text("max") and None


def disk(directory: Path, word: str, step: int) -> Callable[[int], Callable[[], None]]:
    """Return what allows so many steps more of the disk than are used (`nr_inodes`, or `size` in bytes)."""

    def resize(count: str) -> None:
        subprocess.run(["mount", "-o", f"remount,{word}={count}", directory], check=True)

    def allow(more: int) -> Callable[[], None]:
        state = os.statvfs(directory)
        used = state.f_files - state.f_ffree
        if word == "size":
            used = (state.f_blocks - state.f_bfree) * state.f_frsize
        resize(str(used + more * step or 1))
        return lambda: resize("1g" if word == "size" else "100000")

    return allow


def main(kind: str, directory: Path) -> None:
    """Tell one story."""
    if kind in ("inodes", "space"):
        options = "size=1g,nr_inodes=100000"
        subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", directory], check=True)
    story = Story(directory)
    allows = {
        "descriptors": descriptors,
        "processes": processes,
        "inodes": disk(directory, "nr_inodes", 1),
        "space": disk(directory, "size", 4096),
    }
    group = own_group()
    if kind == "processes":
        group.mkdir()
        (group / "cgroup.procs").write_text("0")
    try:
        sys.stdout.write(json.dumps(uvloop.run(tell(story, allows[kind]))))
    finally:
        if kind == "processes":
            (group.parent / "cgroup.procs").write_text("0")
            group.rmdir()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
