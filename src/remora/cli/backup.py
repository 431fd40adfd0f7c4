"""`remora backup`: everything that a node keeps, in one file."""

from __future__ import annotations

from pathlib import Path

import click

from remora.cli.errors import CommandError
from remora.node.backup import back_up
from remora.node.settings import NodeError


@click.command("backup")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--data",
    type=click.Path(file_okay=False, exists=True, path_type=Path),
    required=True,
    metavar="DIR",
    help="The data directory; its node may be running.",
)
def command(file: Path, data: Path) -> None:
    """
    Write everything that a node keeps to FILE: functions, layers, roles, buckets, events, metrics and logs.

    The node may run meanwhile. FILE appears when it is whole. `remora restore` makes a data directory of it.
    """
    try:
        done = back_up(data.resolve(), file.resolve())
    except NodeError as error:
        raise CommandError(str(error), error.hint) from error
    click.echo(f"{file}: {done}")
