"""Zips and directories on disk: shared, held, collected."""

from __future__ import annotations

import asyncio
import hashlib
import io
import resource
import subprocess
import sys
import zipfile

import pytest

from remora.artifacts import artifacts as module
from remora.artifacts.archive import ArchiveError
from remora.artifacts.artifacts import Artifacts
from remora.artifacts.trees import remove_tree
from remora.kit.turns import Turns


def zip_of(text: str) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("f"), text)
    return buffer.getvalue()


def run(directory, work):
    async def main():
        artifacts = Artifacts(directory)
        await artifacts.open()
        return await work(artifacts)

    return asyncio.run(main())


def names(directory):
    return {
        kind: sorted(path.name for path in (directory / kind).iterdir()) for kind in ("blobs", "code", "opt")
    }


def test_a_zip_is_kept_and_unpacked(tmp_path):
    content = zip_of("hello")
    digest = hashlib.sha256(content).hexdigest()

    async def work(artifacts):
        async with artifacts.receiving(content) as package:
            assert package == (digest, len(content), 5)
        code = await artifacts.code(digest)
        assert (code / "f").read_text() == "hello"
        assert artifacts.blob(digest).read_bytes() == content

    run(tmp_path, work)
    assert names(tmp_path) == {"blobs": [digest], "code": [digest], "opt": []}


def test_a_refused_zip_leaves_nothing(tmp_path):
    async def work(artifacts):
        with pytest.raises(ArchiveError):
            async with artifacts.receiving(b"no zip"):
                pass

    run(tmp_path, work)
    assert names(tmp_path) == {"blobs": [], "code": [], "opt": []}


def test_requests_for_one_digest_share_the_unpacking(tmp_path, monkeypatch):
    unpackings = []
    unpack = module.unpack

    def counted(*arguments):
        unpackings.append(arguments)
        return unpack(*arguments)

    monkeypatch.setattr(module, "unpack", counted)
    content = zip_of("x" * 1000)

    async def receive(artifacts):
        async with artifacts.receiving(content) as package:
            return package

    async def work(artifacts):
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(receive(artifacts)) for _ in range(20)]
        assert len({task.result() for task in tasks}) == 1

    run(tmp_path, work)
    assert len(unpackings) == 1


def test_directories_are_made_again_from_zips(tmp_path):
    async def work(artifacts):
        digests = []
        for text in ("1", "2"):
            async with artifacts.receiving(zip_of(text)) as package:
                digests.append(package.digest)
        opt = await artifacts.stack(digests)
        assert (opt / "f").read_text() == "2"
        for path in [*(tmp_path / "code").iterdir(), opt]:
            module.remove_tree(path)
        assert await artifacts.stack(digests) == opt
        assert (opt / "f").read_text() == "2"

    run(tmp_path, work)


def test_a_missing_zip_is_told(tmp_path):
    async def work(artifacts):
        with pytest.raises(FileNotFoundError):
            await artifacts.code("0" * 64)

    run(tmp_path, work)
    assert names(tmp_path)["code"] == []


def test_what_is_named_or_held_is_not_collected(tmp_path):
    async def work(artifacts):
        digests = {}
        for text in ("named", "held", "neither"):
            async with artifacts.receiving(zip_of(text)) as package:
                digests[text] = package.digest
        release = artifacts.hold([digests["held"]])
        assert await artifacts.collect(lambda: {digests["named"]}) == 2
        assert names(tmp_path)["blobs"] == sorted([digests["named"], digests["held"]])
        release()
        assert await artifacts.collect(lambda: {digests["named"]}) == 2
        assert names(tmp_path) == {"blobs": [digests["named"]], "code": [digests["named"]], "opt": []}

    run(tmp_path, work)


def test_an_upload_and_a_sweep_at_the_same_time(tmp_path):
    content = zip_of("again")

    async def upload(artifacts):
        async with artifacts.receiving(content) as package:
            assert (await artifacts.code(package.digest) / "f").read_text() == "again"
            assert artifacts.blob(package.digest).exists()

    async def work(artifacts):
        for _ in range(20):
            async with asyncio.TaskGroup() as group:
                for _ in range(3):
                    group.create_task(upload(artifacts))
                    group.create_task(artifacts.collect(set))

    run(tmp_path, work)


def test_leftovers_go_at_the_start(tmp_path):
    async def nothing(artifacts):
        pass

    run(tmp_path, nothing)
    (tmp_path / "blobs/.new-1").write_bytes(b"half")
    (tmp_path / "code/.new-2/tree/d").mkdir(parents=True)
    (tmp_path / "opt/.new-3").symlink_to("/")
    run(tmp_path, nothing)
    assert names(tmp_path) == {"blobs": [], "code": [], "opt": []}


_FULL = """
import asyncio, resource, signal, sys
from pathlib import Path
from remora.artifacts.artifacts import Artifacts
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
async def main():
    artifacts = Artifacts(Path(sys.argv[1]))
    await artifacts.open()
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    try:
        async with artifacts.receiving(Path(sys.argv[2]).read_bytes()):
            print("kept")
    except OSError as error:
        print("refused", error.errno)
asyncio.run(main())
"""


@pytest.mark.parametrize("bytes_max", [100, 3000])
def test_a_disk_that_takes_no_more_leaves_nothing(tmp_path, bytes_max):
    # A limit on file sizes stands for a full disk: below the zip's size, then below the unpacked file's.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("pad", bytes(range(256)) * 4)
        archive.writestr("f", bytes(100_000))
    upload = tmp_path / "upload.zip"
    upload.write_bytes(buffer.getvalue())
    assert 100 < upload.stat().st_size < 3000
    data = tmp_path / "data"
    command = [sys.executable, "-c", _FULL, str(data), str(upload), str(bytes_max)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("refused")
    assert names(data) == {"blobs": [], "code": [], "opt": []}
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY


def test_turns_are_taken_one_by_one_and_forgotten():
    turns = Turns()
    order = []

    async def take(number):
        async with turns.of("x"):
            order.append(number)
            await asyncio.sleep(0)
            order.append(number)

    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(take(number))
        async with turns.of("a"), turns.of("b"):
            assert repr(turns) == "<Turns names=2>"

    asyncio.run(main())
    assert order == [0, 0, 1, 1, 2, 2]
    assert repr(turns) == "<Turns names=0>"


def damage(path):
    path.write_bytes(bytes([path.read_bytes()[0] ^ 1]) + path.read_bytes()[1:])


def test_what_is_damaged_is_named_when_it_is_used_first(tmp_path):
    content = zip_of("hello")
    digest = hashlib.sha256(content).hexdigest()

    async def keep(artifacts):
        async with artifacts.receiving(content):
            assert (await artifacts.sound(digest)).read_bytes() == content

    async def use(artifacts):
        with pytest.raises(OSError, match=f"blobs/{digest} is damaged"):
            await artifacts.sound(digest)
        remove_tree(tmp_path / "code" / digest)
        with pytest.raises(OSError, match="is damaged"):
            await artifacts.code(digest)
        with pytest.raises(FileNotFoundError):
            await artifacts.sound("0" * 64)

    run(tmp_path, keep)
    damage(tmp_path / "blobs" / digest)
    run(tmp_path, use)


@pytest.mark.parametrize("way", ["receiving", "keeping"])
def test_what_is_damaged_is_healed_by_the_same_content(tmp_path, way):
    content = zip_of("hello")
    path = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()

    async def keep(artifacts):
        async with getattr(artifacts, way)(content):
            assert path.read_bytes() == content

    run(tmp_path, keep)
    damage(path)
    run(tmp_path, keep)
