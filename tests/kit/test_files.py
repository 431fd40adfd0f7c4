"""Files appear whole, with their names, or not at all."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

import pytest

from remora.kit.files import new_file

if TYPE_CHECKING:
    from pathlib import Path


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"
    wanted.write_bytes(b"old")
    with new_file(tmp_path, ".new-") as new:
        new.file.write(b"new")
        new.path = wanted
        assert wanted.read_bytes() == b"old"
    assert wanted.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["wanted"]


def test_a_file_is_for_its_owner_only(tmp_path: Path) -> None:
    with new_file(tmp_path, ".new-") as new:
        new.path = tmp_path / "secret"
    assert stat.S_IMODE((tmp_path / "secret").stat().st_mode) == 0o600


def test_an_error_leaves_nothing_behind(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.mkdir()
    with pytest.raises(IsADirectoryError), new_file(tmp_path, ".new-") as new:
        new.path = taken
    assert list(tmp_path.iterdir()) == [taken]
