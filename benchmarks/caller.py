"""The client of every subject that is called over HTTP: one blocking socket, kept alive."""

from __future__ import annotations

import socket
import time

_TIMEOUT_S = 30


class Caller:
    """
    Calls one path of one server, again and again.

    Args:
        port: Of the server, on the loopback interface.
        path: What is posted to.
        body: What is posted.
    """

    def __init__(self, port: int, path: str, body: bytes) -> None:
        self._port = port
        head = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nContent-Type: application/json\r\n"
        self._request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body
        self._link: socket.socket | None = None
        self.connections = 0

    def close(self) -> None:
        """Hang up."""
        if self._link is not None:
            self._link.close()
            self._link = None

    def call(self) -> bytes:
        """
        Call once and return the body of the answer.

        Raises:
            RuntimeError: If the answer is not 200, or of a kind that none of the subjects sends.
            OSError: If there is no answer.
        """
        if self._link is None:
            self._link = socket.create_connection(("127.0.0.1", self._port), _TIMEOUT_S)
            self._link.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.connections += 1
        self._link.sendall(self._request)
        answer = b""
        while (end := answer.find(b"\r\n\r\n")) < 0:
            answer += self._more()
        head = answer[:end].lower()
        if not head.startswith(b"http/1.1 200"):
            raise RuntimeError(f"unexpected answer: {answer!r}")
        start = head.index(b"\r\ncontent-length:") + 17
        length = int(head[start:].split(b"\r\n", 1)[0])
        while len(answer) < end + 4 + length:
            answer += self._more()
        if b"\r\nconnection: close" in head:
            self.close()
        return answer[end + 4 :]

    def _more(self) -> bytes:
        data = self._link.recv(65536)
        if not data:
            raise ConnectionResetError("the server hung up within an answer")
        return data

    def measure(self, count: int, gap_s: float) -> tuple[list[int], float]:
        """Call `count` times; return how long each took (nanoseconds) and the calls per second."""
        samples = []
        clock = time.perf_counter_ns
        began = clock()
        for _ in range(count):
            if gap_s:
                time.sleep(gap_s)
            started = clock()
            self.call()
            samples.append(clock() - started)
        return samples, count * 1e9 / (clock() - began)
