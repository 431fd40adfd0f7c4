"""What a caller is told when a request failed for no fault of the caller: one text for every service."""

from __future__ import annotations

import logging

from remora.store.base import StoreError

_log = logging.getLogger("remora.control")


def explain(what: str, error: Exception) -> str:
    """
    Log a failure and return what the caller is told of it (called while it is handled).

    Args:
        what: Which request, for the log.
        error: What went wrong.
    """
    if isinstance(error, StoreError):
        _log.error("%s failed: %s", what, error)
        return f"The change was not kept: {error}"
    if isinstance(error, OSError):
        _log.exception("%s failed", what)
        return f"The disk could not be used: {error.strerror}"
    _log.exception("%s failed", what)
    return "An internal error occurred; see the node's log."
