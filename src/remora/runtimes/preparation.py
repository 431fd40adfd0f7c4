"""
Makes the directory that becomes /var/runtime of a Python runtime.

It is named by a digest of all it is made from, kept in a cache that all nodes of a user share, made under a
temporary name and renamed when complete: whoever finds it, finds it whole.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.resources
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from remora.runtimes.errors import RuntimeUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from remora.runtimes.interpreters import Interpreter

CLIENT = "awslambdaric"
"""AWS's own runtime interface client, from the Python Package Index."""
_FORMAT = "1"
_PIP_TIMEOUT_S = 300.0
_COMPILE_TIMEOUT_S = 120.0
_DESCRIPTION = "layout.json"


class Prepared(msgspec.Struct, frozen=True):
    """What is known of a prepared directory; kept beside it."""

    client_version: str
    digest: str
    """SHA-256 of all files, hexadecimal."""


@dataclass(frozen=True, slots=True)
class Place:
    """A prepared directory and what is known of it."""

    directory: Path
    prepared: Prepared


def prepare(interpreter: Interpreter, cache: Path, packages: Sequence[str] = (CLIENT,)) -> Place:
    """
    Return the directory for /var/runtime, made now if there is none. Takes seconds then; blocks.

    Args:
        interpreter: Whose runtime it is.
        cache: Directory of all prepared runtimes; made if missing.
        packages: What is installed, as pip's requirements.

    Raises:
        RuntimeUnavailable: If the packages cannot be had or the disk refuses; nothing is left behind.

    Repeated calls: the same directory. Several processes at once: one works, the others wait for it.
    """
    recipe = _recipe(interpreter, packages)
    try:
        known = _find(cache, interpreter.name, recipe)
        if known is not None:
            return known
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(cache / f".{interpreter.name}.lock"):
            known = _find(cache, interpreter.name, recipe)
            return known or _make(interpreter, cache, packages, recipe)
    except OSError as error:
        raise RuntimeUnavailable(
            f"the runtime {interpreter.name} could not be prepared in {cache}: {error}; "
            "free some space there or choose another directory with XDG_CACHE_HOME",
            retryable=True,
        ) from error


def bootstrap_files(interpreter: Interpreter) -> dict[str, bytes]:
    """Return our own two files of /var/runtime, by name."""
    files = importlib.resources.files("remora.runtimes").joinpath("files")
    version = interpreter.name.removeprefix("python")
    shell = files.joinpath("bootstrap").read_text(encoding="utf-8")
    shell = shell.replace("@VERSION@", version).replace(
        "@INTERPRETER@", shlex.quote(str(interpreter.executable))
    )
    return {"bootstrap": shell.encode(), "bootstrap.py": files.joinpath("bootstrap.py").read_bytes()}


def _recipe(interpreter: Interpreter, packages: Sequence[str]) -> str:
    """Return a digest of everything that the directory is made from."""
    parts = [_FORMAT, platform.machine(), repr(interpreter.version), *packages]
    digest = hashlib.sha256("\0".join(parts).encode())
    for name, content in bootstrap_files(interpreter).items():
        digest.update(name.encode() + content)
    return digest.hexdigest()[:16]


def _find(cache: Path, name: str, recipe: str) -> Place | None:
    """Return what was prepared earlier, or None."""
    for directory in sorted(cache.glob(f"{name}-*-{recipe}"), reverse=True):
        try:
            description = (directory / _DESCRIPTION).read_bytes()
            return Place(directory / "runtime", msgspec.json.decode(description, type=Prepared))
        except (FileNotFoundError, msgspec.DecodeError):
            continue  # being removed by somebody, or damaged: another one is made in its place
    return None


def _make(interpreter: Interpreter, cache: Path, packages: Sequence[str], recipe: str) -> Place:
    """Make the directory; the caller holds the lock of this runtime."""
    unfinished = f".new-{interpreter.name}-"
    for left in cache.glob(f"{unfinished}*"):  # by a process that was killed: nobody else is at work
        shutil.rmtree(left, ignore_errors=True)
    temporary = Path(tempfile.mkdtemp(prefix=unfinished, dir=cache))
    try:
        runtime = temporary / "runtime"
        _install(interpreter, runtime, packages)
        for name, content in bootstrap_files(interpreter).items():
            (runtime / name).write_bytes(content)
        (runtime / "bootstrap").chmod(0o755)
        prepared = Prepared(_client_version(runtime), _digest(runtime))
        _compile(interpreter, runtime)
        _make_readable(runtime)
        (temporary / _DESCRIPTION).write_bytes(msgspec.json.encode(prepared))
        temporary.chmod(0o755)
        os.sync()
        final = cache / f"{interpreter.name}-{prepared.client_version}-{recipe}"
        if final.exists():  # damaged, else it would have been found
            shutil.rmtree(final)
        temporary.rename(final)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    return Place(final / "runtime", prepared)


def _install(interpreter: Interpreter, target: Path, packages: Sequence[str]) -> None:
    """Install packages for another interpreter with our own pip."""
    version = interpreter.name.removeprefix("python")
    command = [sys.executable, "-m", "pip", "install", "--target", str(target), "--python-version", version]
    command += ["--implementation", "cp", "--only-binary=:all:", "--no-compile", "--no-input", "--quiet"]
    command += ["--disable-pip-version-check", *packages]
    wanted = " ".join(packages)
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_PIP_TIMEOUT_S,
            check=False,
            env=os.environ | {"PIP_USER": "0"},
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeUnavailable(
            f"pip did not install {wanted} for {interpreter.name} within {_PIP_TIMEOUT_S:.0f} s; "
            "look at the network and try again",
            retryable=True,
        ) from error
    if done.returncode != 0:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise RuntimeUnavailable(
            f"pip could not install {wanted} for {interpreter.name}: {lines[-1]}; connect this machine to a "
            "package index once, or point PIP_FIND_LINKS at a directory with the wheels (PIP_NO_INDEX=1)",
            retryable=True,
        )
    shutil.rmtree(target / "bin", ignore_errors=True)


def _compile(interpreter: Interpreter, directory: Path) -> None:
    """
    Compile every module with the interpreter that will run it.

    The files are mounted read-only, so Python could never keep what it compiles; they never change, so it
    need not look at the sources either.
    """
    command = [str(interpreter.executable), "-I", "-m", "compileall", "-q", "-d", "/var/runtime"]
    command += ["--invalidation-mode", "unchecked-hash", str(directory)]
    try:
        subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_COMPILE_TIMEOUT_S, check=True
        )
    except subprocess.SubprocessError as error:
        raise RuntimeUnavailable(
            f"{interpreter.executable} could not compile the runtime interface client: {error}; "
            "try that command by hand, or install another build of this Python",
        ) from error


def _make_readable(directory: Path) -> None:
    """Let the user of sandboxes read it, whatever the umask is."""
    for path in (directory, *directory.rglob("*")):
        mode = path.stat().st_mode
        path.chmod(mode | (0o555 if path.is_dir() or mode & 0o100 else 0o444))


def _client_version(directory: Path) -> str:
    """Return the version of the client that was installed."""
    for path in directory.glob(f"{CLIENT}-*.dist-info"):
        match = re.fullmatch(rf"{CLIENT}-(.+)\.dist-info", path.name)
        if match:
            return match[1]
    raise RuntimeUnavailable(
        f"pip installed no {CLIENT} in {directory}; add it to the packages of the runtime"
    )


def _digest(directory: Path) -> str:
    """Return the SHA-256 of names and contents of all files."""
    digest = hashlib.sha256()
    for path in sorted(path for path in directory.rglob("*") if path.is_file()):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(directory)}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock that ends with this process at the latest."""
    with path.open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
