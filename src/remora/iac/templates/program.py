"""
A template with its parameters becomes a program: what resources there are to be, and in which order.

Everything that is known before anything is made is evaluated here, once. What depends on a resource stays in
place as a function and is evaluated by `resolve`, when the resources it needs have been made.

Source: CloudFormation User Guide, "CloudFormation template Resources syntax", "Outputs syntax", "Conditions
syntax", "Mappings syntax", "Rules syntax", "Get values stored in other services using dynamic references";
CloudFormation Template Reference, "Resource attribute reference" and "Pseudo parameters reference".
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from remora.iac.templates.checks import bad_export, check_members, check_references, listed, unresolved
from remora.iac.templates.conditions import decide_all, known
from remora.iac.templates.functions import evaluate, function_of, references
from remora.iac.templates.parameters import Parameter, items_of, read_declarations
from remora.iac.templates.reading import check_sections, invalid
from remora.iac.templates.scope import NO_VALUE, UNKNOWN, Budget, Scope, Unknown, text_of

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

__all__ = [
    "UNKNOWN",
    "Lookup",
    "OutputPlan",
    "Program",
    "ResourcePlan",
    "Unknown",
    "compile_program",
    "resolve",
]

Lookup = Callable[[str, str | None], Any]
"""
Answers for a resource: its attribute, or what `Ref` gives for None; `UNKNOWN` as long as that is not known.

Raises `ServiceError` for an attribute that the resource does not have.
"""

_DELETION: Final = ("Delete", "Retain", "RetainExceptOnCreate", "Snapshot")
_REPLACEMENT: Final = ("Delete", "Retain", "Snapshot")
_DYNAMIC: Final = re.compile(r"\{\{resolve:([^{}]*)\}\}")
_OPENING: Final = "{{resolve:"
_DYNAMIC_SSM: Final = re.compile(r"ssm:([a-zA-Z0-9_.\-/]+(?::[0-9]{1,18})?)")


@dataclass(frozen=True, slots=True)
class ResourcePlan:
    """
    A resource that there is to be.

    Args:
        type: `AWS::Lambda::Function`.
        properties: A map, in which functions of other resources are still in place.
        depends_on: Logical ids: those it names, and those it refers to.
        deletion_policy: Delete, Retain, RetainExceptOnCreate or Snapshot.
        update_replace_policy: Delete, Retain or Snapshot.
        metadata: As `properties`; None if there is none.
    """

    type: str
    properties: Any
    depends_on: frozenset[str]
    deletion_policy: str
    update_replace_policy: str
    metadata: Any


@dataclass(frozen=True, slots=True)
class OutputPlan:
    """
    An output that there is to be.

    Args:
        value: Text, or a function of resources that gives it.
        description: For people.
        export_name: None if it is not exported.
    """

    value: Any
    description: str
    export_name: Any


@dataclass(frozen=True, slots=True)
class Program:
    """
    What a template and its parameters amount to.

    Args:
        description: The template's.
        resources: By logical id, those whose condition holds.
        outputs: By name, those whose condition holds.
        order: Logical ids: each after those it depends on, else as in the template.
    """

    description: str
    resources: Mapping[str, ResourcePlan]
    outputs: Mapping[str, OutputPlan]
    order: tuple[str, ...]


def compile_program(
    document: dict[str, Any],
    parameters: Mapping[str, Parameter],
    pseudo: Mapping[str, Any],
    *,
    imports: Callable[[str], str | None],
    ssm: Callable[[str], str | None],
    known_types: Collection[str],
) -> Program:
    """
    Evaluate all of a template that can be before anything is made.

    Args:
        document: A template, after its transforms.
        parameters: Of its declared parameters, all.
        pseudo: `AWS::Region` and its likes, but `AWS::NoValue`.
        imports: What an export's name stands for; None if there is no such export.
        ssm: The value of a parameter of Systems Manager, by `name` or `name:version`; None if there is none.
        known_types: Resource types that can be made. `Custom::…` is one if the type of custom resources is.

    Raises:
        ServiceError: ValidationError: what is wrong with the template.
    """
    check_sections(document)
    check_members(document, known_types)
    names = {**pseudo, "AWS::NoValue": NO_VALUE, **_values(document, parameters)}
    check_references(document, names)
    scope = _scope(document, names, imports)
    settle = partial(_replace_dynamic, ssm=ssm, budget=scope.budget)
    resources = {
        name: resource for name, resource in document["Resources"].items() if _is_wanted(resource, scope)
    }
    plans = {name: _plan(name, resource, resources, scope, settle) for name, resource in resources.items()}
    outputs = {
        name: _output(name, output, resources, scope, settle)
        for name, output in document.get("Outputs", {}).items()
        if _is_wanted(output, scope)
    }
    order = _order({name: plan.depends_on for name, plan in plans.items()})
    return Program(document.get("Description", ""), plans, outputs, order)


def resolve(value: Any, lookup: Lookup) -> Any:
    """
    Evaluate what was left in place.

    Returns:
        The value; a function of something that is not known is `UNKNOWN`, and maps and lists may contain it.

    Raises:
        ServiceError: From the lookup, and for what functions cannot do with the values.
    """

    def refer(name: str, attribute: str | None) -> Any:
        return NO_VALUE if name == "AWS::NoValue" else lookup(name, attribute)

    return evaluate(value, Scope(refer, known({}), {}, _no_import, ""))


def _no_import(name: str) -> Any:
    raise _no_export(name)


def _no_export(name: str) -> Exception:
    return invalid(f"No export named {name} found.")


# --- names, mappings and conditions ----------------------------------------------------------------------


def _values(document: dict[str, Any], parameters: Mapping[str, Parameter]) -> dict[str, Any]:
    declared = read_declarations(document)
    missing = sorted(set(declared) - set(parameters))
    if missing:
        raise invalid(f"Parameters: [{', '.join(missing)}] must have values")
    return {
        name: items_of(parameters[name].resolved) if declaration.is_list else parameters[name].resolved
        for name, declaration in declared.items()
    }


def _scope(document: dict[str, Any], names: dict[str, Any], imports: Callable[[str], str | None]) -> Scope:
    """Decide the conditions, and return what functions of resources and outputs refer to."""
    mappings: dict[str, Any] = document.get("Mappings", {})
    region = str(names.get("AWS::Region", ""))
    results = decide_all(document.get("Conditions", {}), names, mappings, region)

    def refer(name: str, attribute: str | None) -> Any:
        if attribute is not None:
            return {"Fn::GetAtt": [name, attribute]}
        return names.get(name, {"Ref": name})

    def imported(name: str) -> Any:
        value = imports(name)
        if value is None:
            raise _no_export(name)
        return value

    return Scope(refer, known(results), mappings, imported, region)


def _is_wanted(member: dict[str, Any], scope: Scope) -> bool:
    return "Condition" not in member or scope.condition(member["Condition"], "Condition")


# --- resources and outputs -------------------------------------------------------------------------------


def _plan(
    name: str,
    resource: dict[str, Any],
    resources: Collection[str],
    scope: Scope,
    settle: Callable[[Any], Any],
) -> ResourcePlan:
    properties = evaluate(resource.get("Properties", {}), scope)
    properties = {} if properties is NO_VALUE else settle(properties)
    if not isinstance(properties, dict) or function_of(properties) is not None:
        raise invalid(f"Template format error: [/Resources/{name}/Properties] Properties must be an object.")
    metadata = evaluate(resource.get("Metadata"), scope)
    named = resource.get("DependsOn", [])
    referred = {target for _, target, _ in references([properties, metadata])}
    if not referred <= set(resources):
        raise unresolved(referred - set(resources), "Resources")
    return ResourcePlan(
        type=resource["Type"],
        properties=properties,
        depends_on=frozenset(referred | {each for each in listed(named) if each in resources}),
        deletion_policy=_policy(name, resource, "DeletionPolicy", _DELETION, scope),
        update_replace_policy=_policy(name, resource, "UpdateReplacePolicy", _REPLACEMENT, scope),
        metadata=None if metadata is NO_VALUE else metadata,
    )


def _policy(name: str, resource: dict[str, Any], key: str, known: Collection[str], scope: Scope) -> str:
    value = evaluate(resource.get(key, "Delete"), scope)
    if value is NO_VALUE:
        return "Delete"
    if not isinstance(value, str):
        raise invalid(f"Template format error: Every {key} member must be a string.")
    if value not in known:
        raise invalid(f"Template format error: Unrecognized {key} {value[:64]} for resource {name}")
    return value


def _output(
    name: str,
    output: dict[str, Any],
    resources: Collection[str],
    scope: Scope,
    settle: Callable[[Any], Any],
) -> OutputPlan:
    value = settle(evaluate(output["Value"], scope))
    absent = {target for _, target, _ in references(value)} - set(resources)
    if absent:
        raise unresolved(absent, "Outputs")
    if function_of(value) is None:
        value = text_of(value)
        if value is None:
            raise invalid(
                "Template format error: The Value field of every Outputs member must evaluate to a String."
            )
    export = None
    if "Export" in output:
        export = text_of(evaluate(output["Export"]["Name"], scope))
        if not export:
            raise bad_export(name)
    return OutputPlan(value, output.get("Description", ""), export)


def _replace_dynamic(value: Any, ssm: Callable[[str], str | None], budget: Budget) -> Any:
    """Replace dynamic references; AWS's wordings."""
    if isinstance(value, dict):
        return {key: _replace_dynamic(member, ssm, budget) for key, member in value.items()}
    if isinstance(value, list):
        return [_replace_dynamic(each, ssm, budget) for each in value]
    if not isinstance(value, str) or _OPENING not in value:
        return value

    def fetch(found: re.Match[str]) -> str:
        reference = _DYNAMIC_SSM.fullmatch(found[1])
        if reference is None:
            raise _bad_dynamic(found[1], found[0])
        fetched = ssm(reference[1])
        if fetched is None:
            raise invalid(
                f"Unable to fetch parameters [{reference[1]}] from parameter store for this account."
            )
        budget.spend(fetched)
        return fetched

    # One that is left open has its end in what a resource gives; none may depend on that.
    opening = _DYNAMIC.sub("", value).find(_OPENING)
    if opening >= 0:
        raise _bad_dynamic(value.rpartition(_OPENING)[2], value)
    return _DYNAMIC.sub(fetch, value)


def _bad_dynamic(reference: str, text: str) -> Exception:
    service = reference.partition(":")[0]
    if service in {"ssm-secure", "secretsmanager"}:
        return invalid(f"Dynamic references to {service} are not supported: [{text[:256]}]")
    return invalid(f"Incorrect format is used in the following SSM reference: [{text[:256]}]")


# --- order -----------------------------------------------------------------------------------------------


def _order(needs: Mapping[str, frozenset[str]]) -> tuple[str, ...]:
    """Sort what depends on each other: each after what it needs, else in the given order."""
    order = _sorted(needs)
    if len(order) < len(needs):
        # Those that are left go round in a circle, or wait for a circle. The latter come first the other way.
        left = set(needs) - set(order)
        waiting = set(_sorted(_reversed({name: needs[name] & left for name in left})))
        raise invalid(f"Circular dependency between resources: [{', '.join(sorted(left - waiting))}]")
    return order


def _sorted(needs: Mapping[str, Collection[str]]) -> tuple[str, ...]:
    names = list(needs)
    position = {name: number for number, name in enumerate(names)}
    wanted_by = _reversed(needs)
    missing = {name: len(others) for name, others in needs.items()}
    ready = [position[name] for name, count in missing.items() if count == 0]
    order: list[str] = []
    while ready:
        name = names[heapq.heappop(ready)]
        order.append(name)
        for other in wanted_by[name]:
            missing[other] -= 1
            if missing[other] == 0:
                heapq.heappush(ready, position[other])
    return tuple(order)


def _reversed(needs: Mapping[str, Collection[str]]) -> dict[str, list[str]]:
    wanted_by: dict[str, list[str]] = {name: [] for name in needs}
    for name, others in needs.items():
        for other in others:
            wanted_by[other].append(name)
    return wanted_by
