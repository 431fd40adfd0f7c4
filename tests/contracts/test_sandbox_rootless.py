"""The sandbox suite once more as somebody who is not root, when the tests are run by root."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ME = Path(__file__).parent / "test_sandbox.py"


@pytest.mark.slow
def test_the_suite_passes_for_an_ordinary_user(tmp_path):
    """
    Someone without any capability: a user namespace in which root's id is mapped to an ordinary one.

    Run by an ordinary user, the suite itself has been that already; then the machine's user namespaces are
    nested once more, which has to work just as well.
    """
    words = ["unshare", "--user", "--map-user=12345", "--map-group=12345"]
    words += [
        sys.executable,
        "-m",
        "pytest",
        str(ME),
        "-q",
        "-p",
        "no:cacheprovider",
        f"--basetemp={tmp_path}/t",
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=os.environ | {"HOME": str(tmp_path)}
    )
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
    assert "skipped" not in done.stdout
