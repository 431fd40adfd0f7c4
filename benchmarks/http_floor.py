"""
How near the HTTP server is to the least that a Python server can do.

Both servers echo the target of `GET /`, on one uvloop, in many short turns, each driven by a client process
over keep-alive connections. The floor is an asyncio.Protocol with httptools that collects target and headers
(no server can do without) and formats its answer in one go.
What counts is the processor time of the server's process per request: unlike the rate it is much the same
on a busy machine. Run: `python benchmarks/http_floor.py`; the last line is the ratio (higher is better,
1.0 is the floor).
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
_HEADERS = ((b"Content-Type", b"application/json"),)
_ROUNDS = 15
_SECONDS = 0.4
_CONNECTIONS = 8


class Floor(asyncio.Protocol):
    """The least."""

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
        self.transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (len(self.url), self.url)
        )


class Echo:
    """The same as an application."""

    def began(self, exchange):
        pass

    def ended(self, exchange):
        exchange.respond(200, _HEADERS, exchange.path)

    def aborted(self, exchange):
        pass


def _client(port, pipe):
    """Send requests for a while whenever asked, and tell how many were answered."""

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
        await asyncio.sleep(_SECONDS)
        Driver.is_counting = False
        for transport, _ in links:
            transport.abort()
        await asyncio.sleep(0.01)
        return Driver.count

    while pipe.recv():
        pipe.send(uvloop.run(measure()))


async def _main():
    loop = asyncio.get_running_loop()
    costs_us = {"floor": [], "server": []}
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
            started = time.process_time()
            pipe.send(True)
            count = await loop.run_in_executor(None, pipe.recv)
            costs_us[name].append((time.process_time() - started) / count * 1e6)
    for pipe, process in clients.values():
        pipe.send(False)
        process.join()
    floor.close()
    await server.close()
    for name, values in costs_us.items():
        print(f"{name:7}{statistics.median(values):7.2f} µs of processor time per request")
    ratios = [least / ours for ours, least in zip(costs_us["server"], costs_us["floor"], strict=True)]
    print(f"ratio {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    uvloop.run(_main())
