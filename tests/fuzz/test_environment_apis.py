"""
Random conversations with the APIs of an environment, several at once, in every phase of its life.

Whatever is said: no answer from 500 on, nothing in the log of the node, and the environment serves on, or is
reset and then serves on; no connection stays.
"""

from __future__ import annotations

import asyncio
import os
import re
import socket
from contextlib import suppress

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from remora.lifecycle import state
from remora.lifecycle.machine import Budgets
from remora.testing.held import open_held
from remora.testing.scripted import ScriptedDriver
from remora.testing.stage import ARN, open_stage

from .endurance import PATIENCE_S, endure, examples
from .talk import STRANGER, conversations

TIMEOUT_S = 0.25
INIT_S = 0.3
BUDGETS = Budgets(
    init_us=300_000,
    restore_us=300_000,
    external_us=80_000,
    external_runtime_us=40_000,
    internal_us=40_000,
)
"""What is said can take the runtime's or the extension's part, who then wait until their time is up."""
TRIES_MAX = 12
"""How many invocations may suffer from what was said, or from a busy machine, until one is answered well."""
HANG_S = 10.0
REACH_S = 1.0
SETTLE_S = 0.004
"""How long a connection that stays is given to hear something."""
PHASES = ["init", "idle", "invoke", "finish", "reset", "shutdown"]
PHASES_OF_HELD = ["init", "held", "restore", "invoke", "finish"]
RESTORE_NEXT = "/2018-06-01/runtime/restore/next"
FAILED = re.compile(rb"HTTP/1\.[01] 5\d\d")


class Play:
    """A runtime and an extension that pause in one phase, once; what they do not expect lets them exit."""

    def __init__(self, phase):
        self.phase = phase
        self.reached, self.gate = asyncio.Event(), asyncio.Event()
        self.places = {"request_id": STRANGER, "identifier": STRANGER}

    async def pause(self, phase):
        if phase == self.phase and not self.reached.is_set():
            self.reached.set()
            await self.gate.wait()

    async def held_runtime(self, actor):
        await self.pause("init")
        await self.asked(actor, actor.call("GET", RESTORE_NEXT), 200)
        await self.pause("restore")
        await self.serve(actor)

    async def runtime(self, actor):
        await self.pause("init")
        await self.serve(actor)

    async def serve(self, actor):
        while True:
            event = await self.asked(actor, actor.next(), 200)
            request_id = event.headers["lambda-runtime-aws-request-id"]
            self.places["request_id"] = request_id.encode()
            if event.body == b'"die"':
                actor.exit(1)
            await self.pause("invoke")
            await self.asked(actor, actor.respond(request_id, event.body), 202)

    async def extension(self, actor):
        await self.asked(actor, actor.register("INVOKE", "SHUTDOWN"), 200)
        self.places["identifier"] = actor.identifier.encode()
        while (await self.asked(actor, actor.next_event(), 200)).json["eventType"] == "INVOKE":
            await self.pause("finish")
        await self.pause("reset")
        await self.pause("shutdown")

    async def asked(self, actor, call, status):
        """Return the answer to a call; whoever hears something else has been disturbed, and exits."""
        try:
            reply = await call
        except (IndexError, ConnectionError):
            actor.exit(1)
        if reply.status != status:
            actor.exit(1)
        return reply


async def converse(port, pieces, ending):
    """Say something on a connection of its own; return what was answered, as far as it came."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**24)
    except ConnectionError:  # on a busy machine the environment was gone by then
        return b""
    heard = asyncio.ensure_future(reader.read())
    try:
        for piece in pieces:
            if writer.is_closing():
                break
            writer.write(piece)
            await asyncio.sleep(0)
        if ending == "half" and not writer.is_closing():
            with suppress(OSError):  # it has been reset meanwhile
                writer.write_eof()
        if ending in ("half", "stay"):
            await asyncio.wait([heard], timeout=SETTLE_S)
        if ending == "reset" and not writer.is_closing():
            linger = b"\x01\0\0\0\0\0\0\0"
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        return bytes(reader._buffer) + (heard.result() if heard.done() and not heard.exception() else b"")
    finally:
        writer.transport.abort()
        heard.cancel()
        await asyncio.wait([heard])
        if not heard.cancelled():
            heard.exception()


async def reach(it, play, phase):
    """Bring an environment into a phase; return the invocation that is under way, if one is."""
    if phase == "idle":
        await it.invoke(b'"first"')
        while it.pool.environments()[0]["state"] != "idle":  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        return None
    while True:
        call = await lead(it, phase)
        try:
            async with asyncio.timeout(REACH_S):
                await play.reached.wait()
        except TimeoutError:  # on a busy machine who was to reach it had no time left, and is gone
            if call is not None:
                await call
        else:
            return call


async def lead(it, phase):
    """Do what leads to a phase; return the invocation that is under way, if one is."""
    if phase == "shutdown":
        await it.invoke(b'"first"')
        it.pool.retire(ARN)
        return None
    return asyncio.ensure_future(it.invoke(b'"die"' if phase == "reset" else b'"now"'))


async def scene(directory, closed_port, phase, talk):
    """Play one example."""
    play = Play(phase)
    driver = ScriptedDriver({"runtime": play.runtime, "extension:e": play.extension})
    files = dict.fromkeys(["task/bootstrap", "opt/extensions/e"])
    settings = {"budgets": BUDGETS}
    stage = open_stage(directory, driver, files, timeout_s=TIMEOUT_S, settings=settings)
    async with asyncio.timeout(HANG_S), stage as it:
        call = await reach(it, play, phase)
        places = {**play.places, "port": b"%d" % closed_port}
        port = int(driver.sandboxes[-1].api_address.split(":")[1])
        heard = await asyncio.gather(*(converse(port, each.pieces(**places), each.ending) for each in talk))
        play.gate.set()
        if call is not None:
            await call
        # Then: it serves on, perhaps after a reset.
        for number in range(TRIES_MAX):
            answer = await it.invoke(b'"%d"' % number)
            if answer.payload == b'"%d"' % number and answer.function_error is None:
                break
        else:
            raise AssertionError(f"it never recovered: {answer}")
        assert not [each for each in heard if FAILED.search(each)], heard
    assert [failure for sandbox in driver.sandboxes for failure in sandbox.failures] == []


async def reached_or_closed(play, it):
    """Wait for the phase; or, on a busy machine, for the end of what had no time left to reach it."""
    waiting = [asyncio.ensure_future(each) for each in (play.reached.wait(), it.closed())]
    try:
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for each in waiting:
            each.cancel()


async def scene_of_held(directory, closed_port, phase, talk):
    """Play one example with an environment that is made for a snapshot."""
    play, heard = Play(phase), []
    driver = ScriptedDriver({"runtime": play.held_runtime, "extension:e": play.extension})
    files = dict.fromkeys(["task/bootstrap", "opt/extensions/e"])
    members = {"timeout_s": TIMEOUT_S, "budgets": BUDGETS, "is_awaited": False}

    async def converse_in(present, it):
        """Say what is to be said, if it is to be said now."""
        if present != phase:
            return
        if present != "held":
            await reached_or_closed(play, it)
        places = {**play.places, "port": b"%d" % closed_port}
        port = int(driver.sandboxes[0].api_address.split(":")[1])
        heard.extend(
            await asyncio.gather(*(converse(port, each.pieces(**places), each.ending) for each in talk))
        )
        play.gate.set()

    async def invoke(it):
        talking = asyncio.ensure_future(converse_in("invoke" if phase == "invoke" else "finish", it))
        await it.invoke(b'"now"')
        await talking

    async with asyncio.timeout(HANG_S), open_held(directory, driver, files, **members) as it:
        await converse_in("init", it)
        await it.settled()
        await converse_in("held", it)
        # Then: it can be restored, or it is known why not.
        if it.failure is None:
            restoring = asyncio.ensure_future(it.restore())
            await converse_in("restore", it)
            await restoring
        # And it serves, or it is known why not.
        if it.failure is None:
            await invoke(it)
        assert not [each for each in heard if FAILED.search(each)], heard
    assert it.is_closed
    assert [failure for sandbox in driver.sandboxes for failure in sandbox.failures] == []


@pytest.fixture(params=["asyncio", "uvloop"])
def play(request, tmp_path, caplog, monkeypatch):
    """Play examples on one loop; after each, nothing may have been logged, and no descriptor be left."""
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    problems = []
    monkeypatch.setattr(state, "PROVISIONED_INIT_S_MIN", INIT_S)
    with asyncio.Runner(loop_factory=factory) as runner, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        runner.get_loop().set_exception_handler(lambda _, context: problems.append(context))
        runner.run(scene(tmp_path, 1, "idle", []))  # what the loop opens once is open from now on

        def run(phase, talk, scene=scene):
            problems.clear()  # of another example, which has failed for them
            caplog.clear()
            before = runner.run(descriptors())
            runner.run(scene(tmp_path, closed.getsockname()[1], phase, talk))
            runner.run(until_descriptors(before))
            assert problems == []
            assert caplog.text == ""

        yield run


async def until_descriptors(count):
    """Wait until no more than `count` descriptors are open: the loop closes some a moment later."""
    async with asyncio.timeout(HANG_S):
        while await descriptors() > count:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.001)


async def descriptors():
    """Return how many are open while the loop runs."""
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - it is no disk


talks = st.lists(conversations(), min_size=1, max_size=3)


@pytest.mark.slow
@examples(250)
@given(phase=st.sampled_from(PHASES), talk=talks)
def test_whatever_is_said_it_serves_on(play, phase, talk):
    play(phase, talk)


@pytest.mark.slow
@examples(60)
@given(phase=st.sampled_from(PHASES_OF_HELD), talk=talks)
def test_whatever_is_said_to_what_is_held(play, phase, talk):
    play(phase, talk, scene_of_held)


@pytest.mark.slow_soak
@pytest.mark.timeout(PATIENCE_S)
def test_whatever_is_said_for_minutes_to_what_is_held(play):
    def make():
        @given(phase=st.sampled_from(PHASES_OF_HELD), talk=talks)
        def is_no_worse(phase, talk):
            play(phase, talk, scene_of_held)

        return is_no_worse

    endure(make)


@pytest.mark.slow_soak
@pytest.mark.timeout(PATIENCE_S)
def test_whatever_is_said_for_minutes_it_serves_on(play):
    def make():
        @given(phase=st.sampled_from(PHASES), talk=talks)
        def serves_on(phase, talk):
            play(phase, talk)

        return serves_on

    endure(make)
