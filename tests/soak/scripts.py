"""The runtime and the extension of a soak as scripts."""

from __future__ import annotations

import asyncio
import json
import random
import signal
from collections import Counter
from contextlib import suppress

from remora.testing.wire import RESPONSE, connected

from .fates import EXIT_CODE, FLOOD_BYTES, OVERSIZED_BYTES, PERISHED, UNBORN, Fate

UNBORN_OF = 50
"""One init out of so many fails."""
FOR_EVER_S = 3600.0
DAWDLE_S_MAX = 0.05


class Cast:
    """
    Plays what fates say.

    Args:
        seed: Decides about inits.
    """

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self.ran: Counter[int] = Counter()
        """How often a runtime has begun each invocation."""
        self.ended: Counter[int] = Counter()
        """How many runtimes ended ahead of an invocation, by exit status."""

    async def runtime(self, actor) -> None:
        if not self._rng.randrange(UNBORN_OF):
            self.ended[UNBORN] += 1
            actor.exit(UNBORN)
        while True:
            event = await actor.next()
            request_id = event.headers["lambda-runtime-aws-request-id"]
            members = json.loads(event.body)
            fate = Fate(members["n"], members["does"], "")
            self.ran[fate.number] += 1
            await getattr(self, f"_{fate.runtime}")(actor, request_id, fate)

    async def _answer(self, actor, request_id, fate):
        reply = await actor.respond(request_id, fate.answer)
        assert reply.status == 202, reply

    async def _error(self, actor, request_id, fate):
        path = f"/2018-06-01/runtime/invocation/{request_id}/error"
        await actor.call("POST", path, {"Lambda-Runtime-Function-Error-Type": "Function.Odd"}, fate.error)

    async def _exit(self, actor, request_id, fate):
        actor.exit(EXIT_CODE)

    async def _kill(self, actor, request_id, fate):
        actor.exit(signal=signal.SIGKILL)

    async def _crash(self, actor, request_id, fate):
        actor.exit(signal=signal.SIGSEGV)

    async def _hang(self, actor, request_id, fate):
        await asyncio.sleep(FOR_EVER_S)

    async def _oversize(self, actor, request_id, fate):
        reply = await actor.respond(request_id, b"x" * OVERSIZED_BYTES)
        assert reply.status == 413, reply

    async def _truncate(self, actor, request_id, fate):
        async with connected(actor) as wire:
            await wire.head("POST", RESPONSE.format(request_id), {"Content-Length": "100"})
            await wire.send(fate.answer)

    async def _drop(self, actor, request_id, fate):
        """Answer without waiting for what is said to it; then begin to wait, give it up, wait again."""
        async with connected(actor) as wire:
            await wire.head("POST", RESPONSE.format(request_id), {"Content-Length": str(len(fate.answer))})
            await wire.send(fate.answer)
            await wire.reply()
            await wire.head("GET", "/2018-06-01/runtime/invocation/next", {})

    async def _flood(self, actor, request_id, fate):
        """Print from a thread, as a process would: what is printed is read by this very loop."""
        await asyncio.to_thread(actor.print, "x" * FLOOD_BYTES)
        await self._answer(actor, request_id, fate)

    async def _twice(self, actor, request_id, fate):
        await self._answer(actor, request_id, fate)
        assert (await actor.respond(request_id, b"again")).status in (400, 403)

    async def _stray(self, actor, request_id, fate):
        assert (await actor.respond("00000000-0000-0000-0000-000000000000", b"{}")).status == 400
        await self._answer(actor, request_id, fate)

    async def _stream(self, actor, request_id, fate):
        async with connected(actor) as wire:
            await wire.begin_stream(request_id)
            for start in range(len(fate.answer)):
                await wire.chunk(fate.answer[start : start + 1])
            await wire.last_chunk()
            assert (await wire.reply()).status == 202

    async def _leave(self, actor, request_id, fate):
        await self._answer(actor, request_id, fate)
        actor.exit()

    async def _perish(self, actor, request_id, fate):
        await self._answer(actor, request_id, fate)
        self.ended[PERISHED] += 1
        waiting = asyncio.ensure_future(actor.next())
        with suppress(TimeoutError):
            async with asyncio.timeout(DAWDLE_S_MAX):
                await waiting
        actor.exit(PERISHED)

    async def extension(self, actor) -> None:
        await actor.register("INVOKE", "SHUTDOWN")
        while (event := await self._next_event(actor))["eventType"] == "INVOKE":
            does = event["tracing"]["value"].split("Does=")[1].rstrip(";")
            if does == "dawdle":
                await asyncio.sleep(self._rng.random() * DAWDLE_S_MAX)
            elif does == "drop":
                await self._give_up(actor)
            elif does == "exit":
                actor.exit(EXIT_CODE)
            elif does == "crash":
                actor.exit(signal=signal.SIGSEGV)
            elif does == "report":
                await actor.report("exit", "Extension.Odd")
                actor.exit(EXIT_CODE)
            elif does == "hang":
                await asyncio.sleep(FOR_EVER_S)

    async def _next_event(self, actor):
        """Wait for an event; whoever has just given up may have to ask twice, until that is noticed."""
        while (reply := await actor.next_event()).status != 200:
            assert reply.json["errorType"] == "Extension.InvalidExtensionState", reply
        return reply.json

    async def _give_up(self, actor):
        """Begin to wait for an event and break it off."""
        async with connected(actor) as wire:
            identity = {"Lambda-Extension-Identifier": actor.identifier}
            await wire.head("GET", "/2020-01-01/extension/event/next", identity)
