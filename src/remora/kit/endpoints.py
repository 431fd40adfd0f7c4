"""Where services of AWS are, as operators name it: the base URL of what stands in for them, or AWS itself."""

from __future__ import annotations

from typing import Final

REAL: Final = "aws"
"""AWS itself."""


def is_endpoint(text: str) -> bool:
    """Tell whether a text says where services are."""
    return text == REAL or text.startswith(("http://", "https://"))
