"""Identifiers: one place asks the machine for randomness."""

from __future__ import annotations

import secrets
import uuid


def new_uuid() -> str:
    """Return a random UUID (version 4), lower case: the form of request and extension identifiers."""
    return str(uuid.uuid4())


def random_hex(digits: int) -> str:
    """Return `digits` random hexadecimal digits, lower case; `digits` >= 1."""
    assert digits >= 1, "an identifier has at least one digit"
    return secrets.token_hex((digits + 1) // 2)[:digits]
