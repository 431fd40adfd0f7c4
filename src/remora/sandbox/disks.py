"""
Which disk a directory is on, and whether it shares its time by the weights of cgroups.

A weight is no more than a number unless somebody heeds it: the scheduler `bfq` of the disk does, and with
version 2 the controller `iocost`, if it was enabled for the disk. Both are the operator's choice, for the
whole machine: here they are only looked at.

Sources: Linux, Documentation/block/bfq-iosched.rst and admin-guide/cgroup-v2.rst, "IO Interface Files".
"""

from __future__ import annotations

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_ROOT: Final = Path("/")
_PARTS_MAX: Final = 64
"""Disks that one directory may be spread over."""


@dataclass(frozen=True, slots=True)
class Disk:
    """
    A disk that schedules its own requests.

    Args:
        name: As in /sys/block.
        number: `MAJOR:MINOR`.
        scheduler: The one in use, `none` if requests are not scheduled.
    """

    name: str
    number: str
    scheduler: str


@dataclass(frozen=True, slots=True)
class Weights:
    """
    How a share of the disk is given to a cgroup.

    Args:
        file: The file that takes the weight; empty if no file would have an effect.
        problem: What is not enforced, a plain sentence; empty if everything is.
    """

    file: str = ""
    problem: str = ""


def number_of(directory: Path, mountinfo: str) -> str:
    """
    Return the number, `MAJOR:MINOR`, of the device that a directory is on.

    Some file systems (btrfs) have numbers of their own: then the device that was mounted is looked for.

    Args:
        directory: Exists.
        mountinfo: Content of /proc/self/mountinfo.
    """
    number = _text(directory.stat().st_dev)
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        source = after.split(" ", 2)[1]
        if number.startswith("0:") and before.split()[2] == number and source.startswith("/dev/"):
            with suppress(OSError):
                return _text(Path(source).stat().st_rdev)
    return number


def _text(number: int) -> str:
    return f"{os.major(number)}:{os.minor(number)}"


def find_disks(number: str, root: Path = _ROOT) -> tuple[Disk, ...]:
    """
    Return the disks below a device: a partition's is the whole disk, a mapped device's all that it lies on.

    Args:
        number: `MAJOR:MINOR`.
        root: Where /sys is; another one for tests.

    Returns:
        Nothing if it is on no disk of this machine (memory, a network), or cannot be told.
    """
    found: dict[str, Disk] = {}
    waiting = [root / "sys/dev/block" / number]
    for _ in range(_PARTS_MAX):
        if not waiting:
            break
        device = waiting.pop().resolve()
        if (device / "partition").exists():
            device = device.parent
        parts = sorted((device / "slaves").glob("*"))
        waiting += parts
        if not parts:
            with suppress(OSError):
                own = (device / "dev").read_text().strip()
                found[own] = Disk(device.name, own, _scheduler(device))
    return tuple(found.values())


def _scheduler(device: Path) -> str:
    """Return the word in brackets: the others could be chosen."""
    try:
        words = (device / "queue/scheduler").read_text().split()
    except OSError:
        return "none"
    return next((word.strip("[]") for word in words if word.startswith("[")), "none")


def choose_weights(disks: tuple[Disk, ...], version: int, qos: str) -> Weights:
    """
    Choose the file by which these disks take weights.

    Args:
        disks: Where environments keep their files.
        version: Of the cgroups.
        qos: Content of `io.cost.qos` of the root group of version 2.
    """
    if not disks:
        return Weights(
            problem="disk I/O is not shared by weights: the data directory is on no disk known here"
        )
    if version == 2 and all(_has_cost(disk, qos) for disk in disks):
        return Weights("io.weight")
    heedless = next((disk for disk in disks if disk.scheduler != "bfq"), None)
    if heedless is not None:
        return Weights(
            problem="disk I/O is not shared by weights: the disk "
            f"{heedless.name} has the scheduler {heedless.scheduler}, which knows none"
        )
    if version == 2:
        return Weights("io.bfq.weight")
    return Weights(
        "blkio.bfq.weight",
        "disk I/O is shared by weights, but for writes through the page cache: "
        "with cgroups of version 1 the kernel does not know whose they are",
    )


def _has_cost(disk: Disk, qos: str) -> bool:
    lines = (line.split() for line in qos.splitlines())
    return any(words[:1] == [disk.number] and "enable=1" in words for words in lines)


def weights_for(directory: Path, version: int, cgroups: Path, root: Path = _ROOT) -> Weights:
    """
    Look how a share of the disk below `directory` can be given.

    Args:
        directory: Exists.
        version: Of the cgroups that carry the controller.
        cgroups: Where they are mounted.
        root: Where /sys and /proc are; another one for tests.
    """
    mountinfo = qos = ""
    with suppress(OSError):
        mountinfo = (root / "proc/self/mountinfo").read_text()
    with suppress(OSError):
        qos = (cgroups / "io.cost.qos").read_text()
    return choose_weights(find_disks(number_of(directory, mountinfo), root), version, qos)
