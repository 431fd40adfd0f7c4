"""
The door to the store: documents by kind and key, on disk.

A store is opened by `load`, once, before anything else; then `commit` may be called from many tasks at once;
`close` ends it. A commit is one transaction: when it returns, all its changes survive a kill of the process
and of the machine; when it raises, none of them has happened. Two nodes never use one store at a time.
What documents mean is the caller's business.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence


class StoreError(Exception):
    """
    The store could not be opened, read or written.

    Args:
        message: What was attempted, on what, and what to do.
        retryable: True if another try may succeed (the disk was full for a moment).
    """

    def __init__(self, message: str, *, retryable: bool = False) -> None:
        super().__init__(message)
        self.retryable = retryable


class Document(NamedTuple):
    """
    One record as the store keeps it.

    Args:
        kind: What it is, `function`.
        key: Unique within its kind.
        content: JSON; None (in a commit) deletes the record if there is one.
    """

    kind: str
    key: str
    content: bytes | None


class Store(Protocol):
    """Keeps documents."""

    async def load(self) -> list[Document]:
        """
        Open the store, made on first use, and read everything.

        Raises:
            StoreError: If another node uses it, if it is damaged, or cannot be read.
        """

    async def commit(self, changes: Sequence[Document]) -> None:
        """
        Write all changes, or none.

        Raises:
            StoreError: If nothing was written: disk full, input or output error.

        **Cancellation:** the changes are written all the same, or none of them.
        """

    async def close(self) -> None:
        """
        Close the store; commits that were accepted are finished first. Repeated calls: no effect.

        **Cancellation:** the store is closed all the same.
        """
