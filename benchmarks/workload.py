"""What every subject runs: a function, extensions in Python and C, the Python runtime of this machine."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from remora.runtimes.catalog import Runtimes, default_cache

REGION = "us-east-1"
RUNTIME = f"python3.{sys.version_info.minor}"
HANDLER = "app.handler"
EVENT = b'{"n": 1}'
MEMORY_MIB = 1769
"""With this much an environment has the CPU share of any other process, as the other subjects have."""
_SOURCES = Path(__file__).with_name("programs")


@dataclass(frozen=True)
class Python:
    """The interpreter that runs functions, and the directory with AWS's runtime interface client."""

    program: Path
    client: Path

    def environment(self, api: str, task: Path) -> dict[str, str]:
        """Return what the stock client needs to know where there is no platform around it."""
        return {
            "AWS_LAMBDA_RUNTIME_API": api,
            "AWS_LAMBDA_FUNCTION_NAME": "bench",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(MEMORY_MIB),
            "AWS_LAMBDA_LOG_GROUP_NAME": "/aws/lambda/bench",
            "AWS_LAMBDA_LOG_STREAM_NAME": "bench",
            "AWS_REGION": REGION,
            "LAMBDA_TASK_ROOT": str(task),
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "PYTHONPATH": f"{self.client}:{task}",
        }

    def command(self) -> list[str]:
        """Return how the stock client is started."""
        return [str(self.program), "-m", "awslambdaric", HANDLER]


def python() -> Python:
    """Return the Python runtime; prepared if this machine has never used it."""
    layout = asyncio.run(Runtimes(default_cache(), REGION).prepare(RUNTIME))
    prefix, client = (Path(source) for source, _ in layout.mounts)
    return Python(prefix / "bin" / RUNTIME, client)


def write_task(directory: Path) -> Path:
    """Make the function's directory."""
    directory.mkdir()
    (directory / "app.py").write_bytes((_SOURCES / "app.py").read_bytes())
    return directory


def write_opt(directory: Path, *, interpreter: Path, python: int = 0, c: int = 0, delay_ms: int = 0) -> Path:
    """
    Make a directory for /opt.

    Args:
        directory: Where.
        interpreter: As extensions see it: `/var/lang/bin/python3.11`, or a path of the host.
        python: How many extensions in Python.
        c: How many in C.
        delay_ms: How long those wait before they register.
    """
    extensions = directory / "extensions"
    extensions.mkdir(parents=True)
    text = f"#!{interpreter} -IS\n" + (_SOURCES / "extension.py").read_text()
    for number in range(python):
        _write_program(extensions / f"python-{number}", text.encode())
    if c:
        program = directory / "program"
        compiler = os.environ.get("CC", "cc").split()
        options = ["-O2", "-D_GNU_SOURCE", f"-DDELAY_MS={delay_ms}", "-o", str(program)]
        subprocess.run([*compiler, *options, str(_SOURCES / "extension.c")], check=True)
        for number in range(c):
            _write_program(extensions / f"c-{number}", program.read_bytes())
        program.unlink()
    return directory


def _write_program(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    path.chmod(0o755)
