"""A request from inside the node: what a connection is to a client, without one."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from remora.http.exchange import Application, Header


class Inside:
    """
    One request and its answer, kept in memory.

    Args:
        method: `POST`.
        target: Path and query, percent-encoded.
        headers: Names in lower case.
        body: The whole of it.
        application: Who answers.
    """

    def __init__(
        self,
        method: str,
        target: bytes,
        headers: list[Header],
        body: bytes,
        application: Application,
    ) -> None:
        self.method = method.encode()
        self.path, _, self.query = target.partition(b"?")
        self.headers = headers
        self.body = body
        self.is_oversized = False
        self.received_bytes = len(body)
        self.is_truncated = False
        self.is_crowded_out = False
        self.trailers: Sequence[Header] = ()
        self.application = application
        self.slot: object = None
        self.status = 0
        """Of the answer; 0 if there was none."""
        self.answer_headers: list[Header] = []
        self.answer = b""
        """Its body."""
        self._answered = asyncio.Event()
        self._body_bytes_max = len(body)

    def __repr__(self) -> str:
        return f"<Inside {self.method.decode()} {self.path.decode('latin-1')} status={self.status}>"

    @property
    def body_bytes_max(self) -> int:
        """How long a body the operation takes."""
        return self._body_bytes_max

    @body_bytes_max.setter
    def body_bytes_max(self, body_bytes_max: int) -> None:
        self._body_bytes_max = body_bytes_max
        self.is_oversized = len(self.body) > body_bytes_max

    @property
    def is_open(self) -> bool:
        """True while no answer was finished."""
        return not self._answered.is_set()

    @property
    def peer(self) -> str:
        """Nobody's address."""
        return ""

    async def answered(self) -> None:
        """Wait until the answer is complete."""
        await self._answered.wait()

    def header(self, name: bytes) -> bytes | None:
        """Return the first header called `name` (lower case), or None."""
        return next((value for key, value in self.headers if key == name), None)

    def hand_over(self, take: Callable[[bytes], None]) -> None:
        """Give the body away."""
        take(self.body)

    def pause(self) -> None:
        """Do nothing: the body is here."""

    def resume(self) -> None:
        """Do nothing: the body is here."""

    def respond(self, status: int, headers: Iterable[Header] | bytes, body: bytes) -> None:
        """Take a whole answer; what follows one is not looked at."""
        if isinstance(headers, bytes):
            lines = (line.partition(b":") for line in headers.split(b"\r\n") if line)
            headers = [(name, value.strip()) for name, _, value in lines]
        self.begin(status, headers)
        self.write(body)
        self.finish()

    def begin(self, status: int, headers: Iterable[Header], length: int | None = None) -> None:  # noqa: ARG002 - what comes is kept, however long
        """Take the head of an answer."""
        if self.is_open:
            self.status, self.answer_headers = status, list(headers)

    def write(self, chunk: bytes) -> None:
        """Take a piece of an answer."""
        if self.is_open:
            self.answer += chunk

    async def drain(self) -> None:
        """Return at once: everything has been taken."""

    def finish(self, trailers: Iterable[Header] = ()) -> None:  # noqa: ARG002 - nobody asks for them
        """Take the end of an answer."""
        self._answered.set()

    def close(self) -> None:
        """Take that there is no answer, or not the whole of it."""
        if self.is_open:
            self.status, self.answer_headers, self.answer = 0, [], b""
        self._answered.set()
