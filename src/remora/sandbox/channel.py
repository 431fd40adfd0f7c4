"""The control connection of one remora-init: orders go out at once or in turn, reports come in one by one."""

from __future__ import annotations

import asyncio
import logging
import os
import select
import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, TypeVar

from remora.sandbox import messages

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ANSWER_WAIT_MS = 1000

_DESCRIPTOR = struct.Struct("@i")
_ROOM_FOR_DESCRIPTOR = socket.CMSG_LEN(_DESCRIPTOR.size)

Answer = TypeVar("Answer", messages.Thawed, messages.Measured)

_log = logging.getLogger("remora.sandbox")


class Channel:
    """
    Speaks with remora-init from the running event loop.

    Args:
        name: The sandbox's, for logs.
        connection: Non-blocking; stays the caller's.
        hear: Called from the event loop with each report.
        ended: Called from the event loop, once, when remora-init has let go.
    """

    def __init__(
        self,
        name: str,
        connection: socket.socket,
        *,
        hear: Callable[[messages.Report], None],
        ended: Callable[[], None],
    ) -> None:
        self._name = name
        self._connection = connection
        self._hear = hear
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._outbox: deque[tuple[bytes, list[int]]] = deque()
        self._backlog: deque[messages.Report] = deque()
        self._is_open = True
        self._loop.add_reader(connection.fileno(), self._read)

    def __repr__(self) -> str:
        state = "open" if self._is_open else "closed"
        return f"<Channel {self._name} {state} outbox={len(self._outbox)}>"

    def close(self) -> None:
        """Send and hear nothing any more. Repeated calls: no effect."""
        if not self._is_open:
            return
        self._is_open = False
        self._loop.remove_reader(self._connection.fileno())
        self._loop.remove_writer(self._connection.fileno())
        for _, descriptors in self._outbox:
            _close_all(descriptors)
        self._outbox.clear()

    def send(self, order: bytes, descriptors: Sequence[int] = ()) -> None:
        """
        Send now, or in turn when remora-init is behind, then with copies of the descriptors.

        Raises:
            OSError: If a descriptor is bad or cannot be copied. That remora-init is gone is no error here:
                `ended` tells.
        """
        if not self._is_open:
            return
        if not self._outbox and self._send_now(order, descriptors):
            return
        copies: list[int] = []
        try:
            for descriptor in descriptors:
                copies.append(os.dup(descriptor))  # noqa: PERF401 - a comprehension would lose them on an error
        except OSError:
            _close_all(copies)
            raise
        self._outbox.append((order, copies))
        self._loop.add_writer(self._connection.fileno(), self._send_waiting)

    def _send_now(self, order: bytes, descriptors: Sequence[int]) -> bool:
        """Return False if it has to wait."""
        try:
            socket.send_fds(self._connection, [order], descriptors)
        except BlockingIOError:
            return False
        except ConnectionError:
            return True
        return True

    def _send_waiting(self) -> None:
        while self._outbox:
            order, descriptors = self._outbox[0]
            if not self._send_now(order, descriptors):
                return
            self._outbox.popleft()
            _close_all(descriptors)
        self._loop.remove_writer(self._connection.fileno())

    def _receive(self) -> messages.Report | None:
        """
        Return the next report; None if it was none.

        Raises:
            BlockingIOError: If there is none now.
            EOFError: If remora-init has ended.
        """
        try:
            said, extras, _, _ = self._connection.recvmsg(
                messages.REPORT_BYTES_MAX, _ROOM_FOR_DESCRIPTOR, socket.MSG_CMSG_CLOEXEC
            )
        except ConnectionError as error:
            raise EOFError from error
        if not said:
            raise EOFError
        descriptors = [_DESCRIPTOR.unpack(data[: _DESCRIPTOR.size])[0] for _, _, data in extras]
        try:
            report = messages.read(said)
        except ValueError:
            _log.exception("sandbox %s: a report was thrown away", self._name)
            _close_all(descriptors)
            return None
        if descriptors and isinstance(report, messages.SocketMade):
            return messages.SocketMade(report.errno, descriptors[0])
        _close_all(descriptors)
        return report

    def _read(self) -> None:
        while self._is_open:
            try:
                report = self._backlog.popleft() if self._backlog else self._receive()
            except BlockingIOError:
                return
            except EOFError:
                self.close()
                self._ended()
                return
            if report is not None:
                self._hear(report)

    def ask(self, order: bytes, kind: type[Answer]) -> Answer | None:
        """
        Send an order and block until its answer of type `kind` is there, some 50 to 200 µs.

        Other reports that come meanwhile are heard later, from the event loop.

        Returns:
            None if remora-init has ended or does not answer.
        """
        self.send(order)
        poll = select.poll()
        poll.register(self._connection, select.POLLIN)
        answer: Answer | None = None
        while answer is None and self._is_open and not self._outbox and poll.poll(ANSWER_WAIT_MS):
            try:
                report = self._receive()
            except EOFError:
                break  # the end is still there when the event loop reads
            if isinstance(report, kind):
                answer = report
            elif report is not None:
                self._backlog.append(report)
        if self._backlog:
            self._loop.call_soon(self._read)
        return answer


def _close_all(descriptors: Sequence[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
