"""What the functions of a template refer to, what stands for nothing, and what evaluating them may cost."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from remora.iac.templates.reading import invalid
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


class Unknown:
    """A value that is known only once a resource has been made; there is one, `UNKNOWN`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "UNKNOWN"


class _NoValue:
    __slots__ = ()

    def __repr__(self) -> str:
        return "NO_VALUE"


UNKNOWN: Final = Unknown()
NO_VALUE: Final = _NoValue()
"""What `AWS::NoValue` is: whatever holds it drops it."""
_NODE: Final = 10  # what a value costs, in characters


class Budget:
    """
    What the functions of one template may still make.

    A function in a function in a function can double what it is given each time, and a short reference may
    stand for a long text: without a bound, a small template takes all memory.
    """

    def __init__(self) -> None:
        self._left = limits.TEMPLATE_COPIES_MAX

    def spend(self, value: Any) -> Any:
        """
        Count what a function makes.

        Returns:
            The value.

        Raises:
            ServiceError: ValidationError: it is too much.
        """
        rest = [value]
        while rest:
            each = rest.pop()
            if isinstance(each, list):
                rest.extend(each)
            elif isinstance(each, dict):
                rest.extend(each.values())
            self.take(_NODE + (len(each) if isinstance(each, str) else 0))
        return value

    def take(self, characters: int) -> None:
        """Count so many characters, as `spend`."""
        self._left -= characters
        if self._left < 0:
            raise invalid("Template error: the template is too large when its functions are evaluated.")


@dataclass(frozen=True, slots=True)
class Scope:
    """
    What functions refer to.

    Args:
        refer: Answers `Ref` (the attribute is None) and `Fn::GetAtt`: with a value, with `UNKNOWN`, or with
            the function itself in its long form, which leaves it in place.
        condition: Whether a condition holds, and for which function that is asked.
        mappings: The section.
        imported: What another stack exports under a name.
        region: For `Fn::GetAZs` without one.
        budget: What evaluating may make.
    """

    refer: Callable[[str, str | None], Any]
    condition: Callable[[str, str], bool]
    mappings: Mapping[str, Any]
    imported: Callable[[str], Any]
    region: str
    budget: Budget = field(default_factory=Budget)


def text_of(value: Any) -> str | None:
    """Return a scalar as the text that CloudFormation makes of it, None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int | float) else None
