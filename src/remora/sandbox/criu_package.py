"""
Fetches CRIU where the distribution's own is too old: from Debian's testing suite, beside the system.

Its packages are downloaded by apt, which checks their signatures, with the libraries that they need, and
unpacked into a directory. Nothing is installed, and what the system has stays as it is.

Source: apt.conf(5), sources.list(5); https://packages.debian.org/criu
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Final

from remora.sandbox.base import SandboxError
from remora.sandbox.criu import find_criu

SUITE: Final = "forky"
KEYRING: Final = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
FETCH_S: Final = 600
_BY_HAND: Final = "install CRIU 4.2 or newer (package criu) by hand"
_SOURCES: Final = f"""\
Types: deb
URIs: http://deb.debian.org/debian
Suites: {SUITE}
Components: main
Signed-By: {KEYRING}
"""
_SETTINGS: Final = """\
Dir::Etc::SourceList "/dev/null";
Dir::Etc::SourceParts "{0}/sources";
Dir::State::Lists "{0}/lists";
Dir::State::status "{0}/status";
Dir::Cache "{0}/cache";
Acquire::Languages "none";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
APT::Sandbox::User "root";
"""


def fetch_criu(prefix: Path) -> None:
    """
    Make sure that there is a CRIU that works, in `prefix` unless the system has one; may take a minute.

    Raises:
        SandboxError: If there is none and none can be fetched; `prefix` is as it was.
    """
    try:
        find_criu(prefix)
    except SandboxError as error:
        missing = str(error)
    else:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None or not KEYRING.exists():
        raise SandboxError(f"{missing}, and it can be fetched on Debian only: {_BY_HAND}")
    prefix.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=prefix.parent, prefix=".criu-") as name:
        made = Path(name, "made")
        _unpack(_download(Path(name)), made)
        find_criu(made)
        shutil.rmtree(prefix, ignore_errors=True)
        made.rename(prefix)


def _download(directory: Path) -> list[Path]:
    """Have apt download the package with everything that it needs."""
    for part in ("sources", "lists/partial", "cache/archives/partial"):
        (directory / part).mkdir(parents=True)
    (directory / "status").touch()
    (directory / "sources" / "suite.sources").write_text(_SOURCES)
    settings = directory / "apt.conf"
    settings.write_text(_SETTINGS.format(directory))
    _run(settings, "apt-get", "-qq", "update")
    _run(settings, "apt-get", "-qq", "install", "--no-install-recommends", "--download-only", "-y", "criu")
    return sorted((directory / "cache" / "archives").glob("*.deb"))


def _unpack(packages: list[Path], prefix: Path) -> None:
    prefix.mkdir()
    for package in packages:
        _run(None, "dpkg-deb", "-x", str(package), str(prefix))


def _run(settings: Path | None, *words: str) -> None:
    environment = {**os.environ, **({"APT_CONFIG": str(settings)} if settings else {})}
    try:
        subprocess.run(words, check=True, capture_output=True, timeout=FETCH_S, env=environment)
    except subprocess.CalledProcessError as error:
        said = error.stderr.decode(errors="replace").strip()
        raise SandboxError(f"CRIU could not be fetched: {said}; {_BY_HAND}") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise SandboxError(f"CRIU could not be fetched: {error}; {_BY_HAND}") from error
