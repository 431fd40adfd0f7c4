"""What an operator can choose about the pool."""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from remora.auth.sessions import Sessions
from remora.lifecycle.machine import Budgets

if TYPE_CHECKING:
    from pathlib import Path

    from remora.sandbox.base import Network


@dataclass(frozen=True, slots=True)
class PoolSettings:
    """
    What an operator can choose.

    Args:
        directory: Where environments keep their files; must exist.
        region: The node's region.
        concurrency: Concurrent executions allowed in total.
        idle_s: How long an environment may be idle before it is shut down, seconds.
        linger_s: How long an invocation waits for an environment that has answered already before another one
            is made, seconds. A client that calls again at once arrives before the runtime has asked for more.
        lifetime_s: How old an environment may become, however busy it is, seconds; it ends when it is idle.
            Lambda says that it ends them every few hours.
        starts_at_once: How many environments are made at once, functions in turn; others wait in line.
        start_hold_s: An init that takes longer lets the next one in line begin, seconds: it waits for
            something rather than compute.
        memory_reserve_mib: With less memory left on the machine, idle environments are shut down: before
            another one is made, and when somebody has to wait for memory; MiB.
        network: What the processes of an environment can reach.
        networks: Name patterns of functions with another policy; the first that matches counts.
        budgets: Time limits of an environment; those of Lambda unless tests shorten them.
        sessions: Makes the credentials of environments.
        has_telemetry: False: extensions hear that there is no Telemetry API and no Logs API, as they do in
            emulators that have none.
    """

    directory: Path
    region: str
    concurrency: int = 1000
    idle_s: float = 300.0
    linger_s: float = 0.02
    lifetime_s: float = 4 * 3600.0
    starts_at_once: int = 16
    start_hold_s: float = 1.0
    memory_reserve_mib: int = 256
    network: Network = "none"
    networks: tuple[tuple[str, Network], ...] = ()
    budgets: Budgets = field(default_factory=Budgets)
    sessions: Sessions = field(default_factory=lambda: Sessions(secrets.token_bytes(32)))
    has_telemetry: bool = True

    def network_of(self, function: str) -> Network:
        """Return what a function's environments can reach."""
        found = (policy for pattern, policy in self.networks if fnmatchcase(function, pattern))
        return next(found, self.network)
