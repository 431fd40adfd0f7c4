"""The pool's records: environments by deployment, and the invocations that wait for one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from remora.environment.base import Deployment, InvokeRequest
    from remora.environment.environment import Environment
    from remora.kit.alarms import Alarm
    from remora.pool.base import Answer, PoolError, ProvisioningFailed
    from remora.pool.ledger import Load


class Waiting(msgspec.Struct, eq=False):
    """An invocation without an environment."""

    request_id: str
    request: InvokeRequest
    answer: Answer
    lingering: asyncio.TimerHandle | None = None


class MemberState(Enum):
    """What an environment is doing, as the pool counts it."""

    STARTING = "init"
    IDLE = "idle"
    BUSY = "busy"
    FINISHING = "finishing"
    """The invoker has its answer; extensions still work, or the environment is being reset."""
    STOPPING = "stopping"


@dataclass(slots=True, eq=False)
class Provisioned:
    """
    An environment that is made ahead of any invocation, as whoever wants it sees it.

    Args:
        lost: Called once if it is gone, or cannot be had: with itself and the reason, None if it was ready.
        ready: Called when it is initialised.
        is_unwanted: True once nobody wants it any more; it goes as soon as it is idle.
        member: The environment; None until it is made.
    """

    lost: Callable[[Provisioned, ProvisioningFailed | PoolError | None], None]
    ready: Callable[[], None] | None = None
    is_unwanted: bool = False
    is_ready: bool = False
    is_lost: bool = False
    member: Member | None = None

    def lose(self, error: ProvisioningFailed | PoolError | None = None) -> None:
        """Tell who wants it that it is gone. Repeated calls: no effect."""
        if not self.is_lost:
            self.is_lost = True
            self.lost(self, error)


@dataclass(slots=True, eq=False)
class Member:
    """An environment of a group."""

    environment: Environment
    group: Group
    created_ms: int
    expires_us: int
    """The monotonic time at which it is old enough to go, microseconds."""
    state: MemberState = MemberState.STARTING
    idle_since_us: int = 0
    retirement: Alarm | None = None
    """Rings when it was idle for long enough; None if it has never been idle, or never ends that way."""
    making: asyncio.Task[None] | None = None
    slot: asyncio.TimerHandle | None = None
    """Takes its start's slot back after a while; None if that has happened."""
    is_leaving: bool = False
    """True once it is being removed."""
    provisioned: Provisioned | None = None
    """None if it is made on demand."""


@dataclass(slots=True)
class Group:
    """The environments of one deployment, and the invocations that wait for one."""

    deployment: Deployment
    load: Load
    members: dict[str, Member] = field(default_factory=dict)
    idle: list[Member] = field(default_factory=list)
    ready: list[Member] = field(default_factory=list)
    """Provisioned environments that are idle."""
    waiting: deque[Waiting] = field(default_factory=deque)
    starting: int = 0
    """Environments on demand that are being made, or are in line for it."""
    finishing: int = 0
    provisioned: int = 0
    """Provisioned environments, ready or not."""
    is_retired: bool = False
    """True after an update or deletion of the function: its environments go as they become idle."""

    @property
    def is_empty(self) -> bool:
        """True if nothing is, waits or is to be made."""
        return not (self.members or self.waiting or self.starting or self.provisioned)


@dataclass(frozen=True, slots=True)
class Order:
    """An environment that is to be made."""

    group: Group
    provisioned: Provisioned | None = None


def describe(member: Member, now_us: int) -> dict[str, object]:
    """Describe an environment for people, as a JSON object; `now_us` is the monotonic time."""
    environment = member.environment
    function = environment.deployment.function
    is_idle = member.state is MemberState.IDLE
    return {
        "id": environment.identifier,
        "function": function.name,
        "version": function.version,
        "state": member.state.value,
        "provisioned": member.provisioned is not None,
        "created_ms": member.created_ms,
        "idle_ms": (now_us - member.idle_since_us) // 1000 if is_idle else 0,
        "invocations": environment.invocations,
        "memory_peak_bytes": environment.memory_peak_bytes(),
        "log_stream": environment.journal.stream,
        "extensions": [extension.name for extension in environment.machine.extensions()],
    }
