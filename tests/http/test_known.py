"""Requests that come again byte for byte are the same requests, and nothing else is taken for one."""

from __future__ import annotations

import asyncio
import socket

import pytest
import uvloop

from remora.http.connection import Connection
from remora.http.known import BYTES_MAX, KnownRequests
from remora.http.server import Server

NEXT = b"GET /next?a=1 HTTP/1.1\r\nHost: x\r\nKey: Value\r\n\r\n"


class Wire:
    """Stands in for a transport: keeps what is written."""

    def __init__(self):
        self.written = b""
        self.is_closed = False

    def write(self, data):
        self.written += data

    def is_closing(self):
        return self.is_closed

    def close(self):
        self.is_closed = True

    abort = close

    def can_write_eof(self):
        return False

    def get_write_buffer_size(self):
        return 0

    def pause_reading(self):
        pass

    def resume_reading(self):
        pass


class Echo:
    """Answers at once with what it was asked."""

    def began(self, exchange):
        pass

    def ended(self, exchange):
        asked = [
            exchange.method,
            exchange.path,
            exchange.query,
            repr(exchange.headers).encode(),
            exchange.body,
        ]
        exchange.respond(200, (), b" ".join(asked))

    def aborted(self, exchange):
        pass


@pytest.fixture
def known():
    return KnownRequests()


@pytest.fixture
def converse(known):
    """Return what is written to a connection that reads these pieces, one after the other."""

    async def read(pieces):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            server = Server(Echo(), listener, known=known)
            server.loop = asyncio.get_running_loop()
            connection, wire = Connection(server), Wire()
            connection.connection_made(wire)
            answers = []
            for piece in pieces:
                connection.data_received(piece)
                answers.append(wire.written)
                wire.written = b""
            connection.connection_lost(None)
            return answers

    def run(*pieces):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(read(pieces))

    return run


def test_the_same_bytes_get_the_same_answer(converse, known):
    first, second, third = converse(NEXT, NEXT, NEXT)
    assert first == second == third
    assert b"GET /next a=1 [(b'host', b'x'), (b'key', b'Value')] " in first
    assert known.get(NEXT).headers == [(b"host", b"x"), (b"key", b"Value")]


def test_a_request_is_known_on_other_connections(converse):
    assert converse(NEXT)[0] == converse(NEXT, NEXT)[1]


def test_a_refused_upgrade_is_refused_again(converse):
    first, second = converse(*2 * [b"GET /a HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"])
    assert first == second
    assert b"GET /a  [(b'connection', b'Upgrade')] " in first


def test_what_follows_an_unfinished_request_is_not_a_request(converse, known):
    converse(NEXT)
    (nothing, refused) = converse(b"PO", NEXT)
    assert nothing == b""
    assert refused.startswith(b"HTTP/1.1 400 ")
    (_, nothing, answer) = converse(NEXT, b"POST /a HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(NEXT), NEXT)
    assert nothing == b""
    assert answer.endswith(b"POST /a  [(b'content-length', b'%d')] %b" % (len(NEXT), NEXT))


def test_the_end_of_a_request_is_not_remembered_as_one(converse, known):
    converse(b"GE", b"T /a HTTP/1.1\r\n\r\n")
    assert repr(known) == "<KnownRequests 0>"
    assert converse(b"T /a HTTP/1.1\r\n\r\n")[0].startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize(
    "data",
    [
        NEXT + NEXT,
        NEXT + b"G",
        b"GET /a HTTP/1.1\r\n\r\nGET /b HTTP/1.1\r\n\r\n",
        b"POST /a HTTP/1.1\r\nContent-Length: 1\r\n\r\nx",
        b"POST /a HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nConnection: close\r\n\r\n",
        b"GET /a HTTP/1.0\r\n\r\n",
        b"GET /a HTTP/1.1\r\nKey: %b\r\n\r\n" % (b"x" * BYTES_MAX),
        b"nonsense\r\n\r\n",
    ],
)
def test_only_whole_small_requests_are_remembered(converse, known, data):
    once = converse(data)
    assert converse(data) == once
    assert known.get(data) is None


def test_a_former_version_of_the_protocol_is_not_left(converse):
    converse(NEXT)
    old = b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
    assert b"Connection: keep-alive" in converse(old, NEXT)[1]


def test_there_is_room_for_so_many(converse, known):
    for number in range(1025):
        converse(b"GET /%d HTTP/1.1\r\n\r\n" % number)
    assert repr(known) == "<KnownRequests 1>"
