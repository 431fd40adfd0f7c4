"""
The environment variables of the runtime and of extensions.

Source: runtime-api specification, section 10.1; extensions-api specification, section 6; snapstart
specification, section 7.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from remora.environment.snapshots import CREDENTIALS
from remora.telemetry.facts import SNAP_START

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.environment.base import Deployment
    from remora.sandbox.base import Paths

XRAY_HOST = "169.254.100.1"
XRAY_PORT = "2000"
LOG_CHANNEL = 3
"""The descriptor through which a managed runtime logs."""
LOG_CHANNEL_VARIABLE = "_LAMBDA_TELEMETRY_LOG_FD"
_LIBRARY_PATH = (
    "/var/lang/lib:/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib"
)


@dataclass(frozen=True, slots=True)
class Credentials:
    """Temporary credentials of the function's role, the same for runtime and extensions."""

    access_key_id: str
    secret_access_key: str
    session_token: str
    expires_ms: int
    """When they are no longer good, milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Place:
    """What distinguishes one environment from another of the same deployment."""

    region: str
    log_group: str
    log_stream: str
    credentials: Credentials
    initialization_type: str = "on-demand"
    has_telemetry: bool = True
    """False if its Telemetry and Logs APIs shall say that they are not supported."""
    credentials_token: str = ""
    """What processes show to be given credentials, if they are not among their variables (`snap-start`)."""

    @property
    def is_for_snapshot(self) -> bool:
        """True if the environment is held when it is initialised, and restored."""
        return self.initialization_type == SNAP_START


def has_log_channel(deployment: Deployment) -> bool:
    """
    Tell whether the runtime gets a descriptor to log through in frames: those that AWS makes know of it.

    Source: logs-metrics-billing specification, section 3.
    """
    return bool(deployment.runtime.version)


def shared_variables(deployment: Deployment, place: Place, paths: Paths, api_address: str) -> dict[str, str]:
    """
    Return what every process of the environment gets: defaults, the customer's, then the platform's own.

    Args:
        deployment: What it runs.
        place: Region, log stream, credentials.
        paths: Where Lambda's directories are.
        api_address: `host:port` of the environment's APIs.
    """
    function = deployment.function
    return {
        "LANG": "en_US.UTF-8",
        "PATH": paths.translate("/var/lang/bin:/usr/local/bin:/usr/bin/:/bin:/opt/bin"),
        "LD_LIBRARY_PATH": paths.translate(_LIBRARY_PATH),
        **(function.variables or {}),
        "TZ": ":UTC",
        "AWS_DEFAULT_REGION": place.region,
        "AWS_REGION": place.region,
        "AWS_LAMBDA_FUNCTION_NAME": function.name,
        "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_mib),
        "AWS_LAMBDA_FUNCTION_VERSION": function.version,
        "AWS_LAMBDA_INITIALIZATION_TYPE": place.initialization_type,
        "AWS_LAMBDA_RUNTIME_API": api_address,
        **_credential_variables(place, api_address),
    }


def _credential_variables(place: Place, api_address: str) -> dict[str, str]:
    """Return access keys; or where they are, for processes that outlive them in a snapshot."""
    if place.is_for_snapshot:
        return {
            "AWS_CONTAINER_CREDENTIALS_FULL_URI": f"http://{api_address}{CREDENTIALS}",
            "AWS_CONTAINER_AUTHORIZATION_TOKEN": place.credentials_token,
        }
    credentials = place.credentials
    return {
        "AWS_ACCESS_KEY": credentials.access_key_id,
        "AWS_ACCESS_KEY_ID": credentials.access_key_id,
        "AWS_SECRET_ACCESS_KEY": credentials.secret_access_key,
        "AWS_SESSION_TOKEN": credentials.session_token,
    }


def runtime_variables(
    shared: Mapping[str, str], deployment: Deployment, place: Place, paths: Paths
) -> dict[str, str]:
    """Return the runtime's complete environment; `shared` comes from `shared_variables`."""
    function = deployment.function
    overridable = {
        "AWS_XRAY_CONTEXT_MISSING": "LOG_ERROR",
        "AWS_XRAY_DAEMON_ADDRESS": f"{XRAY_HOST}:{XRAY_PORT}",
        **{name: paths.translate(value) for name, value in deployment.runtime.variables.items()},
    }
    customer = function.variables or {}
    channel = {LOG_CHANNEL_VARIABLE: str(LOG_CHANNEL)} if has_log_channel(deployment) else {}
    return {
        **shared,
        **channel,
        **_logging_variables(deployment),
        **{name: value for name, value in overridable.items() if name not in customer},
        "_AWS_XRAY_DAEMON_ADDRESS": XRAY_HOST,
        "_AWS_XRAY_DAEMON_PORT": XRAY_PORT,
        "_HANDLER": function.handler,
        **_log_variables(place),
        "LAMBDA_TASK_ROOT": paths.task,
        "LAMBDA_RUNTIME_DIR": paths.runtime,
    }


def _log_variables(place: Place) -> dict[str, str]:
    """Return where the log is; a variable could not follow it from a snapshot's stream to a clone's."""
    if place.is_for_snapshot:
        return {}
    return {
        "AWS_LAMBDA_LOG_GROUP_NAME": place.log_group,
        "AWS_LAMBDA_LOG_STREAM_NAME": place.log_stream,
    }


def _logging_variables(deployment: Deployment) -> dict[str, str]:
    """Return what tells the runtime to log JSON. Source: logs-metrics-billing specification, section 2.1."""
    function = deployment.function
    if function.log_format != "JSON":
        return {}
    level = function.logging("ApplicationLogLevel", "INFO")
    return {"AWS_LAMBDA_LOG_FORMAT": "JSON", "AWS_LAMBDA_LOG_LEVEL": level}


WITHHELD_FROM_EXTENSIONS = frozenset(
    {
        "AWS_EXECUTION_ENV",
        "AWS_LAMBDA_LOG_GROUP_NAME",
        "AWS_LAMBDA_LOG_STREAM_NAME",
        "AWS_XRAY_CONTEXT_MISSING",
        "AWS_XRAY_DAEMON_ADDRESS",
        "LAMBDA_RUNTIME_DIR",
        "LAMBDA_TASK_ROOT",
        "_AWS_XRAY_DAEMON_ADDRESS",
        "_AWS_XRAY_DAEMON_PORT",
        "_HANDLER",
    }
)
"""Source: AWS Lambda Developer Guide, Lambda Extensions API, environment variables of extensions."""


def extension_variables(shared: Mapping[str, str]) -> dict[str, str]:
    """Return an extension's complete environment; `shared` comes from `shared_variables`."""
    return {name: value for name, value in shared.items() if name not in WITHHELD_FROM_EXTENSIONS}
