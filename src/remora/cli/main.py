"""The group of all commands, and how a command's end becomes an exit code."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, NoReturn

import click

import remora
from remora.cli.errors import FAILED, INTERRUPTED, USAGE, CommandError

if TYPE_CHECKING:
    from collections.abc import Sequence

_HELP = """
Run AWS Lambda functions, with their extensions, on your own machine.

\b
remora up                             start a node; boto3 and the AWS CLI can talk to it
remora run ./function -e event.json   run a function once, without a node

Exit codes: 0 fine; 1 the function failed, or something does not exist; 2 wrong usage; 3 the node could not be
reached or started; 130 interrupted.
"""
_COMMANDS = (
    *("up", "run", "ps", "logs", "timeline", "report", "compare"),
    *("backup", "restore", "prepare", "doctor", "keys", "version"),
)


class _Commands(click.Group):
    """Loads a command's module when it is named: `remora ps` need not load a node."""

    def list_commands(self, _ctx: click.Context) -> list[str]:
        """Return the commands' names in the order of the help."""
        return list(_COMMANDS)

    def get_command(self, _ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return one command; it is called `command` in the module of its name."""
        if cmd_name not in _COMMANDS:
            return None
        command = importlib.import_module(f"remora.cli.{cmd_name}").command
        assert isinstance(command, click.Command), "each module of a command has a command"
        return command


@click.group(
    cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(remora.__version__, prog_name="remora", message="%(prog)s %(version)s")
def commands() -> None:
    """Every command; without one, the help is shown."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run a command line (without the program's name; that of this process if None) and exit."""
    sys.exit(_run(arguments))


def _run(arguments: Sequence[str] | None) -> int:
    try:
        result = commands.main(arguments, prog_name="remora", standalone_mode=False)
        sys.stdout.flush()
    except CommandError as error:
        return _fail(str(error), error.hint, error.exit_code)
    except click.UsageError as error:
        path = error.ctx.command_path if error.ctx else "remora"
        return _fail(error.format_message(), f"see: {path} --help", USAGE)
    except click.ClickException as error:
        return _fail(error.format_message(), "", FAILED)
    except (KeyboardInterrupt, click.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has left (`remora logs f | head`); what is still buffered must not be written at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return result if isinstance(result, int) else 0


def _fail(message: str, hint: str, exit_code: int) -> int:
    click.echo(f"remora: {message}", err=True)
    if hint:
        click.echo(f"hint: {hint}", err=True)
    return exit_code
