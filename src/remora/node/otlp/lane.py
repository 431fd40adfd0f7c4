"""
One signal's way out: a thread that builds messages and sends them, and the count of what became of them.

The thread is a daemon: a receiver that never answers keeps nobody from ending the process.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, NamedTuple

from remora.node.otlp.destination import Sender, Sent
from remora.node.otlp.messages import rejected

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.node.otlp.destination import Destination, Signal

_log = logging.getLogger("remora.otlp")


class _Job(NamedTuple):
    build: Callable[[], bytes]
    loop: asyncio.AbstractEventLoop
    sent: asyncio.Future[Sent]


class Lane:
    """
    Delivers one signal.

    Args:
        signal: Which.
        destination: Where to.
    """

    def __init__(self, signal: Signal, destination: Destination) -> None:
        self.signal: Signal = signal
        self.exported = 0
        """Items (invocations, lines, data points) that the receiver took."""
        self.dropped = 0
        """Items that it did not take, or that did not come to be sent."""
        self._sender = Sender(destination)
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._problem = ""

    def __repr__(self) -> str:
        return f"<Lane {self.signal} exported={self.exported} dropped={self.dropped}>"

    async def deliver(self, build: Callable[[], bytes], count: int) -> None:
        """
        Send a message, and count what became of it.

        Args:
            build: Returns it; called in the lane's thread.
            count: How many items it has.

        **Cancellation:** it may be sent all the same.
        """
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=f"otlp {self.signal}", daemon=True)
            self._thread.start()
        loop = asyncio.get_running_loop()
        job = _Job(build, loop, loop.create_future())
        self._jobs.put(job)
        try:
            sent = await job.sent
        except asyncio.CancelledError:
            self.dropped += count
            raise
        self._count(sent, count)

    def _count(self, sent: Sent, count: int) -> None:
        problem = sent.problem
        lost = count if problem else 0
        if not problem:
            lost, problem = rejected(self.signal, sent.answer)
        self.dropped += lost
        self.exported += count - lost
        if problem and not self._problem:
            _log.warning("%s are not exported: %s", self.signal, problem)
        elif self._problem and not problem:
            _log.warning("%s are exported again; %d were dropped so far", self.signal, self.dropped)
        self._problem = problem

    def hurry(self) -> None:
        """Repeat nothing any more. Repeated calls: no effect."""
        self._sender.end()

    def close(self) -> None:
        """Let the thread end; it is not waited for. Repeated calls: no effect."""
        self.hurry()
        self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                sent = self._sender.send(job.build())
            except Exception as error:  # noqa: BLE001 - the boundary "background task", of a thread
                _log.exception("a message of %s could not be made", self.signal)
                sent = Sent(f"a message could not be made ({error})")
            try:
                job.loop.call_soon_threadsafe(_resolve, job.sent, sent)
            except RuntimeError:  # the loop has ended
                break
        self._sender.close()


def _resolve(future: asyncio.Future[Sent], sent: Sent) -> None:
    if not future.done():
        future.set_result(sent)
