"""What processes print, cut into lines and frames, however it arrives."""

import asyncio
import os
import re

import pytest

from remora.environment.output import FRAME_HEAD, LINE_BYTES_MAX, Frames, Lines, Outputs
from remora.runtimes.layout import RuntimeLayout


def frame(payload, kind=0xA55A000F, time_us=1_927_879_200_123_456):
    return FRAME_HEAD.pack(kind, len(payload), time_us) + payload


def framed(*parts):
    written = []
    frames = Frames(lambda text, time_ms, _: written.append((text, time_ms)))
    for part in parts:
        frames.take(part)
    frames.end()
    return written


def lined(*parts):
    written = []
    lines = Lines(lambda texts, end: written.extend(text + end for text in texts))
    for part in parts:
        lines.take(part)
    lines.end()
    return written


@pytest.mark.case("MB-19")
@pytest.mark.parametrize(
    ("kind", "level"), [(0xA55A0016, "ERROR"), (0xA55A000F, "INFO"), (0xA55A001A, "FATAL"), (0xA55A0003, "")]
)
def test_a_frame_is_an_event_with_its_time_and_level(kind, level):
    written = []
    frames = Frames(lambda *event: written.append(event))
    frames.take(frame(b'{"message":"x"}', kind))
    assert written == [('{"message":"x"}', 1_927_879_200_123, level)]


@pytest.mark.case("MB-20")
def test_a_frame_may_hold_many_lines():
    assert framed(frame(b"one\ntwo")) == [("one\ntwo", 1_927_879_200_123)]


@pytest.mark.case("MB-20")
def test_the_tail_shows_a_frame_of_many_lines_with_a_newline_at_its_end(stage, run):
    async def logs(actor):
        for text in (b"one\ntwo", b"three\nfour\n"):
            event = await actor.next()
            actor.write(3, frame(text))
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], b"1")
        await actor.serve()

    async def scenario():
        layout = RuntimeLayout("python3.12", (), ("/var/task/bootstrap",), {}, "python:3.12.v1", "arn")
        async with stage({"runtime": logs}, layout=layout) as it:
            tails = [(await it.invoke(tail=True)).log_tail.decode() for _ in range(2)]
            return tails, await it.log()

    tails, log = run(scenario())
    assert re.fullmatch(r"START .*\none\ntwo\nEND .*\nREPORT .*\t\n", tails[0])
    assert re.fullmatch(r"START .*\nthree\nfour\nEND .*\nREPORT .*\t\n", tails[1])
    assert [line for line in log if "\n" in line] == ["one\ntwo", "three\nfour"]


class Printers:
    """Has room for so many lines at a time."""

    def __init__(self, room):
        self.room = room
        self.lines = []
        self.resume = None

    def printed(self, _process, lines, _end):
        self.room -= len(lines)
        self.lines += lines

    def has_room(self, resume):
        if self.room <= 0:
            self.resume = resume
        return self.room > 0


def test_a_process_waits_while_nobody_has_room_for_what_it_prints():
    async def main():
        printers = Printers(room=1)
        outputs = Outputs(printers)
        output, error = outputs.open("runtime")

        async def prints(line):
            os.write(output.writer, line)
            for _ in range(10):
                await asyncio.sleep(0)
            return printers.lines

        assert await prints(b"one\n") == ["one"]
        assert await prints(b"two\n") == ["one"]
        printers.room = 1
        printers.resume()
        assert await prints(b"") == ["one", "two"]
        # What an invocation printed is taken at its end all the same.
        assert await prints(b"three\n") == ["one", "two"]
        outputs.drain()
        assert printers.lines == ["one", "two", "three"]
        # When there is room at last, nothing is read from a pipe that is closed.
        output.close_writer()
        error.close_writer()
        outputs.close()
        printers.resume()

    asyncio.run(main())


def test_frames_may_be_torn_anywhere():
    said = frame(b"one") + frame("zwei ü".encode()) + frame(b"") + frame(b"three\n")
    expected = ["one", "zwei ü", "three\n"]
    for at in range(len(said) + 1):
        assert [text for text, _ in framed(said[:at], said[at:])] == expected
    assert [text for text, _ in framed(*(said[at : at + 1] for at in range(len(said))))] == expected


def test_what_is_no_frame_is_written_as_it_is():
    assert [text for text, _ in framed(b"this is just text, and longer than a head\n")] == [
        "this is just text, and longer than a head\n"
    ]
    assert [text for text, _ in framed(b"short")] == ["short"]
    assert [text for text, _ in framed(frame(b"cut off")[:-3])] == ["cut "]


def test_a_frame_without_end_is_not_kept():
    parts = [FRAME_HEAD.pack(0xA55A000F, 2**32 - 1, 0), *[b"x" * 65_536] * 20]
    written = framed(*parts)
    assert "".join(text for text, _ in written) == "x" * (20 * 65_536)
    assert max(len(text) for text, _ in written) == LINE_BYTES_MAX


def test_lines_may_be_torn_anywhere():
    said = "one\n\nzwei ü\nend".encode()
    for at in range(len(said) + 1):
        assert lined(said[:at], said[at:]) == ["one\n", "\n", "zwei ü\n", "end"]


def test_a_line_without_end_is_not_kept():
    written = lined(*[b"x" * 65_536] * 20, b"y\n")
    assert "".join(written) == "x" * (20 * 65_536) + "y\n"
    assert max(map(len, written)) <= LINE_BYTES_MAX + 65_536
