"""Finds the CPython interpreters of this machine."""

from __future__ import annotations

import json
import logging
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

_log = logging.getLogger(__name__)

MINOR_MIN = 8
"""Oldest Python 3 that still has a runtime interface client with binary packages."""
_MINOR_MAX = 30
_PROBE_TIMEOUT_S = 10.0
_PROBE = (
    "import json, sys; print(json.dumps([sys.implementation.name, sys.version_info[:3],"
    " getattr(sys, 'base_prefix', sys.prefix)]))"
)
_NAME = re.compile(r"python3\.(\d+)\Z")


@dataclass(frozen=True, slots=True)
class Interpreter:
    """
    One CPython that works.

    Args:
        version: Major, minor, patch.
        prefix: Directory that becomes /var/lang; has `bin/python3.N`.
    """

    version: tuple[int, int, int]
    prefix: Path

    @property
    def name(self) -> str:
        """The runtime's identifier, `python3.12`."""
        return f"python{self.version[0]}.{self.version[1]}"

    @property
    def executable(self) -> Path:
        """The program."""
        return self.prefix / "bin" / self.name


def usual_directories() -> tuple[Path, ...]:
    """
    Return where interpreters are looked for, most wanted first.

    The one that runs this program comes first, then the search path, the system's directories, and the
    places where pyenv and uv keep theirs.
    """
    home = Path.home()
    search_path = [Path(part) for part in os.environ.get("PATH", "").split(os.pathsep) if part]
    return (
        Path(sys.base_prefix, "bin"),
        *search_path,
        Path("/usr/local/bin"),
        Path("/usr/bin"),
        *sorted(home.glob(".pyenv/versions/*/bin")),
        *sorted(home.glob(".local/share/uv/python/*/bin")),
    )


def candidates(directories: tuple[Path, ...]) -> dict[str, tuple[Path, ...]]:
    """
    Return the programs that are named as interpreters, by runtime identifier in order of versions.

    Nothing is run: whether they work is found out by `choose`. The same file is listed once, whatever links
    lead to it; pyenv's shims, which only lead back to the search path, are passed over.
    """
    found: dict[str, dict[Path, None]] = {}
    for directory in directories:
        if directory.name == "shims":
            continue
        for minor in range(MINOR_MIN, _MINOR_MAX):
            path = directory / f"python3.{minor}"
            if os.access(path, os.X_OK) and path.is_file():
                found.setdefault(path.name, {})[path.resolve()] = None
    return {name: tuple(found[name]) for name in sorted(found, key=minor_of)}


def minor_of(name: str) -> int:
    """Return 12 for `python3.12`, -1 for what is no such name."""
    match = _NAME.fullmatch(name)
    return int(match[1]) if match else -1


def choose(name: str, paths: tuple[Path, ...]) -> Interpreter | None:
    """Run each of `paths` once; return the one that fits `name` with the highest patch version, or None."""
    best: Interpreter | None = None
    for path in paths:
        found = probe(path)
        if found is None or found.name != name or not os.access(found.executable, os.X_OK):
            continue
        if best is None or found.version > best.version:
            best = found
    return best


def probe(path: Path) -> Interpreter | None:
    """Run `path` and return what it is; None if it is no working CPython."""
    try:
        done = subprocess.run(
            [str(path), "-I", "-S", "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PROBE_TIMEOUT_S,
            check=True,
        )
        implementation, version, prefix = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        _log.debug("%s is no working interpreter: %s", path, error)
        return None
    if implementation != "cpython":
        return None
    major, minor, patch = version
    return Interpreter((major, minor, patch), Path(prefix))
