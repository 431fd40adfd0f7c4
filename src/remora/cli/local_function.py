"""A function in a directory, as commands without a node take it: its options, and what they amount to."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypedDict

import click
import msgspec

from remora.cli.choices import cpu_option, driver_option, network_option
from remora.cli.errors import CommandError
from remora.node.oneshot import RunRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[..., object]

_HANDLERS = (("app.py", "app.handler"), ("lambda_function.py", "lambda_function.lambda_handler"))


class LocalOptions(TypedDict):
    """The values of the options of `local_options`."""

    handler: str | None
    runtime: str | None
    layers: tuple[Path, ...]
    timeout: int
    memory: int
    variables: tuple[str, ...]
    driver: str
    network: Literal["nat", "none", "host"] | None
    cpu: Literal["share", "strict"]


def local_options(command: Command) -> Command:
    """Give a command the options that describe a function in a directory; see `LocalOptions`."""
    options = (
        click.option(
            "--handler",
            help="As in Lambda, `file.function`; found if there is app.py or lambda_function.py.",
        ),
        click.option(
            "--runtime",
            help="Such as python3.12; found: provided.al2023 with a bootstrap, else this Python.",
        ),
        click.option(
            "--layer",
            "layers",
            multiple=True,
            type=click.Path(exists=True, path_type=Path),
            metavar="DIR_OR_ZIP",
            help="A layer, for extensions too; repeat for more, in order.",
        ),
        click.option("--timeout", type=click.IntRange(1, 900), default=3, show_default=True, help="Seconds."),
        click.option(
            "--memory", type=click.IntRange(128, 10_240), default=128, show_default=True, help="MiB."
        ),
        click.option(
            "--env", "variables", multiple=True, metavar="KEY=VALUE", help="An environment variable; repeat."
        ),
        driver_option,
        network_option,
        cpu_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


def event_option(command: Command) -> Command:
    """Give a command the option `--event`, an open file or None."""
    return click.option(
        "--event",
        "-e",
        type=click.File("rb"),
        metavar="FILE",
        help="The event, JSON; - for standard input.",
    )(command)


def run_request(directory: Path, payload: bytes, repeat: int, options: LocalOptions) -> RunRequest:
    """
    Return what is to be run.

    Args:
        directory: The function's directory.
        payload: The event.
        repeat: How often, in turn.
        options: Everything else.

    Raises:
        UsageError: If the options cannot be understood, or no handler is found.
        CommandError: If the function's program cannot be executed.
    """
    runtime = options["runtime"] or guess_runtime(directory)
    return RunRequest(
        directory=directory.resolve(),
        handler=options["handler"] or guess_handler(directory, runtime),
        runtime=runtime,
        layers=tuple(layer.resolve() for layer in options["layers"]),
        payload=payload,
        repeat=repeat,
        timeout_s=options["timeout"],
        memory_mib=options["memory"],
        variables=_variables(options["variables"]),
        driver=options["driver"],
        network=options["network"],
        cpu=options["cpu"],
    )


def read_event(event: bytes) -> bytes:
    """Refuse an event that Lambda would refuse."""
    try:
        msgspec.json.decode(event)
    except msgspec.DecodeError as error:
        raise click.BadParameter(f"the event is no JSON ({error})", param_hint="--event") from error
    return event


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


def _variables(texts: Sequence[str]) -> dict[str, str]:
    variables = {}
    for text in texts:
        name, separator, value = text.partition("=")
        if not separator or not re.fullmatch(r"[A-Za-z]\w*", name, re.ASCII):
            raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--env")
        variables[name] = value
    return variables
