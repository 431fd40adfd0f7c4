"""
A program that fills a small disk with functions until it takes no more, is killed, and looks what it has.

usage: full_disk.py DIRECTORY (on a disk of a few megabytes)
"""

from __future__ import annotations

import asyncio
import os
import secrets
import signal
import sys
from pathlib import Path

from tests.control.changes import ROLE, package
from tests.control.power_cut import Node

from remora.control.operations.call import Call
from remora.control.operations.offered import HANDLERS
from remora.store.base import StoreError

REFUSALS = 5
"""Refused so often, one after the other, the disk counts as full."""


async def create(control, name: str) -> None:
    code = {"ZipFile": package(secrets.token_hex(50_000))}
    request = {"FunctionName": name, "Runtime": "python3.12", "Handler": "h.h", "Role": ROLE, "Code": code}
    await HANDLERS["CreateFunction"](control, Call(request, "http://x", "arn:aws:iam::000000000000:root"))


async def fill(directory: Path, writer: int) -> None:
    control = await Node(directory).open()
    refused = 0
    for number in range(1_000):
        try:
            await create(control, f"f{number}")
        except (StoreError, OSError) as error:
            if "disk is full" not in str(error) and "No space left" not in str(error):
                raise
            os.write(writer, b"%d refused\n" % number)
            refused += 1
            if refused == REFUSALS:
                return
        else:
            os.write(writer, b"%d kept\n" % number)
            refused = 0
    raise AssertionError("the disk is too large")


async def look(directory: Path, kept: set[str], refused: set[str]) -> None:
    node = Node(directory)
    control = await node.open()
    await node.settle()
    assert set(control.state.view.functions) == kept
    assert not kept & refused
    for function in control.state.view.functions.values():
        assert function.latest.state == "Active"
        await control.deployments.make(function.latest)
    await create(control, "after")
    await node.settle()
    await node.store.close()


def main() -> None:
    disk = Path(sys.argv[1])
    directory, ballast = disk / "data", disk / "ballast"
    ballast.write_bytes(bytes(2 * 1024 * 1024))
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        asyncio.new_event_loop().run_until_complete(fill(directory, writer))
        os.kill(os.getpid(), signal.SIGKILL)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        outcomes = [line.split() for line in pipe]
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), "the disk could not be filled"
    kept = {f"f{number}" for number, outcome in outcomes if outcome == "kept"}
    refused = {f"f{number}" for number, outcome in outcomes if outcome == "refused"}
    assert kept
    assert len(refused) >= REFUSALS
    ballast.unlink()
    asyncio.run(look(directory, kept, refused))
    sys.stdout.write(f"{len(kept)} kept, {len(refused)} refused\n")


if __name__ == "__main__":
    main()
