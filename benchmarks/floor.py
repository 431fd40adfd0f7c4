"""
The least that a Python platform can do: the stock runtime client against a bare server, nothing else.

`python benchmarks/floor.py TASK`: starts the runtime, says {"port": …}, then answers questions
{"count": …, "gap_s": …} on standard input with {"samples": […], "rate": …} until that ends. The port takes
POST with a body and answers it with the function's: the same through HTTP. There is no isolation, no log, no
time limit, no second environment, no extension, and hardly a look at what is received.
"""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import httptools
import uvloop
from children import end_with_parent, questions, say
from workload import EVENT, python

_NEXT = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
    b"Lambda-Runtime-Aws-Request-Id: 8476a536-e9f4-11e8-9739-2dfe598c3fcd\r\n"
    b"Lambda-Runtime-Deadline-Ms: 4102444800000\r\n"
    b"Lambda-Runtime-Invoked-Function-Arn: arn:aws:lambda:us-east-1:000000000000:function:bench\r\n"
    b"Content-Length: %d\r\n\r\n%b"
)
_ACCEPTED = (
    b'HTTP/1.1 202 Accepted\r\nContent-Type: application/json\r\nContent-Length: 16\r\n\r\n{"status":"OK"}\n'
)
_ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"


class Floor:
    """Hands events to the one runtime, in turn."""

    def __init__(self):
        self.parked = None
        self.waiting = deque()
        self.answer = None

    def invoke(self, body, answer):
        if self.parked is None:
            self.waiting.append((body, answer))
        else:
            self.give(self.parked, body, answer)

    def give(self, transport, body, answer):
        self.parked, self.answer = None, answer
        transport.write(_NEXT % (len(body), body))

    def next(self, transport):
        if self.waiting:
            self.give(transport, *self.waiting.popleft())
        else:
            self.parked = transport

    def response(self, transport, body):
        transport.write(_ACCEPTED)
        self.answer(body)


class _Side(asyncio.Protocol):
    """Reads requests."""

    def __init__(self, floor):
        self.floor = floor

    def connection_made(self, transport):
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)

    def data_received(self, data):
        self.parser.feed_data(data)

    def on_url(self, url):
        self.url = url
        self.body = b""
        self.headers = []

    def on_header(self, name, value):
        self.headers.append((name, value))

    def on_body(self, body):
        self.body += body


class RuntimeSide(_Side):
    """The Runtime API."""

    def on_message_complete(self):
        if self.url.endswith(b"/next"):
            self.floor.next(self.transport)
        else:
            self.floor.response(self.transport, self.body)


class Front(_Side):
    """What callers reach."""

    def on_message_complete(self):
        self.floor.invoke(self.body, self.answer)

    def answer(self, body):
        self.transport.write(_ANSWER % (len(body), body))


async def _measure(floor, count, gap_s):
    loop = asyncio.get_running_loop()
    done = loop.create_future()
    samples = []
    clock = time.perf_counter_ns
    started = 0

    def ask():
        nonlocal started
        started = clock()
        floor.invoke(EVENT, answered)

    def answered(_body):
        samples.append(clock() - started)
        if len(samples) == count:
            done.set_result(None)
        elif gap_s:
            loop.call_later(gap_s, ask)
        else:
            ask()

    began = clock()
    ask()
    await done
    return {"samples": samples, "rate": count * 1e9 / (clock() - began)}


async def _main(runtime, task):
    loop = asyncio.get_running_loop()
    floor = Floor()
    api = await loop.create_server(lambda: RuntimeSide(floor), "127.0.0.1", 0)
    front = await loop.create_server(lambda: Front(floor), "127.0.0.1", 0)
    address = f"127.0.0.1:{api.sockets[0].getsockname()[1]}"
    child = subprocess.Popen(  # noqa: ASYNC220 - nothing else happens yet
        runtime.command(),
        env=runtime.environment(address, task),
        cwd=task,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        preexec_fn=end_with_parent(signal.SIGKILL),  # noqa: PLW1509 - no threads here
    )
    try:
        await _measure(floor, 1, 0)
        say({"port": front.sockets[0].getsockname()[1]})
        async for question in questions():
            say(await _measure(floor, **question))
    finally:
        child.kill()
        child.wait()


if __name__ == "__main__":
    uvloop.run(_main(python(), Path(sys.argv[1])))
