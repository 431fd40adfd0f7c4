"""Where the compiled remora-init of this installation is."""

from __future__ import annotations

import os
from pathlib import Path

from remora.sandbox.base import SandboxError

_PROGRAM = Path(__file__).resolve().parent.parent / "_native" / "remora-init"


def init_program() -> Path:
    """
    Return the path of remora-init.

    Raises:
        SandboxError: If the package was installed without it.
    """
    if not os.access(_PROGRAM, os.X_OK):
        raise SandboxError(
            f"remora-init is missing at {_PROGRAM}: install the package with pip, which compiles it "
            "(that needs a C compiler)"
        )
    return _PROGRAM
