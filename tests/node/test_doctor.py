"""What the doctor says of this machine is what drivers find, and something is known to do about it."""

import json
import os
import subprocess
from pathlib import Path

import pytest
from tests.acceptance.nodes import REMORA

from remora.node.doctor import remedy_for
from remora.sandbox.process import WARNING
from remora.sandbox.scratch import IN_MEMORY
from remora.sandbox.ways import NO_NAME_SERVER


@pytest.mark.slow
@pytest.mark.parametrize(
    "prefix",
    [(), ("unshare", "--user", "--map-user=1000", "--map-group=1000")],
    ids=["as-is", "ordinary-user"],
)
def test_everything_is_tried_and_nothing_left(prefix, tmp_path):
    words = [*prefix, REMORA, "doctor", "--json"]
    done = subprocess.run(
        words, capture_output=True, check=False, timeout=100, env=os.environ | {"TMPDIR": str(tmp_path)}
    )
    told = json.loads(done.stdout)
    by_subject = {finding["subject"]: finding for finding in told["findings"]}
    assert done.returncode == (0 if told["is_able"] else 1), done.stderr
    assert told["is_able"] == (by_subject["driver bubblewrap"]["verdict"] != "no")
    assert told["user"].startswith("an ordinary user" if prefix or os.geteuid() else "root")
    assert {
        "system call filter",
        "driver oci:runc",
        "driver process",
        "network policy nat",
    } <= by_subject.keys()
    assert [
        finding for finding in told["findings"] if finding["verdict"] == "no" and not finding["remedy"]
    ] == []
    assert list(tmp_path.iterdir()) == []
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.slow
def test_people_read_lines_with_remedies():
    said = subprocess.run([REMORA, "doctor"], capture_output=True, text=True, check=False).stdout.splitlines()
    assert said[-1].startswith("functions ")
    assert any(line.startswith("partly  driver process") for line in said)
    assert any(line.strip().startswith("-> choose the driver bubblewrap") for line in said)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        (WARNING, "choose the driver"),
        (IN_MEMORY, "loop devices"),
        (NO_NAME_SERVER, "resolv.conf"),
        ("no permission for cgroup control memory (…): memory sizes are not enforced", "Delegate=yes"),
        (
            "no permission for cgroup control cpu (app.slice was given no cpu): …",
            "Delegate=cpu io memory pids",
        ),
        ("the network policy nat cannot be had: nft is not installed (package nftables)", "nftables"),
        ("something new", ""),
    ],
)
def test_a_remedy_is_known(text, remedy):
    assert remedy in remedy_for(text)
    assert bool(remedy) == bool(remedy_for(text))
