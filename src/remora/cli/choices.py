"""Options that several commands share: how environments are isolated, and what they can reach."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, get_args

import click

from remora.kit.endpoints import REAL, is_endpoint

Network = Literal["nat", "none", "host"]
CpuLimit = Literal["share", "strict"]

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Command = Callable[..., object]


def driver_option(command: Command) -> Command:
    """Give a command the options `--driver` and `--oci-runtime`; it gets them as one word, `oci:runc`."""
    command = click.option(
        "--oci-runtime",
        default="runc",
        show_default=True,
        envvar="REMORA_OCI_RUNTIME",
        metavar="PROGRAM",
        is_eager=True,
        expose_value=False,
        callback=_remember_runtime,
        help="The runtime of the driver oci: a name or a path.",
    )(command)
    return click.option(
        "--driver",
        type=click.Choice(("bubblewrap", "oci", "process")),
        default="bubblewrap" if sys.platform == "linux" else "process",
        show_default=True,
        envvar="REMORA_DRIVER",
        callback=_with_runtime,
        help="How environments are isolated; process: not at all.",
    )(command)


def cpu_option(command: Command) -> Command:
    """Give a command the option `--cpu-limit`."""
    return click.option(
        "--cpu-limit",
        "cpu",
        type=click.Choice(get_args(CpuLimit)),
        default="share",
        show_default=True,
        envvar="REMORA_CPU_LIMIT",
        help="CPU time follows the memory size, 1,769 MB for one processor. share: where several want it; "
        "alone, a function may have all. strict: never more than that, as in Lambda.",
    )(command)


def check_account(_context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    """Check the number of an account, as a callback of an option."""
    if value is not None and (len(value) != 12 or not value.isascii() or not value.isdigit()):
        raise click.BadParameter(f"{value!r} is not 12 digits", param=parameter)
    return value


def check_endpoint(_context: click.Context, parameter: click.Parameter, value: str) -> str:
    """Check where services of AWS are, as a callback of an option."""
    if value and not is_endpoint(value):
        raise click.BadParameter(f"{value!r} is neither a URL nor the word {REAL}", param=parameter)
    return value


_RUNTIME = "remora.oci-runtime"


def _remember_runtime(context: click.Context, _option: click.Parameter, runtime: str) -> None:
    context.meta[_RUNTIME] = runtime


def _with_runtime(context: click.Context, _option: click.Parameter, driver: str) -> str:
    return f"oci:{context.meta[_RUNTIME]}" if driver == "oci" else driver


def network_option(command: Command) -> Command:
    """Give a command the option `--network`."""
    return click.option(
        "--network",
        type=click.Choice(get_args(Network)),
        default=None,
        help="What functions can reach: the world beyond this machine, nothing, or whatever this machine "
        "can. Default: nat if this machine is able, else none.",
    )(command)


def policies(
    _ctx: click.Context, _option: click.Parameter, texts: Sequence[str]
) -> tuple[tuple[str, Network], ...]:
    """Read the values of `--function-network`."""
    found: list[tuple[str, Network]] = []
    for text in texts:
        name, separator, policy = text.partition("=")
        known = next((each for each in get_args(Network) if each == policy), None)
        if not name or not separator or known is None:
            raise click.BadParameter(
                f"{text!r} is not NAME=POLICY with a policy of {', '.join(get_args(Network))}"
            )
        found.append((name, known))
    return tuple(found)
