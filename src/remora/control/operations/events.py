"""What becomes of asynchronous invocations: the operations of event-invoke configurations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.resources import events

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call

Reply = dict[str, Any]


async def put_function_event_invoke_config(control: Control, call: Call) -> Reply:
    """Replace a configuration."""
    decide = partial(events.put, place=control.place, request=call.request, stamp=control.stamp())
    return events.describe(control.place, await control.state.change(decide))


async def update_function_event_invoke_config(control: Control, call: Call) -> Reply:
    """Change a configuration."""
    decide = partial(events.update, place=control.place, request=call.request, stamp=control.stamp())
    return events.describe(control.place, await control.state.change(decide))


async def get_function_event_invoke_config(control: Control, call: Call) -> Reply:
    """Describe a configuration."""
    found = events.get(control.state.view, control.place, call.request)
    return events.describe(control.place, found)


async def delete_function_event_invoke_config(control: Control, call: Call) -> None:
    """Delete a configuration."""
    await control.state.change(lambda view: (None, events.delete(view, control.place, call.request)))


async def list_function_event_invoke_configs(control: Control, call: Call) -> Reply:
    """List the configurations of a function, one page."""
    return events.list_configs(control.state.view, control.place, call.request)
