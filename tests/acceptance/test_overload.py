"""Many more clients than may be served: those beyond the limit are told so, the others are served."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from .conftest import running
from .nodes import eventually
from .packages import RUNTIME, zip_of

pytestmark = pytest.mark.slow

CLIENTS = 200
LIMIT = 20
CALLS = 20
GROWTH_KIB_MAX = 32 * 1024
CODE = zip_of({"app.py": "def handler(event, context):\n    return context.aws_request_id\n"})


async def client(port: int, name: str, answers: Counter, bodies: set[bytes]) -> None:
    """Call again and again on one connection, whatever the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    request = (
        f"POST /2015-03-31/functions/{name}/invocations HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    for _ in range(CALLS):
        writer.write(request.encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0])
        body = await reader.readexactly(length)
        status = int(head[9:12])
        answers[status] += 1
        if status != 200:
            bodies.add(body)
            assert b"retry-after: 1\r\n" in head
            assert b"x-amzn-errortype: toomanyrequestsexception" in head
    writer.close()
    await writer.wait_closed()


def resident_kib(pid: int) -> int:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0])


def test_two_hundred_clients_on_a_limit_of_twenty(data):
    with running(data, "--concurrency", str(LIMIT)) as node:
        name = node.create(CODE, Runtime=RUNTIME, Handler="app.handler")
        port = int(node.address.rpartition(":")[2])

        def storm() -> tuple[Counter, set[bytes]]:
            answers: Counter = Counter()
            bodies: set[bytes] = set()

            async def all_clients() -> None:
                await asyncio.gather(*(client(port, name, answers, bodies) for _ in range(CLIENTS)))

            asyncio.run(all_clients())
            return answers, bodies

        storm()
        before_kib = resident_kib(node.info["pid"])
        known = {each["id"] for each in node.environments(name)}
        answers, bodies = storm()
        assert set(answers) == {200, 429}
        assert sum(answers.values()) == CLIENTS * CALLS
        assert [json.loads(body) for body in bodies] == [
            {"Type": "User", "Reason": "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."}
        ]
        node.settle(name)
        environments = {each["id"] for each in node.environments(name)}
        assert known <= environments, "no environment was lost"
        assert len(environments) <= LIMIT
        eventually(lambda: resident_kib(node.info["pid"]) - before_kib < GROWTH_KIB_MAX)
        assert node.invoke(name).error is None


def test_a_noisy_function_does_not_starve_another(data):
    with running(data, "--concurrency", "4") as node:
        noisy, modest = (node.create(CODE, Runtime=RUNTIME, Handler="app.handler") for _ in range(2))
        port = int(node.address.rpartition(":")[2])
        refused: list[int] = []

        async def calls(turns: int) -> None:
            """Call, and once more after a moment as long as it is refused."""
            for _ in range(turns):
                tries = 0
                while not await asyncio.to_thread(is_served):
                    tries += 1
                    await asyncio.sleep(0.05)
                refused.append(tries)

        def is_served() -> bool:
            try:
                return node.invoke(modest).error is None
            except node.client.exceptions.TooManyRequestsException:
                return False

        async def all_clients() -> Counter:
            answers: Counter = Counter()
            is_full, stop = asyncio.Event(), asyncio.Event()

            async def noise() -> None:
                while not stop.is_set():
                    await client(port, noisy, answers, set())
                    if answers[200] >= 100:  # every environment is there
                        is_full.set()

            async with asyncio.TaskGroup() as group:
                for _ in range(24):
                    group.create_task(noise())
                await is_full.wait()
                await calls(6)
                stop.set()
            return answers

        answers = asyncio.run(all_clients())
        assert answers[429] > answers[200] > 100, "there was no noise"
        # Room is kept for it after the first refusal.
        assert sum(refused) <= 2 * len(refused), refused
        assert node.invoke(noisy).error is None
