"""
Log groups and streams on disk, and followers of what is being written.

A stream is one file of JSON lines. Lines are collected in memory and written by a thread a few milliseconds
later: the event loop never waits for a disk. What a node killed with SIGKILL had not written yet (at most
`FLUSH_AFTER_S`) is lost.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

import msgspec

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

FLUSH_AFTER_S = 0.02
FOLLOWER_LINES_MAX = 10_000
"""A follower that is this far behind loses its oldest lines."""


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """One line of a log stream; `message` has no newline at its end."""

    timestamp_ms: int
    message: str
    request_id: str = ""


class StreamLine(msgspec.Struct, frozen=True):
    """One line and the stream it belongs to."""

    timestamp_ms: int
    stream: str
    message: str
    request_id: str = ""


class Follower:
    """Somebody who reads a group's lines as they come."""

    def __init__(self, group: str) -> None:
        self.group = group
        self._lines: deque[StreamLine] = deque(maxlen=FOLLOWER_LINES_MAX)
        self._arrived = asyncio.Event()
        self._has_ended = False

    def end(self) -> None:
        """Let `lines` end once everything was read."""
        self._has_ended = True
        self._arrived.set()

    def put(self, line: StreamLine) -> None:
        """Hand over a line."""
        self._lines.append(line)
        self._arrived.set()

    def take(self) -> list[StreamLine]:
        """Return what has come and was not read yet."""
        lines = list(self._lines)
        self._lines.clear()
        return lines

    async def lines(self) -> AsyncIterator[StreamLine]:
        """Yield lines as they come, until `end`."""
        while True:
            while self._lines:
                yield self._lines.popleft()
            if self._has_ended:
                return
            self._arrived.clear()
            await self._arrived.wait()


class LogStore:
    """
    All log groups of a node.

    Args:
        directory: Where the groups are kept; made if it is not there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._pending: dict[tuple[str, str], list[LogLine]] = {}
        self._followers: set[Follower] = set()
        self._flush_handle: asyncio.TimerHandle | None = None
        self._writing: asyncio.Future[None] | None = None
        self._encoder = msgspec.json.Encoder()

    def append(self, group: str, stream: str, line: LogLine) -> None:
        """Add a line; returns at once."""
        self.extend(group, stream, (line,))

    def extend(self, group: str, stream: str, lines: Sequence[LogLine]) -> None:
        """Add lines; returns at once."""
        self._pending.setdefault((group, stream), []).extend(lines)
        if self._flush_handle is None:
            self._flush_handle = asyncio.get_running_loop().call_later(FLUSH_AFTER_S, self._start_flush)
        for follower in self._followers:
            if follower.group == group:
                for line in lines:
                    follower.put(StreamLine(line.timestamp_ms, stream, line.message, line.request_id))

    def follow(self, group: str) -> Follower:
        """Return a follower that gets every line of `group` from now on; end it with `unfollow`."""
        follower = Follower(group)
        self._followers.add(follower)
        return follower

    def unfollow(self, follower: Follower) -> None:
        """End a follower."""
        self._followers.discard(follower)

    def end_followers(self) -> None:
        """Let every follower end once it has read what there is: no more lines will come."""
        for follower in self._followers:
            follower.end()

    async def read(self, group: str, *, since_ms: int = 0, request_id: str = "") -> list[StreamLine]:
        """Return a group's lines of all streams, oldest first; none for an unknown group."""
        await self.flush()
        return await asyncio.to_thread(self._read, group, since_ms, request_id)

    async def flush(self) -> None:
        """Write what is pending."""
        while self._pending or self._writing is not None:
            if self._writing is None:
                self._start_flush()
            if self._writing is not None:
                await asyncio.shield(self._writing)
                await asyncio.sleep(0)  # what is noted at its end is noted in the next turn of the loop

    def _start_flush(self) -> None:
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if self._writing is not None or not self._pending:
            return
        pending, self._pending = self._pending, {}
        self._writing = asyncio.get_running_loop().run_in_executor(None, self._write, pending)
        self._writing.add_done_callback(self._flushed)

    def _flushed(self, future: asyncio.Future[None]) -> None:
        self._writing = None
        if not future.cancelled() and (error := future.exception()) is not None:
            context = {"message": "log lines could not be written; they are lost", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        if self._pending and self._flush_handle is None:
            self._start_flush()

    def _path(self, group: str, stream: str) -> Path:
        return self._directory / quote(group, safe="") / f"{quote(stream, safe='')}.jsonl"

    def _write(self, pending: dict[tuple[str, str], list[LogLine]]) -> None:
        for (group, stream), lines in pending.items():
            path = self._path(group, stream)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("ab") as file:
                file.write(self._encoder.encode_lines(lines))

    def _read(self, group: str, since_ms: int, request_id: str) -> list[StreamLine]:
        decoder = msgspec.json.Decoder(LogLine)
        found: list[StreamLine] = []
        for path in sorted((self._directory / quote(group, safe="")).glob("*.jsonl")):
            stream = unquote(path.stem)
            for raw in path.read_bytes().splitlines():
                try:
                    line = decoder.decode(raw)
                except msgspec.DecodeError:
                    continue  # the last line of a node that was killed while writing
                if line.timestamp_ms >= since_ms and request_id in ("", line.request_id):
                    found.append(StreamLine(line.timestamp_ms, stream, line.message, line.request_id))
        found.sort(key=lambda line: line.timestamp_ms)
        return found
