"""What one HTTP server accepts: sizes, counts and times."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """
    The bounds of a server; a time of None means that nobody waits for it.

    Inside environments no time is limited: a frozen process may leave a connection silent for hours.

    Args:
        header_bytes_max: Request line and headers together, bytes; more is answered with 431.
        headers_max: Number of headers; more is answered with 431.
        body_bytes_max: `Exchange.body_bytes_max` of a fresh exchange, bytes.
        body_bytes_read_max: A body longer than this is not even read and thrown away: it is answered with 413
            and the connection ends (unless the application has allowed this exchange more).
        held_bytes_max: All bodies together that are kept and are not small (64 KiB), bytes; others are not
            read until there is room. An application that hands a body over keeps none of it here.
        held_wait_s: How long a body waits for room before it is answered with 503, seconds.
        connections_max: Open connections; one more is answered with 503.
        accepts_at_once: How many connections are accepted per turn of the loop. Under load a turn takes long,
            and whoever connects waits for as many turns as there are others before him.
        header_timeout_s: From the first byte of a request to the end of its headers, seconds.
        body_timeout_s: Longest silence within a body, seconds.
        body_rate_min: Bytes a second that a body must bring on average once `body_timeout_s` has passed, so
            that nobody sends one byte a minute for ever; a body that is handed over has its own pace.
        idle_timeout_s: How long a connection is kept without a request, seconds.
        write_timeout_s: How long a peer may refuse to take a single byte of its answer, seconds.
        linger_s: How long a connection that ends with an error keeps swallowing what the peer still sends,
            so that the answer is not lost by a reset, seconds.
        send_date: True if answers carry `Date`.
    """

    header_bytes_max: int = 1024 * 1024
    headers_max: int = 1024
    body_bytes_max: int = 8 * 1024 * 1024
    body_bytes_read_max: int = 64 * 1024 * 1024
    held_bytes_max: int = 1024 * 1024 * 1024
    held_wait_s: float = 30.0
    connections_max: int = 1024
    accepts_at_once: int = 1
    header_timeout_s: float | None = None
    body_timeout_s: float | None = None
    body_rate_min: int | None = None
    idle_timeout_s: float | None = None
    write_timeout_s: float | None = None
    linger_s: float = 2.0
    send_date: bool = False
