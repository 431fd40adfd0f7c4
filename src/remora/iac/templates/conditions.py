"""
The Conditions section of a template: what each one says about parameters.

Source: CloudFormation Template Reference, "Condition functions"; observed errors.
"""

from __future__ import annotations

from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from remora.iac.templates.functions import evaluate
from remora.iac.templates.reading import invalid
from remora.iac.templates.scope import Scope, text_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping


def decide_all(
    conditions: Mapping[str, Any], names: Mapping[str, Any], mappings: Mapping[str, Any], region: str
) -> dict[str, bool]:
    """
    Decide every condition of a template, whether or not something asks for it.

    Args:
        conditions: The section.
        names: What `Ref` may refer to: parameters and pseudo parameters.
        mappings: The section.
        region: For `Fn::GetAZs`.

    Raises:
        ServiceError: ValidationError.
    """
    results: dict[str, bool] = {}

    def refer(name: str, attribute: str | None) -> Any:
        if attribute is not None:
            raise invalid("Template error: Cannot use Fn::GetAtt in Conditions")
        if name not in names:
            raise invalid(
                f"Template format error: Unresolved dependencies [{name}]. "
                "Cannot reference resources in the Conditions block of the template"
            )
        return names[name]

    def refuse_import(_name: str) -> Any:
        raise invalid("Template error: Cannot use Fn::ImportValue in Conditions")

    scope = Scope(refer, known(results), mappings, refuse_import, region)
    for name in _order(conditions):
        results[name] = _decide(conditions[name], scope)
    return results


def known(results: Mapping[str, bool]) -> Callable[[str, str], bool]:
    """Return what tells whether a condition holds, for which function."""

    def holds(name: str, function: str) -> bool:
        if name not in results:
            raise invalid(f"Template error: unresolved condition dependency {name} in {function}")
        return results[name]

    return holds


def _order(conditions: Mapping[str, Any]) -> Iterable[str]:
    graph = {
        name: {other for other in _named(condition) if other in conditions}
        for name, condition in conditions.items()
    }
    try:
        return tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = error.args[1]
        raise invalid(
            f"Template error: Found circular condition dependency between {circle[0]} and {circle[1]}"
        ) from error


def _decide(condition: Any, scope: Scope) -> bool:
    if isinstance(condition, dict) and len(condition) == 1:
        ((name, argument),) = condition.items()
        if name == "Fn::Equals":
            return _equals(argument, scope)
        if name == "Fn::Not":
            return not _decide(_one(argument), scope)
        if name in {"Fn::And", "Fn::Or"}:
            # Each is decided, so that a mistake in one is found whatever the others say.
            results = [_decide(each, scope) for each in _several(argument, name)]
            return all(results) if name == "Fn::And" else any(results)
        if name == "Condition":
            # SAM's translator wraps the conditions of event destinations twice.
            return scope.condition(argument, name) if isinstance(argument, str) else _decide(argument, scope)
    raise invalid(
        "Template format error: Conditions can only be boolean operations on parameters and other conditions"
    )


def _named(condition: Any) -> Iterator[str]:
    if isinstance(condition, dict):
        for name, argument in condition.items():
            if name == "Condition" and isinstance(argument, str):
                yield argument
            else:
                yield from _named(argument)
    elif isinstance(condition, list):
        for each in condition:
            yield from _named(each)


def _equals(argument: Any, scope: Scope) -> bool:
    if not isinstance(argument, list) or len(argument) != 2:
        raise invalid("Template error: every Fn::Equals object requires a list of two string parameters")
    first, second = (_comparable(evaluate(each, scope)) for each in argument)
    return bool(first == second)


def _comparable(value: Any) -> Any:
    if isinstance(value, list):
        return [_comparable(each) for each in value]
    text = text_of(value)
    return value if text is None else text


def _one(argument: Any) -> Any:
    if not isinstance(argument, list) or len(argument) != 1:
        raise invalid("Template error: every Fn::Not object requires one boolean parameter.")
    return argument[0]


def _several(argument: Any, name: str) -> list[Any]:
    if not isinstance(argument, list) or not 2 <= len(argument) <= 10:
        raise invalid(
            f"Template error: every {name} object requires a list of at least 2 and at most 10 boolean "
            "parameters."
        )
    return argument
