"""A connection to an environment's APIs on which a script says what it likes, byte by byte."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from remora.testing.scripted import parse_reply

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from remora.testing.scripted import Actor, Reply

RESPONSE = "/2018-06-01/runtime/invocation/{}/response"


class Wire:
    """One connection; see `connected`."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, data: bytes) -> None:
        """Send bytes as they are; returns when the peer is not too far behind."""
        self.writer.write(data)
        await self.writer.drain()

    async def head(self, method: str, path: str, headers: Mapping[str, str]) -> None:
        """Send the head of a request."""
        lines = [
            f"{method} {path} HTTP/1.1",
            "Host: x",
            *(f"{key}: {value}" for key, value in headers.items()),
        ]
        await self.send("\r\n".join(lines).encode() + b"\r\n\r\n")

    async def chunk(self, data: bytes) -> None:
        """Send one chunk."""
        await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def last_chunk(self, trailers: Mapping[str, str] | None = None) -> None:
        """End a chunked body."""
        lines = "".join(f"{key}: {value}\r\n" for key, value in (trailers or {}).items())
        await self.send(b"0\r\n" + lines.encode() + b"\r\n")

    async def reply(self) -> Reply:
        """Read one answer that says how long it is."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        reply = parse_reply(head)
        body = await self.reader.readexactly(int(reply.headers.get("content-length", "0")))
        return parse_reply(head + body)

    async def begin_stream(self, request_id: str, headers: Mapping[str, str] | None = None) -> None:
        """Begin a streamed response."""
        await self.head(
            "POST",
            RESPONSE.format(request_id),
            {
                "Lambda-Runtime-Function-Response-Mode": "streaming",
                "Transfer-Encoding": "chunked",
                **(headers or {}),
            },
        )


@asynccontextmanager
async def connected(actor: Actor) -> AsyncIterator[Wire]:
    """Connect to the APIs as the process of `actor` sees them; the connection is closed at the end."""
    host, port = actor.plan.env["AWS_LAMBDA_RUNTIME_API"].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
