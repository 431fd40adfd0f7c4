"""
What a template has to look like before it is evaluated: its members, their names, and what they refer to.

Source: CloudFormation User Guide, "Template sections", and Template Reference, "Resource attribute
reference"; the wordings of errors are observed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from remora.iac.templates.functions import references
from remora.iac.templates.parameters import read_declarations
from remora.iac.templates.reading import invalid
from remora.iac.templates.scope import text_of
from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Collection

    from remora.control.services.neighbour import ServiceError

CUSTOM_RESOURCE: Final = "AWS::CloudFormation::CustomResource"
"""The type that `Custom::…` are other names of."""

PSEUDO: Final = frozenset(
    f"AWS::{name}"
    for name in (
        *("AccountId", "NoValue", "NotificationARNs", "Partition", "Region", "StackId", "StackName"),
        "URLSuffix",
    )
)
"""Source: CloudFormation Template Reference, "Pseudo parameters reference"."""

_ATTRIBUTES: Final = (
    *("Condition", "CreationPolicy", "DeletionPolicy", "DependsOn", "Description", "Metadata", "Properties"),
    *("Type", "UpdatePolicy", "UpdateReplacePolicy", "Version"),
)
_OF_OUTPUT: Final = ("Condition", "Description", "Export", "Value")
_LOGICAL_ID: Final = re.compile(r"[A-Za-z0-9]+")
_CUSTOM: Final = re.compile(r"Custom::[A-Za-z0-9_@-]{1,60}")


def check_template(document: dict[str, Any], known_types: Collection[str]) -> None:
    """
    Check all of a template that can be without values for its parameters; its transforms have been applied.

    Raises:
        ServiceError: ValidationError.
    """
    names = {*read_declarations(document), *PSEUDO}
    check_members(document, known_types)
    check_references(document, names)


def check_members(document: dict[str, Any], known_types: Collection[str]) -> None:
    """
    Check every mapping, rule, resource and output for itself.

    Raises:
        ServiceError: ValidationError.
    """
    _check_mappings(document.get("Mappings", {}))
    _check_rules(document.get("Rules", {}))
    _check_resources(document["Resources"], known_types)
    _check_outputs(document.get("Outputs", {}))


def _check_resources(resources: dict[str, Any], known_types: Collection[str]) -> None:
    _check_count("resources", resources, limits.TEMPLATE_RESOURCES_MAX)
    unknown: list[str] = []
    for name, resource in resources.items():
        if not _LOGICAL_ID.fullmatch(name) or len(name) > limits.TEMPLATE_NAME_CHARACTERS_MAX:
            raise invalid(f"Template format error: Resource name {name[:64]} is non alphanumeric.")
        if not isinstance(resource, dict):
            raise invalid("Template format error: Any Resources member must be an object.")
        strange = next((key for key in resource if key not in _ATTRIBUTES), None)
        if strange is not None:
            raise invalid(f"Invalid template resource property '{strange[:64]}'")
        kind = resource.get("Type")
        if kind is None:
            raise invalid(
                f"Template format error: [/Resources/{name}] Every Resources object must contain a Type "
                "member."
            )
        if not isinstance(kind, str):
            raise invalid(
                f"Template format error: [/Resources/{name}/Type] Every Type member must be a string."
            )
        _check_attributes(name, resource)
        is_custom = CUSTOM_RESOURCE in known_types and _CUSTOM.fullmatch(kind)
        if kind not in known_types and not is_custom and kind not in unknown:
            unknown.append(kind)
    if unknown:
        raise invalid(f"Template format error: Unrecognized resource types: [{', '.join(unknown)}]")


def _check_attributes(name: str, resource: dict[str, Any]) -> None:
    for key in ("Properties", "Metadata", "CreationPolicy", "UpdatePolicy"):
        if not isinstance(resource.get(key, {}), dict):
            raise invalid(f"Template format error: [/Resources/{name}/{key}] {key} must be an object.")
    depends = resource.get("DependsOn", [])
    if not all(isinstance(each, str) for each in listed(depends)):
        raise invalid(f"Template format error: [/Resources/{name}] Every DependsOn value must be a string.")
    if not isinstance(resource.get("Condition", ""), str):
        raise invalid("Template format error: Every Condition member must be a string.")


def listed(value: Any) -> list[Any]:
    """Return a list, or a list of the one value."""
    return value if isinstance(value, list) else [value]


def check_references(document: dict[str, Any], names: Collection[str]) -> None:
    """
    Check that all that is referred to is there, also by what is not wanted or not chosen.

    Args:
        document: Its members have been checked.
        names: Those of parameters and pseudo parameters.

    Raises:
        ServiceError: ValidationError.
    """
    resources = document["Resources"]
    conditions = document.get("Conditions", {})
    for block in ("Resources", "Outputs"):
        missing: set[str] = set()
        for member in document.get(block, {}).values():
            depends = listed(member.get("DependsOn", [])) if block == "Resources" else []
            missing |= {each for each in depends if each not in resources}
            _check_condition_name(member, conditions, block)
            for function, target, attribute in references(_evaluated(member)):
                if function == "Fn::If":
                    if target not in conditions:
                        raise invalid(f"Template error: unresolved condition dependency {target} in Fn::If")
                elif attribute is None:
                    if target not in resources and target not in names:
                        missing.add(target)
                elif target not in resources:
                    if function == "Fn::Sub":
                        raise invalid(
                            "Template error: instance of Fn::Sub references invalid resource attribute "
                            f"{target}.{attribute}"
                        )
                    raise invalid(
                        f"Template error: instance of Fn::GetAtt references undefined resource {target}"
                    )
        if missing:
            raise unresolved(missing, block)


def _check_condition_name(member: dict[str, Any], conditions: dict[str, Any], block: str) -> None:
    name = member.get("Condition")
    if name is not None and name not in conditions:
        raise invalid(
            f"Template format error: Unresolved condition dependency {name} in the {block} block of the "
            "template"
        )


def _evaluated(member: dict[str, Any]) -> list[Any]:
    """Return what of a resource or an output functions may be in."""
    return [value for key, value in member.items() if key not in {"Condition", "DependsOn", "Type"}]


def unresolved(names: Collection[str], block: str) -> ServiceError:
    """Make the error that resources are referred to that are not there."""
    return invalid(
        f"Template format error: Unresolved resource dependencies [{', '.join(sorted(names))}] "
        f"in the {block} block of the template"
    )


def _check_mappings(mappings: dict[str, Any]) -> None:
    _check_count("mappings", mappings, limits.TEMPLATE_MAPPINGS_MAX)
    for name, mapping in mappings.items():
        if not isinstance(mapping, dict) or not mapping:
            raise invalid(
                f"Template format error: Mappings element '{name[:64]}' must be a non-empty object."
            )
        _check_count("mapping attributes", mapping, limits.TEMPLATE_MAPPING_ATTRIBUTES_MAX)
        for attributes in mapping.values():
            if not isinstance(attributes, dict):
                raise invalid("Template format error: Every Mappings attribute must be an object.")
            for value in attributes.values():
                items = value if isinstance(value, list) else [value]
                if any(text_of(item) is None for item in items):
                    raise invalid(
                        "Template format error: Every Mappings attribute must be a String or a List."
                    )


def _check_rules(rules: dict[str, Any]) -> None:
    """Check the form of rules. Deviation: what they assert about parameters is not evaluated."""
    for name, rule in rules.items():
        assertions = rule.get("Assertions") if isinstance(rule, dict) else None
        if not isinstance(assertions, list) or not all(
            isinstance(each, dict) and isinstance(each.get("Assert"), dict) for each in assertions
        ):
            raise invalid(f"Template format error: Rule '{name[:64]}' must contain a list of Assertions.")
        strange = next((key for key in rule if key not in {"Assertions", "RuleCondition"}), None)
        if strange is not None:
            raise invalid(f"Invalid template rule property '{strange[:64]}'")


def _check_count(what: str, section: dict[str, Any], most: int) -> None:
    if len(section) > most:
        raise invalid(
            f"Template format error: Number of {what}, {len(section)}, is greater than maximum allowed, "
            f"{most}"
        )


def _check_outputs(outputs: dict[str, Any]) -> None:
    _check_count("outputs", outputs, limits.TEMPLATE_OUTPUTS_MAX)
    for name, output in outputs.items():
        if not _LOGICAL_ID.fullmatch(name) or len(name) > limits.TEMPLATE_NAME_CHARACTERS_MAX:
            raise invalid(f"Template format error: Output name {name[:64]} is non alphanumeric.")
        if not isinstance(output, dict):
            raise invalid("Template format error: Any Outputs member must be an object.")
        strange = next((key for key in output if key not in _OF_OUTPUT), None)
        if strange is not None:
            raise invalid(f"Invalid template output property '{strange[:64]}'")
        if "Value" not in output:
            raise invalid("Template format error: Every Outputs member must contain a Value object")
        if not isinstance(output.get("Description", ""), str):
            raise invalid("Template format error: Every Description member must be a string.")
        if not isinstance(output.get("Condition", ""), str):
            raise invalid("Template format error: Every Condition member must be a string.")
        export = output.get("Export", {"Name": ""})
        if not isinstance(export, dict) or set(export) != {"Name"}:
            raise bad_export(name)


def bad_export(name: str) -> ServiceError:
    """Make the error that an output's export has no usable name."""
    return invalid(
        f"Template format error: Output {name} is malformed. The Name field of every Export member must be "
        "specified as a non-empty string, and must not depend on resources."
    )
