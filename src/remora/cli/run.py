"""`remora run`: one function with its layers, without a node; response on stdout, the rest on stderr."""

from __future__ import annotations

import asyncio
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec
import uvloop
from rich.console import Console

from remora.cli.drawing import Bill, console_for, draw
from remora.cli.errors import FAILED, UNREACHABLE, CommandError
from remora.cli.local_function import LocalOptions, event_option, local_options, read_event, run_request
from remora.cli.waterfall import Timeline
from remora.node.oneshot import RunError, run_once

if TYPE_CHECKING:
    from typing import Unpack

    from remora.node.oneshot import RunReport, RunRequest

_PATIENCE_S = 1.0
_TERMINATED = 128 + signal.SIGTERM


@click.command("run")
@click.argument(
    "directory", metavar="FUNCTION_DIR", type=click.Path(exists=True, file_okay=False, path_type=Path)
)
@local_options
@event_option
@click.option(
    "--repeat", type=click.IntRange(1), default=1, metavar="N", help="Invoke so many times, in turn."
)
@click.option(
    "--json", "as_json", is_flag=True, help="Print {results, log, timeline} as one object, nothing else."
)
def command(
    *,
    directory: Path,
    event: BinaryIO | None,
    repeat: int,
    as_json: bool,
    **options: Unpack[LocalOptions],
) -> int:
    """
    Run the function in FUNCTION_DIR once, without a node.

    Its response goes to standard output; its log, the REPORT line and the lifecycle waterfall to standard
    error. The exit code is 1 if the function failed.
    """
    payload = read_event(event.read() if event else b"{}")
    request = run_request(directory, payload, repeat, options)
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
    timeline = msgspec.json.decode(msgspec.json.encode(report.timeline), type=Timeline)
    bills = msgspec.convert(report.invocations, list[Bill])
    draw(timeline, console_for(sys.stderr), bills)


def _document(report: RunReport, log: list[str]) -> dict[str, object]:
    """Make the object that --json prints; a payload that is no JSON appears as `payload_base64`."""
    reports = {str(each["request_id"]): each for each in report.invocations}
    results = []
    for result in report.results:
        about: dict[str, object] = {
            "request_id": result.request_id,
            "function_error": result.function_error,
            "executed_version": result.executed_version,
            "report": reports.get(result.request_id),
        }
        try:
            msgspec.json.decode(result.payload)
            about["payload"] = msgspec.Raw(result.payload)
        except msgspec.DecodeError:
            about["payload_base64"] = result.payload
        results.append(about)
    return {"results": results, "log": log, "timeline": report.timeline}
