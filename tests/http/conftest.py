"""A server with an application that notes what it hears, on both event loops."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager

import pytest
import uvloop

from remora.http.known import KnownRequests
from remora.http.limits import Limits
from remora.http.server import Server

TIMEOUT_S = 120


class Notebook:
    """Notes what it hears; answers by path."""

    def __init__(self):
        self.heard = []
        self.parked = {}
        self.seen = asyncio.Condition()
        self.on_began = {}
        self.on_ended = {}
        self.on_aborted = {}
        self.exchanges = []

    def note(self, what, exchange):
        self.heard.append((what, exchange.path.decode()))
        asyncio.get_running_loop().create_task(self._tell())

    async def _tell(self):
        async with self.seen:
            self.seen.notify_all()

    async def until(self, *what):
        """Wait until this was heard."""
        async with self.seen:
            await self.seen.wait_for(lambda: what in self.heard)

    def began(self, exchange):
        self.exchanges.append(exchange)
        self.note("began", exchange)
        if exchange.path in self.on_began:
            self.on_began[exchange.path](exchange)

    def ended(self, exchange):
        self.note("ended", exchange)
        if exchange.path in self.on_ended:
            self.on_ended[exchange.path](exchange)
        elif exchange.path.startswith(b"/park"):
            self.parked[exchange.path.decode()] = exchange
        else:
            exchange.respond(200, (), exchange.path + b":" + exchange.body)

    def aborted(self, exchange):
        self.note("aborted", exchange)
        if exchange.path in self.on_aborted:
            self.on_aborted[exchange.path](exchange)


class Peer:
    """A raw connection."""

    def __init__(self, reader, writer):
        self.reader = reader
        self.writer = writer

    async def send(self, data):
        self.writer.write(data)
        await self.writer.drain()

    def half_close(self):
        self.writer.write_eof()

    def reset(self):
        """Leave without a word: the server hears a reset."""
        linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
        self.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()

    async def rest(self):
        """Read until the server closes."""
        return await self.reader.read()

    async def answer(self):
        """Read one answer with Content-Length; returns status, headers, body."""
        head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
        first, *lines = head.splitlines()[:-1]
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        status = int(first.split()[1])
        body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return status, headers, body

    async def nothing(self):
        """Show that nothing has arrived though the server has had its turns."""
        for _ in range(20):
            await asyncio.sleep(0)
        assert not self.reader._buffer
        assert not self.reader.at_eof()

    async def leave(self):
        self.writer.transport.abort()


class Stage:
    """A running server, its application and its peers."""

    def __init__(self, server, app):
        self.server = server
        self.app = app
        self.peers = []

    async def until_connections(self, count):
        """Wait until so many are left."""
        while len(self.server.connections) != count:  # noqa: ASYNC110 - nothing else would be told
            await asyncio.sleep(0.001)

    async def connect(self):
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.server.port))
        self.peers.append(peer)
        return peer


@asynccontextmanager
async def serving(limits, known):
    app = Notebook()
    server = Server(app, socket.create_server(("127.0.0.1", 0)), limits, known=known)
    await server.start()
    stage = Stage(server, app)
    try:
        async with asyncio.timeout(TIMEOUT_S):
            yield stage
    finally:
        for peer in stage.peers:
            await peer.leave()
        await server.close()
        assert not server.connections


@pytest.fixture(params=["asyncio", "uvloop", "known"])
def play(request):
    """Run a coroutine function: `play(scene)`, `play(scene, limits)`; no loop may complain."""
    factory = asyncio.new_event_loop if request.param == "asyncio" else uvloop.new_event_loop

    def run(scene, limits=None):
        problems = []
        known = KnownRequests() if request.param == "known" else None

        async def main():
            asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))
            async with serving(limits or Limits(), known) as stage:
                await scene(stage)

        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
        assert problems == []

    return run
