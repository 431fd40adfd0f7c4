"""Transforms that templates declare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from remora.control.services.neighbour import ServiceError

if TYPE_CHECKING:
    from collections.abc import Mapping


def declared(document: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the names of the transforms that a template declares, in their order."""
    found = document.get("Transform", ())
    names = [found] if isinstance(found, str) else found
    return tuple(name for name in names if isinstance(name, str))


async def expand(document: dict[str, Any], parameters: Mapping[str, str], region: str) -> dict[str, Any]:  # noqa: ARG001
    """
    Return a template as its transforms make it.

    Raises:
        ServiceError: ValidationError.
    """
    raise ServiceError("ValidationError", f"No transform named {declared(document)[0]} found.")
