"""The pool's records: environments by deployment, and the invocations that wait for one."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

    from remora.environment.base import Deployment, InvokeRequest
    from remora.environment.environment import Environment
    from remora.kit.alarms import Alarm
    from remora.pool.base import Answer


@dataclass(slots=True, eq=False)
class Waiting:
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
class Member:
    """An environment of a group."""

    environment: Environment
    group: Group
    created_ms: int
    state: MemberState = MemberState.STARTING
    idle_since_us: int = 0
    retirement: Alarm | None = None
    """Rings when it was idle for long enough; None if it has never been idle, or never ends that way."""
    making: asyncio.Task[None] | None = None
    is_leaving: bool = False
    """True once it is being removed."""
    provisioning: asyncio.Future[None] | None = None
    """Who waits for its init; None if it is made on demand."""


@dataclass(slots=True)
class Group:
    """The environments of one deployment, and the invocations that wait for one."""

    deployment: Deployment
    members: dict[str, Member] = field(default_factory=dict)
    idle: list[Member] = field(default_factory=list)
    waiting: deque[Waiting] = field(default_factory=deque)
    starting: int = 0
    finishing: int = 0
    is_retired: bool = False
    """True after an update or deletion of the function: its environments go as they become idle."""


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
        "created_ms": member.created_ms,
        "idle_ms": (now_us - member.idle_since_us) // 1000 if is_idle else 0,
        "invocations": environment.invocations,
        "memory_peak_bytes": environment.memory_peak_bytes(),
        "log_stream": environment.journal.stream,
        "extensions": [extension.name for extension in environment.machine.extensions()],
    }
