"""Snapshots on disk and in memory: what is kept comes back, and nothing else does."""

import asyncio
import errno
import os

import pytest

from remora.snapshots.sealing import CHUNK_BYTES, SnapshotDamaged
from remora.snapshots.store import SnapshotMissing, SnapshotStore

KEY = bytes(range(32))
MARKER = b"a secret of the function"
FILES = {"manifest": b"{}", "pages": MARKER * 100_000, "empty": b"", "tail": b"x" * (CHUNK_BYTES + 1)}
HOLEY_BYTES = 300 << 20


class Stage:
    """A store, and what becomes of its two directories."""

    def __init__(self, directory, *, key=KEY, open_bytes_max=1 << 30):
        self.sealed, self.place = directory / "sealed", directory / "place"
        self.place.mkdir(exist_ok=True)
        self.store = SnapshotStore(self.sealed, self.place, key, open_bytes_max=open_bytes_max)

    async def keep(self, name, files=FILES):
        async with self.store.new(name) as images:
            for each, content in files.items():
                (self.place / images / each).write_bytes(content)
            with (self.place / images / "holey").open("wb") as file:
                file.seek(200 << 20)
                file.write(b"in the middle")
                file.truncate(HOLEY_BYTES)

    async def read(self, name):
        async with self.store.opened(name) as images:
            directory = self.place / images
            assert (directory / "holey").stat().st_size == HOLEY_BYTES
            assert (directory / "holey").stat().st_blocks * 512 < 1 << 20
            with (directory / "holey").open("rb") as file:
                file.seek(200 << 20)
                assert file.read(13) == b"in the middle"
            return {path.name: path.read_bytes() for path in directory.iterdir() if path.name != "holey"}

    def file(self):
        (found,) = self.sealed.iterdir()
        return found


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_what_is_kept_comes_back_also_to_a_later_node(stage, tmp_path):
    async def scene():
        await stage.keep("one")
        assert await stage.read("one") == FILES
        assert await Stage(tmp_path).read("one") == FILES

    asyncio.run(scene())


@pytest.mark.case("SS-38")
def test_nothing_of_it_can_be_read_on_disk(stage):
    asyncio.run(stage.keep("one"))
    content = stage.file().read_bytes()
    assert len(content) < 10 << 20
    assert MARKER not in content
    assert b"pages" not in content


@pytest.mark.parametrize("place", [0, 20, 40, 70, 82, 100, 3_000_000, -20, -1], ids=str)
@pytest.mark.case("SS-38")
def test_what_was_changed_is_refused(stage, tmp_path, place):
    async def scene():
        await stage.keep("one")
        content = bytearray(stage.file().read_bytes())
        content[place] ^= 1
        stage.file().write_bytes(content)
        other = Stage(tmp_path)
        before = set(other.place.iterdir())
        with pytest.raises(SnapshotDamaged):
            await other.read("one")
        assert set(other.place.iterdir()) == before

    asyncio.run(scene())


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1], lambda c: c[: len(c) // 2], lambda c: c + b"x", lambda _: b""]
)
def test_what_was_cut_or_lengthened_is_refused(stage, tmp_path, change):
    async def scene():
        await stage.keep("one")
        stage.file().write_bytes(change(stage.file().read_bytes()))
        with pytest.raises(SnapshotDamaged):
            await Stage(tmp_path).read("one")

    asyncio.run(scene())


def test_another_key_or_another_name_opens_nothing(stage, tmp_path):
    async def scene():
        await stage.keep("one")
        with pytest.raises(SnapshotDamaged):
            await Stage(tmp_path, key=bytes(32)).read("one")
        other = Stage(tmp_path)
        stage.file().rename(other.store._path("two"))
        with pytest.raises(SnapshotDamaged):
            await other.read("two")
        with pytest.raises(SnapshotMissing):
            await other.read("one")

    asyncio.run(scene())


@pytest.mark.case("SS-37")
def test_what_is_dropped_leaves_nothing_and_who_uses_it_may_finish(stage):
    async def scene():
        await stage.keep("one")
        async with stage.store.opened("one") as images:
            await stage.store.drop("one")
            assert (stage.place / images / "pages").read_bytes() == FILES["pages"]
            with pytest.raises(SnapshotMissing):
                await stage.read("one")
        await stage.store.drop("one")
        assert not list(stage.sealed.iterdir())
        assert not list(stage.place.iterdir())

    asyncio.run(scene())


def test_a_new_one_replaces_the_former(stage):
    async def scene():
        await stage.keep("one")
        async with stage.store.opened("one") as former:
            await stage.keep("one", {"manifest": b"new"})
            assert (stage.place / former / "manifest").read_bytes() == b"{}"
            assert await stage.read("one") == {"manifest": b"new"}
        assert len(list(stage.place.iterdir())) == len(list(stage.sealed.iterdir())) == 1

    asyncio.run(scene())


def test_memory_is_given_back_when_others_are_used(tmp_path):
    async def scene():
        stage = Stage(tmp_path, open_bytes_max=5 << 20)
        for name in ("one", "two", "three"):
            await stage.keep(name)
        assert len(list(stage.place.iterdir())) == 1
        for name in ("one", "two", "three"):
            assert await stage.read(name) == FILES

    asyncio.run(scene())


def test_many_who_open_it_at_once_have_one(stage, tmp_path):
    async def scene():
        await stage.keep("one")
        other = Stage(tmp_path)
        before = len(list(other.place.iterdir()))
        found = await asyncio.gather(*(other.read("one") for _ in range(8)))
        assert found == [FILES] * 8
        assert len(list(other.place.iterdir())) == before + 1

    asyncio.run(scene())


def test_a_full_disk_leaves_the_former_one(stage, monkeypatch):
    async def scene():
        await stage.keep("one")

        def full(_):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            await stage.keep("one", {"manifest": b"new"})
        monkeypatch.undo()
        assert await stage.read("one") == FILES
        assert len(list(stage.place.iterdir())) == len(list(stage.sealed.iterdir())) == 1

    asyncio.run(scene())


def test_what_a_killed_node_left_unfinished_is_removed(stage, tmp_path):
    (stage.sealed / ".snapshot-half").write_bytes(b"half")
    Stage(tmp_path)
    assert not list(stage.sealed.iterdir())
