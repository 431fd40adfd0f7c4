"""
Scripted processes: a sandbox without processes, whose runtime and extensions are coroutines.

A script is `async def script(actor)`; it talks to the APIs over real HTTP. When it returns, its
"process" has exited with status 0; `actor.exit(3)` ends it with another, a signal as it would a process.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from remora.sandbox.base import Exit, Paths

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from remora.sandbox.base import ProcessPlan, Sandbox, SandboxPlan, Watcher

    Script = Callable[["Actor"], Awaitable[None]]

SIGKILL = 9
SIGTERM = 15
SCRIPT_FAILED = 70
"""Exit status of a script that raised."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What an API answered; header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, decoded."""
        return json.loads(self.body)


class Ended(Exception):  # noqa: N818 - not an error: the script ends its process
    """Raised within a script to end its process."""

    def __init__(self, how: Exit) -> None:
        super().__init__(how)
        self.how = how


class Actor:
    """What a script acts through."""

    def __init__(self, sandbox: ScriptedSandbox, plan: ProcessPlan) -> None:
        self.plan = plan
        self.name = plan.name.removeprefix("extension:")
        self.terminated = asyncio.Event()
        """Set by SIGTERM if `traps_sigterm`."""
        self.traps_sigterm = False
        self.identifier = ""
        self._sandbox = sandbox
        self._output, self._error = os.dup(plan.output), os.dup(plan.error)
        self._passed = [os.dup(each) for each in plan.passed]
        self._inside: list[Actor] = []

    def inside(self, name: str) -> Actor:
        """Return what an internal extension of this process acts through."""
        actor = Actor(
            self._sandbox,
            replace(self.plan, output=self._output, error=self._error, passed=tuple(self._passed)),
        )
        actor.name = name
        self._inside.append(actor)
        return actor

    async def call(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: bytes = b""
    ) -> Reply:
        """Make one request on a connection of its own and return the answer."""
        host, port = self._sandbox.api_address.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            lines = [
                f"{method} {path} HTTP/1.1",
                "Host: x",
                f"Content-Length: {len(body)}",
                "Connection: close",
            ]
            lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            return parse_reply(await reader.read())
        finally:
            writer.close()
            with suppress(ConnectionError):
                await writer.wait_closed()

    async def next(self) -> Reply:
        """Runtime: wait for an invocation."""
        return await self.call("GET", "/2018-06-01/runtime/invocation/next")

    async def respond(self, request_id: str, body: bytes, headers: Mapping[str, str] | None = None) -> Reply:
        """Runtime: post the response."""
        return await self.call("POST", f"/2018-06-01/runtime/invocation/{request_id}/response", headers, body)

    async def serve(self, handler: Callable[[Reply], bytes] = lambda event: event.body) -> None:
        """Runtime: answer invocations for ever, by default with what they were given."""
        while True:
            event = await self.next()
            await self.respond(event.headers["lambda-runtime-aws-request-id"], handler(event))

    async def register(
        self, *events: str, name: str = "", body: bytes | None = None, features: str = ""
    ) -> Reply:
        """
        Extension: register, and remember the identifier.

        Args:
            events: What to subscribe to.
            name: Its name, if not the process's.
            body: What to send instead of the events.
            features: What is said to be accepted, separated by commas.
        """
        headers = {"Lambda-Extension-Name": name or self.name}
        if features:
            headers["Lambda-Extension-Accept-Feature"] = features
        if body is None:
            body = json.dumps({"events": events}).encode()
        reply = await self.call("POST", "/2020-01-01/extension/register", headers, body)
        self.identifier = reply.headers.get("lambda-extension-identifier", self.identifier)
        return reply

    async def next_event(self) -> Reply:
        """Extension: wait for an event."""
        headers = {"Lambda-Extension-Identifier": self.identifier}
        return await self.call("GET", "/2020-01-01/extension/event/next", headers)

    async def report(self, phase: str, error_type: str) -> Reply:
        """Extension: post an error of `phase`, `init` or `exit`."""
        headers = {
            "Lambda-Extension-Identifier": self.identifier,
            "Lambda-Extension-Function-Error-Type": error_type,
        }
        return await self.call("POST", f"/2020-01-01/extension/{phase}/error", headers)

    async def follow(self) -> Reply:
        """Extension: take events until SHUTDOWN, which is returned."""
        while (event := await self.next_event()).json["eventType"] != "SHUTDOWN":
            pass
        return event

    async def extend(self, *events: str) -> None:
        """Extension: register, take events, exit on SHUTDOWN."""
        await self.register(*events)
        await self.follow()

    def print(self, text: str) -> None:
        """Write to standard output, without adding a newline."""
        self.print_bytes(text.encode())

    def print_bytes(self, data: bytes) -> None:
        """Write to standard output; blocks while the pipe is full."""
        while data:
            data = data[os.write(self._output, data) :]

    def complain(self, text: str) -> None:
        """Write to standard error, without adding a newline."""
        os.write(self._error, text.encode())

    def write(self, number: int, data: bytes) -> None:
        """Write to a descriptor that was passed, 3 or higher."""
        os.write(self._passed[number - 3], data)

    def exit(self, code: int = 0, *, signal: int | None = None) -> None:
        """End the process."""
        raise Ended(Exit(None if signal else code, signal))

    def close(self) -> None:
        """Close every output."""
        for actor in self._inside:
            actor.close()
        for descriptor in (self._output, self._error, *self._passed):
            os.close(descriptor)


class ScriptedSandbox:
    """A sandbox whose processes are scripts."""

    def __init__(self, scripts: Mapping[str, Script], watcher: Watcher) -> None:
        self._scripts = scripts
        self._watcher = watcher
        self._actors: dict[str, tuple[Actor, asyncio.Task[Exit]]] = {}
        self._ends: set[asyncio.Task[None]] = set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.settimeout(0)
        self.api_address = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.paths = Paths()
        self.is_frozen = False
        self.started: list[str] = []
        self.failures: list[Exception] = []
        """What scripts did not expect."""

    def start(self, plan: ProcessPlan) -> None:
        """Start the script of that name."""
        script = self._scripts.get(plan.name)
        loop = asyncio.get_running_loop()
        if script is None:
            loop.call_soon(self._watcher.process_failed, plan.name, 2)
            return
        self.started.append(plan.name)
        actor = Actor(self, plan)
        self._watcher_soon(self._watcher.process_started, plan.name, len(self.started))
        task = loop.create_task(self._run(script, actor))
        self._actors[plan.name] = (actor, task)
        end = loop.create_task(self._watch(actor, task))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    def _watcher_soon(self, call: Callable[..., None], *arguments: object) -> None:
        asyncio.get_running_loop().call_soon(call, *arguments)

    async def _run(self, script: Script, actor: Actor) -> Exit:
        try:
            await script(actor)
        except Ended as ended:
            return ended.how
        except Exception as error:  # noqa: BLE001 - whatever a script did not expect
            self.failures.append(error)
            return Exit(SCRIPT_FAILED, None)
        return Exit(0, None)

    async def _watch(self, actor: Actor, task: asyncio.Task[Exit]) -> None:
        await asyncio.wait([task])
        actor.close()  # here, for a task that is cancelled before it ran does nothing at its end
        how = Exit(None, SIGKILL) if task.cancelled() else task.result()
        if self._actors.pop(actor.plan.name, None) is not None:
            self._watcher.process_exited(actor.plan.name, how)

    def kill(self, name: str, signal: int) -> None:
        """Deliver a signal to a script."""
        if name not in self._actors:
            return
        actor, task = self._actors[name]
        if signal == SIGTERM and actor.traps_sigterm:
            actor.terminated.set()
        else:
            task.cancel()

    def kill_all(self) -> None:
        """End all scripts."""
        for _, task in self._actors.values():
            task.cancel()
        ends = set(self._ends)
        end = asyncio.get_running_loop().create_task(self._empty(ends))
        self._ends.add(end)
        end.add_done_callback(self._ends.discard)

    async def _empty(self, ends: set[asyncio.Task[None]]) -> None:
        if ends:
            await asyncio.wait(ends)
        self._watcher.emptied()

    def freeze(self) -> None:
        """Note that it is frozen; scripts run on."""
        self.is_frozen = True

    def thaw(self) -> None:
        """Note that it is not frozen."""
        self.is_frozen = False

    def memory_peak_bytes(self) -> int:
        """Return some plausible figure: scripts have no memory of their own."""
        return 32 * 1024 * 1024

    async def make_socket(self) -> socket.socket:
        """Make a socket of this machine's network."""
        made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        made.setblocking(False)
        return made

    async def close(self) -> None:
        """End all scripts without a word to the watcher."""
        tasks = [task for _, task in self._actors.values()]
        self._actors.clear()
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._ends:
            await asyncio.wait(self._ends)
        self.listener.close()


class ScriptedDriver:
    """
    Makes sandboxes of scripts.

    Args:
        scripts: By process name: `runtime`, `extension:<file>`.
    """

    name = "scripted"

    def __init__(self, scripts: Mapping[str, Script]) -> None:
        self.scripts = dict(scripts)
        self.sandboxes: list[ScriptedSandbox] = []

    def check(self) -> tuple[str, ...]:
        """Return nothing: all is well."""
        return ()

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> Sandbox:  # noqa: ARG002 - the door's signature
        """Make a sandbox."""
        sandbox = ScriptedSandbox(self.scripts, watcher)
        self.sandboxes.append(sandbox)
        return sandbox

    async def sweep(self) -> int:
        """Find nothing: scripts leave nothing behind."""
        return 0


def parse_reply(raw: bytes) -> Reply:
    """Take an answer apart that was read to its end."""
    head, _, body = raw.partition(b"\r\n\r\n")
    lines = head.decode("latin-1").split("\r\n")
    status = int(lines[0].split(" ")[1])
    headers = dict(line.split(": ", 1) for line in lines[1:])
    return Reply(status, {name.lower(): value for name, value in headers.items()}, body)
