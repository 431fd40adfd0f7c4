"""
What of an environment is in its snapshot besides its processes, and how a copy of it begins.

Source: snapstart specification, sections 4 and 5; ADR-0020.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from remora.environment.witness import WitnessState  # noqa: TC001 - msgspec looks at the types
from remora.http.moving import CannotMoveError, adopt, hand_over
from remora.sandbox.base import SandboxError
from remora.sandbox.repair import TcpState, take_apart, unsent_bytes
from remora.sandbox.restoration import SandboxImage  # noqa: TC001 - the same

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from remora.environment.story import Recorder
    from remora.http.server import Server
    from remora.lifecycle.messages import Call
    from remora.sandbox.base import SandboxPlan, Watcher
    from remora.sandbox.copies import Copy
    from remora.sandbox.restoration import Belongings
    from remora.sandbox.supervised import SupervisedSandbox


ACKNOWLEDGED_S: Final = 0.02
ACKNOWLEDGED_TRIES: Final = 50
"""How often it is looked whether answers were acknowledged; delayed, that takes some 40 ms."""


class HeldConnection(msgspec.Struct, frozen=True):
    """
    A connection to the environment's APIs.

    Args:
        tcp: Our half of it.
        request: The head of the request that waits for its answer; None if none does.
        call: Its number in the story; None if it is in none.
    """

    tcp: TcpState
    request: bytes | None
    call: int | None


class Scene(msgspec.Struct, frozen=True):
    """
    An environment at the moment of its snapshot.

    Args:
        token: What its processes show to be given credentials.
        runtime_release: Which runtime it is that calls, as it says itself.
        story: What its lifecycle machine heard.
        witness: Whom it tells, and what they have not got.
        connections: To its APIs.
        pipes: Numbers of the pipes that its processes write to, standard output first.
        sandbox: What runs in it.
    """

    token: str
    runtime_release: str
    story: bytes
    witness: WitnessState
    connections: tuple[HeldConnection, ...]
    pipes: dict[str, tuple[int, ...]]
    sandbox: SandboxImage


class CopyingDriver(Protocol):
    """Who makes sandboxes that can be copied."""

    async def create(self, plan: SandboxPlan, watcher: Watcher) -> SupervisedSandbox:
        """Make an original; see `remora.sandbox.copies.Copies`."""

    async def dump(self, sandbox: SupervisedSandbox, images: str) -> SandboxImage:
        """Write an original down."""

    async def copy(self, plan: SandboxPlan, watcher: Watcher, image: SandboxImage, own: Belongings) -> Copy:
        """Make a copy."""


async def acknowledged(server: Server) -> None:
    """
    Wait until all that was answered has been acknowledged: kernels take their time, and tell nobody.

    Connections for which it takes longer than usual are left as they are.
    """
    for _ in range(ACKNOWLEDGED_TRIES):
        sockets = [each.transport.get_extra_info("socket") for each in server.connections]
        if not any(unsent_bytes(each.fileno()) for each in sockets):
            return
        await asyncio.sleep(ACKNOWLEDGED_S)


def take_connections(server: Server, recorder: Recorder) -> tuple[HeldConnection, ...]:
    """
    Take our halves of all connections of a server apart.

    Raises:
        CannotMoveError: If a request or an answer is on its way.
        SandboxError: The same, in the kernel.
    """
    moved = hand_over(server)
    try:
        return tuple(
            HeldConnection(
                take_apart(each.socket),
                each.request,
                recorder.number_of(each.exchange) if each.exchange is not None else None,
            )
            for each in moved
        )
    finally:
        for each in moved:
            each.socket.close()


async def adopt_connections(
    server: Server, held: Sequence[HeldConnection], sockets: Sequence[socket.socket]
) -> dict[int, Call]:
    """
    Serve connections that were put together again.

    Returns:
        The requests that wait, by their numbers.

    Raises:
        SandboxError: If one is of no use.
    """
    calls: dict[int, Call] = {}
    for each, connected in zip(held, sockets, strict=True):
        try:
            exchange = await adopt(server, connected, each.request)
        except (CannotMoveError, OSError) as error:
            raise SandboxError(f"a connection of the snapshot cannot be restored: {error}") from error
        if each.call is not None and exchange is not None:
            calls[each.call] = exchange
    return calls
