"""Writes down what a lifecycle machine was told as a Python script that tells it again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.lifecycle.messages import Reason, Timer, Transfer

if TYPE_CHECKING:
    from collections.abc import Iterable

    from remora.lifecycle.messages import Event


class Call:
    """
    A call of some process that waits for its answer.

    Args:
        number: Which one of its run it is.
        maker: Name of the process that made it.
    """

    __slots__ = ("maker", "number")

    def __init__(self, number: int, maker: str = "") -> None:
        self.number = number
        self.maker = maker

    def __repr__(self) -> str:
        return f"calls[{self.number}]"


def script(
    names: tuple[str, ...], events: Iterable[tuple[int, Event]], *, is_for_snapshot: bool = False
) -> str:
    """
    Return a script that feeds `events`, pairs of a moment (microseconds) and an event, to a new machine.

    Args:
        names: The external extensions that the machine was made with.
        events: What it was told.
        is_for_snapshot: Whether it was made so.
    """
    how = ", is_for_snapshot=True" if is_for_snapshot else ""
    lines = [
        "from collections import defaultdict",
        "from remora.lifecycle.machine import Machine",
        "from remora.lifecycle.messages import *",
        "",
        "calls = defaultdict(object)",
        f"machine = Machine({names!r}{how})",
        "for now_us, event in (",
    ]
    lines += [f"    ({now_us}, {_written(event)})," for now_us, event in events]
    lines += [
        "):",
        "    print(now_us, event)",
        "    for effect in machine.handle(event, now_us):",
        '        print("   ", effect)',
        "    print(machine)",
    ]
    return "\n".join(lines)


def _written(event: Event) -> str:
    members = ", ".join(_value(getattr(event, name)) for name in event.__struct_fields__)
    return f"{type(event).__name__}({members})"


def _value(value: object) -> str:
    if isinstance(value, Timer | Reason | Transfer):
        return f"{type(value).__name__}.{value.name}"
    return repr(value)
