"""Pages of lists, and tokens that say where the next one begins."""

from __future__ import annotations

import base64
import binascii
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec

from remora.control.services.neighbour import ServiceError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

T = TypeVar("T")


def write_token(value: object) -> str:
    """Return a token that holds `value`, which JSON can hold."""
    return base64.urlsafe_b64encode(msgspec.json.encode(value)).decode()


def read_token(token: str, shape: type[T]) -> T:
    """
    Return what a token holds.

    Raises:
        ServiceError: InvalidParameterException if it is none of ours.
    """
    try:
        return msgspec.json.decode(base64.urlsafe_b64decode(token), type=shape)
    except (binascii.Error, ValueError, msgspec.MsgspecError) as error:
        raise ServiceError("InvalidParameterException", "The specified nextToken is invalid.") from error


def one_page(
    items: Sequence[T], request: Mapping[str, Any], *, default: int, name: Callable[[T], str]
) -> tuple[Sequence[T], str | None]:
    """
    Return the page of a list that a request asks for by `limit` and `nextToken`, and the next one's token.

    Args:
        items: The list, in its order.
        request: The request.
        default: How many items a page has unless the request says so.
        name: Names an item; the token holds the name of the last one.
    """
    begin = 0
    if "nextToken" in request:
        last = read_token(request["nextToken"], str)
        names = [name(item) for item in items]
        begin = names.index(last) + 1 if last in names else sum(each <= last for each in names)
    end = begin + request.get("limit", default)
    page = items[begin:end]
    return page, write_token(name(page[-1])) if page and end < len(items) else None
