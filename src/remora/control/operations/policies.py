"""AddPermission, GetPolicy, RemovePermission, and their likes for layer versions and whole documents."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.resources import policies

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call

Reply = dict[str, Any]


async def add_permission(control: Control, call: Call) -> Reply:
    """Add a statement to a function's policy."""
    decide = partial(policies.add, place=control.place, request=call.request, stamp=control.stamp())
    return {"Statement": await control.state.change(decide)}


async def remove_permission(control: Control, call: Call) -> None:
    """Remove a statement from a function's policy."""
    stamp = control.stamp()
    await control.state.change(lambda view: (None, policies.remove(view, control.place, call.request, stamp)))


async def get_policy(control: Control, call: Call) -> Reply:
    """Show a function's policy."""
    return _shown(policies.get(control.state.view, control.place, call.request))


async def get_resource_policy(control: Control, call: Call) -> Reply:
    """Show the policy of what an ARN names."""
    request = {"FunctionName": call.request["ResourceArn"]}
    return _shown(policies.get(control.state.view, control.place, request))


async def put_resource_policy(control: Control, call: Call) -> Reply:
    """Replace the policy of what an ARN names."""
    decide = partial(policies.replace, place=control.place, request=call.request, stamp=control.stamp())
    return _shown(await control.state.change(decide))


async def delete_resource_policy(control: Control, call: Call) -> None:
    """Delete the policy of what an ARN names."""
    stamp = control.stamp()
    await control.state.change(lambda view: (None, policies.delete(view, control.place, call.request, stamp)))


async def add_layer_version_permission(control: Control, call: Call) -> Reply:
    """Add a statement to a layer version's policy."""
    decide = partial(policies.add_to_layer, place=control.place, request=call.request, stamp=control.stamp())
    shown = await control.state.change(decide)
    return {"Statement": shown.document, "RevisionId": shown.revision_id}


async def remove_layer_version_permission(control: Control, call: Call) -> None:
    """Remove a statement from a layer version's policy."""
    stamp = control.stamp()
    await control.state.change(
        lambda view: (None, policies.remove_from_layer(view, control.place, call.request, stamp))
    )


async def get_layer_version_policy(control: Control, call: Call) -> Reply:
    """Show a layer version's policy."""
    return _shown(policies.of_layer(control.state.view, control.place, call.request))


def _shown(shown: policies.Shown) -> Reply:
    return {"Policy": shown.document, "RevisionId": shown.revision_id}
