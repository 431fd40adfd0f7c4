"""
A response that is handed on while the runtime still produces it.

The runtime's chunks come in on one side, whoever answers the invoker takes them on the other. Little is held
in between: when the taker is slow, the connection to the runtime is not read until it has caught up.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HELD_BYTES_MAX: Final = 256 * 1024
"""More than this waits for the invoker only as far as it had been read already."""


class Source(Protocol):
    """Where the chunks come from."""

    def pause(self) -> None:
        """Send no more for now. Repeated calls: no effect."""

    def resume(self) -> None:
        """Go on. Repeated calls: no effect."""


class StreamEnd(NamedTuple):
    """
    What is known when a streamed response has ended.

    Args:
        error_code: Type of the error that ended it; empty if it is whole.
        error_details: The error as JSON text.
        log_tail: Last 4096 bytes of the invocation's log; None unless asked for.
    """

    error_code: str = ""
    error_details: str = ""
    log_tail: bytes | None = None


class ResponseStream:
    """
    One streamed response; it has one reader.

    Args:
        source: Where the chunks come from.
    """

    def __init__(self, source: Source) -> None:
        self._source = source
        self._chunks: deque[bytes] = deque()
        self._held_bytes = 0
        self._changed = asyncio.Event()
        self._end: StreamEnd | None = None
        self._is_abandoned = False

    def __repr__(self) -> str:
        """State how much waits and whether there will be more."""
        return f"<ResponseStream {self._held_bytes} bytes held, {'open' if self._end is None else 'ended'}>"

    @property
    def end(self) -> StreamEnd:
        """How it ended; known when `chunks` is exhausted."""
        assert self._end is not None, "the end of a stream was asked for before it came"
        return self._end

    def put(self, chunk: bytes) -> None:
        """Take in what the runtime has produced; after the end, or without a reader, it is thrown away."""
        if self._end is not None or self._is_abandoned:
            return
        self._chunks.append(chunk)
        self._held_bytes += len(chunk)
        if self._held_bytes > HELD_BYTES_MAX:
            self._source.pause()
        self._changed.set()

    def finish(self, end: StreamEnd) -> None:
        """End it; what was put before still reaches the reader. Repeated calls: the first end stands."""
        if self._end is None:
            self._end = end
            self._source.resume()
            self._changed.set()

    def abandon(self) -> None:
        """Nobody reads any more: the runtime shall finish as if somebody did. Repeated calls: no effect."""
        self._is_abandoned = True
        self._chunks.clear()
        self._held_bytes = 0
        self._source.resume()

    async def chunks(self) -> AsyncIterator[bytes]:
        """
        Yield what the runtime produces, as it does, until the end.

        **Cancellation:** the stream goes on; `abandon` lets the runtime finish.
        """
        while True:
            while self._chunks:
                chunk = self._chunks.popleft()
                self._held_bytes -= len(chunk)
                if self._held_bytes <= HELD_BYTES_MAX // 2:
                    self._source.resume()
                yield chunk
            if self._end is not None:
                return
            self._changed.clear()
            await self._changed.wait()
