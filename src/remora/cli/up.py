"""`remora up`: a node in the foreground, until it is asked to end."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click
import msgspec

import remora
from remora.cli.choices import (
    CpuLimit,
    Network,
    check_account,
    check_endpoint,
    cpu_option,
    driver_option,
    network_option,
    policies,
)
from remora.cli.errors import UNREACHABLE, CommandError
from remora.node.node import run_node
from remora.node.settings import DEFAULT_PORT, DEFAULT_WARM, LOOPBACK, NodeError, NodeSettings
from remora.node.temporary import sweep_now, temporary_data
from remora.telemetry.log_files import LogLimits

if TYPE_CHECKING:
    from collections.abc import Iterator

    from remora.node.settings import NodeInfo


_SIZES = {"KB": 1 << 10, "MB": 1 << 20, "GB": 1 << 30, "TB": 1 << 40}
_LOGS_BYTES_MIN = 1 << 20


def _size(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    """Read a size such as `500MB` or `2GB`; returns bytes."""
    match = re.fullmatch(r"(\d{1,6})\s*([KMGT]B)", value.strip().upper(), re.ASCII)
    size = int(match[1]) * _SIZES[match[2]] if match is not None else 0
    if size < _LOGS_BYTES_MIN:
        raise click.BadParameter(f"{value!r} is not a size such as 500MB or 2GB, of 1MB at least")
    return size


@click.command("up")
@click.option(
    "--port",
    type=click.IntRange(0, 65_535),
    default=DEFAULT_PORT,
    show_default=True,
    help="0: any free port.",
)
@click.option(
    "--host",
    default=LOOPBACK,
    show_default=True,
    metavar="ADDRESS",
    help="Address to listen on. One that other machines can reach needs --auth keys.",
)
@click.option(
    "--auth",
    type=click.Choice(["open", "keys"]),
    default="open",
    show_default=True,
    help="open: any credentials do. keys: every request is signed with a key of `remora keys`.",
)
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    metavar="DIR",
    help="Where functions, layers and logs are kept. Default: a temporary directory, removed at exit.",
)
@driver_option
@cpu_option
@click.option(
    "--region",
    envvar=["AWS_REGION", "AWS_DEFAULT_REGION"],
    default="us-east-1",
    help="As it appears in ARNs.",
)
@click.option(
    "--account",
    default="000000000000",
    show_default=True,
    callback=check_account,
    help="As it appears in ARNs; 12 digits.",
)
@click.option(
    "--idle-seconds",
    type=click.FloatRange(0),
    default=300.0,
    show_default=True,
    help="An environment that was idle so long is shut down.",
)
@click.option(
    "--concurrency",
    type=click.IntRange(1),
    default=1_000,
    show_default=True,
    help="Environments at once, at most.",
)
@network_option
@click.option(
    "--logs-size",
    callback=_size,
    default="1GB",
    show_default=True,
    metavar="SIZE",
    help="How much is kept of all logs, such as 500MB or 2GB; the oldest lines go first.",
)
@click.option(
    "--logs-days",
    type=click.IntRange(1),
    metavar="N",
    help="How long logs are kept, also where no retention is set. Default: for ever.",
)
@click.option(
    "--aws-endpoint",
    default="",
    callback=check_endpoint,
    metavar="URL",
    help="Where SQS, SNS, EventBridge and S3 are, for destinations and dead-letter targets; the word aws "
    "stands for AWS itself. Default: nothing is sent.",
)
@click.option(
    "--layers-endpoint",
    default="",
    callback=check_endpoint,
    metavar="URL",
    help="Where layers of other accounts are: another node, or the word aws for AWS itself. They are asked "
    "for with the credentials in AWS's variables. Default: none can be had.",
)
@click.option(
    "--event-pace",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="Waits between tries and ages of asynchronous events are multiplied by it; with 0.01 a minute "
    "takes 0.6 s.",
)
@click.option(
    "--warm",
    type=click.IntRange(0, 1000),
    default=DEFAULT_WARM,
    show_default=True,
    metavar="N",
    help="Keep up to so many sandboxes ready, for functions that were deployed or wanted lately.",
)
@click.option(
    "--function-network",
    "function_networks",
    multiple=True,
    metavar="NAME=POLICY",
    callback=policies,
    help="Another policy for functions of this name (* and ? match); repeat, the first that matches counts.",
)
@click.option(
    "--otlp-endpoint",
    metavar="URL",
    help="Export metrics, logs and traces to this OpenTelemetry collector, by OTLP over HTTP. "
    "OTEL_EXPORTER_OTLP_ENDPOINT and its kin work, too.",
)
@click.option("--json", "as_json", is_flag=True, help="Announce the node as one JSON object on one line.")
def command(
    *,
    port: int,
    host: str,
    auth: str,
    data: Path | None,
    driver: str,
    cpu: CpuLimit,
    region: str,
    account: str,
    idle_seconds: float,
    concurrency: int,
    logs_size: int,
    logs_days: int | None,
    aws_endpoint: str,
    layers_endpoint: str,
    event_pace: float,
    network: Literal["nat", "none", "host"] | None,
    function_networks: tuple[tuple[str, Network], ...],
    warm: int,
    otlp_endpoint: str | None,
    as_json: bool,
) -> None:
    """
    Start a node and keep it in the foreground.

    SIGINT (Ctrl-C) and SIGTERM end it: every environment is shut down as in Lambda, extensions are told.
    """
    with _directory(data) as kept:
        settings = NodeSettings(
            data=kept,
            port=port,
            host=host,
            asks_for_keys=auth == "keys",
            driver=driver,
            cpu=cpu,
            region=region,
            account=account,
            idle_s=idle_seconds,
            concurrency=concurrency,
            network=network,
            log_limits=LogLimits(bytes_max=logs_size, days_max=logs_days),
            aws_endpoint=aws_endpoint,
            layers_endpoint=layers_endpoint,
            event_pace=event_pace,
            networks=function_networks,
            warm=warm,
            open_telemetry=_open_telemetry(otlp_endpoint),
        )

        def on_ready(info: NodeInfo) -> None:
            text = _announcement(info, kept, is_temporary=data is None)
            click.echo(_document(info, kept) if as_json else text)
            for missing in info.missing:
                click.echo(f"warning: {missing}", err=True)

        try:
            run_node(settings, on_ready)
        except NodeError as error:
            raise CommandError(str(error), error.hint, UNREACHABLE) from error
    if not as_json:
        click.echo("remora: all environments are shut down", err=True)


def _open_telemetry(endpoint: str | None) -> dict[str, str]:
    """Return OpenTelemetry's variables of this process; an endpoint that was named goes before theirs."""
    variables = {name: value for name, value in os.environ.items() if name.startswith("OTEL_")}
    if endpoint is None:
        return variables
    kept = {name: value for name, value in variables.items() if not name.endswith("_ENDPOINT")}
    return {**kept, "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint}


@contextmanager
def _directory(data: Path | None) -> Iterator[Path]:
    """Give out the data directory; a temporary one is removed afterwards."""
    if data is None:
        try:
            sweep_now()
            with temporary_data() as path:
                yield path
        except NodeError as error:
            raise CommandError(str(error), error.hint, UNREACHABLE) from error
        return
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        reason = (error.strerror or "unknown reason").lower()
        raise CommandError(
            f"could not make the data directory {data} ({reason})", "name another with --data", UNREACHABLE
        ) from error
    yield data.resolve()


def _announcement(info: NodeInfo, data: Path, *, is_temporary: bool) -> str:
    keeping = "  (temporary: removed at exit; to keep it: --data DIR)" if is_temporary else ""
    isolation = f"{info.driver}  (NO ISOLATION)" if info.driver == "process" else info.driver
    credentials = "any: only this machine can reach the node"
    example = 'aws_access_key_id="any", aws_secret_access_key="any"'
    if info.asks_for_keys:
        credentials = f"a key of this node: remora keys create NAME --data {data}"
        example = "aws_access_key_id=…, aws_secret_access_key=…"
    return f"""\
Remora {remora.__version__} is ready; Ctrl-C ends it.

  endpoint     {info.endpoint}
  region       {info.region}
  credentials  {credentials}
  data         {data}{keeping}
  isolation    {isolation}

  import boto3
  remora = boto3.client("lambda", "{info.region}", endpoint_url="{info.endpoint}",
                        {example})
  print(remora.list_functions()["Functions"])
"""


def _document(info: NodeInfo, data: Path) -> bytes:
    return msgspec.json.encode(
        {
            "endpoint": info.endpoint,
            "region": info.region,
            "account": info.account,
            "driver": info.driver,
            "auth": "keys" if info.asks_for_keys else "open",
            "missing": info.missing,
            "data": str(data),
            "pid": os.getpid(),
        }
    )
