"""
Log groups and streams as files: written by one thread at a time, read in pieces, removed when old.

A group is a directory, named after it, with `group.json` in it. A stream is a row of segments, files of JSON
lines of about `SEGMENT_BYTES` each; the first line of a segment tells whose it is. Segments are only ever
appended to, and never by another process than the one that began them, so what a killed node had half
written spoils nothing. What each segment holds is known in memory, learned when it is first asked for.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

SEGMENT_BYTES: Final = 256 * 1024
"""A segment that is longer is not appended to any more; nothing smaller is ever read as a whole."""
EARLY_MS: Final = 2 * 3600 * 1000
"""How far an event may be ahead of its arrival. Source: PutLogEvents, CloudWatch Logs API Reference."""
_NAME_CHARACTERS_MAX: Final = 150
_DAY_MS: Final = 24 * 3600 * 1000
_FULL: Final = 0.9
"""When there is too much, this part of what is allowed is kept."""


class LogLine(msgspec.Struct, frozen=True, array_like=True):
    """
    One line of a log stream; `message` has no newline at its end.

    Args:
        timestamp_ms: When it happened, milliseconds since 1970.
        message: The text.
        request_id: Identifier of the invocation; empty if it belongs to none.
        ingested_ms: When it arrived, if that is another time; else 0.
    """

    timestamp_ms: int
    message: str
    request_id: str = ""
    ingested_ms: int = 0


class Batch(msgspec.Struct, frozen=True, gc=False):
    """
    Lines as they are written.

    Args:
        data: JSON lines.
        first_ms: The earliest of them.
        last_ms: The latest.
    """

    data: bytes
    first_ms: int
    last_ms: int


_encoder: Final = msgspec.json.Encoder()


def encode(lines: Sequence[LogLine]) -> Batch:
    """Return lines as they are written; there must be one at least."""
    times = [line.timestamp_ms for line in lines]
    return Batch(_encoder.encode_lines(lines), min(times), max(times))


class LogGroup(msgspec.Struct, frozen=True):
    """
    What is kept about a log group.

    Args:
        name: As users know it.
        created_ms: Since when it exists, milliseconds since 1970.
        retention_days: How long events are kept, days; None for ever.
        tags: Its tags.
    """

    name: str
    created_ms: int
    retention_days: int | None = None
    tags: dict[str, str] = {}


class LogLimits(msgspec.Struct, frozen=True):
    """
    How much is kept of all groups together; the oldest segments go first.

    Args:
        bytes_max: Size of all segments.
        segments_max: Number of segments.
        days_max: How long events are kept, days, also in groups without a retention; None for ever.
    """

    bytes_max: int = 1024 * 1024 * 1024
    segments_max: int = 20_000
    days_max: int | None = None


_decode_line = msgspec.json.Decoder(LogLine).decode


class _Head(msgspec.Struct, frozen=True):
    """The first line of a segment: its stream, and since when that exists."""

    stream: str
    created_ms: int


@dataclass(slots=True)
class Segment:
    """
    One file of a stream.

    Args:
        path: The file.
        number: Rises along the stream.
        size_bytes: What is written of it.
        ingested_ms: When the last line arrived.
        first_ms: The earliest event; -1 while it is not known.
        last_ms: The latest event.
    """

    path: Path
    number: int
    size_bytes: int
    ingested_ms: int
    first_ms: int = -1
    last_ms: int = -1

    def may_hold(self, start_ms: int) -> bool:
        """Tell whether an event may be as late as `start_ms`."""
        return self.last_ms >= start_ms if self.first_ms >= 0 else self.ingested_ms + EARLY_MS >= start_ms


@dataclass(slots=True)
class Stream:
    """A stream; `open` is the segment that is appended to."""

    name: str
    created_ms: int
    segments: list[Segment] = field(default_factory=list)
    open: Segment | None = None


@dataclass(slots=True)
class _Group:
    record: LogGroup
    directory: Path
    streams: dict[str, Stream] = field(default_factory=dict)


class LogFiles:
    """
    All log groups of a node, on disk. Every method may be called from any thread, and may block.

    Args:
        directory: Where the groups are kept; made when something is written.
        limits: How much is kept.
    """

    def __init__(self, directory: Path, limits: LogLimits) -> None:
        self._directory = directory
        self._limits = limits
        self._groups: dict[str, _Group] | None = None
        self._lock = threading.Lock()
        self._size_bytes = self._count = 0

    def __repr__(self) -> str:
        """State how much there is."""
        return f"<LogFiles segments={self._count} bytes={self._size_bytes}>"

    # --- groups and streams --------------------------------------------------------------------------------

    def groups(self) -> list[tuple[LogGroup, int]]:
        """Return all groups by name, each with its size in bytes."""
        with self._lock:
            groups = sorted(self._loaded().items())
            return [(group.record, sum(map(_size, group.streams.values()))) for _, group in groups]

    def group(self, name: str) -> LogGroup | None:
        """Return a group, or None."""
        with self._lock:
            group = self._loaded().get(name)
            return group.record if group is not None else None

    def streams(self, group: str) -> list[Stream]:
        """Return a group's streams as they are now, by name; all their segments are known."""
        with self._lock:
            known = self._loaded().get(group)
            streams = [] if known is None else [_copied(stream) for stream in known.streams.values()]
        for stream in streams:
            for segment in stream.segments:
                self.know(segment)
        return sorted(streams, key=lambda stream: stream.name)

    def segments(self, group: str, streams: Sequence[str] | None = None) -> Iterator[tuple[str, Segment]]:
        """Yield the segments of a group, or of some of its streams, each stream's in order."""
        with self._lock:
            known = self._loaded().get(group)
            if known is None:
                return
            names = known.streams if streams is None else [name for name in streams if name in known.streams]
            found = [(name, segment) for name in names for segment in known.streams[name].segments]
        yield from found

    def has_stream(self, group: str, stream: str) -> bool:
        """Tell whether a group has a stream."""
        with self._lock:
            known = self._loaded().get(group)
            return known is not None and stream in known.streams

    def put_group(self, record: LogGroup) -> None:
        """Make a group, or change what is kept about it."""
        with self._lock:
            self._put_group(record)

    def _put_group(self, record: LogGroup) -> _Group:
        groups = self._loaded()
        group = groups.get(record.name) or _Group(record, self._directory / file_name(record.name))
        group.directory.mkdir(parents=True, exist_ok=True)
        temporary = group.directory / "group.json.new"
        temporary.write_bytes(_encoder.encode(record))
        temporary.replace(group.directory / "group.json")
        group.record = record
        groups[record.name] = group
        return group

    def remove_group(self, name: str) -> None:
        """Remove a group with all its streams."""
        with self._lock:
            group = self._loaded().pop(name, None)
            if group is None:
                return
            for stream in group.streams.values():
                for segment in stream.segments:
                    self._drop(segment)
            for file in ("group.json", "group.json.new"):
                (group.directory / file).unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody put something else there: it stays
                group.directory.rmdir()

    def put_stream(self, group: str, stream: str, now_ms: int) -> None:
        """Make a stream without events, if it is not there."""
        with self._lock:
            known, segment = self._begin(self._made(group, now_ms), stream, now_ms)
            if not segment.size_bytes:
                self._put(known, segment, b"")

    def remove_stream(self, group: str, stream: str) -> None:
        """Remove a stream."""
        with self._lock:
            known = self._loaded().get(group)
            found = known.streams.pop(stream, None) if known is not None else None
            for segment in found.segments if found is not None else ():
                self._drop(segment)

    # --- writing -------------------------------------------------------------------------------------------

    def write(self, pending: Mapping[tuple[str, str], Sequence[Batch]], now_ms: int) -> None:
        """
        Append lines, by group and stream; both are made if they are not there.

        Raises:
            OSError: If some could not be written; the others are.
        """
        failure: OSError | None = None
        with self._lock:
            for (group, stream), batches in pending.items():
                try:
                    self._append(self._made(group, now_ms), stream, batches, now_ms)
                except OSError as error:
                    failure = error
            self._shorten()
        if failure is not None:
            raise failure

    def _made(self, group: str, now_ms: int) -> _Group:
        known = self._loaded().get(group)
        return known if known is not None else self._put_group(LogGroup(group, now_ms))

    def _append(self, group: _Group, name: str, batches: Sequence[Batch], now_ms: int) -> None:
        at = 0
        while at < len(batches):
            stream, segment = self._begin(group, name, now_ms)
            end, size_bytes = at, segment.size_bytes
            while end < len(batches) and (end == at or size_bytes < SEGMENT_BYTES):
                size_bytes += len(batches[end].data)
                end += 1
            part = batches[at:end]
            self._put(stream, segment, b"".join([batch.data for batch in part]))
            first_ms = min([batch.first_ms for batch in part])
            segment.first_ms = first_ms if segment.first_ms < 0 else min(segment.first_ms, first_ms)
            segment.last_ms = max(segment.last_ms, *[batch.last_ms for batch in part])
            segment.ingested_ms = now_ms
            at = end

    def _begin(self, group: _Group, name: str, now_ms: int) -> tuple[Stream, Segment]:
        """Return a stream and its segment to append to, new ones if need be."""
        stream = group.streams.get(name)
        if stream is None:
            stream = group.streams[name] = Stream(name, now_ms)
        segment = stream.open
        if segment is not None and segment.size_bytes < SEGMENT_BYTES:
            return stream, segment
        number = stream.segments[-1].number + 1 if stream.segments else 1
        segment = Segment(group.directory / f"{file_name(name)}.{number:06d}.jsonl", number, 0, now_ms)
        stream.segments.append(segment)
        stream.open = segment
        self._count += 1
        return stream, segment

    def _put(self, stream: Stream, segment: Segment, data: bytes) -> None:
        """Append to a segment, with few system calls: at each the event loop may take the interpreter."""
        if not segment.size_bytes:
            data = _encoder.encode(_Head(stream.name, stream.created_ms)) + b"\n" + data
        try:
            descriptor = os.open(segment.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o666)
            try:
                written = os.write(descriptor, data)
                while written < len(data):
                    written += os.write(descriptor, data[written:])
            finally:
                os.close(descriptor)
        except OSError:
            stream.open = None  # what was half written ends here
            raise
        segment.size_bytes += len(data)
        self._size_bytes += len(data)

    # --- removing ------------------------------------------------------------------------------------------

    def expire(self, now_ms: int) -> None:
        """Remove what is older than its group, or the node, wants."""
        with self._lock:
            for group in self._loaded().values():
                wishes = (group.record.retention_days, self._limits.days_max)
                days = min((wish for wish in wishes if wish is not None), default=None)
                if days is not None:
                    self._expire(group, now_ms - days * _DAY_MS)

    def _expire(self, group: _Group, before_ms: int) -> None:
        for stream in tuple(group.streams.values()):
            for segment in tuple(stream.segments):
                if segment.may_hold(before_ms):
                    break
                self._forget(group, stream, segment)

    def _shorten(self) -> None:
        """Remove the oldest segments if there is too much."""
        limits = self._limits
        if self._size_bytes <= limits.bytes_max and self._count <= limits.segments_max:
            return
        everything = [
            (segment.ingested_ms, number, group, stream, segment)
            for group in self._loaded().values()
            for stream in group.streams.values()
            for number, segment in enumerate(stream.segments)
        ]
        everything.sort(key=lambda each: each[:2])
        for _, _, group, stream, segment in everything:
            if self._size_bytes <= limits.bytes_max * _FULL and self._count <= limits.segments_max * _FULL:
                return
            self._forget(group, stream, segment)

    def _forget(self, group: _Group, stream: Stream, segment: Segment) -> None:
        self._drop(segment)
        stream.segments.remove(segment)
        if stream.open is segment:
            stream.open = None
        if not stream.segments:
            group.streams.pop(stream.name, None)

    def _drop(self, segment: Segment) -> None:
        segment.path.unlink(missing_ok=True)
        self._size_bytes -= segment.size_bytes
        self._count -= 1

    # --- reading -------------------------------------------------------------------------------------------

    def know(self, segment: Segment) -> None:
        """Learn what a segment of a former process holds: its first and last event."""
        if segment.first_ms >= 0 or not segment.size_bytes:
            return
        times = [line.timestamp_ms for _, line in read_segment(segment)]
        if times:
            segment.last_ms = max(times)
            segment.first_ms = min(times)

    def _loaded(self) -> dict[str, _Group]:
        """Return the groups; what is on disk is looked at once."""
        if self._groups is None:
            self._groups = {}
            if self._directory.is_dir():
                for directory in self._directory.iterdir():
                    self._load(directory)
        return self._groups

    def _load(self, directory: Path) -> None:
        assert self._groups is not None, "groups are loaded one by one"
        try:
            record = msgspec.json.decode((directory / "group.json").read_bytes(), type=LogGroup)
        except (OSError, msgspec.MsgspecError):
            return  # nothing of ours, or a group that was being made or removed
        group = self._groups[record.name] = _Group(record, directory)
        for path in sorted(directory.glob("*.jsonl")):
            number = path.stem.rpartition(".")[2]
            try:
                head, status = _read_head(path), path.stat()
            except (OSError, msgspec.MsgspecError):
                continue  # a segment that was being begun
            if number.isdigit():
                stream = group.streams.setdefault(head.stream, Stream(head.stream, head.created_ms))
                ingested_ms = status.st_mtime_ns // 1_000_000
                stream.segments.append(Segment(path, int(number), status.st_size, ingested_ms))
                self._size_bytes += status.st_size
                self._count += 1


def file_name(name: str) -> str:
    """Return a name that a file can have for one that a group or stream has; no two have the same."""
    quoted = quote(name, safe="").replace(".", "%2E")
    if len(quoted) <= _NAME_CHARACTERS_MAX:
        return quoted
    return f"{quoted[: _NAME_CHARACTERS_MAX - 65]}~{hashlib.sha256(name.encode()).hexdigest()}"


def read_segment(segment: Segment) -> list[tuple[int, LogLine]]:
    """Return a segment's lines, each with its number in it; none if the segment was removed meanwhile."""
    try:
        with segment.path.open("rb") as file:
            data = file.read(segment.size_bytes)
    except FileNotFoundError:
        return []
    lines: list[tuple[int, LogLine]] = []
    for number, raw in enumerate(data.split(b"\n")[1:]):
        try:
            lines.append((number, _decode_line(raw)))
        except msgspec.MsgspecError:
            continue  # the last line, also that of a node that was killed while writing
    return lines


def _read_head(path: Path) -> _Head:
    with path.open("rb") as file:
        return msgspec.json.decode(file.readline(64 * 1024), type=_Head)


def _size(stream: Stream) -> int:
    return sum(segment.size_bytes for segment in stream.segments)


def _copied(stream: Stream) -> Stream:
    return Stream(stream.name, stream.created_ms, list(stream.segments))
