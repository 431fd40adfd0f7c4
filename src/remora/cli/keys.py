"""`remora keys`: make, list and delete the keys of a node that asks for signatures."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import click
import msgspec

from remora.auth.documents import DocumentError, check_document
from remora.auth.keys import KeyFile, KeysError
from remora.auth.managed import MANAGED
from remora.cli.choices import check_account
from remora.cli.errors import FAILED, CommandError
from remora.node.settings import KEYS

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_AWS: Final = re.compile("arn:aws[a-z-]*:iam::aws:policy/")

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

    Whoever has a key may do everything on the node, or what the policies of the key allow. Functions act as
    their roles, and may do what the policies of those allow.
    """


@command.command("create")
@click.argument("name")
@click.option(
    "--policy",
    "policies",
    multiple=True,
    metavar="FILE|ARN",
    help="What the key may do: a policy in a file, or the ARN of a managed one; may be given several times. "
    "Without it, everything.",
)
@click.option(
    "--account",
    callback=check_account,
    metavar="DIGITS",
    help="The account of a partner: the key may do what policies of functions, layers and roles allow that "
    "account. Default: the node's own account.",
)
@_data
@_json
def create(name: str, policies: tuple[str, ...], account: str | None, data: Path, *, as_json: bool) -> None:
    """Make a key of the user NAME and show it: once, as its secret is not shown again."""
    if not name or not all(c.isalnum() or c in "+=,.@_-" for c in name) or not name.isascii():
        raise click.BadParameter("letters, digits and +=,.@_- only", param_hint="NAME")
    created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    given = [_policy(text) for text in policies] or None
    key = _attempt(lambda: KeyFile(data / KEYS).create(name, created, given, account or ""))
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
    shown = [
        {
            "name": key.name,
            "access_key_id": key.access_key_id,
            "created": key.created,
            "policies": key.policies,
            "account": key.account,
        }
        for key in keys
    ]
    if as_json:
        click.echo(msgspec.json.encode({"keys": shown}))
        return
    for each in shown:
        may = "everything"
        if each["policies"] is not None:
            named = [text if text.startswith("arn:") else "a policy of its own" for text in each["policies"]]
            may = f"what is allowed by {', '.join(named)}"
        if each["account"]:
            within = "" if each["policies"] is None else f", and {may}"
            may = f"what resources allow account {each['account']}{within}"
        click.echo(f"{each['access_key_id']}  {each['created']}  {each['name']}  may do {may}")


@command.command("delete")
@click.argument("access_key_id")
@_data
def delete(access_key_id: str, data: Path) -> None:
    """Delete a key; a running node refuses it from now on."""
    if not _attempt(lambda: KeyFile(data / KEYS).delete(access_key_id)):
        raise CommandError(f"there is no key {access_key_id} in {data}", "see: remora keys list", FAILED)


def _policy(text: str) -> str:
    """Return what is kept of a policy: the ARN of a managed one, or what the file says."""
    if _AWS.match(text) and text not in MANAGED:
        known = ", ".join(arn.partition(":policy/")[2] for arn in MANAGED)
        raise click.BadParameter(f"of AWS's policies a node knows {known}; not {text}", param_hint="--policy")
    if text.startswith("arn:"):
        return text
    try:
        document = Path(text).read_text(encoding="utf-8")
        check_document(document)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text in UTF-8"
        raise click.BadParameter(f"{text} cannot be read: {reason}", param_hint="--policy") from error
    except DocumentError as error:
        raise click.BadParameter(f"{text} is no policy: {error}", param_hint="--policy") from error
    return document


def _attempt(work: Callable[[], T]) -> T:
    try:
        return work()
    except KeysError as error:
        raise CommandError(str(error), "see who may read and write the data directory", FAILED) from error
