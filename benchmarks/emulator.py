"""
AWS's runtime interface emulator: found, and run.

The program ships inside the package aws-sam-cli. That is used if it is installed; otherwise its wheel is
fetched with pip, without what it depends on, once, into the user's cache.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import zipfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import memory
from children import process
from workload import HANDLER

_STOP_S = 10
PATH = "/2015-03-31/functions/function/invocations"
_MEMBER = "samcli/local/rapid/aws-lambda-rie-" + {"aarch64": "arm64"}.get(platform.machine(), "x86_64")


@dataclass(frozen=True)
class Emulator:
    """The program, and the version of the package that it came with."""

    program: Path
    version: str


def find():
    """Return the emulator, or say why there is none and return None: then it is left out."""
    try:
        distribution = importlib.metadata.distribution("aws-sam-cli")
        return Emulator(Path(str(distribution.locate_file(_MEMBER))), distribution.version)
    except importlib.metadata.PackageNotFoundError:
        pass
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "remora", "benchmarks")
    found = sorted(cache.glob("*/aws-lambda-rie"))
    if not found:
        try:
            _fetch(cache)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"the emulator is left out, pip could not fetch aws-sam-cli: {error}", file=sys.stderr)
            return None
        found = sorted(cache.glob("*/aws-lambda-rie"))
    return Emulator(found[-1], found[-1].parent.name)


def _fetch(cache):
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", work]
        subprocess.run([*command, "--only-binary=:all:", "aws-sam-cli"], check=True, timeout=300)
        wheel = next(Path(work).glob("*.whl"))
        program = Path(work, "new", "aws-lambda-rie")
        program.parent.mkdir()
        with zipfile.ZipFile(wheel) as archive, program.open("wb") as file:
            shutil.copyfileobj(archive.open(_MEMBER), file)
        program.chmod(0o755)
        program.parent.rename(cache / wheel.name.split("-")[1])


@contextmanager
def running(emulator, python, task, opt):
    """
    Run the emulator with a function; yield the port of its Invoke API, which may not be open yet.

    It has mounts of its own, so that `opt` can be its /opt, and processes of its own, so that none survives.

    Args:
        emulator: From `find`.
        python: From `workload.python`.
        task: The function's directory.
        opt: The directory for /opt.
    """
    port, api_port = free_port(), free_port()
    words = [str(emulator.program)]
    words += ["--runtime-interface-emulator-address", f"127.0.0.1:{port}"]
    words += ["--runtime-api-address", f"127.0.0.1:{api_port}", *python.command()]
    outer = ["unshare", "-Ur", "setpriv", "--pdeathsig", "KILL"]
    inner = ["unshare", "-mp", "--fork", "--mount-proc", "--kill-child=KILL"]
    script = 'mount --bind "$0" /opt && exec "$@"'
    environment = python.environment(f"127.0.0.1:{api_port}", task) | {"_HANDLER": HANDLER}
    with process(
        [*outer, *inner, "sh", "-c", script, str(opt), *words],
        ending=signal.SIGKILL,
        env=environment,
        cwd=task,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    ) as child:
        try:
            yield port
        finally:
            # The first below is the first of its namespace: all others end with it, and its parent reaps it.
            for pid in memory.below(child.pid)[:1]:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                    child.wait(_STOP_S)


def free_port():
    """Return a port that nobody uses now."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]
