"""Finding interpreters: what is taken, what is passed over, which of several is chosen."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from remora.runtimes import interpreters

VERSION = sys.version_info[:3]
OWN = f"python3.{VERSION[1]}"


def fake(
    directory: Path, name: str, *, version=(3, 12, 1), prefix: Path | None = None, kind="cpython"
) -> Path:
    """Write a program that answers the probe."""
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / name
    prefix = directory.parent if prefix is None else prefix
    path.write_text(f'#!/bin/sh\necho \'["{kind}", {list(version)}, "{prefix}"]\'\n')
    path.chmod(0o755)
    return path


def test_own_interpreter_is_found_and_works():
    found = interpreters.candidates(interpreters.usual_directories())
    chosen = interpreters.choose(OWN, found[OWN])
    assert chosen is not None
    assert chosen.name == OWN
    assert chosen.version >= VERSION
    assert chosen.executable.exists()


def test_names_come_in_order_of_versions(tmp_path):
    for name in ("python3.13", "python3.9", "python3.10"):
        fake(tmp_path / "bin", name)
    assert list(interpreters.candidates((tmp_path / "bin",))) == ["python3.9", "python3.10", "python3.13"]


@pytest.mark.parametrize("name", ["python3", "python3.7", "python2.7", "python3.12-config", "python3.13t"])
def test_other_programs_are_passed_over(tmp_path, name):
    fake(tmp_path / "bin", name)
    assert interpreters.candidates((tmp_path / "bin",)) == {}


def test_directories_missing_files_and_shims_are_passed_over(tmp_path):
    (tmp_path / "bin" / "python3.12").mkdir(parents=True)
    fake(tmp_path / "shims", "python3.12")
    plain = tmp_path / "plain" / "python3.12"
    plain.parent.mkdir()
    plain.write_text("not executable")
    directories = tuple(tmp_path / part for part in ("bin", "shims", "plain", "missing"))
    assert interpreters.candidates(directories) == {}


def test_links_to_one_file_are_one_candidate(tmp_path):
    real = fake(tmp_path / "real" / "bin", "python3.12")
    link = tmp_path / "venv" / "bin" / "python3.12"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    assert interpreters.candidates((link.parent, real.parent)) == {"python3.12": (real,)}


def test_highest_patch_wins(tmp_path):
    paths = tuple(
        fake(tmp_path / str(patch) / "bin", "python3.12", version=(3, 12, patch)) for patch in (3, 10, 9)
    )
    chosen = interpreters.choose("python3.12", paths)
    assert chosen is not None
    assert chosen.version == (3, 12, 10)
    assert chosen.prefix == tmp_path / "10"


def test_liars_and_wrecks_are_not_chosen(tmp_path):
    paths = (
        fake(tmp_path / "pypy" / "bin", "python3.12", kind="pypy"),
        fake(tmp_path / "other" / "bin", "python3.12", version=(3, 11, 2)),
        fake(tmp_path / "homeless" / "bin", "python3.12", prefix=tmp_path / "nowhere"),
        tmp_path / "absent",
    )
    garbage = fake(tmp_path / "garbage" / "bin", "python3.12")
    garbage.write_bytes(b"\x7fELF rubbish")
    failing = fake(tmp_path / "failing" / "bin", "python3.12")
    failing.write_text("#!/bin/sh\nexit 3\n")
    babbling = fake(tmp_path / "babbling" / "bin", "python3.12")
    babbling.write_text("#!/bin/sh\necho hello\n")
    assert interpreters.choose("python3.12", (*paths, garbage, failing, babbling)) is None


def test_hanging_interpreter_is_given_up(tmp_path, monkeypatch):
    monkeypatch.setattr(interpreters, "_PROBE_TIMEOUT_S", 0.1)
    path = fake(tmp_path / "bin", "python3.12")
    path.write_text("#!/bin/sh\nexec sleep 30\n")
    assert interpreters.probe(path) is None


@pytest.mark.parametrize(
    ("name", "minor"), [("python3.12", 12), ("python3.8", 8), ("nodejs20.x", -1), ("python3", -1)]
)
def test_minor_of(name, minor):
    assert interpreters.minor_of(name) == minor
