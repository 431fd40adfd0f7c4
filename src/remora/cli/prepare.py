"""`remora prepare`: make runtimes ready ahead of their first function, for later without a network."""

from __future__ import annotations

import asyncio
import time

import click

from remora.cli.errors import CommandError
from remora.node.criu import prepare_criu
from remora.node.settings import NodeError
from remora.runtimes.catalog import Runtimes, default_cache
from remora.runtimes.errors import RuntimeUnavailable

CRIU = "criu"


@click.command("prepare")
@click.argument("names", metavar="[RUNTIME]...", nargs=-1)
def command(names: tuple[str, ...]) -> None:
    """
    Make runtimes ready: all that this machine has, or those named; `criu` is what takes snapshots.

    A runtime is otherwise made ready when its first function is created or run, which takes seconds and a
    package index. What is ready stays ready for every node of this user.
    """
    try:
        asyncio.run(_prepare(names))
    except RuntimeUnavailable as error:
        raise CommandError(str(error), f"or {CRIU}, for snapshots") from error
    except NodeError as error:
        raise CommandError(str(error)) from error


def _prepare_criu(*, is_wanted: bool) -> None:
    """Have CRIU fetched unless the system's is new enough; it is no error if nobody has asked for it."""
    try:
        version = prepare_criu()
    except NodeError as error:
        if is_wanted:
            raise
        click.echo(f"{CRIU:16} none: versions with SnapStart have no snapshots ({error})")
    else:
        click.echo(f"{CRIU:16} ready  {version}")


async def _prepare(names: tuple[str, ...]) -> None:
    runtimes = Runtimes(default_cache(), "us-east-1")
    for name in names or (*runtimes.names(), CRIU):
        started = time.monotonic()
        if name == CRIU:
            _prepare_criu(is_wanted=bool(names))
            continue
        layout = await runtimes.prepare(name)
        version = f"  {layout.version}" if layout.version else ""
        click.echo(f"{name:16} ready{version}  ({time.monotonic() - started:.1f} s)")
