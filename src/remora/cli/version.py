"""`remora version`: which Remora this is, on what."""

from __future__ import annotations

import platform

import click
import msgspec

import remora


@click.command("version")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, as_json: bool) -> None:
    """Show the version of Remora, Python and the system."""
    found = {
        "version": remora.__version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
    }
    if as_json:
        click.echo(msgspec.json.encode(found))
    else:
        click.echo(f"remora {found['version']} (Python {found['python']}, {found['system']})")
