"""Options that several commands share: how environments are isolated, and what they can reach."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Callable

    Command = Callable[..., object]


def driver_option(command: Command) -> Command:
    """Give a command the option `--driver`."""
    return click.option(
        "--driver",
        type=click.Choice(("bubblewrap", "process")),
        default="bubblewrap" if sys.platform == "linux" else "process",
        show_default=True,
        envvar="REMORA_DRIVER",
        help="How environments are isolated; process: not at all.",
    )(command)


def network_option(command: Command) -> Command:
    """Give a command the option `--network`."""
    return click.option(
        "--network",
        type=click.Choice(("none", "host")),
        default="none",
        show_default=True,
        help="What functions can reach: nothing, or whatever this machine can.",
    )(command)
