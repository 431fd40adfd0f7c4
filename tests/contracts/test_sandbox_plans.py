"""What is planned before anything is done: command lines, ids, files of /etc, cgroup settings, messages."""

import asyncio
import errno
import os
import re
import resource
import struct
from pathlib import Path

import pytest

from remora.sandbox import messages
from remora.sandbox.base import Exit, Mount, SandboxPlan
from remora.sandbox.cgroups import NodeGroup, group_name, leftover_groups, remove_empty_parents, sweep_groups
from remora.sandbox.copies import is_public
from remora.sandbox.hierarchies import (
    CONTROLS,
    Hierarchy,
    Rules,
    Setting,
    choose_hierarchies,
    plan_parent_settings,
    plan_settings,
    possible_bases,
    read_hierarchies,
)
from remora.sandbox.host import Host, HostEntry
from remora.sandbox.limits import ALWAYS, process_limits
from remora.sandbox.masks import find_masks
from remora.sandbox.process import choose_paths
from remora.sandbox.root_files import IdRange, choose_ids, write_etc
from remora.sandbox.wrapping import command

ENTRIES = (HostEntry("usr"), HostEntry("bin", "usr/bin"), HostEntry("lib", "usr/lib"))
MOUNTS = (Mount(Path("/data/code/abc"), "/var/task"), Mount(Path("/root/py"), "/var/lang"))
PLAN = SandboxPlan("e1", Path("/data/environments/e1"), MOUNTS, 512)

BWRAP = Path("/usr/bin/bwrap")
COMMON = """
--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib
--ro-bind /data/environments/e1/etc /etc --ro-bind /etc/ssl /etc/ssl
--proc /proc --dev /dev --remount-ro /dev --perms 1777 --size 536870912 --tmpfs /dev/shm
"""
REST = """
--bind /data/environments/e1/tmp /tmp
--dir /opt --dir /var/runtime --dir /var/tmp --dir /home --dir /mnt
--ro-bind /data/code/abc /var/task --ro-bind /root/py /var/lang
--bind /data/environments/e1/control /run/remora/control --ro-bind /pkg/remora-init /run/remora/init
--remount-ro / --chdir / -- /run/remora/init --control /run/remora/control/control.sock
"""


REST_FOR_ANYONE = REST.replace(
    "--bind /data/environments/e1/control", "--ro-bind /data/environments/e1/control"
)
REST_FOR_ANYONE = REST_FOR_ANYONE.replace("/run/remora/control/control.sock", "-")


def test_command_for_root():
    host = Host(Path("/pkg/remora-init"), ENTRIES, IdRange(100_000, 65_536))
    expected = f"""
    /usr/bin/bwrap --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try --unshare-net
    --cap-drop ALL --cap-add CAP_SETUID --cap-add CAP_SETGID
    --hostname sandbox --as-pid-1 --die-with-parent
    {COMMON} {REST} --port 9001 --idmap 100000:65536
    """
    assert command(BWRAP, host, PLAN, ("ssl",)) == expected.split()


def test_command_for_anyone_with_the_network_of_the_host():
    host = Host(Path("/pkg/remora-init"), ENTRIES, None)
    plan = SandboxPlan(PLAN.name, PLAN.directory, PLAN.mounts, PLAN.memory_mib, "host")
    expected = f"""
    /usr/bin/bwrap --unshare-pid --unshare-ipc --unshare-uts --unshare-cgroup-try
    --unshare-user --uid 993 --gid 990 --cap-drop ALL
    --hostname sandbox --as-pid-1 --die-with-parent
    {COMMON} {REST_FOR_ANYONE} --port 0
    """
    assert command(BWRAP, host, plan, ("ssl",)) == expected.split()


def test_what_the_machine_has_to_hide_is_hidden_after_its_surroundings_are_mounted(tmp_path):
    for directory in ("proc/acpi", "proc/sys", "proc/irq", "usr/local/etc", "etc/ssl/private"):
        (tmp_path / directory).mkdir(parents=True)
    for file in ("proc/kcore", "proc/keys"):
        (tmp_path / file).touch()
    (tmp_path / "usr/local/src").symlink_to("/usr/src")
    masks = find_masks(owns_switches=True, root=tmp_path)
    assert masks.files == ("/proc/kcore", "/proc/keys")
    assert masks.directories == ("/proc/acpi", "/usr/local/etc", "/etc/ssl/private")
    assert masks.read_only == ("/proc/irq", "/proc/sys")
    assert find_masks(owns_switches=False, root=tmp_path).read_only == ()
    host = Host(Path("/pkg/remora-init"), ENTRIES, None, masks)
    hidden = """
    --ro-bind /proc/irq /proc/irq --ro-bind /proc/sys /proc/sys
    --ro-bind /dev/null /proc/kcore --ro-bind /dev/null /proc/keys
    --tmpfs /proc/acpi --remount-ro /proc/acpi --tmpfs /usr/local/etc --remount-ro /usr/local/etc
    --tmpfs /etc/ssl/private --remount-ro /etc/ssl/private
    """
    words = " ".join(command(BWRAP, host, PLAN, ("ssl",)))
    assert " ".join((COMMON + hidden + REST_FOR_ANYONE).split()) in words


def test_paths_without_isolation_are_the_sources():
    paths = choose_paths(PLAN)
    assert (paths.task, paths.lang) == ("/data/code/abc", "/root/py")
    assert (paths.opt, paths.tmp) == ("/data/environments/e1/opt", "/data/environments/e1/tmp")
    assert (
        paths.translate("/var/lang/bin:/opt/bin:/usr/bin")
        == "/root/py/bin:/data/environments/e1/opt/bin:/usr/bin"
    )


@pytest.mark.parametrize(
    ("id_map", "expected"),
    [
        ("0 0 4294967295", IdRange(100_000, 65_536)),
        ("0 231072 65536", IdRange(65_536 - 994, 994)),
        ("0 1000 1\n1 100000 65536", IdRange(65_537 - 994, 994)),
        ("0 1000 1", None),
        ("0 1000 1500", None),
        ("", None),
    ],
)
def test_ids_outside_are_high_ones_that_exist(id_map, expected):
    assert choose_ids(id_map, id_map) == expected


def test_ids_outside_must_exist_for_groups_too():
    assert choose_ids("0 0 4294967295", "0 0 1") is None


def test_etc_is_small_and_shows_the_certificates_of_the_host(tmp_path):
    host = tmp_path / "host"
    (host / "ssl").mkdir(parents=True)
    (host / "shadow").write_text("secret")
    (host / "resolv.conf").write_text("nameserver 192.0.2.1\n")
    (host / "localtime").symlink_to("/usr/share/zoneinfo/Europe/Berlin")
    assert write_etc(tmp_path / "none", host, "none") == ("ssl",)
    assert write_etc(tmp_path / "open", host, "host") == ("ssl",)
    written = {entry.name for entry in (tmp_path / "none").iterdir()}
    assert written == {"passwd", "group", "hostname", "hosts", "nsswitch.conf", "localtime", "ssl"}
    assert "sandbox.localdomain" in (tmp_path / "none" / "hosts").read_text()
    assert (tmp_path / "open" / "resolv.conf").read_text() == "nameserver 192.0.2.1\n"


V1_MOUNTS = r"""
31 27 0:28 / /sys/fs/cgroup ro,nosuid - tmpfs tmpfs ro,mode=755
32 31 0:29 / /sys/fs/cgroup/unified rw,nosuid - cgroup2 cgroup2 rw
33 31 0:30 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:3 - cgroup cgroup rw,cpu,cpuacct
34 31 0:31 /docker/7 /sys/fs/cgroup/memory rw,nosuid - cgroup cgroup rw,memory
35 31 0:32 / /sys/fs/cgroup/with\040space rw,nosuid - cgroup cgroup rw,freezer
36 31 0:33 / /sys/fs/cgroup/systemd rw,nosuid - cgroup cgroup rw,xattr,name=systemd
""".strip()
V1_OWN = "9:name=systemd:/\n5:cpu,cpuacct:/user\n4:memory:/docker/7/job\n3:freezer:/\n0::/user.slice"


def test_hybrid_hierarchies_are_read_and_version_1_is_preferred():
    found = read_hierarchies(V1_MOUNTS, V1_OWN, {Path("/sys/fs/cgroup/unified"): "pids\n"})
    chosen = choose_hierarchies(found)
    root = Path("/sys/fs/cgroup")
    assert chosen["cpu"] == Hierarchy(1, root / "cpu,cpuacct", root / "cpu,cpuacct/user", frozenset({"cpu"}))
    assert chosen["memory"] == Hierarchy(1, root / "memory", root / "memory/job", frozenset({"memory"}))
    assert chosen["freezer"].root == root / "with space"
    assert (chosen["pids"].version, chosen["pids"].own) == (2, root / "unified/user.slice")


def test_unified_hierarchy_always_freezes():
    mounts = "30 27 0:28 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw,nsdelegate"
    (found,) = read_hierarchies(mounts, "0::/a.scope", {Path("/sys/fs/cgroup"): "cpuset cpu io memory pids"})
    assert found.controls == {"freezer", "memory", "cpu", "pids", "io"}
    assert read_hierarchies(mounts, "0::/", {})[0].controls == {"freezer"}


@pytest.mark.parametrize(
    ("control", "version", "memory_mib", "expected"),
    [
        (
            "memory",
            1,
            128,
            (("memory.limit_in_bytes", "134217728"), ("memory.memsw.limit_in_bytes", "134217728")),
        ),
        ("memory", 2, 128, (("memory.max", "134217728"), ("memory.swap.max", "0"))),
        ("cpu", 1, 1769, (("cpu.shares", "1024"),)),
        ("cpu", 1, 128, (("cpu.shares", "74"),)),
        ("cpu", 2, 1769, (("cpu.weight", "100"),)),
        ("cpu", 2, 128, (("cpu.weight", "7"),)),
        ("cpu", 2, 10_240, (("cpu.weight", "578"),)),
        ("pids", 1, 512, (("pids.max", "1024"),)),
        ("pids", 2, 512, (("pids.max", "1024"),)),
        ("freezer", 1, 512, ()),
        ("freezer", 2, 512, ()),
        ("io", 1, 512, ()),
    ],
)
def test_settings(control, version, memory_mib, expected):
    planned = plan_settings(control, version, memory_mib, Rules())
    assert tuple((each.file, each.value) for each in planned) == expected


@pytest.mark.parametrize(
    ("version", "memory_mib", "expected"),
    [
        (1, 1769, (("cpu.shares", "1024"), ("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "20000"))),
        (1, 128, (("cpu.shares", "74"), ("cpu.cfs_period_us", "20000"), ("cpu.cfs_quota_us", "1447"))),
        (2, 3538, (("cpu.weight", "200"), ("cpu.max", "40000 20000"))),
        (2, 16, (("cpu.weight", "1"), ("cpu.max", "1000 20000"))),
    ],
)
def test_a_strict_limit_of_cpu_time_is_a_ceiling_besides_the_share(version, memory_mib, expected):
    planned = plan_settings("cpu", version, memory_mib, Rules(cpu="strict"))
    assert tuple((each.file, each.value) for each in planned) == expected


@pytest.mark.parametrize(
    ("file", "memory_mib", "weight"),
    [
        ("blkio.bfq.weight", 1769, "100"),
        ("blkio.bfq.weight", 16, "1"),
        ("io.bfq.weight", 10_240, "578"),
        ("io.bfq.weight", 1 << 20, "1000"),
        ("io.weight", 1 << 20, "10000"),
    ],
)
def test_a_share_of_the_disk_is_a_weight_that_its_file_takes(file, memory_mib, weight):
    assert plan_settings("io", 2, memory_mib, Rules(weights_file=file)) == (Setting(file, weight),)


@pytest.mark.parametrize(
    ("control", "version", "processors", "expected"),
    [
        ("cpu", 1, 2, (Setting("cpu.shares", "2048"),)),
        ("cpu", 1, 512, (Setting("cpu.shares", "262144"),)),
        ("cpu", 2, 16, (Setting("cpu.weight", "1600"),)),
        ("cpu", 2, 512, (Setting("cpu.weight", "10000"),)),
        ("memory", 2, 16, ()),
    ],
)
def test_all_sandboxes_together_weigh_as_much_as_a_process_on_each_processor(
    control, version, processors, expected
):
    assert plan_parent_settings(control, version, processors) == expected


def test_only_what_some_kernels_lack_is_optional():
    assert plan_settings("memory", 2, 1, Rules())[1] == Setting("memory.swap.max", "0", is_optional=True)
    assert not plan_settings("memory", 2, 1, Rules())[0].is_optional


V2_FILES = (
    *("cgroup.procs", "cgroup.freeze", "memory.max", "memory.swap.max", "cpu.weight", "pids.max"),
    *("cpu.max", "io.weight"),
)


def fake_v2(root, names, *, peak=True):
    """Make what the kernel would show of groups: in a plain directory no file appears by itself."""
    parent = root / group_name(root / "environments", "n")
    for group in (root, parent, *(parent / name for name in names)):
        group.mkdir(parents=True, exist_ok=True)
        (group / "cgroup.subtree_control").write_text("")
        for file in V2_FILES:
            (group / file).write_text("")
        (group / "memory.current").write_text("1000")
        if peak:
            (group / "memory.peak").write_text("2000")
    return parent


def test_a_group_of_version_2_is_made_frozen_and_measured(tmp_path):
    parent = fake_v2(tmp_path, [f"probe-{os.getpid()}", "e1"])
    everything = frozenset(CONTROLS)
    rules = Rules("strict", "io.weight")
    node = NodeGroup(parent.name, [Hierarchy(2, tmp_path, tmp_path, everything)], is_root=True, rules=rules)
    assert node.missing == ()
    group = node.create("e1", 256, 768)
    assert (parent / "cgroup.subtree_control").read_text().startswith("+")
    assert (parent / "e1" / "memory.max").read_text() == str(768 * 1024 * 1024)
    assert (parent / "e1" / "cpu.weight").read_text() == "14", "of the memory size, not of the limit"
    assert (parent / "e1" / "cpu.max").read_text() == "2894 20000"
    assert (parent / "e1" / "io.weight").read_text() == "14"
    assert group.birthplace == parent / "e1"
    assert group.open_join_files() == ([], False)
    group.freeze()
    assert (parent / "e1" / "cgroup.freeze").read_text() == "1"
    group.thaw()
    assert (parent / "e1" / "cgroup.freeze").read_text() == "10", "a plain file keeps both writes"
    assert group.memory_peak_bytes() == 2000
    group.close_files()
    group.close_files()
    assert not group.has_freezer
    assert not group.has_memory
    assert leftover_groups(
        [Hierarchy(2, tmp_path, tmp_path, everything)], tmp_path / "environments"
    ).keys() >= {"e1"}


def test_a_delegated_group_above_the_own_one_is_used(tmp_path):
    # Given what systemd makes for a user: the slice is theirs and has controllers, a shell is in a scope
    slice_, scope = tmp_path / "user@1000.service", tmp_path / "user@1000.service" / "run-1.scope"
    parent = fake_v2(slice_, [f"probe-{os.getpid()}", "e1"])
    scope.mkdir()
    hierarchy = Hierarchy(2, tmp_path, scope, frozenset({"freezer", "memory"}))
    assert possible_bases(hierarchy) == [scope, slice_, tmp_path]

    # When the scope refuses (here: it has none of the kernel's files), then the slice is used
    node = NodeGroup(parent.name, [hierarchy], is_root=False)
    assert {text.partition(":")[0] for text in node.missing} == {
        "no cgroup controller for cpu",
        "no cgroup controller for pids",
    }
    group = node.create("e1", 256)
    assert group.birthplace == slice_ / parent.name / "e1"
    group.close_files()
    found = leftover_groups([hierarchy], slice_ / "environments")
    assert found["e1"] == {slice_ / parent.name / "e1"}


def test_a_kernel_without_peaks_is_sampled(tmp_path):
    parent = fake_v2(tmp_path, [f"probe-{os.getpid()}", "e1"], peak=False)
    node = NodeGroup(parent.name, [Hierarchy(2, tmp_path, tmp_path, frozenset({"memory"}))], is_root=True)
    group = node.create("e1", 256)
    assert group.memory_peak_bytes() == 1000
    (parent / "e1" / "memory.current").write_text("5000")
    assert group.memory_peak_bytes() == 5000
    (parent / "e1" / "memory.current").write_text("3000")
    assert group.memory_peak_bytes() == 5000
    assert not group.has_freezer
    group.close_files()


def test_each_missing_control_is_named_once(tmp_path):
    hierarchies = [Hierarchy(2, tmp_path / "gone", tmp_path / "gone", frozenset({"freezer", "memory"}))]
    rules = Rules(weights_file="io.weight")
    missing = NodeGroup("remora-n-0", hierarchies, is_root=True, rules=rules).missing
    assert [re.search(r"(?:control|controller for) (\w+)", text)[1] for text in missing] == list(CONTROLS)
    group = NodeGroup("remora-n-0", [], is_root=False).create("e1", 128)
    assert not group.has_freezer
    assert not group.has_memory
    assert asyncio.run(group.remove())


def test_empty_leftover_groups_are_removed_with_their_parent(tmp_path):
    parent = tmp_path / group_name(tmp_path / "environments", "old")
    (parent / "e1").mkdir(parents=True)
    hierarchies = [Hierarchy(1, tmp_path, tmp_path, frozenset({"freezer"}))]
    found = leftover_groups(hierarchies, tmp_path / "environments")
    assert found == {"e1": {parent / "e1"}}
    assert leftover_groups(hierarchies, tmp_path / "others") == {}
    assert asyncio.run(sweep_groups(found["e1"]))
    assert not parent.exists()


def test_a_parent_whose_groups_an_oci_runtime_has_removed_goes_too(tmp_path):
    hierarchies = [Hierarchy(2, tmp_path, tmp_path / "a.scope", frozenset({"freezer"}))]
    empty = tmp_path / group_name(tmp_path / "environments", "old")
    living = tmp_path / "a.scope" / group_name(tmp_path / "environments", "new")
    foreign = tmp_path / group_name(tmp_path / "others", "old")
    for directory in (empty, living / "e1", foreign):
        directory.mkdir(parents=True)
    remove_empty_parents(hierarchies, tmp_path / "environments")
    assert not empty.exists()
    assert living.exists()
    assert foreign.exists()


def test_a_start_is_encoded_as_remora_init_reads_it():
    argv, env = ("/bin/a", ""), {"B": "c"}
    order = messages.start(7, argv=argv, env=env, cwd="/tmp", limits=ALWAYS, uid=993, gid=990)
    head = struct.pack("<cIIIHHH", b"S", 7, 993, 990, 4, 2, 1)
    files, stack = (7, 1024, 1024), (3, 8 * 1024 * 1024, 2**64 - 1)
    locked, core = (8, 65_536, 65_536), (4, 0, 0)
    limits = struct.pack("<IQQIQQIQQIQQ", *files, *stack, *locked, *core)
    assert order == head + limits + b"/tmp\0/bin/a\0\0B=c\0"
    assert messages.kill(7, 15) == b"K\x07\0\0\0\x0f\0\0\0"


def test_limits_of_processes_stand_in_for_cgroups():
    with_all = process_limits(128, has_memory=True, has_pids=True, is_isolated=True)
    assert with_all == ALWAYS
    data, processes = process_limits(128, has_memory=False, has_pids=False, is_isolated=True)[len(ALWAYS) :]
    assert data == (resource.RLIMIT_DATA, 1280 * 1024 * 1024, 1280 * 1024 * 1024)
    assert processes == (resource.RLIMIT_NPROC, 1024, 1024)
    assert process_limits(128, has_memory=True, has_pids=False, is_isolated=False) == ALWAYS


def test_what_cannot_be_a_process_is_refused():
    for argv in ((), ("a\0b",), ("\ud800",)):
        with pytest.raises(OSError) as refused:
            messages.start(1, argv=argv, env={}, cwd="/", limits=ALWAYS)
        assert refused.value.errno == errno.EINVAL


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        (b"H\x03\0\0\0\x29\x23\0\0", messages.Hello(9001)),
        (b"S\x01\0\0\0\x02\0\0\0", messages.Started(1, 2)),
        (b"F\x01\0\0\0\x02\0\0\0", messages.Failed(1, 2)),
        (b"X" + struct.pack("<IIIQQ", 1, 3, 0, 5, 6), messages.Exited(1, Exit(3, None, 5, 6))),
        (b"X" + struct.pack("<IIIQQ", 1, 0, 9, 5, 6), messages.Exited(1, Exit(None, 9, 5, 6))),
        (b"E", messages.Emptied()),
        (b"T", messages.Thawed()),
        (b"M" + struct.pack("<Q", 5), messages.Measured(5)),
        (b"BQ", messages.Refused(ord("Q"))),
    ],
)
def test_reports_are_decoded(said, meant):
    assert messages.read(said) == meant


@pytest.mark.parametrize("said", [b"", b"?", b"S", b"S123", b"Exx", b"H\x63\0\0\0\0\0\0\0", b"X" * 64])
def test_what_is_no_report_is_refused(said):
    with pytest.raises(ValueError, match="remora-init"):
        messages.read(said)


@pytest.mark.parametrize("path", ["/usr/lib", "/dev/null", "/etc"])
def test_what_everybody_sees_is_not_shown_to_the_owner_of_a_sandbox(path):
    assert is_public(path)


@pytest.mark.parametrize("path", ["/development/data", "/etcetera", "/root/py"])
def test_what_may_be_private_is_shown_to_the_owner_of_a_sandbox(path):
    assert not is_public(path)
