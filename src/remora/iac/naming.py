"""Names and ARNs of stacks, change sets, and of what they make."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from remora.resources.names import PARTITION

if TYPE_CHECKING:
    from remora.iac.types.base import ResourceType
    from remora.resources.names import Place

_SUFFIX_CHARACTERS: Final = 12
_NAME: Final = re.compile(r"[a-zA-Z][-a-zA-Z0-9]{0,127}", re.ASCII)


def stack_arn(place: Place, name: str, unique: str) -> str:
    """Return the identifier of a stack."""
    return f"arn:{PARTITION}:cloudformation:{place.region}:{place.account}:stack/{name}/{unique}"


def change_set_arn(place: Place, name: str, unique: str) -> str:
    """Return the identifier of a change set."""
    return f"arn:{PARTITION}:cloudformation:{place.region}:{place.account}:changeSet/{name}/{unique}"


def is_name(text: str) -> bool:
    """Tell if a stack or change set may be called so."""
    return _NAME.fullmatch(text) is not None


def physical_name(kind: ResourceType, stack: str, logical_id: str, token: str) -> str:
    """
    Return the name of a resource that the template gives none: stack, logical identifier, twelve characters.

    Args:
        kind: Says how long a name may be.
        stack: The stack's name.
        logical_id: The resource's.
        token: A UUID that belongs to this creation alone.
    """
    suffix = token.replace("-", "")[:_SUFFIX_CHARACTERS].upper()
    room = kind.name_length_max - _SUFFIX_CHARACTERS - 2
    if len(stack) + len(logical_id) > room:  # both are cut, the longer one first
        half = room // 2
        stack = stack[: max(half, room - len(logical_id))]
        logical_id = logical_id[: room - len(stack)]
    name = f"{stack}-{logical_id}-{suffix}"
    return name.lower() if kind.name_is_lower else name
