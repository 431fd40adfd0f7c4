"""
The node's log groups, for its event loop: lines to write, and followers of what is being written.

Lines are collected in memory, as they will be written, and written by a thread a few milliseconds later: the
event loop never waits for a disk, and on a busy node many lines of a stream are written at once. What a node
killed with SIGKILL had not written yet (of the last `FLUSH_AFTER_S`, on a busy node `FLUSH_EVERY_S`) is lost.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, TypeVar

import msgspec

from remora.kit.clock import SystemClock
from remora.telemetry.log_files import LogFiles, LogLimits, encode
from remora.telemetry.log_queries import Range, search

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from pathlib import Path

    from remora.kit.clock import Clock
    from remora.telemetry.log_files import Batch, LogLine

P = ParamSpec("P")
T = TypeVar("T")

FLUSH_AFTER_S: Final = 0.02
FLUSH_EVERY_S: Final = 0.2
ROOM_BYTES: Final = 4 * 1024 * 1024
"""Whoever prints without end has to wait while so much waits for the disk."""
PENDING_BYTES_MAX: Final = 256 * 1024 * 1024
"""No more than this waits for a disk that does not take it; what comes then is lost."""
BATCH_LINES_MAX: Final = 1_000
"""More lines are written in several batches, for the sake of the size of segments."""
FOLLOWER_LINES_MAX: Final = 10_000
FOLLOWER_CHARACTERS_MAX: Final = 8 * 1024 * 1024
"""A follower that is this far behind, in lines or in characters, loses its oldest lines."""
_EXPIRE_MS: Final = 60_000
"""How often it is looked for what is too old."""


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
        self._lines: deque[StreamLine] = deque()
        self._characters = self._lost = 0
        self._arrived = asyncio.Event()
        self._has_ended = False

    def __repr__(self) -> str:
        return f"<Follower of {self.group} lines={len(self._lines)} characters={self._characters}>"

    def end(self) -> None:
        """Let `lines` end once everything was read."""
        self._has_ended = True
        self._arrived.set()

    def put(self, line: StreamLine) -> None:
        """Hand over a line; the newest one is kept in any case."""
        lines = self._lines
        lines.append(line)
        self._characters += len(line.message)
        while len(lines) > FOLLOWER_LINES_MAX or (
            self._characters > FOLLOWER_CHARACTERS_MAX and len(lines) > 1
        ):
            self._characters -= len(lines.popleft().message)
            self._lost += 1
        self._arrived.set()

    def take(self) -> list[StreamLine]:
        """Return what has come and was not read yet."""
        lines = list(self._lines)
        self._lines.clear()
        self._characters = 0
        return lines

    def take_lost(self) -> int:
        """Return how many lines came too fast to be read since the last call."""
        lost, self._lost = self._lost, 0
        return lost

    async def lines(self) -> AsyncIterator[StreamLine]:
        """Yield lines as they come, until `end`."""
        while True:
            while self._lines:
                line = self._lines.popleft()
                self._characters -= len(line.message)
                yield line
            if self._has_ended:
                return
            self._arrived.clear()
            await self._arrived.wait()


class LogStore:
    """
    All log groups of a node.

    Args:
        directory: Where the groups are kept; made if it is not there.
        limits: How much is kept.
        clock: The node's clock.
    """

    def __init__(self, directory: Path, limits: LogLimits | None = None, clock: Clock | None = None) -> None:
        self._files = LogFiles(directory, limits or LogLimits())
        self._clock = clock or SystemClock()
        self._pending: defaultdict[tuple[str, str], list[Batch]] = defaultdict(list)
        self._tapped: defaultdict[tuple[str, str], list[LogLine]] = defaultdict(list)
        self._pending_bytes = self._lost_lines = 0
        self._followers: set[Follower] = set()
        self._flush_handle: asyncio.TimerHandle | None = None
        self._flush_at = 0.0  # not before, time of the loop
        self._writing: asyncio.Future[None] | None = None
        self._waiting: list[Callable[[], None]] = []
        self._expired_ms = 0
        self.tap: Callable[[Mapping[tuple[str, str], Sequence[LogLine]]], None] | None = None
        """Called with lines by group and stream when they go to disk; it must not change or block."""

    def append(self, group: str, stream: str, line: LogLine) -> None:
        """Add a line; returns at once."""
        self.extend(group, stream, (line,))

    def extend(self, group: str, stream: str, lines: Sequence[LogLine]) -> None:
        """Add lines; returns at once."""
        for at in range(0, len(lines), BATCH_LINES_MAX):
            self._put(group, stream, lines[at : at + BATCH_LINES_MAX])
        if self._flush_handle is None:
            loop = asyncio.get_running_loop()
            due = max(loop.time() + FLUSH_AFTER_S, self._flush_at)
            self._flush_handle = loop.call_at(due, self._start_flush)
        for follower in self._followers:
            if follower.group == group:
                for line in lines:
                    follower.put(StreamLine(line.timestamp_ms, stream, line.message, line.request_id))

    def _put(self, group: str, stream: str, lines: Sequence[LogLine]) -> None:
        batch = encode(lines)
        if self._pending_bytes + len(batch.data) > PENDING_BYTES_MAX:
            self._lost_lines += len(lines)
            return
        self._pending_bytes += len(batch.data)
        self._pending[group, stream].append(batch)
        if self.tap is not None:
            self._tapped[group, stream].extend(lines)

    def has_room(self, resume: Callable[[], None]) -> bool:
        """Tell whether many more lines may be added now; if not, `resume` is called when they may."""
        if self._pending_bytes < ROOM_BYTES:
            return True
        self._waiting.append(resume)
        self._start_flush()
        return False

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

    async def ask(
        self, question: Callable[Concatenate[LogFiles, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """
        Answer a question about what is on disk, in a thread; what was appended so far is there.

        Args:
            question: Called with the files and the arguments that follow.
            args: Its arguments.
            kwargs: The same.
        """
        await self.flush()
        return await asyncio.to_thread(question, self._files, *args, **kwargs)

    async def pages(
        self, group: str, *, since_ms: int = 0, keeps: Callable[[str, LogLine], bool] | None = None
    ) -> AsyncIterator[list[StreamLine]]:
        """
        Yield a group's lines of all streams page by page, oldest first; none for an unknown group.

        Args:
            group: The group.
            since_ms: Only lines that are not older, milliseconds since 1970.
            keeps: Tells, for stream and line, whether it is wanted; None for all.
        """
        after = None
        while True:
            page = await self.ask(search, group, None, Range(since_ms), keeps=keeps or _keep_all, after=after)
            yield [
                StreamLine(line.timestamp_ms, key.stream, line.message, line.request_id)
                for key, line in page.lines
            ]
            after = page.next
            if after is None:
                return

    async def read(self, group: str, *, since_ms: int = 0, request_id: str = "") -> list[StreamLine]:
        """Return a group's lines of all streams, oldest first; none for an unknown group."""
        pages = self.pages(
            group, since_ms=since_ms, keeps=lambda _, line: request_id in ("", line.request_id)
        )
        return [line async for page in pages for line in page]

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
        pending, self._pending = self._pending, defaultdict(list)
        self._pending_bytes = 0
        if self.tap is not None:
            tapped, self._tapped = self._tapped, defaultdict(list)
            self.tap(tapped)
        loop = asyncio.get_running_loop()
        self._flush_at = loop.time() + FLUSH_EVERY_S
        self._writing = loop.run_in_executor(None, self._write, pending)
        self._writing.add_done_callback(self._flushed)

    def _flushed(self, future: asyncio.Future[None]) -> None:
        self._writing = None
        if not future.cancelled() and (error := future.exception()) is not None:
            context = {"message": "log lines could not be written; they are lost", "exception": error}
            asyncio.get_running_loop().call_exception_handler(context)
        if self._lost_lines:
            text = f"{self._lost_lines} log lines were lost: the disk is too slow for them"
            self._lost_lines = 0
            asyncio.get_running_loop().call_exception_handler({"message": text})
        if self._pending and (self._flush_handle is None or self._waiting):
            self._start_flush()
        waiting, self._waiting = self._waiting, []
        for resume in waiting:
            resume()

    def _write(self, pending: Mapping[tuple[str, str], Sequence[Batch]]) -> None:
        now_ms = self._clock.wall_ms()
        self._files.write(pending, now_ms)
        if now_ms - self._expired_ms > _EXPIRE_MS:
            self._expired_ms = now_ms
            self._files.expire(now_ms)


def _keep_all(_stream: str, _line: LogLine) -> bool:
    return True
