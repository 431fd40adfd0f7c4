"""
One subscriber's queue: when which events are delivered, what is tried again, what is dropped.

Pure: time is an argument (microseconds of the monotonic clock). At most one batch is out at a time. What does
not fit is dropped, newest first; the batch that follows begins with an event that says how much so far.

Source: telemetry-api specification, sections 5.3 and 5.4.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.telemetry.subscriptions import Buffering

RETRY_US: Final = 25_000
"""From a failed delivery to the next try; it doubles with each further one."""
RETRY_US_MAX: Final = 1_000_000


class Entry(NamedTuple):
    """
    One event as a subscriber gets it.

    Args:
        json: The event.
        payload_bytes: What it counts for: the length of its record.
        at_us: When it came about.
    """

    json: bytes
    payload_bytes: int
    at_us: int


class QueueState(msgspec.Struct, frozen=True):
    """
    What a queue holds that was not delivered.

    Args:
        out: The batch that is out, whether or not it has arrived: nobody has said so.
        waiting: What waits, in order.
        dropped: Records that were dropped so far.
        dropped_bytes: Bytes of them.
        is_drop_told: True if the subscriber was told of them.
    """

    out: tuple[bytes, ...]
    waiting: tuple[Entry, ...]
    dropped: int
    dropped_bytes: int
    is_drop_told: bool


class Queue:
    """
    What waits for one subscriber.

    Args:
        buffering: What it asked for. Twice as much may wait beside the batch that is out.
        tell_drops: Returns the event that tells how many records, and bytes of them, were dropped so far.
    """

    __slots__ = (
        "_buffering",
        "_dropped",
        "_dropped_bytes",
        "_flushed",
        "_is_drop_told",
        "_out",
        "_retry_at_us",
        "_retry_us",
        "_tell_drops",
        "_waiting",
        "_waiting_bytes",
    )

    def __init__(self, buffering: Buffering, tell_drops: Callable[[int, int], bytes]) -> None:
        self._buffering = buffering
        self._tell_drops = tell_drops
        self._waiting: deque[Entry] = deque()
        self._waiting_bytes = 0
        self._flushed = 0
        """How many of those that wait are to be delivered without waiting for more."""
        self._out: list[bytes] | None = None
        self._retry_at_us = -1
        """When the batch that is out is to be tried again; -1 while it is being tried."""
        self._retry_us = RETRY_US
        self._dropped = self._dropped_bytes = 0
        self._is_drop_told = True

    def __repr__(self) -> str:
        """State how much waits, is out, and was dropped."""
        out = len(self._out) if self._out is not None else 0
        return f"<Queue {len(self._waiting)} waiting, {out} out, {self._dropped} dropped>"

    @property
    def is_flushed(self) -> bool:
        """True if everything that was there at the last `flush` has been delivered."""
        return not self._flushed and self._out is None

    @property
    def is_failing(self) -> bool:
        """True if the last delivery failed."""
        return self._retry_us > RETRY_US

    def put(self, entries: Sequence[Entry]) -> None:
        """Take in events, as far as there is room."""
        items_max, bytes_max = 2 * self._buffering.items, 2 * self._buffering.payload_bytes
        total = sum([entry.payload_bytes for entry in entries])
        if len(self._waiting) + len(entries) <= items_max and self._waiting_bytes + total <= bytes_max:
            self._waiting.extend(entries)
            self._waiting_bytes += total
            return
        for entry in entries:
            # One event may be longer than everything that there is room for: alone it is let in.
            has_room = not self._waiting or self._waiting_bytes + entry.payload_bytes <= bytes_max
            if has_room and len(self._waiting) < items_max:
                self._waiting.append(entry)
                self._waiting_bytes += entry.payload_bytes
            else:
                self.drop(1, len(entry.json))

    def drop(self, records: int, size_bytes: int) -> None:
        """Note that events were dropped before they came here."""
        self._dropped += records
        self._dropped_bytes += size_bytes
        self._is_drop_told = False

    def flush(self) -> None:
        """Let what waits now be delivered without waiting for more."""
        self._flushed = len(self._waiting)

    def due_us(self) -> int | None:
        """Return when `take` will have a batch, perhaps in the past; None: not before something happens."""
        if self._out is not None:
            return self._retry_at_us if self._retry_at_us >= 0 else None
        if not self._waiting:
            return None if self._is_drop_told else 0
        buffering = self._buffering
        if self._flushed or len(self._waiting) >= buffering.items:
            return 0
        if self._waiting_bytes >= buffering.payload_bytes:
            return 0
        return self._waiting[0].at_us + buffering.timeout_ms * 1000

    def take(self, now_us: int) -> list[bytes] | None:
        """Return the batch to be delivered now, if there is one; `delivered` or `failed` must follow."""
        due_us = self.due_us()
        if due_us is None or due_us > now_us:
            return None
        if self._out is not None:
            self._retry_at_us = -1
            return self._out
        self._out = self._next_batch()
        return self._out

    def _next_batch(self) -> list[bytes]:
        batch: list[bytes] = []
        if not self._is_drop_told:
            batch.append(self._tell_drops(self._dropped, self._dropped_bytes))
            self._is_drop_told = True
        room = self._buffering.items - len(batch)
        if self._flushed:
            room = min(room, self._flushed)
        room = min(room, len(self._waiting))
        size_bytes, bytes_max = 0, self._buffering.payload_bytes
        waiting, taken = self._waiting, 0
        while taken < room and size_bytes < bytes_max:
            entry = waiting.popleft()
            batch.append(entry.json)
            size_bytes += entry.payload_bytes
            taken += 1
        self._flushed = max(0, self._flushed - taken)
        self._waiting_bytes -= size_bytes
        return batch

    def delivered(self) -> None:
        """The batch that is out has arrived."""
        assert self._out is not None, "a batch was delivered that was not out"
        self._out = None
        self._retry_us = RETRY_US

    def failed(self, now_us: int) -> None:
        """The batch that is out did not arrive: it will be tried again."""
        assert self._out is not None, "a batch failed that was not out"
        self._retry_at_us = now_us + self._retry_us
        self._retry_us = min(2 * self._retry_us, RETRY_US_MAX)

    def state(self) -> QueueState:
        """Return what was not delivered."""
        out, waiting = tuple(self._out or ()), tuple(self._waiting)
        return QueueState(out, waiting, self._dropped, self._dropped_bytes, self._is_drop_told)

    def adopt(self, state: QueueState, now_us: int) -> None:
        """Take in what another queue has not delivered, as if it had come about now; this one is new."""
        assert self._out is None, "a queue that is in use took in another one"
        assert not self._waiting, "a queue that is in use took in another one"
        if state.out:
            self._out, self._retry_at_us = [*state.out], 0
        self._waiting.extend(entry._replace(at_us=now_us) for entry in state.waiting)
        self._waiting_bytes = sum(entry.payload_bytes for entry in state.waiting)
        self._dropped, self._dropped_bytes = state.dropped, state.dropped_bytes
        self._is_drop_told = state.is_drop_told

    def retry(self) -> None:
        """Try the batch that failed again at once: there is a new listener, or the environment runs again."""
        self._retry_us = RETRY_US
        self._retry_at_us = min(0, self._retry_at_us)
