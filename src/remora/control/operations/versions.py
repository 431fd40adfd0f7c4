"""PublishVersion, ListVersionsByFunction, and the operations of aliases."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.resources import aliases, descriptions, versions

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call
    from remora.resources.view import Change, View

Reply = dict[str, Any]


async def publish_version(control: Control, call: Call) -> Reply:
    """Publish `$LATEST` as a version."""
    decide = partial(versions.publish, place=control.place, request=call.request, stamp=control.stamp())
    version = await control.state.change(decide)
    if control.snap_start is not None:
        control.snap_start.look(version.name)
    return descriptions.function_configuration(version, version.version)


async def list_versions_by_function(control: Control, call: Call) -> Reply:
    """List the versions of a function, one page."""
    return descriptions.list_versions(control.state.view, control.place, call.request)


async def create_alias(control: Control, call: Call) -> Reply:
    """Create an alias."""
    decide = partial(aliases.create, place=control.place, request=call.request, stamp=control.stamp())
    return aliases.describe(control.place, await control.state.change(decide))


async def get_alias(control: Control, call: Call) -> Reply:
    """Describe an alias."""
    alias = aliases.get(control.state.view, control.place, call.request)
    return aliases.describe(control.place, alias)


async def list_aliases(control: Control, call: Call) -> Reply:
    """List the aliases of a function, one page."""
    return aliases.list_aliases(control.state.view, control.place, call.request)


async def update_alias(control: Control, call: Call) -> Reply:
    """Change an alias."""
    decide = partial(aliases.update, place=control.place, request=call.request, stamp=control.stamp())
    return aliases.describe(control.place, await control.state.change(decide))


async def delete_alias(control: Control, call: Call) -> None:
    """Delete an alias."""

    def decide(view: View) -> tuple[None, list[Change]]:
        return None, aliases.delete(view, control.place, call.request)

    await control.state.change(decide)
