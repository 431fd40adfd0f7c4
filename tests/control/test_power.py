"""What is acknowledged survives: the power is cut at every write, and the disk is full."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def run(*command):
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
def test_a_cut_of_the_power_loses_nothing_that_was_acknowledged(tmp_path):
    """Every 23rd write is the last one; the soak takes every one."""
    done = run(sys.executable, HERE / "power_cut.py", tmp_path, "3", "23")
    assert int(re.fullmatch(r"(\d+) writes\n", done)[1]) > 300


@pytest.mark.slow_soak
def test_a_cut_of_the_power_at_every_write_loses_nothing(tmp_path):
    run(sys.executable, HERE / "power_cut.py", tmp_path, "1", "1")


@pytest.mark.slow
def test_a_full_disk_loses_nothing_that_was_acknowledged(tmp_path):
    script = 'mount -t tmpfs -o size=8m none "$1" && exec "$2" "$3" "$1"'
    done = run(
        *("unshare", "--user", "--map-root-user", "--mount", "sh", "-c", script, "sh"),
        *(tmp_path, sys.executable, HERE / "full_disk.py"),
    )
    assert re.fullmatch(r"\d+ kept, \d+ refused\n", done)
