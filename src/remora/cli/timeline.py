"""`remora timeline`: the lifecycle waterfall of one environment of a node."""

from __future__ import annotations

import sys
from urllib.parse import quote

import click
import msgspec

from remora.cli.client import endpoint_option, get
from remora.cli.drawing import console_for, draw
from remora.cli.errors import CommandError
from remora.cli.waterfall import Event, Timeline

_PATH = "/_remora/timelines"


class Known(msgspec.Struct, frozen=True):
    """A timeline that the node still has."""

    environment: str
    function: str
    started_ms: int
    events: tuple[Event, ...] = ()

    @property
    def last_use(self) -> tuple[bool, int]:
        """Sorts by use: environments that were invoked come after the others, then the last event counts."""
        is_used = any(event.kind == "invoke.started" for event in self.events)
        last_us = max((event.at_us for event in self.events), default=0)
        return is_used, self.started_ms * 1_000 + last_us


class Timelines(msgspec.Struct, frozen=True):
    """All timelines that the node still has: of the living and of the recently dead."""

    timelines: list[Known]


@click.command("timeline")
@click.argument("which", metavar="[ENVIRONMENT|FUNCTION]", required=False)
@endpoint_option
@click.option("--json", "as_json", is_flag=True, help="Print the timeline as one JSON object.")
def command(which: str | None, endpoint: str, *, as_json: bool) -> None:
    """
    Draw what happened in an environment, in time.

    Names an environment (the beginning of its identifier is enough) or a function, of whose environments
    the one that was used last is taken; without a name, of all.
    """
    known = get(endpoint, _PATH, Timelines).timelines
    path = f"{_PATH}/{quote(choose(known, which).environment, safe='')}"
    if as_json:
        click.echo(msgspec.json.encode(get(endpoint, path, dict)))
    else:
        draw(get(endpoint, path, Timeline), console_for(sys.stdout))


def choose(known: list[Known], which: str | None) -> Known:
    """
    Find the timeline that is meant.

    Raises:
        CommandError: If there is none, or several identifiers begin like that.
    """
    matching = known
    if which:
        exact = [each for each in known if which in (each.environment, each.function)]
        matching = exact or [each for each in known if each.environment.startswith(which)]
        if len(matching) > 1 and not exact:
            raise CommandError(
                f"{len(matching)} environments begin with {which!r}", "give more of the identifier"
            )
    if not matching:
        subject = f" of {which!r}" if which else ""
        raise CommandError(f"the node knows no timeline{subject}", "invoke the function, then try again")
    return max(matching, key=lambda each: each.last_use)
