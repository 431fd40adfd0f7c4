"""
"Understanding the Lambda execution environment lifecycle": functions that take more than they are given.

While one goes wild, another is served beside it.
"""

import asyncio
import dataclasses
import json
import resource
import time
from pathlib import Path

import pytest

from remora.environment.base import InvokeRequest

pytestmark = pytest.mark.slow
LINES = 1_000_000
LINE_BYTES = 100


def failed(answer, error_type, message):
    text = f"RequestId: {answer.request_id} Error: {message}"
    assert json.loads(answer.payload) == {"errorType": error_type, "errorMessage": text}
    return True


def neighbour_of(it, number=0):
    """Return another function of the same node, whose code is the same."""
    return dataclasses.replace(it.deployment, key=f"neighbour-{number}")


async def serve_beside(it, wild, *, times=20):
    """Invoke the neighbour while `wild` runs; return how long its slowest invocation took, seconds."""
    deployment, longest_s = neighbour_of(it), 0.0
    request = InvokeRequest(payload=b'"calm"', invoked_arn="arn")
    await it.pool.invoke(deployment, request)
    for _ in range(times):
        began = time.monotonic()  # on the loop's own clock nothing takes long but waiting
        answer = await it.pool.invoke(deployment, request)
        assert answer.payload == b'"calm"'
        longest_s = max(longest_s, time.monotonic() - began)
        if wild.done():
            break
    return longest_s


def test_memory(real, run, limited):
    program = """
    def handle(event):
        if event == b'"wild"':
            hoard = []
            while True:
                hoard.append(b"x" * (8 << 20))
        return event
    serve(handle)
    """

    async def scenario():
        async with real(program) as it:
            wild = asyncio.create_task(it.invoke(b'"wild"'))
            await serve_beside(it, wild)
            ends = ("Runtime.OutOfMemory", "signal: killed"), ("Runtime.ExitError", "exit status 1")
            error_type, how = ends[0] if "memory" in limited else ends[1]
            assert failed(await wild, error_type, f"Runtime exited with error: {how}")
            assert (await it.invoke(b'"tame"')).payload == b'"tame"'

    run(scenario())


def test_segmentation_fault(real, run):
    program = """
    import ctypes
    def handle(event):
        return ctypes.string_at(0) if event == b'"wild"' else event
    serve(handle)
    """

    async def scenario():
        async with real(program) as it:
            message = "Runtime exited with error: signal: segmentation fault"
            assert failed(await it.invoke(b'"wild"'), "Runtime.ExitError", message)
            assert (await it.invoke(b'"tame"')).payload == b'"tame"'

    run(scenario())


def test_fork_bomb(real, run, limited):
    program = """
    def handle(event):
        while event == b'"wild"':
            try:
                os.fork()
            except OSError:
                pass
        return event
    serve(handle)
    """

    async def scenario():
        async with real(program, timeout_s=1, memory_mib=3008) as it:
            wild = asyncio.create_task(it.invoke(b'"wild"'))
            await serve_beside(it, wild)
            assert failed(await wild, "Sandbox.Timedout", "Task timed out after 1.00 seconds")
            assert (await it.invoke(b'"tame"')).payload == b'"tame"'
            inits = len([kind for kind, _ in it.marks(1) if kind == "init.started"])
            # Without cgroups it may live longer than the reset may take: then there is another environment.
            assert inits == 2 or "pids" not in limited

    run(scenario())


def test_output_without_end(real, run):
    program = f"""
    def handle(event):
        if event == b'"wild"':
            chunk = (b"x" * {LINE_BYTES - 1} + b"\\n") * 1000
            for _ in range({LINES // 1000}):
                os.write(1, chunk)
        if event == b'"line"':
            for _ in range(10):
                os.write(1, b"y" * 100_000)
            say("")
        return event
    serve(handle)
    """

    async def scenario():
        async with real(program, timeout_s=60, scene_s=100) as it:
            before_kib = resident_kib()
            began = time.monotonic()
            wild = asyncio.create_task(it.invoke(b'"wild"'))
            longest_s = await serve_beside(it, wild, times=1000)
            assert (await wild).payload == b'"wild"'
            # its neighbour has not waited for the end of it
            flood_s = time.monotonic() - began
            assert longest_s < max(1.0, flood_s / 3)
            # memory stays flat
            assert resident_kib() - before_kib < 64 * 1024
            # a megabyte without a newline is cut into pieces, none is lost
            assert (await it.invoke(b'"line"')).payload == b'"line"'
            lines = await it.log()
            assert sum(line.startswith("xxx") for line in lines) == LINES
            assert sum(len(line) for line in lines if line.startswith("yyy")) == 1_000_000

    run(scenario())


def resident_kib():
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() // 1024


def test_output_after_which_nothing_comes(real, run):
    async def scenario():
        async with real('os.write(1, b"half a line")\nos._exit(1)') as it:
            await it.invoke()
            assert (await it.log()).count("half a line") == 2

    run(scenario())
