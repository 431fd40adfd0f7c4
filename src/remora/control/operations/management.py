"""Tags, runtime management, recursion, event source mappings: a function's small settings."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.resources import management

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call

Reply = dict[str, Any]


async def list_tags(control: Control, call: Call) -> Reply:
    """List the tags of a function."""
    return {"Tags": management.tags(control.state.view, control.place, call.request["Resource"])}


async def tag_resource(control: Control, call: Call) -> None:
    """Give a function tags."""
    await control.state.change(lambda view: (None, management.tag(view, control.place, call.request)))


async def untag_resource(control: Control, call: Call) -> None:
    """Take tags from a function."""
    await control.state.change(lambda view: (None, management.untag(view, control.place, call.request)))


async def get_runtime_management_config(control: Control, call: Call) -> Reply:
    """Describe the runtime management of a version."""
    return management.get_runtime_management(control.state.view, control.place, call.request)


async def put_runtime_management_config(control: Control, call: Call) -> Reply:
    """Set the runtime management of a version."""
    decide = partial(management.put_runtime_management, place=control.place, request=call.request)
    return await control.state.change(decide)


async def get_function_recursion_config(control: Control, call: Call) -> Reply:
    """Describe what becomes of recursive loops."""
    return management.get_recursion(control.state.view, control.place, call.request)


async def put_function_recursion_config(control: Control, call: Call) -> Reply:
    """Say what becomes of recursive loops."""
    decide = partial(management.put_recursion, place=control.place, request=call.request)
    return await control.state.change(decide)


async def list_event_source_mappings(control: Control, call: Call) -> Reply:  # noqa: ARG001 - as every operation
    """List no event source mappings: none can be made here."""
    return {"EventSourceMappings": []}
