"""
Metrics on disk: what was counted in earlier lives of a node.

One row per resource and bucket in a SQLite file of its own, written by one thread every few seconds: only
buckets that have changed. What a node killed with SIGKILL had not written (at most `SAVE_EVERY_S`) is lost:
metrics are no records. Old minutes become buckets of five minutes there as they do in memory. A file that
cannot be read is put aside, and the node starts with none.
"""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.kit.files import make_private
from remora.kit.tasks import TaskSet
from remora.telemetry.metrics import (
    BUCKETS_MAX,
    COARSE_S,
    KEPT_S,
    MINUTE_S,
    MINUTES_KEPT_S,
    Bucket,
)
from remora.telemetry.summary import Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import ParamSpec, TypeVar

    from remora.kit.clock import Clock
    from remora.telemetry.metrics import Metrics

    P = ParamSpec("P")
    T = TypeVar("T")

_log = logging.getLogger("remora.metrics")

SAVE_EVERY_S: Final = 10.0
COMPACT_EVERY_S: Final = 3600
_CHANGING_S: Final = 20 * 60
"""No bucket changes later than that: the longest invocation, and a wait before it."""
_ENCODED_AT_ONCE: Final = 50
"""Buckets encoded before others may run."""
"""What the file is to others, like the node's other databases: it names functions."""

_CREATE = """
    CREATE TABLE IF NOT EXISTS bucket (
        resource TEXT NOT NULL,
        width_s INTEGER NOT NULL,
        start_s INTEGER NOT NULL,
        content BLOB NOT NULL,
        PRIMARY KEY (start_s, resource, width_s)
    ) WITHOUT ROWID
"""
_PUT = """
    INSERT INTO bucket (resource, width_s, start_s, content) VALUES (?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET content = excluded.content
"""
_READ_NEWEST = """
    SELECT resource, width_s, start_s, content FROM bucket
    WHERE start_s >= ? ORDER BY start_s DESC LIMIT ?
"""
_READ_OLD_MINUTES = "SELECT resource, start_s, content FROM bucket WHERE width_s = ? AND start_s < ?"
_READ_ONE = "SELECT content FROM bucket WHERE resource = ? AND width_s = ? AND start_s = ?"
_DELETE_OLD_MINUTES = "DELETE FROM bucket WHERE width_s = ? AND start_s < ?"
_DELETE_BEFORE = "DELETE FROM bucket WHERE start_s < ?"
_DELETE_BEYOND = """
    DELETE FROM bucket
    WHERE start_s < (SELECT start_s FROM bucket ORDER BY start_s DESC LIMIT 1 OFFSET ?)
"""


class Row(NamedTuple):
    """One bucket as it is kept; `resource` is the ARN as it was invoked."""

    resource: str
    width_s: int
    start_s: int
    content: bytes


# --- buckets as bytes -------------------------------------------------------------------------------------


class _Numbers(msgspec.Struct, array_like=True, frozen=True):
    """A summary as it is written."""

    count: int
    total: int
    least: int
    greatest: int
    bins: dict[int, int]


class _Written(msgspec.Struct, array_like=True, frozen=True):
    """A bucket as it is written; members are only ever added, at the end."""

    invocations: int
    errors: int
    throttles: int
    summaries: dict[str, _Numbers]
    others: dict[str, _Numbers]


_PARTS: Final = ("duration", "post", "concurrency", "all_concurrency")
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Written).decode


def encode(bucket: Bucket) -> bytes:
    """Return a bucket as bytes."""
    summaries = {name: getattr(bucket, name) for name in _PARTS}
    return _encode(
        _Written(
            bucket.invocations,
            bucket.errors,
            bucket.throttles,
            {name: _numbers(summary) for name, summary in summaries.items() if summary.count},
            {name: _numbers(summary) for name, summary in (bucket.others or {}).items()},
        )
    )


def decode(content: bytes) -> Bucket:
    """
    Return the bucket that `encode` wrote.

    Raises:
        msgspec.DecodeError: If it is none.
    """
    written = _decode(content)
    bucket = Bucket()
    bucket.invocations, bucket.errors, bucket.throttles = (
        written.invocations,
        written.errors,
        written.throttles,
    )
    for name, numbers in written.summaries.items():
        if name in _PARTS:
            setattr(bucket, name, _summary(numbers))
    if written.others:
        bucket.others = {name: _summary(numbers) for name, numbers in written.others.items()}
    return bucket


def _numbers(summary: Summary) -> _Numbers:
    return _Numbers(summary.count, summary.total, summary.least, summary.greatest, summary.bins)


def _summary(numbers: _Numbers) -> Summary:
    summary = Summary()
    summary.count, summary.total = numbers.count, numbers.total
    summary.least, summary.greatest = numbers.least, numbers.greatest
    summary.bins = numbers.bins
    return summary


# --- the file ---------------------------------------------------------------------------------------------


class MetricFile:
    """
    The file. Every method blocks, and raises sqlite3.Error if disk or file fails; `open` raises OSError, too.

    Args:
        path: Made if it is not there; its directory must be.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None

    def open(self, now_s: int) -> list[Row]:
        """Open the file, putting one aside that is damaged; returns what is kept, oldest first."""
        try:
            return self._open(now_s)
        except sqlite3.OperationalError:  # disk full, no permission: the file may be whole
            raise
        except sqlite3.DatabaseError as error:
            self.close()
            _log.warning("%s is damaged (%s): it was put aside, metrics begin anew", self._path, error)
            for suffix in ("", "-wal", "-shm"):
                file = self._path.with_name(self._path.name + suffix)
                if file.exists():
                    file.replace(file.with_name(f"{self._path.name}.damaged{suffix}"))
            return self._open(now_s)

    def _open(self, now_s: int) -> list[Row]:
        make_private(self._path)  # SQLite gives the files beside it the same mode
        self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
        self._connection.execute("PRAGMA journal_mode = WAL")
        self._connection.execute("PRAGMA synchronous = NORMAL")
        self._connection.execute(_CREATE)
        self.compact(now_s)
        found = self._connection.execute(_READ_NEWEST, (now_s - KEPT_S, BUCKETS_MAX))
        return [Row(*each) for each in found][::-1]

    def put(self, rows: Sequence[Row]) -> None:
        """Write buckets, all or none."""
        self._transact(lambda connection: connection.executemany(_PUT, rows))

    def compact(self, now_s: int) -> None:
        """Make old minutes into buckets of five, and forget what is too old or too much."""
        self._transact(lambda connection: _compact(connection, now_s))

    def _transact(self, work: Callable[[sqlite3.Connection], object]) -> None:
        connection = self._connection
        assert connection is not None, "the file is opened before it is used"
        connection.execute("BEGIN IMMEDIATE")
        try:
            work(connection)
            connection.execute("COMMIT")
        finally:
            if connection.in_transaction:
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Close the file. Repeated calls: no effect."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _compact(connection: sqlite3.Connection, now_s: int) -> None:
    until_s = now_s - MINUTES_KEPT_S
    coarse: dict[tuple[str, int], Bucket] = {}
    with closing(connection.execute(_READ_OLD_MINUTES, (MINUTE_S, until_s))) as minutes:
        for resource, start_s, content in minutes:
            place = (resource, start_s - start_s % COARSE_S)
            coarse.setdefault(place, Bucket()).merge(_decoded(content))
    for (resource, start_s), bucket in coarse.items():
        for (content,) in connection.execute(_READ_ONE, (resource, COARSE_S, start_s)).fetchall():
            bucket.merge(_decoded(content))
        connection.execute(_PUT, (resource, COARSE_S, start_s, encode(bucket)))
    connection.execute(_DELETE_OLD_MINUTES, (MINUTE_S, until_s))
    connection.execute(_DELETE_BEFORE, (now_s - KEPT_S,))
    connection.execute(_DELETE_BEYOND, (BUCKETS_MAX,))


def _decoded(content: Any) -> Bucket:
    """Return a bucket; an empty one of what cannot be read."""
    try:
        return decode(content)
    except (msgspec.DecodeError, TypeError):
        return Bucket()


# --- in the event loop ------------------------------------------------------------------------------------


class MetricStore:
    """
    Keeps a node's metrics.

    Args:
        path: The file.
        metrics: What is kept.
        clock: The node's clock.
    """

    def __init__(self, path: Path, metrics: Metrics, clock: Clock) -> None:
        self._file = MetricFile(path)
        self._path = path
        self._metrics = metrics
        self._clock = clock
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="metrics")
        self._tasks = TaskSet("metrics")
        self._stamps: dict[tuple[str, int], int] = {}
        """How much had been counted in each recent bucket when it was written last."""
        self._compacted_s = 0
        self._is_open = self._is_failing = self._is_closed = False

    def __repr__(self) -> str:
        return f"<MetricStore {self._path} recent={len(self._stamps)}>"

    async def open(self) -> None:
        """Read what earlier nodes counted; without a usable file the node counts all the same."""
        now_s = self._compacted_s = self._now_s()
        try:
            rows = await self._in_thread(self._file.open, now_s)
        except (sqlite3.Error, OSError) as error:
            _log.warning("metrics are not kept: %s cannot be used (%s)", self._path, error)
            return
        self._is_open = True
        for row in rows:
            self._metrics.restore(row.resource, row.start_s, row.width_s, _decoded(row.content))
        self._stamps = {(arn, at_s): bucket.stamp for arn, at_s, bucket in self._recent(now_s)}
        self._tasks.spawn(self._run(), f"keep metrics in {self._path}")

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(SAVE_EVERY_S)
            await self.save()

    async def save(self) -> None:
        """Write what has changed since the last time; a disk that fails is told once."""
        if not self._is_open:
            return
        now_s = self._now_s()
        stamps: dict[tuple[str, int], int] = {}
        rows: list[Row] = []
        for arn, start_s, bucket in list(self._recent(now_s)):
            stamp = stamps[arn, start_s] = bucket.stamp
            if self._stamps.get((arn, start_s)) != stamp:
                rows.append(Row(arn, MINUTE_S, start_s, encode(bucket)))
                if len(rows) % _ENCODED_AT_ONCE == 0:
                    await asyncio.sleep(0)
        try:
            if rows:
                await self._in_thread(self._file.put, rows)
            if now_s - self._compacted_s > COMPACT_EVERY_S:
                self._compacted_s = now_s
                await self._in_thread(self._file.compact, now_s)
        except sqlite3.Error as error:
            if not self._is_failing:
                _log.warning("metrics cannot be written to %s: %s", self._path, error)
            self._is_failing = True
            return
        self._is_failing = False
        self._stamps = stamps

    async def close(self) -> None:
        """
        Write what has changed, and close the file. Repeated calls: no effect.

        **Cancellation:** the file is closed all the same.
        """
        if self._is_closed:
            return
        self._is_closed = True
        try:
            await self._tasks.close()
            await self.save()
        finally:
            self._is_open = False
            ended = asyncio.get_running_loop().run_in_executor(self._thread, self._file.close)
            self._thread.shutdown(wait=False)
            await asyncio.shield(ended)

    def _recent(self, now_s: int) -> Iterator[tuple[str, int, Bucket]]:
        return self._metrics.recent(now_s - _CHANGING_S)

    def _now_s(self) -> int:
        return self._clock.wall_ms() // 1000

    async def _in_thread(self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: work(*args, **kwargs))
