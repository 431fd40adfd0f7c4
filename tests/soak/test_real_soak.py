"""The same over a real node: isolated processes that are compiled, so that many can be started."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from tests.acceptance.conftest import running
from tests.acceptance.leftovers import cgroups_of
from tests.acceptance.nodes import eventually, unique
from tests.acceptance.packages import compiled, extension, zip_of

from .fates import Told, draw, inherited, problem_with

SEED = int(os.environ.get("SOAK_SEED", "1"))
SOURCE = Path(__file__).with_name("moody.c")
TIMEOUT_S = 10
RESIDENT_BYTES_MAX = 24 * 1024 * 1024
PATIENCE_S = 120


class Caller:
    """One connection to the node, kept as long as it works."""

    def __init__(self, endpoint, function):
        self._address = urlsplit(endpoint)
        self._path = f"/2015-03-31/functions/{function}/invocations"
        self._reader = self._writer = None

    async def invoke(self, fate):
        """Return status and what was told."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection(
                self._address.hostname, self._address.port, limit=2**24
            )
        head = (
            f"POST {self._path} HTTP/1.1\r\nHost: x\r\nX-Amzn-Trace-Id: {fate.trace}\r\n"
            f"Content-Length: {len(fate.payload)}\r\n\r\n"
        )
        self._writer.write(head.encode() + fate.payload)
        lines = (await self._reader.readuntil(b"\r\n\r\n")).decode().splitlines()
        headers = dict(line.lower().split(": ", 1) for line in lines[1:-1])
        payload = await self._reader.readexactly(int(headers["content-length"]))
        error = "Unhandled" if headers.get("x-amz-function-error") == "unhandled" else ""
        return int(lines[0].split()[1]), Told(error, payload)

    def close(self):
        if self._writer is not None:
            self._writer.transport.abort()


async def invoke_all(node, function, fates, environments):
    """Make all invocations, so many at once; return the problems, and how many inherited theirs."""
    coming, answers, problems, heirs = iter(fates), Counter(), [], 0

    async def call() -> None:
        nonlocal heirs
        caller = Caller(node.endpoint, function)
        try:
            for fate in coming:
                async with asyncio.timeout(PATIENCE_S):
                    status, told = await caller.invoke(fate)
                answers[fate.number] += 1
                if status == 200 and inherited(told):
                    heirs += 1
                elif problem := problem_with(fate, told) if status == 200 else f"{fate}: {status} {told}":
                    problems.append(problem)
        finally:
            caller.close()

    async with asyncio.TaskGroup() as group:
        for _ in range(environments):
            group.create_task(call())
    assert answers == Counter(fate.number for fate in fates)
    return problems, heirs


def settle(node, function, lap):
    """Let every environment go; return how many descriptors and bytes the node has then."""
    node.client.update_function_configuration(FunctionName=function, Description=f"after lap {lap}")
    node.wait("function_updated_v2", function)
    eventually(lambda: node.environments(function) == [])
    assert list((node.data / "environments").iterdir()) == []
    assert cgroups_of(node.data) == []
    place = Path("/proc", str(node.info["pid"]))
    resident_bytes = int((place / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return len(os.listdir(place / "fd")), resident_bytes  # noqa: PTH208 - it is no disk


def soak(directory, *, laps, count, environments):
    """Run `laps` times `count` invocations; all environments go between two laps."""
    program = compiled(SOURCE, directory / "moody").read_bytes()
    fates, weights, heirs = draw(SEED, laps * count), [], 0
    with running(directory / unique("data"), "--warm", "0") as node:
        layer = extension("e", directory / "moody")
        function = node.create(
            zip_of({"bootstrap": program}, mode=0o755),
            layers=[layer],
            Runtime="provided.al2023",
            Handler="moody",
            Timeout=TIMEOUT_S,
        )
        for lap in range(laps):
            part = fates[lap * count : (lap + 1) * count]
            problems, more = asyncio.run(invoke_all(node, function, part, environments))
            assert problems == [], node.errors.read_text()
            heirs += more
            weights.append(settle(node, function, lap))
        node.client.delete_function(FunctionName=function)
        errors = node.errors.read_text()
        warnings = {f"warning: {missing}" for missing in node.info["missing"]}
    assert set(errors.splitlines()) <= warnings
    perished = sum(fate.runtime == "perish" for fate in fates)
    assert heirs <= perished + max(5, len(fates) // 100), "more failed by an earlier fate than can have"
    (middle, middle_bytes), (last, last_bytes) = weights[len(weights) // 2], weights[-1]
    assert last <= middle, weights
    assert last_bytes - middle_bytes < RESIDENT_BYTES_MAX, weights


@pytest.mark.slow
def test_hundreds_of_real_invocations(tmp_path):
    soak(tmp_path, laps=2, count=150, environments=10)


@pytest.mark.slow_soak
@pytest.mark.timeout(3600)
def test_twenty_thousand_real_invocations(tmp_path):
    soak(tmp_path, laps=8, count=2500, environments=50)
