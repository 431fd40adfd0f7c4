"""Whose disk it is: found below partitions and mapped devices, and asked whether it heeds weights."""

import os
from pathlib import Path

import pytest

from remora.sandbox.cgroups import NodeGroup
from remora.sandbox.disks import Disk, Weights, choose_weights, find_disks, number_of, weights_for
from remora.sandbox.hierarchies import Hierarchy, Rules, choose_hierarchies, find_hierarchies

BFQ, DEADLINE = Disk("sda", "8:0", "bfq"), Disk("vda", "254:0", "mq-deadline")
NO_CONTROL = Path("/sys/fs/cgroup/blkio")


def device(root, path, number, *, scheduler=None, is_partition=False, slaves=()):
    """Make what /sys shows of a block device."""
    place = root / "sys/devices" / path
    place.mkdir(parents=True)
    (place / "dev").write_text(f"{number}\n")
    if is_partition:
        (place / "partition").write_text("1\n")
    if scheduler:
        (place / "queue").mkdir()
        (place / "queue/scheduler").write_text(scheduler)
    for slave in slaves:
        (place / "slaves").mkdir(exist_ok=True)
        (place / "slaves" / slave.name).symlink_to(slave)
    numbers = root / "sys/dev/block"
    numbers.mkdir(parents=True, exist_ok=True)
    (numbers / number).symlink_to(place)
    return place


def test_the_disks_below_a_mapped_device_and_a_partition_are_found(tmp_path):
    # Given an encrypted volume over a partition of one disk and the whole of another
    device(tmp_path, "sda", "8:0", scheduler="none mq-deadline [bfq]")
    partition = device(tmp_path, "sda/sda1", "8:1", is_partition=True)
    other = device(tmp_path, "nvme0n1", "259:0", scheduler="[none] mq-deadline")
    device(tmp_path, "virtual/dm-0", "253:0", slaves=(partition, other))

    assert set(find_disks("253:0", tmp_path)) == {BFQ, Disk("nvme0n1", "259:0", "none")}
    assert find_disks("8:1", tmp_path) == (BFQ,)
    assert find_disks("0:99", tmp_path) == ()


def test_a_file_system_with_numbers_of_its_own_is_on_the_device_that_was_mounted(tmp_path):
    own = tmp_path.stat().st_dev
    assert number_of(tmp_path, "") == f"{os.major(own)}:{os.minor(own)}"
    number = Path("/proc").stat().st_dev  # one of those whose major number is 0
    line = f"36 35 0:{os.minor(number)} / /data rw - btrfs /dev/null rw"
    assert number_of(Path("/proc"), line) == "1:3", "the number of the source, here /dev/null"
    assert number_of(Path("/proc"), line.replace("/dev/null", "proc")) == f"0:{os.minor(number)}"


@pytest.mark.parametrize(
    ("disks", "version", "qos", "file", "problem"),
    [
        ((BFQ,), 1, "", "blkio.bfq.weight", "writes through the page cache"),
        ((BFQ,), 2, "", "io.bfq.weight", ""),
        ((DEADLINE,), 1, "", "", "the disk vda has the scheduler mq-deadline"),
        ((BFQ, DEADLINE), 2, "", "", "the disk vda has the scheduler mq-deadline"),
        ((DEADLINE,), 2, "8:0 enable=1 ctrl=auto\n254:0 enable=1 ctrl=auto\n", "io.weight", ""),
        ((DEADLINE,), 2, "254:0 enable=0 ctrl=auto\n", "", "the disk vda has the scheduler mq-deadline"),
        ((), 2, "", "", "on no disk known here"),
    ],
)
def test_weights_are_given_only_where_somebody_heeds_them(disks, version, qos, file, problem):
    chosen = choose_weights(disks, version, qos)
    assert chosen.file == file
    assert problem in chosen.problem
    assert bool(problem) == bool(chosen.problem)


def test_this_machine_can_be_asked(tmp_path):
    heeded = {"", "blkio.bfq.weight", "io.bfq.weight", "io.weight"}
    for version in (1, 2):
        found = weights_for(tmp_path, version, tmp_path)
        assert found.file in heeded
        assert found.file or found.problem
        assert isinstance(found, Weights)


@pytest.mark.skipif(
    os.geteuid() != 0 or not NO_CONTROL.is_dir(), reason="needs root and the controller blkio of version 1"
)
def test_a_real_group_of_version_1_takes_the_weight(tmp_path):
    found: Hierarchy = choose_hierarchies(find_hierarchies())["io"]
    rules = Rules(weights_file="blkio.bfq.weight")
    node = NodeGroup(f"remora-disks-{os.getpid()}", [found], is_root=True, rules=rules)
    assert node.has("io"), node.missing
    group = node.create("e1", 885)
    directory = found.root / f"remora-disks-{os.getpid()}" / "e1"
    try:
        assert (directory / "blkio.bfq.weight").read_text().split()[-1] == "50"
        files, has_thaw = group.open_join_files()
        assert (len(files), has_thaw) == (1, False), "a process joins it as it does the others"
        for file in files:
            os.close(file)
    finally:
        group.close_files()
        directory.rmdir()
        directory.parent.rmdir()
