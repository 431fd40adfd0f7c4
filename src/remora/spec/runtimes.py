"""Runtime identifiers that AWS treats in a way of their own: no longer offered, or with SnapStart."""

from __future__ import annotations

from typing import Final

DEPRECATED: Final = frozenset(
    {
        "nodejs",
        "nodejs4.3",
        "nodejs4.3-edge",
        "nodejs6.10",
        "nodejs8.10",
        "nodejs10.x",
        "nodejs12.x",
        "nodejs14.x",
        "nodejs16.x",
        "python2.7",
        "python3.6",
        "python3.7",
        "java8",
        "dotnetcore1.0",
        "dotnetcore2.0",
        "dotnetcore2.1",
        "dotnetcore3.1",
        "dotnet6",
        "go1.x",
        "ruby2.5",
        "ruby2.7",
        "provided",
    }
)
"""
Members of the model's enumeration whose use is refused.

Source: AWS Lambda Developer Guide, "Lambda runtimes", deprecated runtimes.
"""

SNAPSTART: Final = frozenset(
    {
        "dotnet10",
        "dotnet8",
        "java11",
        "java17",
        "java21",
        "java25",
        "python3.12",
        "python3.13",
        "python3.14",
    }
)
"""Source: AWS Lambda Developer Guide, "Improving startup performance with Lambda SnapStart"."""
