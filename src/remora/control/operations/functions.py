"""CreateFunction, GetFunction, ListFunctions, UpdateFunctionCode, DeleteFunction and their likes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.control import preparation
from remora.control.operations.downloads import location
from remora.control.operations.uploads import uploaded
from remora.resources import descriptions, functions
from remora.resources.names import LATEST, resolve_function

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call
    from remora.resources.records import Function
    from remora.resources.view import Change, View

Reply = dict[str, Any]


async def create_function(control: Control, call: Call) -> Reply:
    """Create a function; it is Pending until it has been prepared in the background."""
    request, place, runtimes = call.request, control.place, control.runtime_names()
    functions.draft(control.state.view, place, runtimes, request)
    async with uploaded(control, request["Code"]) as package:
        decide = partial(
            functions.create,
            place=place,
            runtimes=runtimes,
            request=request,
            package=package,
            stamp=control.stamp(),
        )
        version = await control.state.change(decide)
    preparation.begin(control, version)
    return descriptions.function_configuration(version)


async def get_function(control: Control, call: Call) -> Reply:
    """Describe a function, with a link to its code."""
    function, qualifier = _find(control, call)
    return {
        "Configuration": descriptions.function_configuration(function.latest, qualifier),
        "Code": {
            "RepositoryType": "S3",
            "Location": location(control, call.base_url, function.latest.code_digest),
        },
        "Tags": function.tags or None,
    }


async def get_function_configuration(control: Control, call: Call) -> Reply:
    """Describe a function."""
    function, qualifier = _find(control, call)
    return descriptions.function_configuration(function.latest, qualifier)


async def list_functions(control: Control, call: Call) -> Reply:
    """List functions, one page."""
    return descriptions.list_functions(control.state.view, call.request)


async def list_versions_by_function(control: Control, call: Call) -> Reply:
    """List the versions of a function; so far there is `$LATEST` only."""
    function, _ = _find(control, call)
    return {"Versions": [descriptions.listed_configuration(function.latest, LATEST)]}


async def update_function_code(control: Control, call: Call) -> Reply:
    """Give a function other code; prepared in the background."""
    request, place = call.request, control.place
    functions.draft_code(control.state.view, place, request)
    async with uploaded(control, request) as package:
        decide = partial(
            functions.update_code, place=place, request=request, package=package, stamp=control.stamp()
        )
        version = await control.state.change(decide)
    if request.get("DryRun"):
        control.cleaning.request()
    else:
        preparation.begin(control, version)
    return descriptions.function_configuration(version)


async def update_function_configuration(control: Control, call: Call) -> Reply:
    """Change a function's configuration; prepared in the background."""
    decide = partial(
        functions.update_configuration,
        place=control.place,
        runtimes=control.runtime_names(),
        request=call.request,
        stamp=control.stamp(),
    )
    version = await control.state.change(decide)
    preparation.begin(control, version)
    return descriptions.function_configuration(version)


async def delete_function(control: Control, call: Call) -> Reply:
    """Delete a function; its environments end as they become idle."""

    def decide(view: View) -> tuple[str | None, list[Change]]:
        return functions.delete(view, control.place, call.request)

    arn = await control.state.change(decide)
    if arn is not None:
        control.deployments.forget(arn.rpartition(":")[2])
        control.pool.retire(arn)
        control.cleaning.request()
    return {"StatusCode": 204}


async def list_tags(control: Control, call: Call) -> Reply:
    """List the tags of a function."""
    return descriptions.tags(control.state.view, control.place, call.request["Resource"])


async def get_account_settings(control: Control, call: Call) -> Reply:  # noqa: ARG001
    """Describe the account's limits and use."""
    return descriptions.account_settings(control.state.view, control.settings.concurrent_executions)


def _find(control: Control, call: Call) -> tuple[Function, str | None]:
    target = resolve_function(control.place, call.request["FunctionName"], call.request.get("Qualifier"))
    return functions.find(control.state.view, control.place, target), target.qualifier
