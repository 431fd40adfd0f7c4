"""The rules of a function's small settings: tags, runtime management, recursion."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources import signing, versions
from remora.resources.functions import find
from remora.resources.names import Place, resolve_function
from remora.resources.view import Change, View
from remora.spec import limits
from remora.spec.errors import invalid, not_found

if TYPE_CHECKING:
    from remora.resources.records import Function, FunctionVersion

Request = dict[str, Any]
Reply = dict[str, Any]


def tags(view: View, place: Place, resource: str) -> dict[str, str]:
    """
    Return the tags of a function or a code signing configuration.

    Raises:
        ApiError: Not found, or an ARN with a qualifier.
    """
    if signing.is_config(resource):
        return signing.find(view, resource).tags
    return _tagged(view, place, resource).tags


def tag(view: View, place: Place, request: Request) -> list[Change]:
    """
    Give a function or a code signing configuration tags; those with the same key change.

    Raises:
        ApiError: As `tags`; a conflict while it is updated; invalid if there are none, or too many.
    """
    if not request["Tags"]:
        raise invalid("An error occurred and the request cannot be processed.")
    if signing.is_config(request["Resource"]):
        config = signing.find(view, request["Resource"])
        return [signing.with_tags(config, {**config.tags, **request["Tags"]})]
    function = _tagged(view, place, request["Resource"])
    merged = {**function.tags, **request["Tags"]}
    if len(merged) > limits.TAGS_PER_FUNCTION_MAX:
        raise invalid("Number of tags exceeds resource tag limit.")
    versions.check_no_update(function.latest)
    return [_changed(function, tags=merged)]


def untag(view: View, place: Place, request: Request) -> list[Change]:
    """
    Take tags from a function or a code signing configuration; those that it does not have are passed over.

    Raises:
        ApiError: As `tags`; a violation if no keys are given.
    """
    if signing.is_config(request["Resource"]):
        config = signing.find(view, request["Resource"])
        left = {key: value for key, value in config.tags.items() if key not in request["TagKeys"]}
        return [signing.with_tags(config, left)] if left != config.tags else []
    function = _tagged(view, place, request["Resource"])
    kept = {key: value for key, value in function.tags.items() if key not in request["TagKeys"]}
    return [_changed(function, tags=kept)] if kept != function.tags else []


def get_runtime_management(view: View, place: Place, request: Request) -> Reply:
    """
    Describe the runtime management of a version, which is Auto unless it was set.

    Raises:
        ApiError: Not found.
    """
    function, version, arn = _managed(view, place, request)
    kept = function.runtime_management.get(version.version, {"UpdateRuntimeOn": "Auto"})
    return {**kept, "FunctionArn": arn}


def put_runtime_management(view: View, place: Place, request: Request) -> tuple[Reply, list[Change]]:
    """
    Set the runtime management of a version.

    Raises:
        ApiError: Not found; invalid if Manual lacks its runtime version, or another mode has one.
    """
    function, version, arn = _managed(view, place, request)
    mode, runtime = request["UpdateRuntimeOn"], request.get("RuntimeVersionArn")
    if mode == "Manual" and not runtime:
        raise invalid("Runtime version ARN is required when the runtime update mode is Manual.")
    if mode != "Manual" and runtime:
        raise invalid("Runtime version ARN is accepted only when the runtime update mode is Manual.")
    config = {"UpdateRuntimeOn": mode, **({"RuntimeVersionArn": runtime} if runtime else {})}
    kept = {**function.runtime_management, version.version: config}
    return {**config, "FunctionArn": arn}, [_changed(function, runtime_management=kept)]


def get_recursion(view: View, place: Place, request: Request) -> Reply:
    """
    Describe what becomes of recursive loops.

    Raises:
        ApiError: Not found.
    """
    function = find(view, place, resolve_function(place, request["FunctionName"]))
    return {"RecursiveLoop": function.recursive_loop}


def put_recursion(view: View, place: Place, request: Request) -> tuple[Reply, list[Change]]:
    """
    Say what becomes of recursive loops.

    Raises:
        ApiError: Not found.
    """
    function = find(view, place, resolve_function(place, request["FunctionName"]))
    wanted = request["RecursiveLoop"]
    return {"RecursiveLoop": wanted}, [_changed(function, recursive_loop=wanted)]


def _tagged(view: View, place: Place, resource: str) -> Function:
    if ":function:" not in resource:
        raise not_found("The resource you requested does not exist.")
    target = resolve_function(place, resource)
    if target.qualifier is not None:
        raise invalid(
            "Tags on function aliases and versions are not supported. Please specify a function ARN."
        )
    return find(view, place, target)


def _managed(view: View, place: Place, request: Request) -> tuple[Function, FunctionVersion, str]:
    target = resolve_function(place, request["FunctionName"], request.get("Qualifier"))
    version = versions.find(view, place, target)
    return view.functions[target.name], version, place.function_arn(target.name, target.qualifier)


def _changed(function: Function, **changes: Any) -> Change:
    return Change("function", function.latest.name, msgspec.structs.replace(function, **changes))
