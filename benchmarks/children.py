"""Processes that a benchmark starts: each ends with it, whatever becomes of the benchmark."""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress

_PR_SET_PDEATHSIG = 1
_STOP_S = 30
_libc = ctypes.CDLL(None)


def end_with_parent(number):
    """Return a function for `preexec_fn`: the child gets signal `number` when its parent dies."""

    def prepare():
        _libc.prctl(_PR_SET_PDEATHSIG, number)

    return prepare


@contextmanager
def process(command, *, ending=signal.SIGTERM, **options):
    """Run a program; at the end it gets the signal `ending`, and is killed if that takes too long."""
    prepare = end_with_parent(ending)
    child = subprocess.Popen(command, preexec_fn=prepare, start_new_session=True, **options)  # noqa: PLW1509 - no threads here
    try:
        yield child
    finally:
        if child.poll() is None:
            child.send_signal(ending)
        try:
            child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                pipe.close()


@contextmanager
def answering(script, *arguments):
    """
    Run one of the scripts here; yield what it said when it was ready, and a function that asks it.

    Questions and answers are JSON documents, one per line.
    """
    command = [sys.executable, str(script), *(str(argument) for argument in arguments)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with process(command, **pipes) as child:

        def ask(**question):
            child.stdin.write(json.dumps(question) + "\n")
            child.stdin.flush()
            return _read(child)

        try:
            yield _read(child), ask
        finally:
            child.stdin.close()
            with suppress(subprocess.TimeoutExpired):
                child.wait(_STOP_S)


def say(answer):
    """Answer as such a script."""
    print(json.dumps(answer), flush=True)


async def questions():
    """Yield what such a script is asked, until nobody asks any more."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        yield json.loads(line)
    transport.close()


def _read(child):
    line = child.stdout.readline()
    if not line:
        raise RuntimeError(f"{child.args[1]} ended with status {child.wait()}")
    return json.loads(line)


def stop_on_signals():
    """Let SIGTERM end this program as SIGINT does: with everything cleaned up."""

    def stop(number, _frame):
        raise SystemExit(128 + number)

    signal.signal(signal.SIGTERM, stop)
