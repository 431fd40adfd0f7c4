"""Many clients at once: each on one connection that stays open, calling again as soon as it is answered."""

from __future__ import annotations

import asyncio
import time
from collections import Counter

import uvloop


class Client(asyncio.Protocol):
    """
    One client.

    Args:
        request: What it sends, as bytes.
        statuses: Where it counts the answers, by status.
        samples: Where it notes how long each took, nanoseconds.
        deadline_ns: When it sends no more.
    """

    def __init__(self, request: bytes, statuses: Counter[int], samples: list[int], deadline_ns: int) -> None:
        self._request = request
        self._statuses = statuses
        self._samples = samples
        self._deadline_ns = deadline_ns
        self._began_ns = 0
        self._received = b""
        self.finished: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport
        self._send()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.finished.done():
            self.finished.set_exception(exc or ConnectionResetError("the server hung up"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._received[:end].lower()
        start = head.index(b"\r\ncontent-length:") + 17
        length = int(head[start:].split(b"\r\n", 1)[0])
        if len(self._received) < end + 4 + length:
            return
        self._received = b""
        now_ns = time.perf_counter_ns()
        self._statuses[int(head[9:12])] += 1
        self._samples.append(now_ns - self._began_ns)
        if now_ns < self._deadline_ns:
            self._send()
        elif not self.finished.done():
            self.finished.set_result(None)
            self._transport.close()

    def _send(self) -> None:
        self._began_ns = time.perf_counter_ns()
        self._transport.write(self._request)


async def _run(port: int, path: str, body: bytes, clients: int, seconds: float):
    head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
    request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
    statuses: Counter[int] = Counter()
    samples: list[int] = []
    loop = asyncio.get_running_loop()
    began_ns = time.perf_counter_ns()
    deadline_ns = began_ns + int(seconds * 1e9)
    made = [
        (
            await loop.create_connection(
                lambda: Client(request, statuses, samples, deadline_ns), "127.0.0.1", port
            )
        )[1]
        for _ in range(clients)
    ]
    await asyncio.gather(*(client.finished for client in made))
    return samples, statuses, len(samples) * 1e9 / (time.perf_counter_ns() - began_ns)


def crowd(port: int, path: str, body: bytes, clients: int, seconds: float):
    """Let clients call for a while; return samples (nanoseconds), answers by status, calls per second."""
    return uvloop.run(_run(port, path, body, clients, seconds))
