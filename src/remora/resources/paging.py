"""Cuts sorted lists into pages; markers say after which key the next page begins."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right

from remora.spec.errors import invalid
from remora.spec.limits import LIST_ITEMS_MAX


def page(keys: list[str], marker: str | None, items_max: int | None) -> tuple[list[str], str | None]:
    """
    Return one page and the marker of the next.

    Args:
        keys: All keys, sorted.
        marker: Of the request; None or empty for the first page.
        items_max: Of the request; more than 50 counts as 50, without a word.

    Returns:
        The keys of this page, and the marker for the next one (None on the last page).

    Raises:
        ApiError: If the marker is none of ours.
    """
    start = bisect_right(keys, _unpack(marker)) if marker else 0
    end = start + min(items_max or LIST_ITEMS_MAX, LIST_ITEMS_MAX)
    found = keys[start:end]
    return found, _pack(found[-1]) if end < len(keys) else None


def _pack(key: str) -> str:
    return base64.urlsafe_b64encode(key.encode()).decode()


def _unpack(marker: str) -> str:
    try:
        return base64.b64decode(marker, altchars=b"-_", validate=True).decode()
    except (binascii.Error, ValueError) as error:
        raise invalid("The Marker is not one that a former page ended with.") from error
