"""Waiting for descriptors: a pipe that speaks, a process (as a pidfd) that ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import select
import signal


async def readable(descriptor: int, *, within_s: float) -> bool:
    """
    Wait until `descriptor` can be read; a pidfd can when its process has ended.

    Returns:
        False if `within_s` seconds passed without.
    """
    return await first_readable(descriptor, within_s=within_s) is not None


async def first_readable(*descriptors: int, within_s: float) -> int | None:
    """Wait until one of the descriptors can be read; return it, None if `within_s` seconds passed without."""
    loop = asyncio.get_running_loop()
    ready: asyncio.Future[int] = loop.create_future()

    def settle(descriptor: int) -> None:
        if not ready.done():
            ready.set_result(descriptor)

    for descriptor in descriptors:
        loop.add_reader(descriptor, settle, descriptor)
    try:
        async with asyncio.timeout(within_s):
            return await ready
    except TimeoutError:
        # A loop that was busy meanwhile looks at the clock first.
        return next(filter(_is_readable, descriptors), None)
    finally:
        for descriptor in descriptors:
            loop.remove_reader(descriptor)


def _is_readable(descriptor: int) -> bool:
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(0))


def open_process(pid: int) -> int | None:
    """Return a pidfd for `pid`, owned by the caller; None if there is no such process."""
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def kill_process(pidfd: int) -> None:
    """Send SIGKILL to the process of `pidfd`; the dead are passed over in silence."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)


async def kill_and_wait(pids: list[int], *, within_s: float, and_then: tuple[str, ...] = ()) -> bool:
    """
    Kill processes and wait until all have ended.

    Args:
        pids: Numbers of processes as this process sees them.
        within_s: How long to wait for each, seconds.
        and_then: Files of v1 freezers to write THAWED to once all are killed: the frozen cannot die.

    Returns:
        True if all of them are gone.
    """
    pidfds = [pidfd for pid in pids if (pidfd := open_process(pid)) is not None]
    try:
        for pidfd in pidfds:
            kill_process(pidfd)
        for path in and_then:
            thaw_file(path)
        return all([await readable(pidfd, within_s=within_s) for pidfd in pidfds])
    finally:
        for pidfd in pidfds:
            os.close(pidfd)


def thaw_file(path: str) -> None:
    """Thaw the v1 freezer whose state file is `path`, if it is there."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, b"THAWED")
        finally:
            os.close(descriptor)
