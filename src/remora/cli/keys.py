"""`remora keys`: make, list and delete the keys of a node that asks for signatures."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from remora.auth.keys import KeyFile, KeysError
from remora.cli.errors import FAILED, CommandError
from remora.node.settings import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_data = click.option(
    "--data",
    type=click.Path(file_okay=False, path_type=Path),
    required=True,
    metavar="DIR",
    help="The node's data directory; the node may be running.",
)
_json = click.option("--json", "as_json", is_flag=True, help="Write JSON.")


@click.group("keys")
def command() -> None:
    """
    Keys of a node that runs with `remora up --auth keys`.

    Whoever has a key may do everything on the node. Functions act as their roles, and may do what the
    policies of those allow.
    """


@command.command("create")
@click.argument("name")
@_data
@_json
def create(name: str, data: Path, *, as_json: bool) -> None:
    """Make a key called NAME and show it: once, as its secret is not shown again."""
    if not name or not all(c.isalnum() or c in "+=,.@_-" for c in name) or not name.isascii():
        raise click.BadParameter("letters, digits and +=,.@_- only", param_hint="NAME")
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    key = _attempt(lambda: KeyFile(data / KEYS).create(name, created))
    if as_json:
        click.echo(msgspec.json.encode(key))
    else:
        click.echo(f"export AWS_ACCESS_KEY_ID={key.access_key_id}")
        click.echo(f"export AWS_SECRET_ACCESS_KEY={key.secret_access_key}")


@command.command("list")
@_data
@_json
def list_keys(data: Path, *, as_json: bool) -> None:
    """List the keys, without their secrets."""
    keys = _attempt(lambda: KeyFile(data / KEYS).all())
    shown = [{"name": k.name, "access_key_id": k.access_key_id, "created": k.created} for k in keys]
    if as_json:
        click.echo(msgspec.json.encode({"keys": shown}))
        return
    for each in shown:
        click.echo(f"{each['access_key_id']}  {each['created']}  {each['name']}")


@command.command("delete")
@click.argument("access_key_id")
@_data
def delete(access_key_id: str, data: Path) -> None:
    """Delete a key; a running node refuses it from now on."""
    if not _attempt(lambda: KeyFile(data / KEYS).delete(access_key_id)):
        raise CommandError(f"there is no key {access_key_id} in {data}", "see: remora keys list", FAILED)


def _attempt(work: Callable[[], T]) -> T:
    try:
        return work()
    except KeysError as error:
        raise CommandError(str(error), "see who may read and write the data directory", FAILED) from error
