"""One call of an operation, as its handler is given it."""

from __future__ import annotations

from typing import Any, NamedTuple


class Call(NamedTuple):
    """
    One call.

    Args:
        request: Parsed and checked, members by their name in the model; the handler may change it.
        base_url: Where the caller reached the node, `http://127.0.0.1:9000`.
        caller: ARN of who calls.
    """

    request: dict[str, Any]
    base_url: str
    caller: str
