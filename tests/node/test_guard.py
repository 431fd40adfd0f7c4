"""The guard of the node's own pages: whatever happens while it looks, everybody is answered."""

from __future__ import annotations

import asyncio
import json
from types import SimpleNamespace

import pytest

from remora.kit.tasks import TaskSet
from remora.node.guard import Guarded


@pytest.mark.parametrize(
    ("error", "text"), [(RuntimeError("odd"), "see the node's log"), (OSError(5, "I/O error"), "I/O error")]
)
def test_a_check_that_fails_is_answered_and_passes_nothing_on(error, text):
    answers, passed = [], []

    async def identify(_exchange, _service):
        raise error

    async def main():
        tasks = TaskSet("checks")
        exchange = SimpleNamespace(
            path=b"/_remora/environments", respond=lambda *answer: answers.append(answer)
        )
        application = SimpleNamespace(ended=passed.append)
        Guarded(application, SimpleNamespace(identify=identify), tasks).ended(exchange)
        await tasks.join()

    asyncio.run(main())
    ((status, _, body),) = answers
    assert (status, passed) == (500, [])
    assert text in json.loads(body)["message"]
