"""What uploaded zips may contain, and what becomes of those that may not."""

from __future__ import annotations

import io
import os
import stat
import struct
import warnings
import zipfile

import pytest

from remora.artifacts.archive import (
    EmptyArchiveError,
    OversizedArchiveError,
    UnreadableArchiveError,
    clean_name,
    is_safe_link,
    unpack,
)
from remora.spec import limits

LINK = stat.S_IFLNK | 0o777
FILE = stat.S_IFREG | 0o644


def make(*entries, system: int = 3, method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Make a zip of (name, content, mode); names and modes are taken as they are."""
    buffer = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(buffer, "w", method) as archive:
        warnings.simplefilter("ignore")  # duplicate names are wanted here
        for name, content, mode in entries:
            entry = zipfile.ZipInfo(name)
            entry.create_system = system
            entry.external_attr = mode << 16
            entry.compress_type = method
            archive.writestr(entry, content)
    return buffer.getvalue()


@pytest.fixture
def unpacked(tmp_path):
    """Unpack a zip; return its directory."""

    def run(content: bytes, **options):
        archive = tmp_path / "archive.zip"
        archive.write_bytes(content)
        target = tmp_path / "tree"
        size = unpack(archive, target, **options)
        assert size == sum(
            path.lstat().st_size for path in target.rglob("*") if not path.is_dir() or path.is_symlink()
        )
        return target

    return run


def test_files_directories_links_and_modes(unpacked):
    tree = unpacked(
        make(
            ("bin/", b"", stat.S_IFDIR | 0o700),
            ("bin/run", b"#!/bin/sh\n", stat.S_IFREG | 0o750),
            ("deep/er/file", b"1", FILE),
            ("deep/link", b"er/file", LINK),
            ("private", b"2", stat.S_IFREG | 0o600),
            ("plain", b"3", 0),
        )
    )
    modes = {
        path.relative_to(tree).as_posix(): stat.S_IMODE(path.lstat().st_mode) for path in tree.rglob("*")
    }
    assert modes.pop("deep/link")
    assert modes == {
        "bin": 0o755,
        "bin/run": 0o754,
        "deep": 0o755,
        "deep/er": 0o755,
        "deep/er/file": 0o644,
        "private": 0o644,
        "plain": 0o644,
    }
    assert stat.S_IMODE(tree.stat().st_mode) == 0o755
    assert str((tree / "deep/link").readlink()) == "er/file"
    assert (tree / "deep/link").read_bytes() == b"1"


def test_the_umask_does_not_matter(unpacked):
    before = os.umask(0o077)
    try:
        tree = unpacked(make(("a/b", b"1", stat.S_IFREG | 0o755)))
    finally:
        os.umask(before)
    assert [stat.S_IMODE(path.stat().st_mode) for path in (tree, tree / "a", tree / "a/b")] == [0o755] * 3


def test_special_bits_are_dropped(unpacked):
    tree = unpacked(make(("f", b"1", stat.S_IFREG | 0o7755)))
    assert stat.S_IMODE((tree / "f").stat().st_mode) == 0o755


def test_attributes_of_other_systems_mean_nothing(unpacked):
    tree = unpacked(make(("f", b"target", LINK), system=0))
    assert not (tree / "f").is_symlink()
    assert stat.S_IMODE((tree / "f").stat().st_mode) == 0o644


def test_names_are_tidied(unpacked):
    tree = unpacked(make(("./a//b", b"1", FILE), ("ü\\x", b"2", FILE)))
    assert (tree / "a/b").read_bytes() == b"1"
    assert (tree / "ü\\x").read_bytes() == b"2"


def test_the_last_of_equal_files_counts(unpacked):
    tree = unpacked(make(("f", b"", FILE), ("g", b"same", FILE)))
    assert (tree / "g").read_bytes() == b"same"


@pytest.mark.parametrize(
    "entries",
    [
        [("/etc/passwd", b"1", FILE)],
        [("../up", b"1", FILE)],
        [("a/../../up", b"1", FILE)],
        [("a/..", b"1", FILE)],
        [("..", b"1", FILE)],
        [(".", b"1", FILE)],
        [("x" * 300, b"1", FILE)],
        [("/".join("d" * 2000), b"1", FILE)],
        [("/".join("d" * 129), b"1", FILE)],
        # links that leave the tree
        [("l", b"..", LINK)],
        [("l", b"../x", LINK)],
        [("a/l", b"../../x", LINK)],
        [("l", b"/etc/passwd", LINK)],
        [("l", b"/opt/../etc/passwd", LINK)],
        [("l", b"/", LINK)],
        [("l", b"", LINK)],
        [("l", b"a\0b", LINK)],
        [("l", b"x" * 4096, LINK)],
        [("l", b"\xff\xfe", LINK)],
        # through another link: a/l is the root, so a/l/.. is above it
        [("a/l", b"..", LINK), ("m", b"a/l/..", LINK)],
        # writing through a link
        [("l", b"d", LINK), ("d/", b"", 0), ("l/f", b"1", FILE)],
        [("l", b"/tmp/", LINK), ("l/f", b"1", FILE)],
        [("l", b"/tmp/f", LINK), ("l", b"1", FILE)],
        [("f", b"1", FILE), ("f", b"x", LINK)],
        # a file as a directory, and the reverse
        [("f", b"1", FILE), ("f/g", b"1", FILE)],
        [("f/g", b"1", FILE), ("f", b"1", FILE)],
        [("f", b"1", FILE), ("f/", b"", 0)],
        # no files at all
        [("p", b"", stat.S_IFIFO | 0o644)],
        [("d", b"", stat.S_IFCHR | 0o644)],
        [("d", b"", stat.S_IFBLK | 0o644)],
        [("s", b"", stat.S_IFSOCK | 0o644)],
    ],
)
def test_what_is_refused(unpacked, tmp_path, entries):
    with pytest.raises(
        UnreadableArchiveError, match=r"Could not unzip uploaded file\. Please check your file, then"
    ):
        unpacked(make(*entries))
    assert not (tmp_path / "up").exists()
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize(
    ("name", "target", "is_safe"),
    [
        ("l", "a", True),
        ("a/l", "../b", True),
        ("a/b/l", "../../c/d", True),
        ("a/b/l", "../../../c", False),
        ("l", "./a/./b", True),
        ("l", "a/../b", False),
        ("l", "/opt/lib/x", True),
        ("l", "/opt", True),
        ("l", "/var/task/x", True),
        ("l", "/lib64/ld.so", True),
        ("l", "/var/run/docker.sock", False),
        ("l", "/optical", False),
        ("l", "//etc", False),
    ],
)
def test_where_links_may_lead(name, target, is_safe):
    assert is_safe_link(name, target) is is_safe


@pytest.mark.parametrize("name", ["", "/", "a/../b", "../a", "/a", "a\0b", "."])
def test_names_that_are_none(name):
    with pytest.raises(UnreadableArchiveError):
        clean_name(name)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"zzz",
        b"PK\x03\x04" + bytes(100),
        b"PK\x05\x06" + b"\xff" * 18,
        make(("f", b"1", FILE))[:-1],
        make(("f", b"1", FILE))[:-30],
        bytes(range(256)) * 16,
    ],
)
def test_what_is_no_zip(unpacked, content):
    with pytest.raises(UnreadableArchiveError):
        unpacked(content)


@pytest.mark.parametrize("cut", range(1, 120, 7))
def test_a_zip_with_a_hole_is_refused_or_whole(unpacked, cut):
    content = make(("f", b"content", FILE), ("g", b"more", FILE))
    with pytest.raises(UnreadableArchiveError):
        unpacked(content[:cut] + content[cut + 1 :])


def test_a_wrong_checksum(unpacked):
    content = make(("f", b"content", FILE), method=zipfile.ZIP_STORED).replace(b"content", b"CONTENT")
    with pytest.raises(UnreadableArchiveError):
        unpacked(content)


def test_an_empty_zip(unpacked):
    with pytest.raises(EmptyArchiveError, match="Uploaded file must be a non-empty zip"):
        unpacked(make())


def test_encrypted_entries(unpacked):
    content = bytearray(make(("f", b"content", FILE)))
    for mark, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + offset] |= 1
    with pytest.raises(UnreadableArchiveError):
        unpacked(bytes(content))


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_methods_that_need_much_memory(unpacked, method):
    with pytest.raises(UnreadableArchiveError):
        unpacked(make(("f", b"content", FILE), method=method))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_real_bytes_are_counted(unpacked, method):
    content = make(("a", bytes(600), FILE), ("b", bytes(401), FILE), method=method)
    with pytest.raises(OversizedArchiveError, match="Unzipped size must be smaller than 1000 bytes"):
        unpacked(content, bytes_max=1000)


def test_exactly_the_limit_is_allowed(unpacked):
    unpacked(make(("a", bytes(600), FILE), ("b", bytes(400), FILE)), bytes_max=1000)


def test_a_stated_size_that_lies_is_refused(unpacked):
    content = bytearray(make(("f", bytes(100_000), FILE)))
    for mark, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        struct.pack_into("<L", content, content.index(mark) + offset, 10)
    with pytest.raises(UnreadableArchiveError):
        unpacked(bytes(content))


@pytest.mark.slow
def test_a_bomb_is_stopped(unpacked, tmp_path):
    buffer = io.BytesIO()
    with (
        zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bomb", "w", force_zip64=True) as entry,
    ):
        for _ in range(300):
            entry.write(bytes(1_000_000))
    with pytest.raises(OversizedArchiveError, match="Unzipped size must be smaller than 262144000 bytes"):
        unpacked(buffer.getvalue())
    assert (tmp_path / "tree/bomb").stat().st_size <= limits.UNZIPPED_BYTES_MAX


def _many(count: int) -> bytes:
    """Make a zip of `count` empty files by hand: zipfile would take long."""
    local, central = io.BytesIO(), io.BytesIO()
    for number in range(count):
        name = b"%x" % number
        offset = local.tell()
        local.write(struct.pack("<4s5H3L2H", b"PK\x03\x04", 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0) + name)
        head = (b"PK\x01\x02", 20, 20, 0, 0, 0, 0, 0, 0, 0, len(name), 0, 0, 0, 0, 0, offset)
        central.write(struct.pack("<4s6H3L5H2L", *head) + name)
    directory = central.getvalue()
    end = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 1, 1, len(directory), local.tell(), 0)
    return local.getvalue() + directory + end


@pytest.mark.slow
def test_too_many_entries_are_refused_before_they_cost_anything(unpacked, tmp_path):
    with pytest.raises(UnreadableArchiveError):
        unpacked(_many(limits.ARCHIVE_ENTRIES_MAX + 1))
    assert list((tmp_path / "tree").iterdir()) == []


def test_directories_that_are_only_named_count_as_entries(unpacked, monkeypatch):
    monkeypatch.setattr(limits, "ARCHIVE_ENTRIES_MAX", 50)
    with pytest.raises(UnreadableArchiveError):
        unpacked(make(("/".join("d" * 60), b"1", FILE)))


def test_a_count_that_lies_does_not_matter(unpacked):
    assert len(list(unpacked(_many(300)).iterdir())) == 300


def test_a_comment_and_something_in_front(unpacked):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.comment = b"PK\x05 a comment"
        archive.writestr("f", b"1")
    assert (unpacked(b"#!/usr/bin/env python\n" + buffer.getvalue()) / "f").read_bytes() == b"1"


def test_the_long_form_of_the_directory(unpacked):
    content = make(("f", b"1", FILE))
    end = content.rindex(b"PK\x05\x06")
    _, _, _, _, count, size, offset, _ = struct.unpack("<4s4H2LH", content[end:])
    end64 = struct.pack("<4sQ2H2L4Q", b"PK\x06\x06", 44, 45, 45, 0, 0, count, count, size, offset)
    locator = struct.pack("<4sLQL", b"PK\x06\x07", 0, end, 1)
    short = struct.pack("<4s4H2LH", b"PK\x05\x06", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    assert (unpacked(content[:end] + end64 + locator + short) / "f").read_bytes() == b"1"
