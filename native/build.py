"""The build step of the package: compiles `remora-init`, and marks the wheel as made for this platform."""

from __future__ import annotations

import os
import platform
import shlex
import shutil
import stat
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCE = Path("native/remora_init.c")
PROGRAM = Path("src/remora/_native/remora-init")
FLAGS = ("-static", "-O2", "-std=gnu11", "-Wall", "-Wextra", "-s")


class CompileInit(BuildHookInterface):  # type: ignore[type-arg]
    """Hatchling finds this class by its base; nothing else inherits from anything here."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's call
        """Compile before files are collected; also for editable installs, which run from the source tree."""
        if self.target_name != "wheel":
            return
        root = Path(self.root)
        compile_init(root / SOURCE, root / PROGRAM)
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-{platform_tag()}"
        build_data["force_include"][str(root / PROGRAM)] = "remora/_native/remora-init"

    def clean(self, versions: list[str]) -> None:  # noqa: ARG002 - hatchling's call
        """Remove what `initialize` made."""
        shutil.rmtree((Path(self.root) / PROGRAM).parent, ignore_errors=True)


def platform_tag() -> str:
    """Return the tag of a statically linked program for this machine: any libc will do."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def compile_init(source: Path, program: Path) -> None:
    """
    Compile `source` into a static `program` with the C compiler named by CC, or `cc`.

    Raises:
        SystemExit: If there is no compiler or it fails; says what to install.
    """
    if platform.system() != "Linux":
        raise SystemExit("remora-init can only be built on Linux: it is made of Linux's own system calls.")
    compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
    if shutil.which(compiler[0]) is None:
        raise SystemExit(
            f"remora needs a C compiler to build remora-init, and {compiler[0]!r} was not found.\n"
            "Install one (Debian, Ubuntu: apt-get install gcc libc6-dev; Fedora: dnf install gcc\n"
            "glibc-static; Alpine: apk add gcc musl-dev linux-headers) or name one in the variable CC."
        )
    program.parent.mkdir(parents=True, exist_ok=True)
    unfinished = program.with_name(f".{program.name}.{os.getpid()}")
    command = [*compiler, *FLAGS, "-o", str(unfinished), str(source)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(
            f"Compiling remora-init failed: {shlex.join(command)}\n{done.stderr}\n"
            "If it says that -lc was not found, the static C library is missing\n"
            "(Fedora: dnf install glibc-static)."
        )
    unfinished.chmod(unfinished.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    unfinished.replace(program)
