"""What a runtime brings into an environment: directories, the program to start, variables."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True)
class RuntimeLayout:
    """
    One runtime, ready to be mounted.

    Args:
        name: The identifier that functions use, `python3.12`.
        mounts: `(directory of the host, path inside)`, /var/lang and /var/runtime; none for `provided.*`.
        bootstraps: Paths (inside) of the program to start, the first that exists is taken.
        variables: What the runtime adds to the process environment (paths as inside), PYTHONPATH for example.
        version: Shown in INIT_START, `python:3.12.v1`; empty for `provided.*`.
        version_arn: `arn:aws:lambda:<region>::runtime:<64 hex>`.
    """

    name: str
    mounts: tuple[tuple[Path, str], ...]
    bootstraps: tuple[str, ...]
    variables: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    version_arn: str = ""
