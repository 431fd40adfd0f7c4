"""
What a change set would do: a stack's resources beside those that a template wants.

What a new resource will be called is not known yet; a property that depends on it may change, and so may what
depends on that.

Source: AWS CloudFormation API Reference, shapes ResourceChange and ResourceChangeDetail.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.control.services.neighbour import ServiceError
from remora.iac.rules import attribute_of, check_attribute, differences, masked, text_of
from remora.iac.templates.program import UNKNOWN, resolve
from remora.resources.stacks import ResourceChange

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.iac.preparing import Prepared
    from remora.iac.templates.program import Program, ResourcePlan
    from remora.iac.types.base import ResourceType
    from remora.resources.stacks import Stack, StackResource, Wanted

_SHOWN_UNKNOWN: Final = "{{changeSet:KNOWN_AFTER_APPLY}}"


class Compared(NamedTuple):
    """
    What an update would do.

    Args:
        changes: To resources.
        is_change: Whether anything would be other than before, outputs and tags included.
    """

    changes: tuple[ResourceChange, ...]
    is_change: bool


def compare(
    control: Control, types: Mapping[str, ResourceType], stack: Stack, prepared: Prepared
) -> Compared:
    """
    Compare a stack with what it is asked to be.

    Raises:
        ServiceError: ValidationError if it cannot be that.
    """
    wanted, before = prepared.wanted, stack.wanted
    resources = {
        name: resource
        for name, resource in control.state.view.stack_resources.get(stack.stack_id, {}).items()
        if resource.is_alive
    }
    comparison = Comparison(prepared.program, resources, types, wanted, before)
    changes = comparison.changes()
    outputs = {
        output.key: (output.value, output.description, output.export_name) for output in before.outputs
    }
    is_change = (
        bool(changes)
        or wanted.tags != before.tags
        or stack.status == "UPDATE_FAILED"
        or wanted.notification_arns != before.notification_arns
        or outputs != comparison.outputs()
    )
    return Compared(changes, is_change)


class Comparison:
    """
    A stack beside a template.

    Args:
        program: What the template wants.
        resources: What there is, by logical identifier.
        types: What resources there can be.
        wanted: What is asked for.
        before: What was asked for before.
    """

    def __init__(
        self,
        program: Program,
        resources: Mapping[str, StackResource],
        types: Mapping[str, ResourceType],
        wanted: Wanted,
        before: Wanted,
    ) -> None:
        self._program = program
        self._resources = resources
        self._types = types
        self._wanted = wanted
        self._before = before
        self._unsettled: set[str] = set()
        """Resources that will be others than they are, or are not there yet."""

    def __repr__(self) -> str:
        return f"<Comparison {len(self._resources)} with {len(self._program.resources)} resources>"

    def changes(self) -> tuple[ResourceChange, ...]:
        """
        Return what would be done.

        Raises:
            ServiceError: ValidationError if the template wants what cannot be.
        """
        found = [self._change_of(name) for name in self._program.order]
        gone = [
            self._removal(resource)
            for name, resource in self._resources.items()
            if name not in self._program.resources
        ]
        self.outputs()
        return (*(change for change in found if change is not None), *gone)

    def outputs(self) -> dict[str, tuple[Any, str, Any]]:
        """
        Return value, description and export of each output, as far as they are known.

        Raises:
            ServiceError: ValidationError if one cannot be.
        """
        return {
            key: (
                self._value(key, output.value),
                output.description,
                resolve(output.export_name, self._lookup) or "",
            )
            for key, output in self._program.outputs.items()
        }

    def _value(self, key: str, value: Any) -> Any:
        found = resolve(value, self._lookup)
        return found if _has_unknown(found) else text_of(key, found)

    def _change_of(self, name: str) -> ResourceChange | None:
        plan, known = self._program.resources[name], self._resources.get(name)
        properties = resolve(plan.properties, self._lookup) or {}
        if not isinstance(properties, dict):
            text = f"Template format error: the properties of resource {name} must be an object."
            raise ServiceError("ValidationError", text)
        if known is None or not known.body.physical_id:
            self._unsettled.add(name)
            after = _context(properties, plan.metadata, self._wanted)
            return ResourceChange(action="Add", logical_id=name, type=plan.type, after=after)
        if known.type != plan.type:
            text = (
                "Update of resource type is not permitted. "
                f"The new template modifies resource type of the following resources: [{name}]"
            )
            raise ServiceError("ValidationError", text)
        return self._modification(known, plan, properties)

    def _modification(
        self, known: StackResource, plan: ResourcePlan, properties: dict[str, Any]
    ) -> ResourceChange | None:
        kind = self._types[plan.type]
        former = known.body.properties
        details, replacements = [], set()
        for each in sorted(differences(former, properties)):
            replaces = each in kind.properties and kind.properties[each].replaces
            is_known = not _has_unknown(properties.get(each))
            recreation = ("Always" if is_known else "Conditionally") if replaces else "Never"
            replacements.add({"Always": "True", "Conditionally": "Conditional", "Never": "False"}[recreation])
            target = {"Attribute": "Properties", "Name": each, "RequiresRecreation": recreation}
            source = "DirectModification" if is_known else "ResourceReference"
            evaluation = "Static" if is_known else "Dynamic"
            details.append({"Target": target, "Evaluation": evaluation, "ChangeSource": source})
        scope = ["Properties"] if details else []
        if self._wanted.tags != self._before.tags and "Tags" in kind.properties:
            scope.append("Tags")
        written = "" if plan.metadata is None else msgspec.json.encode(plan.metadata).decode()
        others = {
            "Metadata": (known.metadata, written),
            "DeletionPolicy": (known.body.deletion_policy, plan.deletion_policy),
            "UpdateReplacePolicy": (known.body.replace_policy, plan.update_replace_policy),
        }
        scope += [name for name, (before, after) in others.items() if before != after]
        if not scope:
            return None
        replacement = next((each for each in ("True", "Conditional") if each in replacements), "False")
        if replacement != "False":
            self._unsettled.add(known.logical_id)
        is_kept = known.body.replace_policy == "Retain"
        policy = "" if replacement == "False" else f"ReplaceAnd{'Retain' if is_kept else 'Delete'}"
        return ResourceChange(
            action="Modify",
            logical_id=known.logical_id,
            type=plan.type,
            physical_id=known.body.physical_id,
            replacement=replacement,
            policy=policy,
            scope=tuple(scope),
            details=tuple(details),
            before=_context(former, None, self._before),
            after=_context(properties, plan.metadata, self._wanted),
        )

    def _removal(self, resource: StackResource) -> ResourceChange:
        policy = "Retain" if resource.body.deletion_policy == "Retain" else "Delete"
        return ResourceChange(
            action="Remove",
            logical_id=resource.logical_id,
            type=resource.type,
            physical_id=resource.body.physical_id,
            policy=policy,
            before=_context(resource.body.properties, None, self._before),
        )

    def _lookup(self, name: str, attribute: str | None) -> Any:
        plan = self._program.resources[name]
        if attribute is not None:
            check_attribute(self._types[plan.type], name, attribute)
        known = self._resources.get(name)
        if known is None or name in self._unsettled:
            return UNKNOWN
        if attribute is None:
            return known.body.physical_id
        return attribute_of(name, attribute, known.body.attributes)


def _has_unknown(value: Any) -> bool:
    if value is UNKNOWN:
        return True
    if isinstance(value, dict):
        return any(_has_unknown(each) for each in value.values())
    return isinstance(value, list) and any(_has_unknown(each) for each in value)


def _context(properties: dict[str, Any], metadata: Any, wanted: Wanted) -> str:
    """Return a resource as a change set shows it."""
    shown = {"Properties": masked(_known(properties), wanted)}
    if metadata is not None:
        shown["Metadata"] = metadata
    return msgspec.json.encode(shown).decode()


def _known(value: Any) -> Any:
    if value is UNKNOWN:
        return _SHOWN_UNKNOWN
    if isinstance(value, dict):
        return {name: _known(each) for name, each in value.items()}
    return [_known(each) for each in value] if isinstance(value, list) else value
