import asyncio
import logging

import pytest

from remora.kit.tasks import TaskSet


def test_a_failure_is_logged_once_and_ends_only_its_task(caplog: pytest.LogCaptureFixture) -> None:
    async def fail() -> None:
        raise ValueError("broken on purpose")

    async def scenario() -> str:
        tasks = TaskSet("the test")
        survivor = tasks.spawn(asyncio.sleep(0, "done"), "survivor")
        await asyncio.wait([tasks.spawn(fail(), "breaks")])
        result = await survivor
        await tasks.close()
        return result

    with caplog.at_level(logging.ERROR, "remora.tasks"):
        assert asyncio.run(scenario()) == "done"
    assert [record.getMessage() for record in caplog.records] == ["task 'breaks' of the test failed"]
    assert "broken on purpose" in caplog.text


def test_closing_cancels_and_waits_for_the_last_one() -> None:
    ended = []

    async def stubborn() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            ended.append("stubborn")

    async def scenario() -> None:
        tasks = TaskSet("the test")
        tasks.spawn(stubborn(), "stubborn")
        await asyncio.sleep(0)
        assert repr(tasks) == "<TaskSet the test open tasks=1>"
        await tasks.close()
        assert ended == ["stubborn"]
        assert repr(tasks) == "<TaskSet the test closed tasks=0>"
        await tasks.close()

    asyncio.run(scenario())


def test_a_task_may_close_its_own_set() -> None:
    async def scenario() -> None:
        tasks = TaskSet("the test")
        other = tasks.spawn(asyncio.Event().wait(), "other")
        await tasks.spawn(tasks.close(), "closer")
        assert other.cancelled()

    asyncio.run(scenario())


def test_nothing_starts_after_closing() -> None:
    async def scenario() -> None:
        tasks = TaskSet("the test")
        await tasks.close()
        with pytest.raises(RuntimeError, match="'late' was started after the test was closed"):
            tasks.spawn(asyncio.sleep(0), "late")

    asyncio.run(scenario())
