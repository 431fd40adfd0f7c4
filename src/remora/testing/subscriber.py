"""A subscriber to telemetry, as tests need it: it listens, keeps what comes, and answers as it is told."""

from __future__ import annotations

import asyncio
import json
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from remora.testing.scripted import Actor, Reply

TELEMETRY = "/2022-07-01/telemetry"
LOGS = "/2020-08-15/logs"
ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"
BROKEN = b"HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class Batch:
    """One delivery; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes
    events: list[Any]


async def accept(_: Batch) -> bytes:
    """Answer that all is well."""
    return ACCEPTED


@dataclass(slots=True)
class Listener:
    """Who listens; what it got is in `batches`, over TCP one for each line."""

    port: int = 0
    batches: list[Batch] = field(default_factory=list)
    connections: int = 0
    _arrived: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def uri(self) -> str:
        """Where it listens, as a subscription names it."""
        return f"http://sandbox.localdomain:{self.port}/"

    @property
    def events(self) -> list[Any]:
        """All events so far."""
        return [event for batch in self.batches for event in batch.events]

    @property
    def types(self) -> list[str]:
        """The types of all events so far."""
        return [event["type"] for event in self.events]

    def records(self, kind: str) -> list[Any]:
        """Return the records of all events of a type so far."""
        return [event["record"] for event in self.events if event["type"] == kind]

    def put(self, batch: Batch) -> None:
        """Keep a batch."""
        self.batches.append(batch)
        self._arrived.set()

    async def until(self, is_enough: Callable[[], object]) -> None:
        """Wait until enough has come."""
        while not is_enough():
            self._arrived.clear()
            await self._arrived.wait()

    async def told(self, kind: str, count: int = 1) -> Any:
        """Wait for so many events of a type, and return the last one's record."""
        await self.until(lambda: len(self.records(kind)) >= count)
        return self.records(kind)[count - 1]


@asynccontextmanager
async def listening(answer: Callable[[Batch], Awaitable[bytes]] = accept) -> AsyncIterator[Listener]:
    """
    Listen for batches over HTTP.

    Args:
        answer: Returns what to answer to a batch; nothing ends the connection.
    """
    listener = Listener()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        listener.connections += 1
        while batch := await _read_batch(reader):
            listener.put(batch)
            said = await answer(batch)
            writer.write(said)
            if not said:
                return

    async with _served(serve) as port:
        listener.port = port
        yield listener


@asynccontextmanager
async def listening_tcp() -> AsyncIterator[Listener]:
    """Listen for events over TCP."""
    listener = Listener()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        listener.connections += 1
        while line := await reader.readline():
            listener.put(Batch("", "", {}, line, [json.loads(line)]))

    async with _served(serve) as port:
        listener.port = port
        yield listener


@asynccontextmanager
async def _served(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]],
) -> AsyncIterator[int]:
    tasks: set[asyncio.Task[None]] = set()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None, "a connection is served by a task"
        tasks.add(task)
        try:
            with suppress(ConnectionError, asyncio.CancelledError):
                await serve(reader, writer)
        finally:
            tasks.discard(task)
            writer.close()

    server = await asyncio.start_server(connected, "127.0.0.1", 0, limit=64 * 1024 * 1024)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tuple(tasks):
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)


async def _read_batch(reader: asyncio.StreamReader) -> Batch | None:
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = head.rstrip().split("\r\n")
    method, target, _ = first.split(" ")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers["content-length"]))
    return Batch(method, target, headers, body, json.loads(body))


def wish(destination: Listener | dict[str, Any], *types: str, **members: Any) -> dict[str, Any]:
    """
    Return the body of a subscription.

    Args:
        destination: Who listens over HTTP, or a destination as the API takes it.
        types: What to subscribe to; everything if there are none.
        members: More members, or others; None to leave one out.
    """
    if isinstance(destination, Listener):
        destination = {"protocol": "HTTP", "URI": destination.uri}
    body = {
        "schemaVersion": "2025-01-29",
        "types": list(types or ("platform", "function", "extension")),
        "buffering": {"timeoutMs": 25},
        "destination": destination,
        **members,
    }
    return {name: value for name, value in body.items() if value is not None}


async def subscribe(
    actor: Actor, body: dict[str, Any] | bytes, *, path: str = TELEMETRY, identifier: str | None = ""
) -> Reply:
    """
    Subscribe.

    Args:
        actor: The extension.
        body: What is sent, as JSON if it is not bytes.
        path: Of which API.
        identifier: What to say instead of the extension's identifier; None to say nothing.
    """
    headers = {} if identifier is None else {"Lambda-Extension-Identifier": identifier or actor.identifier}
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return await actor.call("PUT", path, headers, sent)


def subscriber(
    *bodies: dict[str, Any],
    path: str = TELEMETRY,
    says: str = "",
    before: Callable[[], Awaitable[object]] | None = None,
    after: Callable[[Actor], Awaitable[object]] | None = None,
) -> Callable[[Actor], Awaitable[None]]:
    """
    Return the script of an extension that subscribes, and does its work until it is shut down.

    Args:
        bodies: What it asks for, one after the other; all is accepted.
        path: Of which API.
        says: What it prints first.
        before: Awaited when it has registered, before it subscribes.
        after: Called with the actor after every invocation's event.
    """

    async def script(actor: Actor) -> None:
        if says:
            actor.print(says)
        await actor.register("INVOKE", "SHUTDOWN")
        if before is not None:
            await before()
        for body in bodies:
            assert (await subscribe(actor, body, path=path)).status == 200
        while (await actor.next_event()).json["eventType"] == "INVOKE":
            if after is not None:
                await after(actor)

    return script


def printing(
    *texts: str, until: Callable[[], Awaitable[object]] | None = None, answer: bytes = b"ok"
) -> Callable[[Actor], Awaitable[None]]:
    """
    Return the script of a runtime that prints in each invocation, may wait for something, and answers.

    Args:
        texts: What it prints, each on its own.
        until: Awaited before it answers.
        answer: Its response.
    """

    async def script(actor: Actor) -> None:
        while True:
            event = await actor.next()
            for text in texts:
                actor.print(text)
            if until is not None:
                await until()
            await actor.respond(event.headers["lambda-runtime-aws-request-id"], answer)

    return script
