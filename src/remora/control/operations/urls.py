"""The operations of function URLs."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from remora.resources import urls

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call

Reply = dict[str, Any]


async def create_function_url_config(control: Control, call: Call) -> Reply:
    """Give a function or an alias an address."""
    decide = partial(urls.create, place=control.place, request=call.request, stamp=control.stamp())
    url = await control.state.change(decide)
    reply = urls.describe(control.place, url, address(control, call.base_url, url.url_id))
    del reply["LastModifiedTime"]
    return {**reply, "InvokeMode": call.request.get("InvokeMode")}


async def get_function_url_config(control: Control, call: Call) -> Reply:
    """Describe an address."""
    url = urls.get(control.state.view, control.place, call.request)
    return urls.describe(control.place, url, address(control, call.base_url, url.url_id))


async def update_function_url_config(control: Control, call: Call) -> Reply:
    """Change an address's settings."""
    decide = partial(urls.update, place=control.place, request=call.request, stamp=control.stamp())
    url = await control.state.change(decide)
    return urls.describe(control.place, url, address(control, call.base_url, url.url_id))


async def delete_function_url_config(control: Control, call: Call) -> None:
    """Take an address away."""
    await control.state.change(lambda view: (None, urls.delete(view, control.place, call.request)))


async def list_function_url_configs(control: Control, call: Call) -> Reply:
    """List the addresses of a function, one page."""
    write = partial(address, control, call.base_url)
    return urls.list_urls(control.state.view, control.place, call.request, write)


def address(control: Control, base_url: str, url_id: str) -> str:
    """
    Return the URL with an identifier: every name below `localhost` leads to this machine.

    Args:
        control: The node's parts.
        base_url: Where the caller reached the node; its port is used if the settings name none.
        url_id: The identifier.
    """
    parts = urlsplit(control.settings.endpoint or base_url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{url_id}.lambda-url.{control.place.region}.localhost{port}/"
