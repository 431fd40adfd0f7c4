"""Temporary data directories: alive while their process is, swept afterwards."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from remora.node import temporary
from remora.node.settings import NodeError


@pytest.fixture(autouse=True)
def own_base(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    return tmp_path


def test_a_directory_is_gone_when_it_is_left(own_base):
    with temporary.temporary_data() as path:
        (path / "file").touch()
        assert asyncio.run(temporary.sweep_dead()) == 0
        assert path.is_dir()
    assert list(temporary._base().iterdir()) == []


def test_a_killed_process_is_swept_by_the_next(own_base):
    script = (
        f"import tempfile; tempfile.tempdir = {str(own_base)!r}\n"
        "import signal\n"
        "from remora.node.temporary import temporary_data\n"
        "with temporary_data() as path:\n"
        "    (path / 'environments' / 'x').mkdir(parents=True)\n"
        "    print(path, flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        path = process.stdout.readline().strip()
        assert asyncio.run(temporary.sweep_dead()) == 0
        assert Path(path).is_dir()
        process.send_signal(signal.SIGKILL)
    assert asyncio.run(temporary.sweep_dead()) == 1
    assert list(temporary._base().iterdir()) == []


def test_somebody_elses_directory_is_refused(own_base):
    base = own_base / f"remora-{os.getuid()}"
    base.symlink_to(own_base)
    with pytest.raises(NodeError), temporary.temporary_data():
        pass
