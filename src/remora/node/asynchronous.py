"""Asynchronous invocations of a node: log, queue and sender put together, begun and ended in order."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from remora.control.events import EventFunctions
from remora.events.aws import AwsSender
from remora.events.decisions import Pace
from remora.events.queue import EventQueue
from remora.kit.ids import new_uuid
from remora.kit.tasks import TaskSet
from remora.node.drivers import event_log

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.kit.clock import Clock
    from remora.node.settings import NodeSettings
    from remora.pool.pool import Pool
    from remora.telemetry.meter import Meters

END_S: Final = 2.0
"""How long outcomes and messages under way are waited for when the node ends, seconds; they are not lost."""


class NodeEvents:
    """
    The asynchronous half of a node.

    Args:
        settings: What the operator decided.
        pool: Runs events.
        clock: The node's clock.
        meters: What counts.
    """

    def __init__(self, settings: NodeSettings, pool: Pool, clock: Clock, meters: Meters) -> None:
        self._functions = EventFunctions(pool)
        self._log = event_log(settings.data)
        self._sender = AwsSender(settings.aws_endpoint, settings.region, clock=clock, new_id=new_uuid)
        self._tasks = TaskSet("events")
        self.queue = EventQueue(
            self._log,
            pool,
            self._functions,
            self._sender,
            clock=clock,
            tasks=self._tasks,
            meters=meters,
            pace=Pace(settings.event_pace),
        )

    def __repr__(self) -> str:
        return f"<NodeEvents {self.queue!r}>"

    async def start(self, control: Control, *, judges: bool) -> None:
        """
        Go on with what a former process left.

        Args:
            control: The node's parts.
            judges: True if a function's results go only where its role may invoke.

        Raises:
            StoreError: If the log cannot be opened.
        """
        self._functions.begin(control, judges=judges)
        await self.queue.start()

    async def close(self) -> None:
        """
        Finish what is under way, for a moment; the queue was stopped before, and the pool closed.

        **Cancellation:** what is not finished is done when the node starts again.
        """
        self.queue.stop()
        with suppress(TimeoutError):
            async with asyncio.timeout(END_S):
                await self._tasks.join()
        await self._tasks.close()
        await self._log.close()
