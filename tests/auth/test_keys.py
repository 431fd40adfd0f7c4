"""Keys in a file, and credentials that are kept nowhere."""

from __future__ import annotations

import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from remora.auth.keys import KeyFile, KeysError
from remora.auth.sessions import Sessions


def test_keys_are_made_found_and_deleted(tmp_path):
    path = tmp_path / "data" / "keys.json"
    mine, nodes = KeyFile(path), KeyFile(path)
    assert nodes.find("AKIA0") is None
    first, second = mine.create("ann", "2026-01-01T00:00:00Z"), mine.create("bob", "2026-01-02T00:00:00Z")
    assert nodes.find(first.access_key_id) == first
    assert [key.name for key in nodes.all()] == ["ann", "bob"]
    assert mine.delete(first.access_key_id)
    assert not mine.delete(first.access_key_id)
    assert nodes.find(first.access_key_id) is None
    assert nodes.find(second.access_key_id) == second
    assert path.stat().st_mode & 0o777 == 0o600
    assert {each.name for each in path.parent.iterdir()} == {"keys.json", "keys.lock"}


def test_nothing_is_lost_between_those_who_make_keys_at_once(tmp_path):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda n: KeyFile(tmp_path / "keys.json").create(f"k{n}", ""), range(40)))
    assert {key.name for key in KeyFile(tmp_path / "keys.json").all()} == {f"k{n}" for n in range(40)}


_KILLED = """
import os, signal, sys
from pathlib import Path
from remora.auth.keys import KeyFile
left = int(sys.argv[1])
def counted(call):
    def wrapper(*arguments, **options):
        global left
        left -= 1
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapper
os.fsync, os.open, Path.rename = counted(os.fsync), counted(os.open), counted(Path.rename)
KeyFile(Path(sys.argv[2])).create("new", "")
os.write(1, b"kept")
"""


@pytest.mark.slow
def test_killed_at_every_step_the_keys_are_the_former_or_the_new_ones(tmp_path):
    path = tmp_path / "keys.json"
    keys = KeyFile(path)
    keys.create("old", "")
    for step in range(1, 100):
        before = [key.name for key in keys.all()]
        done = subprocess.run(
            [sys.executable, "-c", _KILLED, str(step), str(path)], stdout=subprocess.PIPE, check=False
        )
        names = [key.name for key in keys.all()]
        assert names in (before, [*before, "new"])
        if done.stdout:
            assert names == [*before, "new"]
            break
        assert done.returncode == -signal.SIGKILL
    assert step > 4
    # What the kills left went with the next change.
    assert {each.name for each in tmp_path.iterdir()} == {"keys.json", "keys.lock"}


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "keys.json"
    path.write_text("[{")
    with pytest.raises(KeysError, match=f"the keys in {path} are damaged"):
        KeyFile(path).find("AKIA0")


def test_a_token_tells_role_and_end():
    sessions = Sessions(b"k" * 32)
    issued = sessions.issue("arn:aws:iam::000000000000:role/r", "f", 12345)
    said = sessions.read(issued.access_key, issued.token)
    assert (said.role, said.session, said.expires_ms) == ("arn:aws:iam::000000000000:role/r", "f", 12345)
    assert sessions.secret(issued.access_key) == issued.secret
    other = sessions.issue("arn:aws:iam::000000000000:role/admin", "f", 12345)
    assert sessions.read(issued.access_key, other.token) is None
    assert Sessions(b"x" * 32).read(issued.access_key, issued.token) is None
    for garbage in ("", "x", "====", issued.token[:-4], issued.token[4:], issued.token + "AAAA"):
        assert sessions.read(issued.access_key, garbage) is None


def test_what_a_killed_process_left_is_removed(tmp_path):
    (tmp_path / ".keys-left").write_text("[half")
    KeyFile(tmp_path / "keys.json").create("ann", "2026-01-01T00:00:00Z")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json", "keys.lock"]
