"""
The door between the HTTP server and whoever answers: one request with its answer is an `Exchange`.

The server parses, an `Application` decides. For every request the application hears, in this order:
`began` (request line and headers are known, no byte of the body), then either `ended` (the whole body is in
`exchange.body`) or `aborted` (the peer left or broke the protocol before the body was complete). It may
answer from any of them, or later from anywhere (a parked request is an exchange nobody has answered yet).
After `ended`, `aborted` is called once more if the peer leaves before the answer was finished.
A body that is not to be kept can be handed over piece by piece, as it comes: `hand_over`, then `pause` and
`resume` as the pieces can be taken; `ended` and `aborted` come as they always do.
An exchange whose answer is finished hears nothing more (so whoever answers from `began` never hears `ended`).
In `aborted` the peer may still be able to read (it only stopped sending): an answer given there is tried.
Answering an exchange whose peer has left is allowed and does nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

Header = tuple[bytes, bytes]


class Exchange(Protocol):
    """One request and its answer."""

    method: bytes
    path: bytes
    """Raw path as sent, still percent-encoded, without the query."""
    query: bytes
    """Raw query string without the question mark."""
    headers: list[Header]
    """In order of arrival, names in lower case."""
    body: bytes
    """Complete when `ended` is called."""
    body_bytes_max: int
    """Bytes of body that are kept; set in `began` to change it. What is over is read and thrown away."""
    received_bytes: int
    """Bytes of body that have come so far, kept or not."""
    is_oversized: bool
    """True if the body was longer than `body_bytes_max` (then `body` is empty)."""
    is_truncated: bool
    """True if the peer stopped within its body (then `aborted` was called instead of `ended`)."""
    is_crowded_out: bool
    """True if there was no room for its body next to those of others (then it was aborted)."""
    trailers: Sequence[Header]
    """What followed a chunked body, as `headers`; complete when `ended` is called."""
    application: Application
    """Who hears what follows; set in `began` to hand it on to another one."""
    slot: object
    """Free for the application: its note on this exchange."""

    @property
    def is_open(self) -> bool:
        """True while the peer is there and no answer was finished."""

    @property
    def peer(self) -> str:
        """Address of the peer, `127.0.0.1`; empty if it has none."""

    def header(self, name: bytes) -> bytes | None:
        """Return the first header called `name` (lower case), or None."""

    def hand_over(self, take: Callable[[bytes], None]) -> None:
        """Give each piece of the body to `take`, beginning with what has come, instead of keeping it."""

    def pause(self) -> None:
        """Take no more of the body from the peer for now. Repeated calls: no effect."""

    def resume(self) -> None:
        """Go on with it. Repeated calls: no effect."""

    def respond(self, status: int, headers: Iterable[Header] | bytes, body: bytes) -> None:
        """
        Answer with a whole body; Content-Length and Date are added, the connection is kept if possible.

        Args:
            status: Of the answer.
            headers: Names and values, looked at for line breaks; or lines, each with its line break, whose
                author answers for what is in them.
            body: Of the answer.
        """

    def begin(self, status: int, headers: Iterable[Header], length: int | None = None) -> None:
        """Begin an answer; without a length it goes in chunks, with one exactly so many bytes are written."""

    def write(self, chunk: bytes) -> None:
        """Send one chunk of an answer that was begun."""

    async def drain(self) -> None:
        """Wait until the peer has taken enough for more to be written; returns at once if it has left."""

    def finish(self, trailers: Iterable[Header] = ()) -> None:
        """End an answer that was begun."""

    def close(self) -> None:
        """Drop the connection without (or after) an answer."""


class Application(Protocol):
    """Who answers requests."""

    def began(self, exchange: Exchange) -> None:
        """Request line and headers have arrived."""

    def ended(self, exchange: Exchange) -> None:
        """The body is complete."""

    def aborted(self, exchange: Exchange) -> None:
        """The peer left before the body was complete, or before it was answered."""
