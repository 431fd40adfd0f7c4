"""
Temporary credentials of roles, as every environment gets them: nothing is kept, the token says it all.

A token is what it says and a keyed digest over it; the secret follows from the key's identifier. Both hold as
long as the node that made them runs, and not beyond the moment in the token.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
from typing import NamedTuple

import msgspec

from remora.kit.ids import random_hex


class Said(msgspec.Struct, frozen=True, array_like=True):
    """What a token says."""

    access_key: str
    role: str
    """ARN of the role."""
    session: str
    """Name of the session: the function's."""
    expires_ms: int


class Issued(NamedTuple):
    """Credentials, and when they expire, milliseconds since 1970."""

    access_key: str
    secret: str
    token: str
    expires_ms: int


class Sessions:
    """
    Makes and knows credentials.

    Args:
        key: Secret of the node, 32 bytes.
    """

    def __init__(self, key: bytes) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<Sessions>"

    def issue(self, role: str, session: str, expires_ms: int) -> Issued:
        """
        Make credentials.

        Args:
            role: ARN of the role.
            session: Its name.
            expires_ms: When they end, milliseconds since 1970.
        """
        access_key = f"ASIA{random_hex(16).upper()}"
        said = msgspec.json.encode(Said(access_key, role, session, expires_ms))
        token = base64.b64encode(self._digest(b"token", said) + said).decode()
        return Issued(access_key, self.secret(access_key), token, expires_ms)

    def secret(self, access_key: str) -> str:
        """Return the secret that goes with a key made here."""
        return base64.b64encode(self._digest(b"secret", access_key.encode())).decode()[:40]

    def read(self, access_key: str, token: str) -> Said | None:
        """Return what a token says; None if it was not made here, or for another key."""
        try:
            content = base64.b64decode(token, validate=True)
            said = msgspec.json.decode(content[32:], type=Said)
        except (ValueError, msgspec.DecodeError):
            return None
        is_ours = hmac.compare_digest(content[:32], self._digest(b"token", content[32:]))
        return said if is_ours and said.access_key == access_key else None

    def _digest(self, purpose: bytes, content: bytes) -> bytes:
        return hmac.new(self._key, purpose + b"\0" + content, hashlib.sha256).digest()
