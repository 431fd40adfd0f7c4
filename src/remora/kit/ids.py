"""Identifiers: one place asks the machine for randomness."""

from __future__ import annotations

import os
import secrets
from collections import deque
from typing import Final

_PIECE_DIGITS: Final = 32
_PIECES: Final = 64
_VARIANTS: Final = {digit: "89ab"[int(digit, 16) % 4] for digit in "0123456789abcdef"}

_pieces: deque[str] = deque()
"""Random digits fetched ahead: asking the machine costs more than an identifier. Each piece is used once."""
os.register_at_fork(after_in_child=_pieces.clear)


def _piece() -> str:
    """Return 32 random hexadecimal digits that nobody else gets; safe in every thread."""
    try:
        return _pieces.popleft()
    except IndexError:
        digits = secrets.token_hex(_PIECE_DIGITS * _PIECES // 2)
        _pieces.extend(
            digits[at : at + _PIECE_DIGITS] for at in range(_PIECE_DIGITS, len(digits), _PIECE_DIGITS)
        )
        return digits[:_PIECE_DIGITS]


def new_uuid() -> str:
    """Return a random UUID (version 4), lower case: the form of request and extension identifiers."""
    digits = _piece()
    last = f"{_VARIANTS[digits[16]]}{digits[17:20]}-{digits[20:]}"
    return f"{digits[:8]}-{digits[8:12]}-4{digits[13:16]}-{last}"


def random_hex(digits: int) -> str:
    """Return `digits` random hexadecimal digits, lower case; `digits` >= 1."""
    assert digits >= 1, "an identifier has at least one digit"
    if digits <= _PIECE_DIGITS:
        return _piece()[:digits]
    return secrets.token_hex((digits + 1) // 2)[:digits]


def new_trace_id(wall_ms: int) -> str:
    """Return an unsampled trace header, as the service makes one when the caller sent none."""
    seconds = wall_ms // 1000
    return f"Root=1-{seconds:08x}-{_piece()[:24]};Parent={_piece()[:16]};Sampled=0"


def random_fraction() -> float:
    """Return a random number, 0 up to but not including 1."""
    return int(_piece()[:13], 16) / 16**13
