"""What an operator decides about a node."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from remora.telemetry.log_files import LogLimits

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from remora.sandbox.base import Network
    from remora.sandbox.hierarchies import CpuLimit

DEFAULT_PORT = 9000
DEFAULT_WARM = 2
"""Spare sandboxes; each costs less than a megabyte."""
LOOPBACK = "127.0.0.1"
KEYS = "keys.json"
"""The file with the keys, in the data directory."""
LOCK_OF_KEYS = "keys.lock"
"""Held by who changes them."""


@dataclass(frozen=True, slots=True)
class NodeSettings:
    """
    One node's settings.

    Args:
        data: Directory of everything that is kept; made if it is not there.
        port: TCP port; 0 takes a free one.
        host: Address to listen on; one that others can reach needs `asks_for_keys`.
        asks_for_keys: True if every request must be signed with a key of this node.
        driver: Sandbox driver, `bubblewrap` or `process`.
        region: AWS region that the node plays.
        account: Account number, 12 digits.
        cpu: How CPU time is limited: in proportion to the memory size, `strict`: and never more.
        idle_s: How long an environment may be idle before it is shut down, seconds.
        concurrency: Concurrent executions allowed in total.
        network: What functions can reach; None: `nat` if this machine can, else `none`.
        warm: How many sandboxes may be kept ready for functions that were deployed or wanted lately.
        networks: Name patterns of functions with another policy; the first that matches counts.
        aws_endpoint: Base URL of the services that destinations and dead-letter targets are in, `aws` for AWS
            itself; empty if nothing may be sent.
        layers_endpoint: Base URL of the Lambda API that layers of other accounts are asked for, `aws` for AWS
            itself; empty if they cannot be had.
        event_pace: Waits and ages of asynchronous events are multiplied by it; 1 as in AWS.
        runtimes: Where prepared runtimes are kept; None for the user's cache directory.
        log_limits: How much is kept of all logs.
        open_telemetry: OpenTelemetry's environment variables; nothing is exported if none names an endpoint.
    """

    data: Path
    port: int = DEFAULT_PORT
    host: str = LOOPBACK
    asks_for_keys: bool = False
    driver: str = "bubblewrap"
    cpu: CpuLimit = "share"
    region: str = "us-east-1"
    account: str = "000000000000"
    idle_s: float = 300.0
    concurrency: int = 1000
    network: Network | None = None
    networks: tuple[tuple[str, Network], ...] = ()
    warm: int = DEFAULT_WARM
    aws_endpoint: str = ""
    layers_endpoint: str = ""
    event_pace: float = 1.0
    runtimes: Path | None = None
    log_limits: LogLimits = field(default_factory=LogLimits)
    open_telemetry: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class NodeInfo:
    """
    A node that is up.

    Args:
        endpoint: Base URL for clients.
        region: Its region.
        account: Its account number.
        driver: Its sandbox driver.
        missing: What this machine cannot do for it, one sentence each.
        asks_for_keys: True if requests must be signed.
    """

    endpoint: str
    region: str
    account: str
    driver: str
    missing: tuple[str, ...]
    asks_for_keys: bool = False


class NodeError(Exception):
    """
    A node could not be started.

    Args:
        message: What was attempted, on what.
        hint: What to do.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint
