"""`remora run`: one function with its layers, without a node; response on stdout, the rest on stderr."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Literal

import click
import msgspec
import uvloop
from rich.console import Console

from remora.cli.choices import driver_option, network_option
from remora.cli.drawing import console_for, draw
from remora.cli.errors import FAILED, UNREACHABLE, CommandError
from remora.cli.waterfall import Timeline
from remora.node.oneshot import RunError, RunRequest, run_once

if TYPE_CHECKING:
    from collections.abc import Sequence

    from remora.node.oneshot import RunReport

_HANDLERS = (("app.py", "app.handler"), ("lambda_function.py", "lambda_function.lambda_handler"))
_PATIENCE_S = 1.0
_TERMINATED = 128 + signal.SIGTERM


@click.command("run")
@click.argument(
    "directory", metavar="FUNCTION_DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@click.option(
    "--handler", help="As in Lambda, `file.function`; found if there is app.py or lambda_function.py."
)
@click.option(
    "--runtime", help="Such as python3.12; found: provided.al2023 with a bootstrap, else this Python."
)
@click.option(
    "--layer",
    "layers",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    metavar="DIR_OR_ZIP",
    help="A layer, for extensions too; repeat for more, in order.",
)
@click.option(
    "--event", "-e", type=click.File("rb"), metavar="FILE", help="The event, JSON; - for standard input."
)
@click.option(
    "--repeat", type=click.IntRange(1), default=1, metavar="N", help="Invoke so many times, in turn."
)
@click.option("--timeout", type=click.IntRange(1, 900), default=3, show_default=True, help="Seconds.")
@click.option("--memory", type=click.IntRange(128, 10_240), default=128, show_default=True, help="MiB.")
@click.option(
    "--env", "variables", multiple=True, metavar="KEY=VALUE", help="An environment variable; repeat."
)
@driver_option
@network_option
@click.option(
    "--json", "as_json", is_flag=True, help="Print {results, log, timeline} as one object, nothing else."
)
def command(
    *,
    directory: Path,
    handler: str | None,
    runtime: str | None,
    layers: tuple[Path, ...],
    event: BinaryIO | None,
    repeat: int,
    timeout: int,
    memory: int,
    variables: tuple[str, ...],
    driver: str,
    network: Literal["none", "host"],
    as_json: bool,
) -> int:
    """
    Run the function in FUNCTION_DIR once, without a node.

    Its response goes to standard output; its log, the REPORT line and the lifecycle waterfall to standard
    error. The exit code is 1 if the function failed.
    """
    runtime = runtime or guess_runtime(directory)
    request = RunRequest(
        directory=directory.resolve(),
        handler=handler or guess_handler(directory, runtime),
        runtime=runtime,
        layers=tuple(layer.resolve() for layer in layers),
        payload=_payload(event.read() if event else b"{}"),
        repeat=repeat,
        timeout_s=timeout,
        memory_mib=memory,
        variables=_variables(variables),
        driver=driver,
        network=network,
    )
    log: list[str] = []
    try:
        report = _perform(request, log, is_quiet=as_json)
    except RunError as error:
        raise CommandError(str(error), error.hint, UNREACHABLE) from error
    except asyncio.CancelledError:
        return _TERMINATED
    failed = sum(result.function_error is not None for result in report.results)
    if as_json:
        click.echo(msgspec.json.encode(_document(report, log)))
    else:
        _show(report)
    return FAILED if failed else 0


def guess_runtime(directory: Path) -> str:
    """Return `provided.al2023` for a directory with a program called bootstrap, else the Python we run on."""
    bootstrap = directory / "bootstrap"
    if not bootstrap.is_file():
        return f"python{sys.version_info.major}.{sys.version_info.minor}"
    if not os.access(bootstrap, os.X_OK):
        raise CommandError(f"{bootstrap} cannot be executed", f"make it executable: chmod +x {bootstrap}")
    return "provided.al2023"


def guess_handler(directory: Path, runtime: str) -> str:
    """
    Return the usual handler of the file that is there; runtimes without one get the name of their program.

    Raises:
        UsageError: If no file is called as usual.
    """
    if runtime.startswith("provided"):
        return "bootstrap"
    for file, handler in _HANDLERS:
        if (directory / file).is_file():
            return handler
    usual = " nor ".join(file for file, _ in _HANDLERS)
    raise click.UsageError(f"{directory} has neither {usual}: name the handler with --handler file.function")


def _payload(event: bytes) -> bytes:
    """Refuse an event that Lambda would refuse."""
    try:
        msgspec.json.decode(event)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"the event is no JSON ({error})", param_hint="--event") from error
    return event


def _variables(texts: Sequence[str]) -> dict[str, str]:
    variables = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--env")
        variables[name] = value
    return variables


def _perform(request: RunRequest, log: list[str], *, is_quiet: bool) -> RunReport:
    """Run the request on a loop of its own; SIGINT and SIGTERM end it in an orderly way."""
    progress = _Progress()

    def on_log(line: str) -> None:
        progress.stop()
        text = line.rstrip("\n")
        log.append(text)
        if not is_quiet:
            click.echo(text, err=True)

    async def perform() -> RunReport:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        assert task is not None, "the runner made a task"
        loop.add_signal_handler(signal.SIGTERM, task.cancel)
        progress.start(loop)
        try:
            return await run_once(request, on_log)
        finally:
            progress.stop()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(perform())


class _Progress:
    """Says on a terminal that something is being prepared, when that takes longer than people like."""

    def __init__(self) -> None:
        console = Console(stderr=True, highlight=False)
        self._is_wanted = console.is_terminal
        self._status = console.status("preparing (a runtime is installed once, when it is first used)")
        self._timer: asyncio.TimerHandle | None = None

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to wait."""
        if self._is_wanted:
            self._timer = loop.call_later(_PATIENCE_S, self._status.start)

    def stop(self) -> None:
        """Be silent from now on. Repeated calls: no effect."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._status.stop()


def _show(report: RunReport) -> None:
    for result in report.results:
        click.echo(result.payload)
    draw(msgspec.json.decode(msgspec.json.encode(report.timeline), type=Timeline), console_for(sys.stderr))


def _document(report: RunReport, log: list[str]) -> dict[str, object]:
    """Make the object that --json prints; a payload that is no JSON appears as `payload_base64`."""
    results = []
    for result in report.results:
        about: dict[str, object] = {
            "request_id": result.request_id,
            "function_error": result.function_error,
            "executed_version": result.executed_version,
        }
        try:
            msgspec.json.decode(result.payload)
            about["payload"] = msgspec.Raw(result.payload)
        except msgspec.DecodeError:
            about["payload_base64"] = result.payload
        results.append(about)
    return {"results": results, "log": log, "timeline": report.timeline}
