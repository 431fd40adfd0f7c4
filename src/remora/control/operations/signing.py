"""The operations of code signing configurations."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.resources import signing

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call

Reply = dict[str, Any]


async def create_code_signing_config(control: Control, call: Call) -> Reply:
    """Make a configuration."""
    decide = partial(signing.create, place=control.place, request=call.request, stamp=control.stamp())
    return _shown(signing.describe(await control.state.change(decide)))


async def get_code_signing_config(control: Control, call: Call) -> Reply:
    """Describe a configuration."""
    return _shown(signing.describe(signing.find(control.state.view, call.request["CodeSigningConfigArn"])))


async def update_code_signing_config(control: Control, call: Call) -> Reply:
    """Change a configuration."""
    decide = partial(signing.update, request=call.request, stamp=control.stamp())
    return _shown(signing.describe(await control.state.change(decide)))


async def delete_code_signing_config(control: Control, call: Call) -> None:
    """Delete a configuration that no function has."""
    await control.state.change(
        lambda view: (None, signing.delete(view, call.request["CodeSigningConfigArn"]))
    )


async def list_code_signing_configs(control: Control, call: Call) -> Reply:
    """List configurations, one page."""
    return signing.list_configs(control.state.view, call.request)


async def list_functions_by_code_signing_config(control: Control, call: Call) -> Reply:
    """List the functions that have a configuration, one page."""
    return signing.list_functions(control.state.view, call.request)


async def put_function_code_signing_config(control: Control, call: Call) -> Reply:
    """Give a function a configuration."""
    return await control.state.change(partial(signing.give, place=control.place, request=call.request))


async def get_function_code_signing_config(control: Control, call: Call) -> Reply:
    """Tell a function's configuration: Terraform asks after every read of a function."""
    return signing.of_function(control.state.view, control.place, call.request)


async def delete_function_code_signing_config(control: Control, call: Call) -> None:
    """Take its configuration from a function."""
    await control.state.change(lambda view: (None, signing.take(view, control.place, call.request)))


def _shown(config: Reply) -> Reply:
    return {"CodeSigningConfig": config}
