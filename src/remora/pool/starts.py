"""
Whose environment is made next: a few at a time, and functions in turn. Pure.

Making an environment takes processor time; a thousand at once would each take as long as all together. So a
burst of one function waits in a line of its own, and every function with a line gets one start per round.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

Order = TypeVar("Order")


class StartQueue(Generic[Order]):
    """
    Orders to make environments, each of some function.

    Args:
        slots: How many may be under way at once, >= 1.
    """

    def __init__(self, slots: int) -> None:
        assert slots >= 1, "without a slot no environment could be made"
        self._slots = slots
        self._taken = 0
        self._lines: dict[str, deque[Order]] = {}
        """By function; the function whose turn is next comes first."""
        self._length = 0

    def __repr__(self) -> str:
        return f"<StartQueue {self._taken} of {self._slots} under way, {self._length} waiting>"

    def __len__(self) -> int:
        return self._length

    def put(self, function: str, order: Order) -> None:
        """Line an order up."""
        self._lines.setdefault(function, deque()).append(order)
        self._length += 1

    def take(self) -> Order | None:
        """Take the order whose turn it is, and a slot with it; None if no slot is free or nobody waits."""
        if self._taken >= self._slots or not self._lines:
            return None
        function = next(iter(self._lines))
        line = self._lines.pop(function)
        order = line.popleft()
        self._length -= 1
        if line:
            self._lines[function] = line
        self._taken += 1
        return order

    def free(self) -> None:
        """Give a slot back."""
        assert self._taken > 0, "a slot was given back twice"
        self._taken -= 1

    def clear(self) -> list[Order]:
        """Take all orders out that wait, in the order in which they would have had their turn."""
        orders = [order for line in self._lines.values() for order in line]
        self._lines.clear()
        self._length = 0
        return orders
