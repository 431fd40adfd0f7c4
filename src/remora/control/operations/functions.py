"""CreateFunction, GetFunction, ListFunctions, UpdateFunctionCode, DeleteFunction and their likes."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from remora.control import preparation
from remora.control.operations.downloads import location
from remora.control.operations.shared_layers import shared_layers
from remora.control.operations.uploads import uploaded
from remora.resources import descriptions, functions, versions
from remora.resources.names import LATEST, resolve_function
from remora.resources.snapshots import starts_from_snapshot

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.operations.call import Call
    from remora.resources.names import Target
    from remora.resources.records import FunctionVersion
    from remora.resources.view import Change, View

Reply = dict[str, Any]


async def create_function(control: Control, call: Call) -> Reply:
    """Create a function; it is Pending until it has been prepared in the background, its version too."""
    request, place, runtimes = call.request, control.place, control.runtime_names()
    check = partial(functions.draft, control.state.view, place, runtimes, request)
    async with shared_layers(control, call, check) as shared:
        check(shared)
        async with uploaded(control, request["Code"]) as package:
            decide = partial(
                functions.create,
                place=place,
                runtimes=runtimes,
                request=request,
                shared=shared,
                package=package,
                stamp=control.stamp(),
            )
            version = await control.state.change(decide)
    _prepare(control, version.name)
    return descriptions.function_configuration(version)


async def get_function(control: Control, call: Call) -> Reply:
    """Describe a function, with a link to its code."""
    version, qualifier = _find(control, call)
    function = control.state.view.functions[version.name]
    reserved = function.reserved_concurrency
    return {
        "Configuration": descriptions.function_configuration(version, qualifier),
        "Code": {
            "RepositoryType": "S3",
            "Location": location(control, call.base_url, version.code_digest),
        },
        "Tags": function.tags or None,
        "Concurrency": None if reserved is None else {"ReservedConcurrentExecutions": reserved},
    }


async def get_function_configuration(control: Control, call: Call) -> Reply:
    """Describe a function."""
    version, qualifier = _find(control, call)
    return descriptions.function_configuration(version, qualifier)


async def list_functions(control: Control, call: Call) -> Reply:
    """List functions, one page."""
    return descriptions.list_functions(control.state.view, call.request)


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
        return descriptions.function_configuration(version)
    _prepare(control, version.name)
    return descriptions.function_configuration(
        version, None if version.version == LATEST else version.version
    )


async def update_function_configuration(control: Control, call: Call) -> Reply:
    """Change a function's configuration; prepared in the background."""
    decide = partial(
        functions.update_configuration,
        place=control.place,
        runtimes=control.runtime_names(),
        request=call.request,
        stamp=control.stamp(),
    )
    check = partial(decide, control.state.view)
    async with shared_layers(control, call, lambda shared: check(shared=shared)) as shared:
        version = await control.state.change(partial(decide, shared=shared))
    _prepare(control, version.name)
    return descriptions.function_configuration(version)


async def delete_function(control: Control, call: Call) -> Reply:
    """Delete a function, or one version; their environments end as they become idle."""
    restored: list[FunctionVersion] = []

    def decide(view: View) -> tuple[Target, list[Change]]:
        target, changes = functions.delete(view, control.place, call.request)
        published = view.versions.get(target.name, {}).values()
        restored.extend(each for each in published if target.qualifier in {None, each.version})
        return target, changes

    target = await control.state.change(decide)
    if control.snap_start is not None:
        for version in filter(starts_from_snapshot, restored):
            control.spawn(control.snap_start.drop(version), f"drop the snapshot of {version.name}")
    control.deployments.forget(target.name, target.qualifier)
    control.pool.retire(control.place.function_arn(target.name), target.qualifier)
    control.cleaning.request()
    return {"StatusCode": 204}


async def get_account_settings(control: Control, call: Call) -> Reply:  # noqa: ARG001 - as every operation
    """Describe the account's limits and use."""
    return descriptions.account_settings(control.state.view, control.settings.concurrent_executions)


def _prepare(control: Control, name: str) -> None:
    """Begin what a change of a function asked for."""
    function = control.state.view.functions.get(name)
    if function is not None:
        preparation.begin(control, function.latest)


def _find(control: Control, call: Call) -> tuple[FunctionVersion, str | None]:
    target = resolve_function(control.place, call.request["FunctionName"], call.request.get("Qualifier"))
    return versions.find(control.state.view, control.place, target), target.qualifier
