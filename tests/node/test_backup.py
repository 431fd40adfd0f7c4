"""Backups of a node that runs, and the way back; damage, kills and full directories."""

from __future__ import annotations

import io
import json
import os
import signal
import sqlite3
import stat
import subprocess
import sys
import tarfile
import threading
from contextlib import closing
from pathlib import Path

import pytest
from tests.control.conftest import _run_node

from remora.node import backup
from remora.node.backup import back_up, restore
from remora.node.settings import NodeError


@pytest.fixture
def filled(tmp_path: Path) -> Path:
    """A data directory with a function, a layer, an object and a log."""
    data = tmp_path / "data"
    with _run_node(data) as node:
        node.create(Layers=[node.layer()], Publish=True)
        node.create("g", Code={"ZipFile": node.zip({"h.py": "g"})})
        s3 = node.client_of("s3")
        s3.create_bucket(Bucket="bucket")
        s3.put_object(Bucket="bucket", Key="k", Body=b"content")
        node.client_of("ssm").put_parameter(Name="p", Value="secret", Type="SecureString")
    (data / "logs" / "group").mkdir(parents=True)
    (data / "logs" / "group" / "stream").write_text("a line\n")
    return data


def files(directory: Path) -> dict[str, bytes]:
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file()
    }


def modes(directory: Path, pattern: str) -> dict[str, int]:
    return {path.name: stat.S_IMODE(path.stat().st_mode) for path in directory.glob(pattern)}


def test_what_was_backed_up_is_restored(tmp_path, filled):
    archive, again = tmp_path / "node.backup", tmp_path / "again"
    done = back_up(filled, archive)
    assert (done.functions, sorted(path.name for path in tmp_path.iterdir())) == (2, ["data", "node.backup"])
    assert restore(archive, again) == done
    assert not (again / "code").exists()
    assert (again / "logs/group/stream").read_text() == "a line\n"
    blobs = {name: content for name, content in files(filled).items() if name.startswith("blobs/")}
    assert {name: content for name, content in files(again).items() if name.startswith("blobs/")} == blobs
    with _run_node(again) as node:
        assert node.client.invoke(FunctionName="f:1")["ExecutedVersion"] == "1"
        s3 = node.client_of("s3")
        assert s3.get_object(Bucket="bucket", Key="k")["Body"].read() == b"content"
        found = node.client_of("ssm").get_parameter(Name="p", WithDecryption=True)["Parameter"]
        assert found["Value"] == "secret"


def test_what_is_secret_stays_so(tmp_path, filled):
    (filled / "keys.json").write_text("{}")
    (filled / "keys.json").chmod(0o600)
    (filled / "keys.lock").write_text("")
    for name in ("events.db", "metrics.db"):
        with closing(sqlite3.connect(filled / name)) as connection:
            connection.execute("CREATE TABLE t (x)")
        (filled / name).chmod(0o644)
    archive, again = tmp_path / "node.backup", tmp_path / "again"
    back_up(filled, archive)
    restore(archive, again)
    assert archive.stat().st_mode & 0o777 == 0o600
    assert (again / "keys.json").stat().st_mode & 0o777 == 0o600
    assert (again / "vault.key").stat().st_mode & 0o777 == 0o600
    assert not (again / "keys.lock").exists()
    assert modes(again, "*.db") == {"events.db": 0o600, "metrics.db": 0o600, "remora.db": 0o600}
    assert again.stat().st_mode & 0o777 == 0o700


def test_databases_in_a_backup_are_private_and_become_so_if_they_were_not(tmp_path, filled):
    # Given a backup
    archive, changed, again = (tmp_path / name for name in ("node.backup", "changed.backup", "again"))
    back_up(filled, archive)
    with tarfile.open(archive) as had:
        assert {member.mode for member in had if member.name.endswith(".db")} == {0o600}
    # When others may read its databases, as former versions wrote it
    with tarfile.open(archive) as had, tarfile.open(changed, "w") as has:
        for member in had:
            content = had.extractfile(member)
            member.mode = 0o644
            has.addfile(member, content)
    restore(changed, again)
    # Then nobody else can afterwards
    assert set(modes(again, "*.db").values()) == {0o600}


def test_a_node_is_backed_up_while_it_changes(tmp_path):
    archive, data = tmp_path / "node.backup", tmp_path / "data"
    with _run_node(data) as node:
        node.create("first")
        stop = threading.Event()

        def change() -> None:
            number = 0
            while not stop.is_set():
                number += 1
                node.create("f", Code={"ZipFile": node.zip({"h.py": str(number)})}, wait=False)
                node.client.delete_function(FunctionName="f")

        changing = threading.Thread(target=change)
        changing.start()
        try:
            for _ in range(5):
                back_up(data, archive)
        finally:
            stop.set()
            changing.join()
    again = tmp_path / "again"
    restore(archive, again)
    with _run_node(again) as node:
        names = {each["FunctionName"] for each in node.client.list_functions()["Functions"]}
        assert names in ({"first"}, {"first", "f"})
        for name in names:
            node.settle(name)
            assert node.client.invoke(FunctionName=name)["StatusCode"] == 200


def test_only_a_new_directory_is_restored_into(tmp_path, filled):
    archive = tmp_path / "node.backup"
    back_up(filled, archive)
    with pytest.raises(NodeError, match="is not empty"):
        restore(archive, filled)
    (tmp_path / "empty").mkdir()
    assert restore(archive, tmp_path / "empty").functions == 2


def test_there_must_be_something_to_back_up(tmp_path):
    with pytest.raises(NodeError, match="there is no node's data"):
        back_up(tmp_path, tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("where", [0.02, 0.3, 0.6, 0.9, 0.97])
@pytest.mark.parametrize("how", ["cut", "changed"])
def test_a_damaged_backup_is_told_and_leaves_nothing(tmp_path, filled, how, where):
    archive = tmp_path / "node.backup"
    back_up(filled, archive)
    content = bytearray(archive.read_bytes())
    with tarfile.open(archive) as opened:
        members = [member for member in opened if member.size]
    member = members[int(where * len(members))]
    at = member.offset_data + member.size // 2
    if how == "cut":
        del content[at:]
    else:
        content[at] ^= 0xFF
    archive.write_bytes(content)
    with pytest.raises(NodeError, match="is damaged"):
        restore(archive, tmp_path / "again")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "node.backup"]


@pytest.mark.parametrize(
    "members",
    [{}, {"x": b""}, {"../x": b""}, {"a/../../x": b""}, {"/x": b""}, {"manifest.json": b"{}", "x": b""}],
)
def test_what_is_no_backup_is_refused(tmp_path, members):
    archive = tmp_path / "node.backup"
    with tarfile.open(archive, "w") as opened:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            opened.addfile(member, io.BytesIO(content))
    with pytest.raises(NodeError, match=r"is damaged|no backup"):
        restore(archive, tmp_path / "again")
    assert [path.name for path in tmp_path.iterdir()] == ["node.backup"]


def test_a_damaged_package_is_not_backed_up(tmp_path, filled):
    blob = next((filled / "blobs").iterdir())
    blob.write_bytes(b"damage")
    with pytest.raises(NodeError, match=f"the package .*{blob.name} is damaged"):
        back_up(filled, tmp_path / "node.backup")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


def test_a_package_that_goes_away_meanwhile(tmp_path, filled, monkeypatch):
    tries = []

    def add(archive, name, path):
        if name.startswith("blobs/") and len(tries) < 2:
            tries.append(name)
            raise FileNotFoundError(2, "gone", str(path))
        return kept(archive, name, path)

    kept = backup._add
    monkeypatch.setattr(backup, "_add", add)
    back_up(filled, tmp_path / "node.backup")
    assert len(tries) == 2
    monkeypatch.undo()
    assert restore(tmp_path / "node.backup", tmp_path / "again").functions == 2


def test_what_is_deleted_while_it_is_backed_up_is_in_the_backup(tmp_path, filled, monkeypatch):
    copy = backup.copy_database
    content = {path.name: path.read_bytes() for path in (filled / "blobs").iterdir()}

    def copy_and_delete(source, target):
        copy(source, target)
        for path in (filled / "blobs").iterdir():
            path.unlink()

    monkeypatch.setattr(backup, "copy_database", copy_and_delete)
    back_up(filled, tmp_path / "node.backup")
    restore(tmp_path / "node.backup", tmp_path / "again")
    assert {path.name: path.read_bytes() for path in (tmp_path / "again/blobs").iterdir()} == content


def test_a_backup_goes_to_another_disk_as_well(tmp_path, filled, monkeypatch):
    def refuse(*_):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    back_up(filled, tmp_path / "node.backup")
    assert restore(tmp_path / "node.backup", tmp_path / "again").functions == 2


_KILLED = """
import os, signal, sys
from pathlib import Path
from remora.node import backup
kill_at = int(sys.argv[1])
count = 0
def counted(call):
    def wrapper(*arguments, **options):
        global count
        count += 1
        if count == kill_at:
            os.kill(os.getpid(), signal.SIGKILL)
        return call(*arguments, **options)
    return wrapper
os.fsync = counted(os.fsync)
Path.rename = counted(Path.rename)
Path.replace = counted(Path.replace)
backup.copy_database = counted(backup.copy_database)
first, second = Path(sys.argv[3]), Path(sys.argv[4])
(backup.back_up if sys.argv[2] == "back_up" else backup.restore)(first, second)
"""


@pytest.mark.slow
@pytest.mark.parametrize("act", ["back_up", "restore"])
def test_killed_at_every_step_it_is_there_whole_or_not_at_all(tmp_path, filled, act):
    archive, again = tmp_path / "node.backup", tmp_path / "again"
    if act == "restore":
        back_up(filled, archive)
    first, second = (filled, archive) if act == "back_up" else (archive, again)
    for step in range(1, 100):
        arguments = [sys.executable, "-c", _KILLED, str(step), act, str(first), str(second)]
        code = subprocess.run(arguments, check=False).returncode
        if code == 0:
            break
        assert code == -signal.SIGKILL
        if second.exists():
            break
    assert step > 3
    # Whatever the kills left is gone after an attempt that succeeds.
    if act == "back_up":
        back_up(filled, archive)
    restore(archive, tmp_path / "last")
    if act == "restore" and not again.exists():
        restore(archive, again)
    left = sorted(path.name for path in tmp_path.iterdir() if path.name.startswith("."))
    assert left == []


@pytest.mark.slow
def test_the_commands(tmp_path, filled):
    def remora(*arguments):
        command = [Path(sys.executable).with_name("remora"), *map(str, arguments)]
        return subprocess.run(command, capture_output=True, text=True, check=False, env=os.environ)

    archive = tmp_path / "node.backup"
    done = remora("backup", archive, "--data", filled)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"{archive}: 2 functions, ")
    again = tmp_path / "again"
    assert remora("restore", archive, "--data", again).returncode == 0
    refused = remora("restore", archive, "--data", again)
    assert refused.returncode == 1
    assert "is not empty" in refused.stderr
    assert "hint: " in refused.stderr
    with tarfile.open(archive) as opened:
        last = opened.getmembers()[-1]
        manifest = json.load(opened.extractfile(last))
    assert (last.name, manifest["format"]) == ("manifest.json", 1)
