"""
How near the HTTP server is to the least that a Python server can do.

Both servers answer `GET /` on one uvloop, one after the other, several rounds in turn, driven by the same
client in a second process over keep-alive connections. The floor is an asyncio.Protocol with httptools that
collects target and headers (no server can do without) and answers prebuilt bytes.
Run: `python benchmarks/http_floor.py`; the last line is the ratio (higher is better, 1.0 is the floor).
"""

from __future__ import annotations

import asyncio
import multiprocessing
import socket
import statistics
import time

import httptools
import uvloop

from remora.http.limits import Limits
from remora.http.server import Server

_REQUEST = (
    b"GET / HTTP/1.1\r\nHost: 127.0.0.1:9001\r\nUser-Agent: floor/1\r\nAccept: */*\r\n"
    b"Lambda-Extension-Identifier: 8a3b\r\n\r\n"
)
_BODY = b'{"status":"OK"}\n'
_HEADERS = ((b"Content-Type", b"application/json"),)
_ROUNDS = 7
_SECONDS = 1.0
_CONNECTIONS = 8


class Floor(asyncio.Protocol):
    """The least."""

    _answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n" + _BODY

    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url = url
        self.headers = []

    def on_header(self, name, value):
        self.headers.append((name, value))

    def on_message_complete(self):
        self.transport.write(self._answer)


class Echo:
    """The same as an application."""

    def began(self, exchange):
        pass

    def ended(self, exchange):
        exchange.respond(200, _HEADERS, _BODY)

    def aborted(self, exchange):
        pass


def _client(port, pipe):
    """Measure requests per second whenever asked."""

    class Driver(asyncio.Protocol):
        count = 0
        is_counting = True

        def connection_made(self, transport):
            self.transport = transport
            transport.write(_REQUEST)

        def data_received(self, _data):
            Driver.count += 1
            if Driver.is_counting:
                self.transport.write(_REQUEST)

    async def measure():
        loop = asyncio.get_running_loop()
        Driver.count, Driver.is_counting = 0, True
        links = [await loop.create_connection(Driver, "127.0.0.1", port) for _ in range(_CONNECTIONS)]
        started = time.perf_counter()
        await asyncio.sleep(_SECONDS)
        Driver.is_counting = False
        rate = Driver.count / (time.perf_counter() - started)
        for transport, _ in links:
            transport.abort()
        await asyncio.sleep(0.01)
        return rate

    while pipe.recv():
        pipe.send(uvloop.run(measure()))


async def _main():
    loop = asyncio.get_running_loop()
    rates = {"floor": [], "server": []}
    clients = {}
    floor = await loop.create_server(Floor, "127.0.0.1", 0)
    listener = socket.create_server(("127.0.0.1", 0))
    ports = {"floor": floor.sockets[0].getsockname()[1], "server": listener.getsockname()[1]}
    server = Server(Echo(), listener, Limits())
    await server.start()
    context = multiprocessing.get_context("spawn")
    for name, port in ports.items():
        ours, theirs = context.Pipe()
        process = context.Process(target=_client, args=(port, theirs), daemon=True)
        process.start()
        clients[name] = (ours, process)
    for _ in range(_ROUNDS):
        for name, (pipe, _process) in clients.items():
            pipe.send(True)
            rates[name].append(await loop.run_in_executor(None, pipe.recv))
    for pipe, process in clients.values():
        pipe.send(False)
        process.join()
    floor.close()
    await server.close()
    for name, values in rates.items():
        print(f"{name:7}{statistics.median(values):9.0f} requests/s")
    ratios = [ours / least for ours, least in zip(rates["server"], rates["floor"], strict=True)]
    print(f"ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    uvloop.run(_main())
