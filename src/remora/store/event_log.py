"""
The door to the log of asynchronous events: entries by number, each with a head, a body, and a progress.

A log is opened by `load`, once, before anything else; then `commit` and `body` may be called from many tasks
at once; `close` ends it. A commit is all or nothing. What it changes survives a kill of the process; what is
committed durably, and everything before it, survives a kill of the machine. What entries mean is the
caller's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class Entry(NamedTuple):
    """
    One change, and one entry as it is read again.

    Args:
        change: `put` adds an entry, `progress` replaces the progress of one, `gone` removes one.
        number: Whose: chosen by the caller, unique, rising.
        kind: What the caller takes it for, `event`.
        head: What the caller says about it, read by `load`.
        body: What may be large, read one by one.
        progress: What changes.
    """

    change: Literal["put", "progress", "gone"]
    number: int
    kind: str = ""
    head: bytes = b""
    body: bytes = b""
    progress: bytes = b""


class EventLog(Protocol):
    """Keeps entries."""

    async def load(self) -> list[Entry]:
        """
        Open the log, made on first use, and return all entries by their numbers, without their bodies.

        Raises:
            StoreError: If it cannot be opened, or is damaged.
        """

    async def commit(self, entries: Sequence[Entry], *, is_durable: bool = False) -> None:
        """
        Make all changes, or none.

        Raises:
            StoreError: If nothing was written: disk full, input or output error.

        **Cancellation:** the changes are made all the same, or none of them.
        """

    async def body(self, number: int) -> bytes:
        """
        Return the body of an entry.

        Raises:
            StoreError: If it cannot be read, or there is none.
        """

    async def close(self) -> None:
        """
        Close the log; commits that were accepted are finished first. Repeated calls: no effect.

        **Cancellation:** the log is closed all the same.
        """
