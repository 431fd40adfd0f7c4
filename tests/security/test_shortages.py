"""Whatever the machine is short of while a sandbox is made: nothing is left of it, and the next one works."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
HERE = Path(__file__).parent


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may be short of what root has")
@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("descriptors", "Too many open files"),
        ("processes", "Resource temporarily unavailable"),
        ("inodes", "No space left on device"),
        ("space", "No space left on device"),
    ],
)
def test_a_sandbox_that_cannot_be_made_leaves_nothing(tmp_path, kind, said):
    words = ["unshare", "--mount", "--propagation", "private", sys.executable]
    done = subprocess.run(
        [*words, HERE / "shortage_story.py", kind, tmp_path],
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    told = json.loads(done.stdout)
    assert told["left"] == {}, "by how much more there was"
    assert len(told["reasons"]) >= 3, "it was short of it at several points"
    assert all(said in reason for reason in told["reasons"]), told["reasons"]
