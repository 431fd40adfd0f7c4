"""
Lines of a function that logs JSON: what is not JSON becomes a record, what is below the level is left out.

Pure. Source: logs-metrics-billing specification, sections 2.3 and 3.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from remora.telemetry.facts import rfc3339

LEVELS: Final = ("TRACE", "DEBUG", "INFO", "WARN", "ERROR", "FATAL")
_DEFAULT: Final = "INFO"
_ALIASES: Final = {"WARNING": "WARN", "CRITICAL": "FATAL"}
_TIMESTAMP: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)")

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(dict[str, Any]).decode


class ApplicationLog:
    """
    Makes records of lines.

    Args:
        level: The lowest level that is logged, one of `LEVELS`.
    """

    def __init__(self, level: str) -> None:
        self._lowest = LEVELS.index(level)

    def record(self, text: str, time_ms: int, request_id: str, level: str = "") -> tuple[str, bool]:
        """
        Return a line as a JSON object, and whether its level is logged.

        Args:
            text: The line.
            time_ms: When it was written, for those that do not say it themselves.
            request_id: The invocation it belongs to; empty if there is none.
            level: What the log channel says about it; empty if it came otherwise.
        """
        document = _object(text)
        if document is None:
            document = {"timestamp": rfc3339(time_ms), "level": level or _DEFAULT, "message": text}
            if request_id:
                document["requestId"] = request_id
            return _encode(document).decode(), self._is_logged(document["level"], level)
        is_logged = self._is_logged(document.get("level"), level)
        timestamp = document.get("timestamp")
        if isinstance(timestamp, str) and _TIMESTAMP.fullmatch(timestamp):
            return text, is_logged
        document.pop("timestamp", None)
        return _encode({"timestamp": rfc3339(time_ms), **document}).decode(), is_logged

    def _is_logged(self, said: object, level: str) -> bool:
        """Tell whether a level is logged: what the record says, else the channel, else INFO."""
        for each in (said, level):
            name = each.upper() if isinstance(each, str) else ""
            name = _ALIASES.get(name, name)
            if name in LEVELS:
                return LEVELS.index(name) >= self._lowest
        return LEVELS.index(_DEFAULT) >= self._lowest


def _object(text: str) -> dict[str, Any] | None:
    """Return the JSON object that a line is; None if it is none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        return _decode(text)
    except (msgspec.MsgspecError, RecursionError, UnicodeError):
        return None
