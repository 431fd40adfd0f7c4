"""
serverless-offline, another server that runs functions on one's own machine: found, and run.

It is fetched with npm, once, into the user's cache, and starts a process of Python for each function at work.
It keeps none of Lambda's lifecycle: no isolation, no limits, no extensions, no runtime client.

Source: https://github.com/dherault/serverless-offline
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import emulator
from children import process
from workload import HANDLER, REGION, RUNTIME

PATH = "/2015-03-31/functions/bench-dev-plain/invocations"
_PACKAGES = ("osls", "serverless-offline")
_SERVICE = {
    "service": "bench",
    "provider": {"name": "aws", "runtime": RUNTIME, "region": REGION},
    "plugins": ["serverless-offline"],
    "functions": {"plain": {"handler": HANDLER, "timeout": 60}},
}


@dataclass(frozen=True)
class Offline:
    """Where npm has put it, and its version."""

    modules: Path
    version: str


def find():
    """Return it, or say why it is not to be had and return None: then it is left out."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "remora", "benchmarks")
    directory = cache / "serverless-offline"
    if not directory.is_dir():
        try:
            _fetch(cache, directory)
        except (OSError, subprocess.SubprocessError) as error:
            print(f"serverless-offline is left out, npm could not fetch it: {error}", file=sys.stderr)
            return None
    modules = directory / "node_modules"
    package = json.loads((modules / "serverless-offline" / "package.json").read_text())
    return Offline(modules, package["version"])


def _fetch(cache, directory):
    npm = shutil.which("npm")
    if npm is None:
        raise FileNotFoundError("there is no npm")
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=cache) as work:
        command = [npm, "install", "--silent", "--no-audit", "--no-fund", "--legacy-peer-deps", *_PACKAGES]
        subprocess.run(command, cwd=work, check=True, timeout=300)
        Path(work).rename(directory)
        Path(work).mkdir()


@contextmanager
def running(offline, work, task):
    """
    Run it with a function; yield the port of its Invoke API, which may not be open yet.

    Args:
        offline: From `find`.
        work: A directory for it, which does not exist.
        task: The function's directory.
    """
    shutil.copytree(task, work)
    (work / "serverless.json").write_text(json.dumps(_SERVICE))
    (work / "node_modules").symlink_to(offline.modules)
    ports = {"--httpPort": emulator.free_port(), "--lambdaPort": emulator.free_port()}
    program = ["node", str(offline.modules / "osls" / "bin" / "serverless.js"), "offline"]
    options = [word for name, port in ports.items() for word in (name, str(port))]
    silent = {"stdin": subprocess.DEVNULL, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with process([*program, *options], cwd=work, **silent):
        yield ports["--lambdaPort"]
