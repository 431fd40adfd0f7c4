"""
Connections that change their server: what one lets go of without a word, another takes up.

The TCP connection is neither shut down nor closed by this: whoever gets its socket decides what becomes of
it. A request that waits for its answer goes along as the head it came with; its new server does not tell the
application about it again.
"""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from remora.http.connection import Connection
from remora.http.heads import without_upgrade
from remora.http.served import DONE

if TYPE_CHECKING:
    import asyncio

    from remora.http.exchange import Exchange
    from remora.http.served import ServedExchange
    from remora.http.server import Server

_END = b"\r\n\r\n"


class CannotMoveError(Exception):
    """A connection cannot change its server now; nothing was changed."""


@dataclass(frozen=True, slots=True)
class Moved:
    """
    A connection that was let go of.

    Args:
        socket: Its socket; whoever gets this closes it.
        request: The head of the request that waits for its answer; None if none does.
        exchange: That request, as it was known; answering it does nothing any more.
    """

    socket: socket.socket
    request: bytes | None
    exchange: Exchange | None


def hand_over(server: Server) -> list[Moved]:
    """
    Let go of every connection of a server, all or none; nothing is written, applications hear nothing.

    Connections that wait to be accepted are not among them.

    Raises:
        CannotMoveError: If one is within a request or an answer.
    """
    found = []
    for connection in tuple(server.connections):
        if not connection.is_between:
            who = connection.waits_for or "a connection, of which not all has come,"
            message = f"{who} is within a request or an answer"
            raise CannotMoveError(message)
        found.append((connection, connection.waits_for))
    return [_let_go(connection, exchange) for connection, exchange in found]


def _let_go(connection: Connection, exchange: ServedExchange | None) -> Moved:
    transport = connection.transport
    duplicate = socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno()))
    duplicate.settimeout(0)
    connection.forget()
    if exchange is None:
        return Moved(duplicate, None, None)
    exchange.state = DONE
    target = exchange.path + b"?" + exchange.query if exchange.query else exchange.path
    return Moved(duplicate, without_upgrade(exchange.method, target, exchange.headers), exchange)


async def adopt(server: Server, sock: socket.socket, request: bytes | None) -> Exchange | None:
    """
    Serve a connection that was made elsewhere.

    Args:
        server: Who serves it; it was started.
        sock: A connected socket; the server's from now on.
        request: The head of a request without a body that waits for its answer; None if none does. The
            application hears nothing of it, unless its peer leaves (`aborted`).

    Returns:
        That request, to be answered.

    Raises:
        CannotMoveError: If the server has no room for it or is closing, or `request` is no such head.
        OSError: If the socket is of no use.

    **Cancellation:** the connection is closed.
    """
    try:
        _check(server, request)
        sock.settimeout(0)
        arrival = _Arrival(server, request)
        await server.loop.connect_accepted_socket(lambda: cast("asyncio.Protocol", arrival), sock)
    except BaseException:
        sock.close()
        raise
    exchange = arrival.exchange
    if request is not None and exchange is None:
        arrival.connection.transport.abort()
        message = f"{request[:64]!r} is not the head of a whole request"
        raise CannotMoveError(message)
    return exchange


def _check(server: Server, request: bytes | None) -> None:
    if not server.has_room:
        message = f"{server!r} takes no further connection"
        raise CannotMoveError(message)
    if request is not None and (not request.endswith(_END) or request.count(_END) != 1):
        message = f"{request[:64]!r} is no head of a request"
        raise CannotMoveError(message)


class _Arrival:
    """The protocol of a connection until it is there: then it is as any other, with a request that waits."""

    def __init__(self, server: Server, request: bytes | None) -> None:
        self.connection = Connection(server)
        self.exchange: ServedExchange | None = None
        self._request = request

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Bring the connection to where it was, before anything is read from it."""
        connection = self.connection
        transport.set_protocol(connection)
        connection.connection_made(transport)
        if self._request is None:
            return
        application, connection.application = connection.application, _SILENT
        connection.data_received(self._request)
        connection.application = application
        exchange = connection.waits_for
        if exchange is not None and connection.is_between:
            exchange.application = application
            self.exchange = exchange


class _Silent:
    """Hears of a request that another application has heard of already."""

    def began(self, exchange: Exchange) -> None:
        """See `Application`."""

    def ended(self, exchange: Exchange) -> None:
        """See `Application`."""

    def aborted(self, exchange: Exchange) -> None:
        """See `Application`."""


_SILENT = _Silent()
