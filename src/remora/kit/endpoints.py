"""Where services of AWS are, as operators name it: the base URL of what stands in for them, or AWS itself."""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

REAL: Final = "aws"
"""AWS itself."""


def is_endpoint(text: str) -> bool:
    """Tell whether a text says where services are."""
    try:
        parts = urlsplit(text)
        is_url = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_url = False
    return text == REAL or (is_url and not any(character.isspace() for character in text))
