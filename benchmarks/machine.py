"""Which machine and which versions figures belong to."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from importlib.metadata import version
from pathlib import Path

import remora


def describe(python, emulator=None):
    """Return what a reader needs to know to compare figures with those of another machine."""
    facts = {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", "unknown"),
        "python": platform.python_version(),
        "remora": remora.__version__,
        "uvloop": version("uvloop"),
        "httptools": version("httptools"),
        "awslambdaric": _client_version(python.client),
        "bubblewrap": _said(["bwrap", "--version"]),
        "user": "root" if os.geteuid() == 0 else "unprivileged",
        "load before": f"{os.getloadavg()[0]:.2f}",
    }
    if emulator is not None:
        facts["emulator"] = f"of aws-sam-cli {emulator.version}"
    return facts


def text(facts):
    """Lay out the facts as lines."""
    return "\n".join(f"{name:14}{value}" for name, value in facts.items())


def _processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _client_version(directory):
    found = next(directory.glob("awslambdaric-*.dist-info"), None)
    return found.name.split("-")[1].removesuffix(".dist") if found else "unknown"


def _said(command):
    if shutil.which(command[0]) is None:
        return "none"
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
