"""The runtimes that bring nothing: the function or a layer has its own `bootstrap`."""

from __future__ import annotations

from remora.runtimes.layout import RuntimeLayout

NAMES = ("provided.al2", "provided.al2023")
BOOTSTRAPS = ("/var/task/bootstrap", "/opt/bootstrap")
"""Source: AWS Lambda Developer Guide, "Building a custom runtime for AWS Lambda"."""


def layout(name: str) -> RuntimeLayout:
    """Return the layout of one of `NAMES`."""
    assert name in NAMES, f"{name} is no runtime without an interpreter"
    return RuntimeLayout(name=name, mounts=(), bootstraps=BOOTSTRAPS)
