"""
Holds the view: changes are decided one at a time, made durable, and only then applied.

So whatever a reply says, and whatever the view shows, survives a kill of the process.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, TypeVar

import msgspec

from remora.resources.view import KINDS, Change, View
from remora.store.base import Document, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from remora.store.base import Store

Reply = TypeVar("Reply")

_encode = msgspec.json.Encoder().encode


class State:
    """
    The records of a node.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self.view = View()
        self.generation = 0
        """Rises with every change; what was derived from the view before is out of date."""
        self._store = store
        self._listeners: list[tuple[Callable[[], object], frozenset[str]]] = []
        self._lock = asyncio.Lock()

    def __repr__(self) -> str:
        return f"<State generation={self.generation} {self.view!r}>"

    async def load(self) -> None:
        """
        Read all records into the view.

        Raises:
            StoreError: If the store cannot be opened, or a record is not understood.
        """
        self.view.apply([_decode(document) for document in await self._store.load()])
        self.generation += 1

    async def change(self, decide: Callable[[View], tuple[Reply, Sequence[Change]]]) -> Reply:
        """
        Decide on the view as it is now, and carry the decision out.

        Args:
            decide: A rule; it may raise, then nothing has changed.

        Returns:
            The rule's reply.

        Raises:
            StoreError: If the changes could not be kept; then nothing has changed.

        **Cancellation:** the changes may be on disk and not in the view; only a node that stops cancels.
        """
        async with self._lock:
            reply, changes = decide(self.view)
            if changes:
                await self._store.commit([_document(change) for change in changes])
                self.view.apply(changes)
                self.generation += 1
                kinds = {change.kind for change in changes}
                for listener, wanted in self._listeners:
                    if not wanted or kinds & wanted:
                        listener()
        return reply

    def subscribe(self, listener: Callable[[], object], *kinds: str) -> None:
        """
        Let `listener` be called after every change, before anybody else can look at the view.

        Args:
            listener: Called without arguments.
            kinds: Kinds of records that it is about; none: all.
        """
        self._listeners.append((listener, frozenset(kinds)))


def _document(change: Change) -> Document:
    return Document(change.kind, change.key, None if change.record is None else _encode(change.record))


def _decode(document: Document) -> Change:
    kind = KINDS.get(document.kind)
    if kind is None or document.content is None:
        raise StoreError(f"the store holds a record of unknown kind {document.kind}; use a newer remora")
    try:
        record = msgspec.json.decode(document.content, type=kind)
    except msgspec.DecodeError as error:
        raise StoreError(
            f"the record {document.kind} {document.key} is not understood ({error}); use a newer remora"
        ) from error
    return Change(document.kind, document.key, record)
