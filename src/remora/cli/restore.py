"""`remora restore`: a data directory from a backup."""

from __future__ import annotations

from pathlib import Path

import click

from remora.cli.errors import CommandError
from remora.node.backup import restore
from remora.node.settings import NodeError


@click.command("restore")
@click.argument("file", type=click.Path(dir_okay=False, exists=True, path_type=Path))
@click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The data directory to make; it must not exist, or be empty.",
)
def command(file: Path, data: Path) -> None:
    """
    Make the data directory DIR from FILE, which `remora backup` wrote.

    Every file is compared with its checksum, every database is checked. DIR appears when it is whole.
    """
    try:
        done = restore(file.resolve(), data.resolve())
    except NodeError as error:
        raise CommandError(str(error), error.hint) from error
    click.echo(f"{data}: {done}")
