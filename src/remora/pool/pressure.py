"""
Pressure on memory, as the kernel tells of it: somebody waited for memory for a noticeable time.

Where the kernel has no such information, or does not let this user watch it, nothing is told.

Source: Linux, "PSI - Pressure Stall Information", section "Monitoring for pressure thresholds".
"""

from __future__ import annotations

import logging
import os
import select
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

_log = logging.getLogger("remora.pool")

PRESSURE: Final = Path("/proc/pressure/memory")
_TRIGGER: Final = b"some 100000 2000000\0"
"""100 ms of waiting within 2 s, a window that those without privileges may watch, too; told once in it."""


class Pressure:
    """
    Watches the pressure on memory of the machine.

    Args:
        loop: Where it is heard.
        felt: Called when there was pressure; at most every two seconds.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, felt: Callable[[], None]) -> None:
        self._loop = loop
        self._felt = felt
        self._watched = -1
        self._epoll: select.epoll | None = None

    def __repr__(self) -> str:
        return f"<Pressure {'not ' if self._epoll is None else ''}watched>"

    def open(self, path: Path = PRESSURE) -> None:
        """Watch from now on, if the kernel lets us."""
        try:
            watched = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK)
            try:
                os.write(watched, _TRIGGER)
                self.watch(watched)
            except OSError:
                os.close(watched)
                raise
        except OSError as error:
            _log.debug("the pressure on memory cannot be watched: %s", error)

    def watch(self, descriptor: int) -> None:
        """
        Watch a descriptor that has priority data when there is pressure.

        Raises:
            OSError: If it cannot be watched; otherwise it is ours from now on.
        """
        epoll = select.epoll()
        try:
            epoll.register(descriptor, select.EPOLLPRI)
        except OSError:
            epoll.close()
            raise
        self._watched, self._epoll = descriptor, epoll
        # The event loop watches for ordinary data only: an epoll has that when it has any event.
        self._loop.add_reader(epoll.fileno(), self._look)

    def close(self) -> None:
        """Watch no more. Repeated calls: no effect."""
        if self._epoll is not None:
            self._loop.remove_reader(self._epoll.fileno())
            self._epoll.close()
            os.close(self._watched)
            self._epoll = None

    def _look(self) -> None:
        assert self._epoll is not None, "what is closed is not watched"
        broken = [event for _, event in self._epoll.poll(0) if event & (select.EPOLLERR | select.EPOLLHUP)]
        if broken:
            self.close()
        else:  # the kernel tells of pressure once: that woke us, and is not told again
            self._felt()
