"""How the Lambda API writes a moment."""

from __future__ import annotations

from datetime import UTC, datetime


def stamp(wall_ms: int) -> str:
    """Write milliseconds since 1970 as `2026-01-31T23:59:59.123+0000` (LastModified, CreatedDate)."""
    moment = datetime.fromtimestamp(wall_ms // 1000, UTC)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{wall_ms % 1000:03d}+0000"
