"""Zips of directories and texts, and layers of extensions."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
EXAMPLES = HERE.parent.parent / "examples"
PROBE = HERE / "functions" / "probe"
SHELL = HERE / "functions" / "shell"
ACTOR = HERE / "extensions" / "actor.py"
RUNTIME = f"python3.{sys.version_info.minor}"


def zip_of(files: dict[str, bytes | str], *, mode: int = 0o644, modes: dict[str, int] | None = None) -> bytes:
    """Make a zip; an entry whose mode says that it is a link has the target as its content."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            entry = zipfile.ZipInfo(name)
            entry.compress_type = zipfile.ZIP_DEFLATED
            bits = (modes or {}).get(name, mode)
            entry.external_attr = (bits if bits >> 12 else bits | 0o100000) << 16
            archive.writestr(entry, content)
    return buffer.getvalue()


def zip_directory(directory: Path) -> bytes:
    """Make a zip of a directory, modes included."""
    files = {
        str(path.relative_to(directory)): path
        for path in sorted(directory.rglob("*"))
        if path.is_file() and "__pycache__" not in path.parts
    }
    return zip_of(
        {name: path.read_bytes() for name, path in files.items()},
        modes={name: path.stat().st_mode & 0o777 for name, path in files.items()},
    )


def actors(*names: str) -> bytes:
    """Return a layer with an extension of each name; what they do is told by the variable ACTORS."""
    return zip_of({f"extensions/{name}": ACTOR.read_bytes() for name in names}, mode=0o755)


def extension(name: str, program: Path) -> bytes:
    """Return a layer with one extension."""
    return zip_of({f"extensions/{name}": program.read_bytes()}, mode=0o755)


def compiled(source: Path, program: Path) -> Path:
    """Compile a C or Go program with the machine's compiler."""
    command = ["cc", "-O1", "-Wall", "-Wextra", "-Werror"] if source.suffix == ".c" else ["go", "build"]
    own = {"CGO_ENABLED": "0", "GO111MODULE": "off", "GOTOOLCHAIN": "local"}
    subprocess.run([*command, "-o", program, source], check=True, env={**os.environ, **own})
    return program
