"""
What the processes of an environment print: read from pipes, cut into lines or frames.

A process has a pipe for each of its streams, so that a line that is unfinished on one is not
torn by the other.

Source: telemetry-api specification, section 5.7; logs-metrics-billing specification, section 3.
"""

from __future__ import annotations

import asyncio
import os
import select
import struct
from contextlib import suppress
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

STREAMS = 2
"""Pipes of a process without a log channel: standard output and standard error."""
READ_BYTES = 65_536
READS_MAX = 4
"""Reads in one go, more than a pipe holds; a process that prints without end must not hold up the others."""
LINE_BYTES_MAX = 262_144
"""A line that grows longer than this without a newline is written in pieces, and a frame too."""

FRAME_HEAD = struct.Struct(">IIQ")
"""Kind, length of what follows, microseconds since 1970."""
_FRAME_MAGIC = 0xA55A0000
_FRAME_MAGIC_MASK = 0xFFFF0000
FRAME_LEVELS = ("", "TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL", "")
"""By three bits of the kind, from its third on."""


class Cutter(Protocol):
    """Cuts what one stream says into what is written down."""

    def take(self, data: bytes) -> None:
        """Take in what was read."""

    def end(self) -> None:
        """Nothing more comes: write what is unfinished."""


def _before_character(text: bytes, place: int) -> int:
    """Return where to cut at `place` or a little before it, so that no character of UTF-8 is torn."""
    for back in range(4):
        if text[place - back] & 0xC0 != 0x80:
            return place - back
    return place


class Lines:
    """
    Text, a line each.

    Args:
        write: Called with complete lines, without their newlines, and what each ended with: a newline, or
            nothing if it had to be cut.
    """

    def __init__(self, write: Callable[[list[str], str], None]) -> None:
        self._write = write
        self._partial = b""

    def take(self, data: bytes) -> None:
        """See `Cutter`."""
        complete, newline, rest = data.rpartition(b"\n")
        if newline:
            self._write((self._partial + complete).decode(errors="replace").split("\n"), "\n")
            self._partial = rest
        else:
            self._partial += rest
        while len(self._partial) > LINE_BYTES_MAX:
            place = _before_character(self._partial, LINE_BYTES_MAX)
            self._write([self._partial[:place].decode(errors="replace")], "")
            self._partial = self._partial[place:]

    def end(self) -> None:
        """See `Cutter`."""
        if self._partial:
            self._write([self._partial.decode(errors="replace")], "")
            self._partial = b""


class Frames:
    """
    Messages of a runtime's log channel, each with its time.

    Args:
        write: Called with each message, its time (milliseconds since 1970) and its level.
    """

    def __init__(self, write: Callable[[str, int, str], None]) -> None:
        self._write = write
        self._held = b""
        self._left_bytes = 0
        """What is still to come of the present frame, what is held not counted."""
        self._time_ms = 0
        self._level = ""
        self._is_within = False

    def take(self, data: bytes) -> None:
        """See `Cutter`; what is no frame is written as it is."""
        self._held += data
        while self._held:
            if not self._is_within and not self._begin():
                return
            if len(self._held) < self._left_bytes:
                if len(self._held) >= LINE_BYTES_MAX:
                    self._left_bytes -= len(self._held)
                    self._put(self._held)
                    self._held = b""
                return
            payload, self._held = self._held[: self._left_bytes], self._held[self._left_bytes :]
            self._is_within = False
            self._put(payload)

    def _begin(self) -> bool:
        """Read the head of a frame; False if it is not there yet, or is none."""
        if len(self._held) < FRAME_HEAD.size:
            return False
        kind, self._left_bytes, time_us = FRAME_HEAD.unpack_from(self._held)
        if kind & _FRAME_MAGIC_MASK != _FRAME_MAGIC:
            self.end()
            return False
        self._time_ms = time_us // 1000
        self._level = FRAME_LEVELS[(kind & 0x1C) >> 2]
        self._held = self._held[FRAME_HEAD.size :]
        self._is_within = True
        return True

    def end(self) -> None:
        """See `Cutter`."""
        held, self._held = self._held, b""
        self._is_within = False
        self._put(held)

    def _put(self, payload: bytes) -> None:
        if payload:
            self._write(payload.decode(errors="replace"), self._time_ms, self._level)


class Output:
    """
    One stream of one process.

    `writer` is for the process; the reader is watched by the event loop until the last writer has closed it.

    Args:
        cutter: Who gets what is read.
        has_room: See `Printers`; while there is none, the process waits in its write, and nobody else does.
    """

    def __init__(self, cutter: Cutter, has_room: Callable[[Callable[[], None]], bool]) -> None:
        self._cutter = cutter
        self._has_room = has_room
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.writer, True)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self._take)

    def fileno(self) -> int:
        """Return the descriptor that is read from; -1 when it is closed."""
        return self._reader

    def close_writer(self) -> None:
        """Close our copy of the writer, once the process has its own."""
        os.close(self.writer)

    def _take(self) -> None:
        if self._has_room(self._resume):
            self.drain()
        else:
            self._loop.remove_reader(self._reader)

    def _resume(self) -> None:
        if self._reader >= 0:
            self._loop.add_reader(self._reader, self._take)

    def drain(self) -> None:
        """Take what has been printed so far; an unfinished line waits for its end."""
        for _ in range(READS_MAX):
            if self._reader < 0:
                return
            try:
                data = os.read(self._reader, READ_BYTES)
            except BlockingIOError:
                return
            if not data:
                self.close()
                return
            self._cutter.take(data)
            if len(data) < READ_BYTES:
                return

    def close(self) -> None:
        """Write the unfinished line and stop reading. Repeated calls: no effect."""
        if self._reader < 0:
            return
        self._loop.remove_reader(self._reader)
        with suppress(OSError):
            os.close(self._reader)
        self._reader = -1
        self._cutter.end()


class Printers(Protocol):
    """Who gets what the processes print."""

    def printed(self, process: str, lines: list[str], end: str) -> None:
        """Lines of a process, without what each ended with: a newline, or nothing."""

    def logged(self, text: str, time_ms: int, level: str) -> None:
        """A message of the runtime's log channel, its time, its level (empty if it has none)."""

    def has_room(self, resume: Callable[[], None]) -> bool:
        """Tell whether much more may be printed now; if not, `resume` is called when it may."""


class Outputs:
    """
    The streams of all processes of an environment.

    Args:
        printers: Who gets what they print.
    """

    def __init__(self, printers: Printers) -> None:
        self._printers = printers
        self._outputs: dict[str, tuple[Output, ...]] = {}
        self._poll = select.poll()
        self._polled: dict[int, Output] = {}

    def open(self, process: str, *, has_log_channel: bool = False) -> tuple[Output, ...]:
        """Return the streams of a new process: standard output, standard error, perhaps the log channel."""
        cutters: list[Cutter] = [self._lines(process), self._lines(process)]
        if has_log_channel:
            cutters.append(Frames(self._printers.logged))
        outputs = tuple(Output(cutter, self._printers.has_room) for cutter in cutters)
        self._outputs[process] = outputs
        for output in outputs:
            self._poll.register(output, select.POLLIN)
            self._polled[output.fileno()] = output
        return outputs

    def _lines(self, process: str) -> Lines:
        return Lines(lambda lines, end: self._printers.printed(process, lines, end))

    def drain(self) -> None:
        """Take what has been printed so far; if that is nothing, as mostly, one system call tells."""
        for descriptor, _ in self._poll.poll(0):
            output = self._polled[descriptor]
            output.drain()
            if output.fileno() < 0:
                self._poll.unregister(descriptor)

    def numbers(self) -> dict[str, tuple[int, ...]]:
        """Return the numbers of the pipes of each process, as the kernel knows them."""
        return {
            process: tuple(os.fstat(output.fileno()).st_ino for output in outputs)
            for process, outputs in self._outputs.items()
        }

    def drain_process(self, process: str) -> None:
        """Take what one process has printed so far."""
        for output in self._outputs.get(process, ()):
            output.drain()

    def close(self) -> None:
        """Take what there is, and stop reading. Repeated calls: no effect."""
        self.drain()
        for outputs in tuple(self._outputs.values()):
            for output in outputs:
                output.close()
        self._outputs.clear()
        self._poll, self._polled = select.poll(), {}
