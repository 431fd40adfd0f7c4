"""`remora prepare`: make runtimes ready ahead of their first function, for later without a network."""

from __future__ import annotations

import asyncio
import time

import click

from remora.cli.errors import CommandError
from remora.runtimes.catalog import Runtimes, default_cache
from remora.runtimes.errors import RuntimeUnavailable


@click.command("prepare")
@click.argument("names", metavar="[RUNTIME]...", nargs=-1)
def command(names: tuple[str, ...]) -> None:
    """
    Make runtimes ready: all that this machine has, or those named.

    A runtime is otherwise made ready when its first function is created or run, which takes seconds and a
    package index. What is ready stays ready for every node of this user.
    """
    try:
        asyncio.run(_prepare(names))
    except RuntimeUnavailable as error:
        raise CommandError(str(error)) from error


async def _prepare(names: tuple[str, ...]) -> None:
    runtimes = Runtimes(default_cache(), "us-east-1")
    for name in names or runtimes.names():
        started = time.monotonic()
        layout = await runtimes.prepare(name)
        version = f"  {layout.version}" if layout.version else ""
        click.echo(f"{name:16} ready{version}  ({time.monotonic() - started:.1f} s)")
