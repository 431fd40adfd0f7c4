"""PublishLayerVersion, GetLayerVersion, ListLayers, DeleteLayerVersion and their likes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.control.operations.downloads import location
from remora.control.operations.uploads import uploaded
from remora.resources import descriptions, layers

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call
    from remora.resources.records import LayerVersion
    from remora.resources.view import Change, View

Reply = dict[str, Any]


async def publish_layer_version(control: Control, call: Call) -> Reply:
    """Publish the next version of a layer."""
    request, place = call.request, control.place
    layers.resolve_layer(place, request["LayerName"])
    async with uploaded(control, request["Content"]) as package:
        decide = partial(layers.publish, place=place, request=request, package=package, stamp=control.stamp())
        version = await control.state.change(decide)
    return _describe(control, call, version)


async def get_layer_version(control: Control, call: Call) -> Reply:
    """Describe a layer version, with a link to its zip."""
    request = call.request
    version = layers.get(control.state.view, control.place, request["LayerName"], request["VersionNumber"])
    return _describe(control, call, version)


async def get_layer_version_by_arn(control: Control, call: Call) -> Reply:
    """Describe a layer version, found by its ARN."""
    version = layers.get_by_arn(control.state.view, control.place, call.request["Arn"])
    return _describe(control, call, version)


async def list_layers(control: Control, call: Call) -> Reply:
    """List layers, one page."""
    return layers.list_layers(control.state.view, control.place, call.request)


async def list_layer_versions(control: Control, call: Call) -> Reply:
    """List the versions of a layer, one page, newest first."""
    return layers.list_versions(control.state.view, control.place, call.request)


async def delete_layer_version(control: Control, call: Call) -> None:
    """Delete a layer version; functions that use it keep it."""
    request = call.request

    def decide(view: View) -> tuple[None, list[Change]]:
        return None, layers.delete(view, control.place, request["LayerName"], request["VersionNumber"])

    await control.state.change(decide)
    control.cleaning.request()


def _describe(control: Control, call: Call, version: LayerVersion) -> Reply:
    return descriptions.layer_version(version, location(control, call.base_url, version.digest))
