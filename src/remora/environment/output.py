"""What the processes of an environment print: read from a pipe each, cut into lines."""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

READ_BYTES = 65_536
READS_MAX = 4
"""Reads in one go, more than a pipe holds; a process that prints without end must not hold up the others."""
LINE_BYTES_MAX = 262_144
"""A line that grows longer than this without a newline is written in pieces."""


class Output:
    """
    The output of one process.

    `writer` is for the process; the reader is watched by the event loop until the last writer has closed it.

    Args:
        write: Called with every complete line, without its newline.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._partial = b""
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(self.writer, True)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._reader, self.drain)

    def close_writer(self) -> None:
        """Close our copy of the writer, once the process has its own."""
        os.close(self.writer)

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
            self._take(data)
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
        if self._partial:
            self._write(self._partial.decode(errors="replace"))
            self._partial = b""

    def _take(self, data: bytes) -> None:
        *lines, rest = (self._partial + data).split(b"\n")
        for line in lines:
            self._write(line.decode(errors="replace"))
        while len(rest) > LINE_BYTES_MAX:
            self._write(rest[:LINE_BYTES_MAX].decode(errors="replace"))
            rest = rest[LINE_BYTES_MAX:]
        self._partial = rest
