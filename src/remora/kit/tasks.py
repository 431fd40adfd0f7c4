"""
Tasks with an owner: the only place that creates background tasks.

A task that nobody holds may be collected while it runs, and one whose failure nobody reads fails in silence.
A `TaskSet` holds its tasks, logs what they did not handle, and ends them with their owner.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Coroutine

_log = logging.getLogger("remora.tasks")


class TaskSet:
    """
    The background tasks of one owner.

    A task's exception ends that task only and is logged once, with the task's name: this is the boundary
    "background task". Whoever needs a task's result awaits something else that the task completes.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: set[asyncio.Task[Any]] = set()
        self._is_closed = False

    def __repr__(self) -> str:
        state = "closed" if self._is_closed else "open"
        return f"<TaskSet {self._name} {state} tasks={len(self._tasks)}>"

    def __len__(self) -> int:
        return len(self._tasks)

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """
        Start a task.

        Args:
            coroutine: What to run.
            name: For logs: what is being done, on what.

        Returns:
            The task, so that its owner can cancel it.

        Raises:
            RuntimeError: If the set is closed; the coroutine has then not run and never will.
        """
        if self._is_closed:
            coroutine.close()
            raise RuntimeError(f"task {name!r} was started after {self._name} was closed")
        task = asyncio.get_running_loop().create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def join(self) -> None:
        """Wait until every task has ended by itself."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def close(self) -> None:
        """
        Cancel every task and wait until the last one has ended; a task that closes its own set lives on.

        **Cancellation:** the tasks are cancelled all the same but may still be ending; close again to wait.
        Repeated calls: wait again for those that are left.
        """
        self._is_closed = True
        others = self._tasks - {asyncio.current_task()}
        for task in others:
            task.cancel()
        if others:
            await asyncio.wait(others)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        failure = task.exception()
        if failure is not None:
            _log.error("task %r of %s failed", task.get_name(), self._name, exc_info=failure)
