"""What /tmp is made of: images as large as they should be, and the choice between disk and memory."""

import os
import shutil
import subprocess
import uuid
from pathlib import Path

import pytest

from remora.sandbox.base import SandboxPlan
from remora.sandbox.binary import init_program
from remora.sandbox.scratch import IMAGE, IN_MEMORY, Scratch, choose_scratch, image_bytes, make_template

MIB = 1024 * 1024


def plan_in(directory: Path, ephemeral_mib: int = 512) -> SandboxPlan:
    return SandboxPlan("e1", directory, (), 128, ephemeral_mib=ephemeral_mib)


@pytest.mark.parametrize("ephemeral_mib", [512, 10_240])
def test_an_empty_file_system_is_kept_as_what_is_not_zero(tmp_path, ephemeral_mib):
    template = make_template(ephemeral_mib, tmp_path)
    assert template.size_bytes == image_bytes(ephemeral_mib)
    assert sum(len(extent.content) for extent in template.extents) < MIB
    assert not list(tmp_path.iterdir())


def test_the_file_of_a_sandbox_is_sparse_and_a_sound_file_system(tmp_path):
    scratch = Scratch("disk", init_program(), tmp_path)
    directory = tmp_path / "e1"
    directory.mkdir()
    assert not scratch.is_known(512)
    scratch.prepare(plan_in(directory))
    assert scratch.is_known(512)
    image = directory / IMAGE
    assert image.stat().st_size == image_bytes(512)
    assert image.stat().st_blocks * 512 < MIB
    fsck = shutil.which("e2fsck", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert fsck is not None, "it comes with mkfs.ext4"
    subprocess.run([fsck, "-n", "-f", image], check=True, capture_output=True)


def test_commands_and_limits_of_both_kinds(tmp_path):
    plan = plan_in(tmp_path / "e1", 1024)
    disk, memory = (Scratch(kind, Path("/init"), tmp_path) for kind in ("disk", "memory"))
    place = [str(tmp_path / "e1" / IMAGE), str(tmp_path / "e1" / "tmp")]
    assert disk.launched(["bwrap", "x"], plan) == ["/init", "--scratch", *place, "--", "bwrap", "x"]
    assert memory.launched(["bwrap", "x"], plan) == ["bwrap", "x"]
    assert (disk.memory_mib(plan), memory.memory_mib(plan)) == (128, 128 + 1024)


def test_who_may_not_mount_gets_memory_and_is_told_so(tmp_path):
    chosen, missing = choose_scratch(init_program(), tmp_path, wants_disk=False)
    assert (chosen.kind, missing) == ("memory", (IN_MEMORY,))


def test_where_disk_cannot_be_had_memory_is_taken_and_the_reason_told(tmp_path):
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho no loop devices >&2\nexit 1\n")
    broken.chmod(0o755)
    chosen, missing = choose_scratch(broken, tmp_path, wants_disk=True)
    assert chosen.kind == "memory"
    assert missing == (f"{IN_MEMORY} (no loop devices)",)
    assert list(tmp_path.iterdir()) == [broken]


def can_mount_images() -> bool:
    return (
        os.geteuid() == 0
        and Path("/dev/loop-control").exists()
        and "ext4" in Path("/proc/filesystems").read_text()
    )


@pytest.mark.skipif(not can_mount_images(), reason="only root may mount an image, and only with loop devices")
def test_disk_is_taken_where_images_can_be_mounted_and_nothing_is_left(tmp_path):
    directory = tmp_path / uuid.uuid4().hex
    directory.mkdir()
    chosen, missing = choose_scratch(init_program(), directory, wants_disk=True)
    assert (chosen.kind, missing) == ("disk", ())
    assert not list(directory.iterdir())
    assert directory.name not in Path("/proc/self/mountinfo").read_text()
