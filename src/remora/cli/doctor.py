"""`remora doctor`: what this machine can do for a node, what it cannot, and how to get the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
import msgspec

from remora.cli.errors import FAILED
from remora.node.doctor import diagnose

if TYPE_CHECKING:
    from remora.node.doctor import Diagnosis

_MARKS = {"yes": "ok     ", "partly": "partly ", "no": "no     "}


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(*, as_json: bool) -> int:
    """
    Try what a node needs of this machine, and say how to get what is missing.

    The exit code is 1 if functions cannot run isolated here.
    """
    diagnosis = diagnose()
    if as_json:
        click.echo(msgspec.json.encode(diagnosis))
    else:
        for line in lines(diagnosis):
            click.echo(line)
    return 0 if diagnosis.is_able else FAILED


def lines(diagnosis: Diagnosis) -> list[str]:
    """Lay a diagnosis out for people."""
    told = [f"{diagnosis.system}, as {diagnosis.user}", ""]
    for finding in diagnosis.findings:
        told.append(f"{_MARKS[finding.verdict]} {finding.subject}: {finding.text}")
        if finding.remedy:
            told.append(f"        -> {finding.remedy}")
    verdict = "functions run isolated here" if diagnosis.is_able else "functions cannot run isolated here"
    return [*told, "", verdict]
