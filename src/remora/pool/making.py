"""Makes environments: identity, log stream, journal and credentials, and the sandbox that each runs in."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from remora.environment.environment import Environment
from remora.environment.variables import Credentials, Place
from remora.kit.ids import new_uuid, random_hex
from remora.resources.records import default_log_group
from remora.sandbox.base import Mount, SandboxPlan
from remora.telemetry.application_log import ApplicationLog
from remora.telemetry.billing import Rates
from remora.telemetry.facts import SNAP_START, Subject, Teller
from remora.telemetry.journal import Journal
from remora.telemetry.system_log import SystemLog

if TYPE_CHECKING:
    from remora.auth.sessions import Sessions
    from remora.environment.base import Deployment
    from remora.environment.environment import Owner
    from remora.environment.snapshots import Snapshots
    from remora.kit.clock import Clock
    from remora.pool.settings import PoolSettings
    from remora.resources.records import FunctionVersion
    from remora.sandbox.base import SandboxDriver
    from remora.telemetry.logs import LogStore
    from remora.telemetry.meter import Meters
    from remora.telemetry.timeline import Timelines

CREDENTIALS_S = 6 * 3600
"""How long the credentials of an environment are good."""


class Maker:
    """
    Makes the environments of a node.

    Args:
        driver: Makes sandboxes.
        settings: What the operator chose.
        clock: The node's clock.
        logs: Where environments write.
        timelines: Where they mark what happened.
        meters: What counts.
    """

    def __init__(
        self,
        driver: SandboxDriver,
        settings: PoolSettings,
        *,
        clock: Clock,
        logs: LogStore,
        timelines: Timelines,
        meters: Meters,
    ) -> None:
        self._driver = driver
        self._settings = settings
        self._clock = clock
        self._logs = logs
        self._timelines = timelines
        self._meters = meters

    def __repr__(self) -> str:
        return f"<Maker of environments below {self._settings.directory}>"

    def make(
        self,
        deployment: Deployment,
        owner: Owner,
        *,
        is_provisioned: bool = False,
        snapshots: Snapshots | None = None,
    ) -> Environment:
        """
        Make an environment that has not been started.

        Args:
            deployment: What it runs.
            owner: Who is told what becomes of it.
            is_provisioned: True if it is made ahead of any invocation.
            snapshots: Who takes its snapshot; None if it is not made for one.
        """
        function = deployment.function
        initialization_type = "provisioned-concurrency" if is_provisioned else "on-demand"
        if snapshots is not None:
            initialization_type = SNAP_START
        is_ahead = is_provisioned or snapshots is not None
        budgets = self._settings.budgets
        if is_ahead:
            budgets = budgets.provisioned(function.timeout_s)
        identifier = random_hex(32)
        now_ms = self._clock.wall_ms()
        stream = log_stream(function, identifier, now_ms)
        journal = Journal(
            self._logs,
            function.log_group,
            stream,
            timeline=self._timelines.open(identifier, function.name, self._clock.monotonic_us(), now_ms),
            clock=self._clock,
            version=function.version,
            memory_mib=function.memory_mib,
            reports_every_init=is_ahead,
            system_log=_system_log(deployment, stream, initialization_type),
            application_log=_application_log(function),
        )
        place = Place(
            self._settings.region,
            function.log_group,
            stream,
            new_credentials(self._settings.sessions, function, now_ms),
            initialization_type,
            has_telemetry=self._settings.has_telemetry,
            credentials_token=new_uuid(),
        )
        rates = Rates(function.architecture, function.memory_mib, function.ephemeral_mib)
        return Environment(
            identifier,
            deployment,
            place,
            journal=journal,
            clock=self._clock,
            owner=owner,
            budgets=budgets,
            meter=self._meters.open(function.name, function.version, rates),
            snapshots=snapshots,
        )

    async def start(self, environment: Environment) -> None:
        """
        Make the sandbox of an environment and begin its init.

        Raises:
            SandboxError: If the sandbox could not be made; then nothing is left of it.

        **Cancellation:** closing the environment removes what there is.
        """
        plan = sandbox_plan(environment.deployment, self._settings, environment.identifier)
        await environment.start(self._driver, plan)


def sandbox_plan(deployment: Deployment, settings: PoolSettings, name: str) -> SandboxPlan:
    """Return what the sandbox of an environment is to be like."""
    mounts = [Mount(deployment.task, "/var/task")]
    if deployment.opt is not None:
        mounts.append(Mount(deployment.opt, "/opt"))
    mounts += [Mount(source, target) for source, target in deployment.runtime.mounts]
    return SandboxPlan(
        name=name,
        directory=settings.directory / name,
        mounts=tuple(mounts),
        memory_mib=deployment.function.memory_mib,
        network=settings.network_of(deployment.function.name),
        ephemeral_mib=deployment.function.ephemeral_mib,
    )


def log_stream(function: FunctionVersion, identifier: str, now_ms: int) -> str:
    """Return the name of a log stream; in a group of the user's choice it names the function, too."""
    date = datetime.fromtimestamp(now_ms / 1000, UTC)
    whose = "" if function.log_group == default_log_group(function.name) else function.name
    return f"{date:%Y/%m/%d}/{whose}[{function.version}]{identifier}"


def _system_log(deployment: Deployment, stream: str, initialization_type: str) -> SystemLog | None:
    """Return who writes the platform's lines of a function that logs JSON; None for one that logs text."""
    function, runtime = deployment.function, deployment.runtime
    if function.log_format != "JSON":
        return None
    subject = Subject(
        function.name,
        function.version,
        function.arn,
        function.memory_mib,
        stream,
        runtime.version,
        runtime.version_arn,
        initialization_type,
    )
    return SystemLog(Teller(subject, holds_back=False), function.logging("SystemLogLevel", "INFO"))


def _application_log(function: FunctionVersion) -> ApplicationLog | None:
    """Return who makes records of what a function prints that logs JSON; None for one that logs text."""
    if function.log_format != "JSON":
        return None
    return ApplicationLog(function.logging("ApplicationLogLevel", "INFO"))


def new_credentials(sessions: Sessions, function: FunctionVersion, now_ms: int) -> Credentials:
    """Return temporary credentials of a function's role; `now_ms` is milliseconds since 1970."""
    return Credentials(*sessions.issue(function.role, function.name, now_ms + CREDENTIALS_S * 1000))
