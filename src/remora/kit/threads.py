"""
Work in another thread, or here where the machine has none to give.

A thread is as hard to have as a process. Whoever cleans up when the process table is full must not fail
because of that, even if everybody else has to wait for the disk meanwhile.
"""

from __future__ import annotations

import asyncio
import errno
import os
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread
from typing import TYPE_CHECKING, ParamSpec, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

P = ParamSpec("P")
R = TypeVar("R")


def begin(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> asyncio.Future[R]:
    """
    Begin blocking work; it is done exactly once, and to its end.

    Args:
        work: Is called,
        *args: with these,
        **kwargs: and these.

    Returns:
        What will hold its outcome. Cancelling that changes nothing.
    """
    done: Future[R] = Future()
    claim = Lock()

    def run() -> None:
        if not claim.acquire(blocking=False):
            return
        try:
            result = work(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            if done.set_running_or_notify_cancel():
                done.set_exception(error)
        else:
            if done.set_running_or_notify_cancel():
                done.set_result(result)

    try:
        asyncio.get_running_loop().run_in_executor(None, run)
    except RuntimeError:
        run()  # the executor may have queued it all the same: whoever comes first does it
    return asyncio.wrap_future(done)


async def in_daemon(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """
    Do blocking work that depends on another machine, in a thread of its own, which nobody waits for at exit.

    **Cancellation:** the work goes on; only its outcome is lost.

    Raises:
        OSError: If the machine has no thread to give.
    """
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[R] = loop.create_future()

    def settle(result: R | None, error: BaseException | None) -> None:
        if outcome.done():
            return
        if error is None:
            outcome.set_result(result)  # type: ignore[arg-type]
        else:
            outcome.set_exception(error)

    def run() -> None:
        result, failure = None, None
        try:
            result = work(*args, **kwargs)
        except BaseException as error:  # noqa: BLE001 - whoever waits gets it
            failure = error
        with suppress(RuntimeError):  # the loop has ended
            loop.call_soon_threadsafe(settle, result, failure)

    try:
        Thread(target=run, daemon=True).start()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN)) from error
    return await outcome


async def in_thread(work: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """
    Do blocking work; see `begin`.

    **Cancellation:** the work goes on to its end; only its outcome is lost.
    """
    outcome = begin(work, *args, **kwargs)
    try:
        return await asyncio.shield(outcome)
    except asyncio.CancelledError:
        outcome.add_done_callback(_forget)
        raise


def _forget(outcome: asyncio.Future[R]) -> None:
    """Have nobody told of an error that nobody waits for."""
    if not outcome.cancelled():
        outcome.exception()
