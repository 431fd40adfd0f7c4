"""Streams on disk: pages, ranges, restarts, limits, damage."""

import asyncio

import pytest

from remora.telemetry.log_files import (
    SEGMENT_BYTES,
    LogFiles,
    LogGroup,
    LogLimits,
    LogLine,
    encode,
    file_name,
)
from remora.telemetry.log_queries import FIRST, LAST, Position, Range, read_backward, read_forward, search
from remora.telemetry.logs import LogStore

DAY_MS = 24 * 3600 * 1000
ALWAYS = Range()


def opened(directory, **limits):
    return LogFiles(directory, LogLimits(**limits))


def write(files, lines, now_ms):
    files.write({where: [encode(each)] for where, each in lines.items()}, now_ms)


def numbered(first, count, size=0):
    return [LogLine(number, f"{number} " + "x" * size) for number in range(first, first + count)]


def everything(files, group="g", when=ALWAYS, streams=None, limit=1000):
    """Read a group page by page; `limit` is that of a page."""
    found, after = [], None
    while True:
        page = search(files, group, streams, when, keeps=lambda *_: True, after=after, limit=limit)
        found += [(key.stream, line.timestamp_ms) for key, line in page.lines]
        after = page.next
        if after is None:
            return found


def test_streams_are_merged_by_time_whatever_the_size_of_pages(tmp_path):
    files = opened(tmp_path)
    write(files, {("g", "odd"): [LogLine(n, "") for n in range(1, 100, 2)]}, 5)
    write(files, {("g", "even"): [LogLine(n, "") for n in range(0, 100, 2)]}, 5)
    for limit in (1, 7, 1000):
        assert [time for _, time in everything(files, limit=limit)] == list(range(100))
    assert everything(files, when=Range(10, 12)) == [("even", 10), ("odd", 11)]
    assert everything(files, streams=["odd"], when=Range(0, 4)) == [("odd", 1), ("odd", 3)]


def test_a_long_stream_has_many_segments_and_is_read_in_both_directions(tmp_path):
    files = opened(tmp_path)
    for first in range(0, 3000, 100):
        write(files, {("g", "s"): numbered(first, 100, 1000)}, 5)
    assert len(list(files.segments("g"))) > 3000 * 1000 / SEGMENT_BYTES / 2

    found, after = [], FIRST
    while (page := read_forward(files, "g", "s", Range(), after=after, limit=700)).last:
        found += [line.timestamp_ms for line in page.lines]
        after = page.last
    assert found == list(range(3000))

    found, before = [], LAST
    while (page := read_backward(files, "g", "s", Range(), before=before, limit=700)).first:
        found[:0] = [line.timestamp_ms for line in page.lines]
        before = page.first
    assert found == list(range(3000))
    assert [line.timestamp_ms for line in page.lines] == []


def test_what_arrives_late_is_found_in_its_place_and_missed_by_nobody_who_reads_on(tmp_path):
    files = opened(tmp_path)
    write(files, {("g", "s"): [LogLine(10, "a"), LogLine(20, "c")]}, 5)
    page = read_forward(files, "g", "s", Range(), after=FIRST, limit=10)
    write(files, {("g", "s"): [LogLine(15, "b")]}, 5)
    assert everything(files) == [("s", 10), ("s", 15), ("s", 20)]
    assert [
        line.message for line in read_forward(files, "g", "s", Range(), after=page.last, limit=9).lines
    ] == ["b"]


def test_a_restart_keeps_everything_and_never_appends_to_what_was_there(tmp_path):
    files = opened(tmp_path)
    files.put_group(LogGroup("g", 1, 7, {"a": "b"}))
    write(files, {("g", "s"): numbered(0, 3)}, 5)
    segment = next(tmp_path.glob("*/*.jsonl"))
    with segment.open("ab") as file:
        file.write(b'[3,"half a li')

    again = opened(tmp_path)
    write(again, {("g", "s"): numbered(4, 1)}, 6)
    assert again.groups()[0][0] == LogGroup("g", 1, 7, {"a": "b"})
    assert [time for _, time in everything(again)] == [0, 1, 2, 4]
    (stream,) = again.streams("g")
    assert (stream.created_ms, len(stream.segments)) == (5, 2)
    assert (stream.segments[0].first_ms, stream.segments[0].last_ms) == (0, 2)
    assert read_forward(again, "g", "s", Range(), after=Position(1, 2), limit=9).lines[0].timestamp_ms == 4


def test_garbage_in_the_directory_is_passed_over(tmp_path):
    files = opened(tmp_path)
    write(files, {("g", "s"): numbered(0, 1)}, 5)
    (group,) = tmp_path.iterdir()
    for name, content in {"x.000001.jsonl": b"\xff\xfe", "y.jsonl": b"{}", "group.json.new": b"{"}.items():
        (group / name).write_bytes(content)
    (group / "z.000001.jsonl").mkdir()
    (tmp_path / "stranger").mkdir()
    (tmp_path / "file").write_text("x")
    again = opened(tmp_path)
    assert everything(again) == [("s", 0)]
    again.remove_group("g")
    assert opened(tmp_path).groups() == []


@pytest.mark.parametrize("name", [".", "..", "../x", "a/b", "x" * 512, "é" * 512, "\0", "a.b", "~", "%2E"])
def test_no_name_leads_out_of_the_directory_or_to_another(tmp_path, name):
    files = opened(tmp_path / "logs")
    write(files, {(name, name): numbered(0, 1)}, 5)
    write(files, {("x" * 511, "é" * 511): numbered(0, 1)}, 5)
    assert [path.name for path in tmp_path.iterdir()] == ["logs"]
    again = opened(tmp_path / "logs")
    assert everything(again, name) == [(name, 0)]
    again.remove_group(name)
    assert everything(again, "x" * 511) == [("é" * 511, 0)]
    assert file_name("a/b") != file_name("a%2Fb")


def test_the_oldest_segments_go_when_there_is_too_much(tmp_path):
    files = opened(tmp_path, bytes_max=4 * SEGMENT_BYTES)
    for number in range(20):
        write(files, {("g", f"s{number:02d}"): numbered(number, 1, SEGMENT_BYTES // 2)}, number)
    kept = [stream.name for stream in files.streams("g")]
    assert 4 <= len(kept) <= 8
    assert kept == [f"s{number:02d}" for number in range(20 - len(kept), 20)]
    written = sum(path.stat().st_size for path in tmp_path.glob("*/*.jsonl"))
    assert written == files.groups()[0][1] <= 4 * SEGMENT_BYTES


def test_the_number_of_segments_is_limited_too(tmp_path):
    files = opened(tmp_path, segments_max=10)
    for number in range(30):
        write(files, {("g", f"s{number}"): numbered(number, 1)}, number)
    assert len(list(tmp_path.glob("*/*.jsonl"))) <= 10
    assert everything(files)[-1] == ("s29", 29)


def test_what_is_older_than_its_group_wants_is_removed(tmp_path):
    files = opened(tmp_path)
    for group in ("kept", "short"):
        write(files, {(group, "old"): [LogLine(0, "")], (group, "new"): [LogLine(DAY_MS, "")]}, 0)
        write(files, {(group, "new"): [LogLine(2 * DAY_MS, "")]}, 2 * DAY_MS)
    files.put_group(LogGroup("short", 0, 1))
    files.expire(2 * DAY_MS + 1)
    assert [stream.name for stream in files.streams("short")] == ["new"]
    assert [stream.name for stream in files.streams("kept")] == ["new", "old"]


def test_what_is_older_than_the_node_wants_is_removed_everywhere(tmp_path):
    files = opened(tmp_path, days_max=2)
    for group, days in (("forever", None), ("long", 30), ("short", 1)):
        files.put_group(LogGroup(group, 0, days))
        write(files, {(group, "one"): [LogLine(0, "")], (group, "two"): [LogLine(DAY_MS, "")]}, 0)
    names = lambda group: [stream.name for stream in files.streams(group)]
    files.expire(2 * DAY_MS + 1)
    assert (names("forever"), names("long"), names("short")) == (["two"], ["two"], [])
    files.expire(3 * DAY_MS + 1)
    assert (names("forever"), names("long"), names("short")) == ([], [], [])


def test_a_disk_that_takes_nothing_costs_only_what_was_to_be_written(tmp_path):
    files = opened(tmp_path)
    write(files, {("g", "s"): numbered(0, 1)}, 5)
    (segment,) = tmp_path.glob("*/*.jsonl")
    content = segment.read_bytes()
    segment.unlink()
    segment.mkdir()
    with pytest.raises(OSError):
        write(files, {("g", "s"): numbered(1, 1), ("g", "t"): numbered(2, 1)}, 5)
    segment.rmdir()
    segment.write_bytes(content)
    write(files, {("g", "s"): numbered(3, 1)}, 5)
    assert everything(files) == [("s", 0), ("t", 2), ("s", 3)]


def test_a_group_that_is_removed_while_it_is_written_to_is_made_again(tmp_path):
    files = opened(tmp_path)
    write(files, {("g", "s"): numbered(0, 1)}, 5)
    files.remove_group("g")
    assert (list(tmp_path.iterdir()), everything(files)) == ([], [])
    write(files, {("g", "s"): numbered(1, 1)}, 6)
    assert everything(files) == [("s", 1)]


def test_lines_of_any_text_come_back_as_they_were(tmp_path):
    texts = ["", "\0\x01\x1f", "é" * 100_000, '"\\\n\r\u2028', "\U0001f600"]

    async def main():
        store = LogStore(tmp_path)
        for text in texts:
            store.append("g", "s", LogLine(1, text))
        return [line.message for line in await store.read("g")]

    assert asyncio.run(main()) == texts
