"""What the operations of the Lambda API are given: the node's parts, behind protocols."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from remora.resources import functions
from remora.resources.configuration import Runtimes
from remora.resources.view import Stamp

if TYPE_CHECKING:
    from pathlib import Path

    from remora.artifacts.artifacts import Artifacts
    from remora.artifacts.elsewhere import LayersElsewhere
    from remora.control.cleaning import Cleaning
    from remora.control.deployments import Deployments
    from remora.control.state import State
    from remora.events.base import Event
    from remora.kit.clock import Clock
    from remora.pool.base import Answer, Deployment, InvokeRequest, InvokeResult, ProvisionedStatus
    from remora.resources.names import Place
    from remora.resources.records import FunctionVersion
    from remora.runtimes.layout import RuntimeLayout
    from remora.spec.lambda_api import LambdaApi

Spawn = Callable[[Coroutine[Any, Any, Any], str], object]
"""Starts a background task under its owner; the text names it in logs. `TaskSet.spawn` is one."""

Count = Callable[[str, str, int], None]
"""Takes in a number of a metric: its name, the function's ARN as invoked, the number."""


def uncounted(name: str, invoked_arn: str, number: int) -> None:
    """Count nothing."""


class RuntimeSource(Protocol):
    """Where runtimes come from."""

    def names(self) -> tuple[str, ...]:
        """Return the identifiers of all runtimes that this node can run."""

    async def prepare(self, name: str) -> RuntimeLayout:
        """
        Return a runtime that is ready to be mounted.

        Raises:
            RuntimeUnavailable: If it cannot be had on this machine.
        """


class InvocationPool(Protocol):
    """Who runs invocations."""

    async def invoke(self, deployment: Deployment, request: InvokeRequest) -> InvokeResult:
        """
        Run one invocation.

        Raises:
            Throttled: If too many are running.
            PoolError: If no environment could be made.
        """

    def begin(self, deployment: Deployment, request: InvokeRequest, answer: Answer) -> None:
        """
        Begin one invocation; `answer` is called once, with its answer or with why there is none.

        Raises:
            Throttled: As `invoke`.
            PoolError: If none is taken any more.
        """

    def retire(self, function_arn: str, version: str | None = None) -> None:
        """Let the environments of all former deployments of a function, or a version, end as they idle."""


class Provisioning(Protocol):
    """Who makes environments ahead of invocations, as the records say."""

    def status(self, function: str, qualifier: str) -> ProvisionedStatus:
        """Return what has become of what was provisioned for a version or alias; nothing yet counts too."""

    def subscribe(self, listener: Callable[[], object]) -> None:
        """Let `listener` be called whenever a status may have changed."""


class EventSink(Protocol):
    """Who takes asynchronous invocations."""

    async def accept(self, event: Event, payload: bytes) -> None:
        """
        Take one in; when this returns, it survives whatever happens to the machine.

        Raises:
            StoreError: If it could not be kept; it is not accepted then.
        """


class SnapshotKeeper(Protocol):
    """Who sees to the snapshots of versions."""

    def begin(self, control: Control) -> None:
        """See to what the records say now, and from now on to every version that is published."""

    def look(self, name: str = "") -> None:
        """Begin to take the snapshots that a function's versions lack, or all; returns at once."""

    def serving(self, version: FunctionVersion) -> FunctionVersion:
        """
        Say what an invocation of a version runs; one that has no snapshot gets another.

        Raises:
            ApiError: As `functions.serving`.
        """

    async def drop(self, version: FunctionVersion) -> None:
        """Remove the snapshot of a version. Repeated calls: no effect."""


@dataclass(frozen=True, slots=True)
class ControlSettings:
    """
    What an operator decides about the Lambda API.

    Args:
        place: Region and account that this node plays.
        endpoint: Base URL that clients reach the node at, `http://127.0.0.1:9000`; if empty, links are made
            with the Host header of each request.
        signing_key: Signs download links; another key makes former links invalid.
        concurrent_executions: Shown by GetAccountSettings.
    """

    place: Place
    endpoint: str
    signing_key: bytes
    concurrent_executions: int


@dataclass(frozen=True, slots=True)
class Control:
    """
    What every operation is given.

    Args:
        api: The API's model.
        state: Records, in memory and on disk.
        artifacts: Zips and directories.
        runtimes: Where runtimes come from.
        pool: Who runs invocations.
        settings: What the operator decided.
        clock: The node's clock.
        new_id: Makes a UUID.
        spawn: Starts background tasks.
        deployments: What functions are made of, ready to run.
        cleaning: Removes what nobody refers to.
        draw: Returns a random number, 0 up to but not including 1.
        provisioning: Who provisions concurrency; None if nobody does.
        events: Who takes asynchronous invocations; None if nobody does.
        count: Takes in a number of a metric.
        expect: Is told what is ready to run, and may be wanted soon.
        snap_start: Sees to snapshots; None if nobody does.
        data: The node's data directory.
        layers_elsewhere: Has the layers of other accounts; None if they cannot be had.
    """

    api: LambdaApi
    state: State
    artifacts: Artifacts
    runtimes: RuntimeSource
    pool: InvocationPool
    settings: ControlSettings
    clock: Clock
    new_id: Callable[[], str]
    spawn: Spawn
    deployments: Deployments
    cleaning: Cleaning
    draw: Callable[[], float]
    data: Path
    provisioning: Provisioning | None = None
    events: EventSink | None = None
    count: Count = uncounted
    expect: Callable[[Deployment], None] | None = None
    snap_start: SnapshotKeeper | None = None
    layers_elsewhere: LayersElsewhere | None = None

    @property
    def place(self) -> Place:
        """Region and account of this node."""
        return self.settings.place

    def stamp(self) -> Stamp:
        """Return the time and fresh identifiers, for the rules."""
        return Stamp(self.clock.wall_ms(), self.new_id(), self.new_id())

    def serving(self, version: FunctionVersion) -> FunctionVersion:
        """
        Say what an invocation of a version runs.

        Raises:
            ApiError: As `functions.serving`.
        """
        if self.snap_start is not None:
            return self.snap_start.serving(version)
        return functions.serving(self.state.view, version)

    def runtime_names(self) -> Runtimes:
        """Return which runtimes there are, for the rules."""
        return Runtimes(known=self.api.enum("Runtime"), offered=self.runtimes.names())
