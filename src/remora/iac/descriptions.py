"""
Stacks, their resources and events, templates and exports as the API shows them.

Source: shapes of the CloudFormation model.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, TypeVar

import msgspec

from remora.control.services.neighbour import ServiceError
from remora.control.services.pages import read_token, write_token
from remora.iac.asking import caller_of
from remora.iac.preparing import needed_capabilities
from remora.iac.rules import HIDDEN
from remora.iac.stacks import existing, find_change_set, invalid
from remora.iac.templates import transforms
from remora.iac.templates.reading import read_template

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from remora.control.context import Control
    from remora.control.services.query import QueryHandler
    from remora.http.exchange import Exchange
    from remora.iac.preparing import Preparation
    from remora.resources.stacks import (
        ChangeSet,
        ResourceChange,
        Stack,
        StackEvent,
        StackParameter,
        StackResource,
        Wanted,
    )

T = TypeVar("T")
Request = dict[str, Any]
Reply = dict[str, Any]

_PAGE: Final = 100


class Descriptions:
    """
    Performs the operations that change nothing.

    Args:
        control: The node's parts.
        preparation: Reads templates.
    """

    def __init__(self, control: Control, preparation: Preparation) -> None:
        self._control = control
        self._preparation = preparation

    def __repr__(self) -> str:
        return f"<Descriptions stacks={len(self._control.state.view.stacks)}>"

    def handlers(self) -> Mapping[str, QueryHandler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "DescribeStackEvents": self.describe_stack_events,
            "DescribeStackResource": self.describe_stack_resource,
            "DescribeStackResources": self.describe_stack_resources,
            "DescribeStacks": self.describe_stacks,
            "GetTemplate": self.get_template,
            "GetTemplateSummary": self.get_template_summary,
            "ListExports": self.list_exports,
            "ListImports": self.list_imports,
            "ListStackResources": self.list_stack_resources,
            "ListStacks": self.list_stacks,
            "ValidateTemplate": self.validate_template,
        }

    async def describe_stacks(self, request: Request, _: Exchange) -> Reply:
        """Describe one stack, or all that there are, one page."""
        view = self._control.state.view
        if "StackName" in request:
            stacks = [existing(view, request["StackName"])]
        else:
            stacks = [stack for stack in view.stacks.values() if not stack.is_deleted]
        page, token = one_page(_newest_first(stacks), request, _PAGE)
        return {"Stacks": [describe_stack(stack) for stack in page], "NextToken": token}

    async def list_stacks(self, request: Request, _: Exchange) -> Reply:
        """List stacks, those that were deleted included, one page."""
        wanted = request.get("StackStatusFilter", ())
        stacks = [
            stack
            for stack in self._control.state.view.stacks.values()
            if not wanted or stack.status in wanted
        ]
        page, token = one_page(_newest_first(stacks), request, _PAGE)
        return {"StackSummaries": [_summary(stack) for stack in page], "NextToken": token}

    async def describe_stack_events(self, request: Request, _: Exchange) -> Reply:
        """List what happened to a stack, newest first, one page."""
        view = self._control.state.view
        stack = existing(view, request["StackName"])
        events = view.stack_events.get(stack.stack_id, {})
        last = read_token(request["NextToken"], int) if "NextToken" in request else max(events, default=0) + 1
        numbers = sorted((number for number in events if number < last), reverse=True)
        page, rest = numbers[:_PAGE], numbers[_PAGE:]
        return {
            "StackEvents": [_event(events[number], stack) for number in page],
            "NextToken": write_token(page[-1]) if rest else None,
        }

    async def describe_stack_resource(self, request: Request, _: Exchange) -> Reply:
        """Describe one resource."""
        stack = existing(self._control.state.view, request["StackName"])
        name = request["LogicalResourceId"]
        resource = self._resources(stack).get(name)
        if resource is None:
            raise invalid(f"Resource {name} does not exist for stack {stack.name}")
        shown = {"StackName": stack.name, "StackId": stack.stack_id, **_resource_summary(resource)}
        return {"StackResourceDetail": {**shown, "Metadata": resource.metadata or None}}

    async def describe_stack_resources(self, request: Request, _: Exchange) -> Reply:
        """Describe the resources of a stack, or of the one that a thing belongs to."""
        view = self._control.state.view
        if "StackName" in request:
            stack = existing(view, request["StackName"])
        elif "PhysicalResourceId" in request:
            stack = self._owner(request["PhysicalResourceId"])
        else:
            raise invalid("Either stackName or physicalResourceId must be specified.")
        names = {request["LogicalResourceId"]} if "LogicalResourceId" in request else None
        shown = [
            _resource(resource, stack)
            for name, resource in self._resources(stack).items()
            if names is None or name in names
        ]
        return {"StackResources": shown[:_PAGE]}

    async def list_stack_resources(self, request: Request, _: Exchange) -> Reply:
        """List the resources of a stack, one page."""
        stack = existing(self._control.state.view, request["StackName"])
        page, token = one_page(list(self._resources(stack).values()), request, _PAGE)
        return {"StackResourceSummaries": [_resource_summary(each) for each in page], "NextToken": token}

    async def get_template(self, request: Request, _: Exchange) -> Reply:
        """Return the template of a stack or change set, as it was given or as transforms left it."""
        view = self._control.state.view
        if "ChangeSetName" in request:
            wanted = find_change_set(view, request["ChangeSetName"], request.get("StackName", "")).wanted
        elif "StackName" in request:
            wanted = existing(view, request["StackName"]).wanted
        else:
            raise invalid("StackName is required if ChangeSetName is not specified.")
        is_original = request.get("TemplateStage", "Processed") == "Original"
        text = view.templates.get(wanted.template if is_original else wanted.processed)
        return {
            "TemplateBody": text.body if text is not None else "{}",
            "StagesAvailable": ["Original", "Processed"],
        }

    async def get_template_summary(self, request: Request, exchange: Exchange) -> Reply:
        """Say what a template, or that of a stack, declares."""
        if "StackName" in request:
            wanted = existing(self._control.state.view, request["StackName"]).wanted
            text = self._control.state.view.templates[wanted.template].body
        else:
            text = await self._preparation.text_of(request, caller_of(exchange))
        document = await asyncio.to_thread(read_template, text)
        capabilities, types = needed_capabilities(document)
        metadata = document.get("Metadata")
        resources = document["Resources"]
        return {
            "Parameters": [_declaration(name, each) for name, each in _parameters(document)],
            "Description": document.get("Description"),
            "Capabilities": [capabilities] if capabilities else None,
            "CapabilitiesReason": _reason(types),
            "ResourceTypes": sorted(
                {str(each.get("Type")) for each in resources.values() if isinstance(each, dict)}
            ),
            "Version": document.get("AWSTemplateFormatVersion"),
            "Metadata": msgspec.json.encode(metadata).decode() if metadata is not None else None,
            "DeclaredTransforms": list(transforms.declared(document)) or None,
        }

    async def validate_template(self, request: Request, exchange: Exchange) -> Reply:
        """Check a template's form, and say what it declares."""
        text = await self._preparation.text_of(request, caller_of(exchange))
        document = await asyncio.to_thread(read_template, text)
        self._preparation.check(document)
        capabilities, types = needed_capabilities(document)
        return {
            "Parameters": [
                {name: shown[name] for name in ("ParameterKey", "DefaultValue", "NoEcho", "Description")}
                for shown in (_declaration(name, each) for name, each in _parameters(document))
            ],
            "Description": document.get("Description"),
            "Capabilities": [capabilities] if capabilities else None,
            "CapabilitiesReason": _reason(types),
            "DeclaredTransforms": list(transforms.declared(document)) or None,
        }

    async def list_exports(self, request: Request, _: Exchange) -> Reply:
        """List what stacks export, one page."""
        exports = [
            {"ExportingStackId": stack.stack_id, "Name": output.export_name, "Value": output.value}
            for stack in self._control.state.view.stacks.values()
            if not stack.is_deleted
            for output in stack.wanted.outputs
            if output.export_name
        ]
        page, token = one_page(sorted(exports, key=lambda each: each["Name"]), request, _PAGE)
        return {"Exports": page, "NextToken": token}

    async def list_imports(self, request: Request, _: Exchange) -> Reply:
        """List the stacks that use an export, one page."""
        name = request["ExportName"]
        users = [
            stack.name
            for stack in self._control.state.view.stacks.values()
            if name in stack.wanted.imports and not stack.is_deleted
        ]
        if not users:
            raise invalid(f"Export '{name}' is not imported by any stack.")
        page, token = one_page(sorted(users), request, _PAGE)
        return {"Imports": page, "NextToken": token}

    def _resources(self, stack: Stack) -> Mapping[str, StackResource]:
        return self._control.state.view.stack_resources.get(stack.stack_id, {})

    def _owner(self, physical_id: str) -> Stack:
        view = self._control.state.view
        for stack_id, resources in view.stack_resources.items():
            for resource in resources.values():
                if resource.is_alive and resource.body.physical_id == physical_id:
                    return view.stacks[stack_id]
        raise invalid(f"Stack for {physical_id} does not exist")


def one_page(items: Sequence[T], request: Mapping[str, Any], size: int) -> tuple[Sequence[T], str | None]:
    """
    Return the page of a list that a request asks for by `NextToken`, and the next one's token.

    Raises:
        ServiceError: ValidationError if the token is none of ours.
    """
    begin = 0
    if "NextToken" in request:
        try:
            begin = read_token(request["NextToken"], int)
        except ServiceError as error:
            raise invalid("NextToken is invalid.") from error
    end = begin + size
    return items[begin:end], write_token(end) if end < len(items) else None


def describe_change_set(change_set: ChangeSet, stack: Stack, *, with_values: bool) -> Reply:
    """Return a change set as the API shows it, with all its changes."""
    wanted = change_set.wanted
    return {
        "ChangeSetName": change_set.name,
        "ChangeSetId": change_set.change_set_id,
        "StackId": change_set.stack_id,
        "StackName": stack.name,
        "Description": change_set.description or None,
        "CreationTime": change_set.created_ms / 1000,
        "ExecutionStatus": change_set.execution_status,
        "Status": change_set.status,
        "StatusReason": change_set.reason or None,
        "OnStackFailure": change_set.on_failure or None,
        "IncludeNestedStacks": False,
        **_described(wanted),
        "Changes": [
            {"Type": "Resource", "ResourceChange": _change(each, with_values=with_values)}
            for each in change_set.changes
        ],
    }


def describe_stack(stack: Stack) -> Reply:
    """Return a stack as the API shows it."""
    wanted = stack.wanted
    return {
        "StackId": stack.stack_id,
        "StackName": stack.name,
        "ChangeSetId": stack.change_set_id or None,
        "Description": wanted.description or None,
        "CreationTime": stack.created_ms / 1000,
        "LastUpdatedTime": _seconds(stack.updated_ms),
        "DeletionTime": _seconds(stack.deleted_ms),
        "StackStatus": stack.status,
        "StackStatusReason": stack.reason or None,
        "DisableRollback": stack.on_failure == "DO_NOTHING",
        "TimeoutInMinutes": stack.timeout_minutes or None,
        "RoleARN": wanted.role_arn or None,
        "EnableTerminationProtection": stack.is_protected,
        "DriftInformation": {"StackDriftStatus": "NOT_CHECKED"},
        **_described(wanted),
        "Outputs": [
            {
                "OutputKey": output.key,
                "OutputValue": output.value,
                "Description": output.description or None,
                "ExportName": output.export_name or None,
            }
            for output in wanted.outputs
        ]
        or None,
    }


def _described(wanted: Wanted) -> Reply:
    """Return what stacks and change sets show alike."""
    return {
        "Parameters": [_parameter(name, each) for name, each in wanted.parameters.items()] or None,
        "RollbackConfiguration": {},
        "NotificationARNs": list(wanted.notification_arns),
        "Capabilities": list(wanted.capabilities) or None,
        "Tags": [{"Key": key, "Value": value} for key, value in wanted.tags.items()],
    }


def _parameter(name: str, parameter: StackParameter) -> Reply:
    if parameter.is_secret:
        return {"ParameterKey": name, "ParameterValue": HIDDEN}
    resolved = parameter.resolved if parameter.resolved != parameter.value else None
    return {"ParameterKey": name, "ParameterValue": parameter.value, "ResolvedValue": resolved}


def _summary(stack: Stack) -> Reply:
    shown = describe_stack(stack)
    members = ("StackId", "StackName", "CreationTime", "LastUpdatedTime", "DeletionTime", "StackStatus")
    return {
        **{name: shown[name] for name in (*members, "StackStatusReason", "DriftInformation")},
        "TemplateDescription": shown["Description"],
    }


def _event(event: StackEvent, stack: Stack) -> Reply:
    return {
        "StackId": stack.stack_id,
        "EventId": event.event_id,
        "StackName": stack.name,
        "LogicalResourceId": event.logical_id,
        "PhysicalResourceId": event.physical_id,
        "ResourceType": event.type,
        "Timestamp": event.wall_ms / 1000,
        "ResourceStatus": event.status,
        "ResourceStatusReason": event.reason or None,
        "ResourceProperties": event.properties or None,
        "ClientRequestToken": event.client_token or None,
    }


def _resource(resource: StackResource, stack: Stack) -> Reply:
    shown = _resource_summary(resource)
    when = shown.pop("LastUpdatedTimestamp")
    return {"StackName": stack.name, "StackId": stack.stack_id, "Timestamp": when, **shown}


def _resource_summary(resource: StackResource) -> Reply:
    return {
        "LogicalResourceId": resource.logical_id,
        "PhysicalResourceId": resource.body.physical_id or None,
        "ResourceType": resource.type,
        "LastUpdatedTimestamp": resource.updated_ms / 1000,
        "ResourceStatus": resource.status,
        "ResourceStatusReason": resource.reason or None,
        "DriftInformation": {"StackResourceDriftStatus": "NOT_CHECKED"},
    }


def _change(change: ResourceChange, *, with_values: bool) -> Reply:
    return {
        "PolicyAction": change.policy or None,
        "Action": change.action,
        "LogicalResourceId": change.logical_id,
        "PhysicalResourceId": change.physical_id or None,
        "ResourceType": change.type,
        "Replacement": change.replacement or None,
        "Scope": list(change.scope),
        "Details": list(change.details),
        "BeforeContext": (change.before or None) if with_values else None,
        "AfterContext": (change.after or None) if with_values else None,
    }


def _parameters(document: Mapping[str, Any]) -> list[tuple[str, Mapping[str, Any]]]:
    found = document.get("Parameters")
    return (
        [(name, each) for name, each in found.items() if isinstance(each, dict)]
        if isinstance(found, dict)
        else []
    )


def _declaration(name: str, declared: Mapping[str, Any]) -> Reply:
    default = declared.get("Default")
    allowed = declared.get("AllowedValues")
    return {
        "ParameterKey": name,
        "DefaultValue": None if default is None else _text(default),
        "ParameterType": str(declared.get("Type", "String")),
        "NoEcho": str(declared.get("NoEcho", False)).lower() == "true",
        "Description": declared.get("Description"),
        "ParameterConstraints": {
            "AllowedValues": [_text(each) for each in allowed] if isinstance(allowed, list) else None
        },
    }


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else str(value)


def _reason(types: Sequence[str]) -> str | None:
    """Return why a capability is needed."""
    if not types:
        return None
    return f"The following resource(s) require capabilities: [{', '.join(types)}]"


def _newest_first(stacks: Sequence[Stack]) -> list[Stack]:
    return sorted(stacks, key=lambda stack: stack.created_ms, reverse=True)


def _seconds(ms: int | None) -> float | None:
    return None if ms is None else ms / 1000
