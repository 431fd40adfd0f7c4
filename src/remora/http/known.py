"""
Requests that come again byte for byte, so that they need not be parsed again.

Whoever polls sends the same bytes each time: a runtime asks for its next invocation, an extension for its
next event. Only whole requests without a body are remembered, and looked up only between two requests.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from remora.http.exchange import Header
    from remora.http.served import ServedExchange

BYTES_MAX: Final = 512
"""Longer requests are not remembered."""
_REQUESTS_MAX: Final = 1_024
_END: Final = b"\r\n\r\n"


class Known(NamedTuple):
    """What a request came to; see `Exchange`."""

    method: bytes
    path: bytes
    query: bytes
    headers: list[Header]


class KnownRequests:
    """Requests by their bytes; servers with equal limits may share one."""

    __slots__ = ("_requests", "get")

    def __init__(self) -> None:
        self._requests: dict[bytes, Known] = {}
        self.get = self._requests.get
        """Returns what the same bytes came to before, or None."""

    def __repr__(self) -> str:
        return f"<KnownRequests {len(self._requests)}>"

    def remember(self, data: bytes, exchange: ServedExchange) -> None:
        """Remember what was read at once, if that is `exchange`, the one request in it, and nothing else."""
        if exchange.received_bytes or not exchange.keeps:
            return
        if data.endswith(_END) and data.count(_END) == 1:
            if len(self._requests) >= _REQUESTS_MAX:
                self._requests.clear()
            self._requests[data] = Known(exchange.method, exchange.path, exchange.query, exchange.headers)
