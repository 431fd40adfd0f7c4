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
_uuids: deque[str] = deque()
"""The same in the form of UUIDs; many are made at once in a fraction of the time."""
_traces: deque[str] = deque()
"""What follows the time in trace headers."""
for _store in (_pieces, _uuids, _traces):
    os.register_at_fork(after_in_child=_store.clear)


def _fresh() -> list[str]:
    """Return new pieces, 32 random hexadecimal digits each."""
    digits = secrets.token_hex(_PIECE_DIGITS * _PIECES // 2)
    return [digits[at : at + _PIECE_DIGITS] for at in range(0, len(digits), _PIECE_DIGITS)]


def _piece() -> str:
    """Return 32 random hexadecimal digits that nobody else gets; safe in every thread."""
    try:
        return _pieces.popleft()
    except IndexError:
        first, *others = _fresh()
        _pieces.extend(others)
        return first


def new_uuid() -> str:
    """Return a random UUID (version 4), lower case: the form of request and extension identifiers."""
    try:
        return _uuids.popleft()
    except IndexError:
        first, *others = (
            f"{piece[:8]}-{piece[8:12]}-4{piece[13:16]}-{_VARIANTS[piece[16]]}{piece[17:20]}-{piece[20:]}"
            for piece in _fresh()
        )
        _uuids.extend(others)
        return first


def random_hex(digits: int) -> str:
    """Return `digits` random hexadecimal digits, lower case; `digits` >= 1."""
    assert digits >= 1, "an identifier has at least one digit"
    if digits <= _PIECE_DIGITS:
        return _piece()[:digits]
    return secrets.token_hex((digits + 1) // 2)[:digits]


def new_trace_id(wall_ms: int) -> str:
    """Return an unsampled trace header, as the service makes one when the caller sent none."""
    try:
        rest = _traces.popleft()
    except IndexError:
        rest, *others = (
            f"-{root[:24]};Parent={parent[:16]};Sampled=0"
            for root, parent in zip(_fresh(), _fresh(), strict=True)
        )
        _traces.extend(others)
    return f"Root=1-{wall_ms // 1000:08x}{rest}"


def random_fraction() -> float:
    """Return a random number, 0 up to but not including 1."""
    return int(_piece()[:13], 16) / 16**13
