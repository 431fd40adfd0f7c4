"""The rules of function URLs: which address stands for which function or alias."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from remora.resources import versions
from remora.resources.attachments import FunctionUrl
from remora.resources.names import Place, Target, resolve_function
from remora.resources.paging import page
from remora.resources.view import Change, Stamp, View
from remora.spec.errors import ApiError, not_found

if TYPE_CHECKING:
    from collections.abc import Callable

Request = dict[str, Any]
Reply = dict[str, Any]
Decision = tuple[FunctionUrl, list[Change]]

_MISSING = "The resource you requested does not exist."


def create(view: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Give a function or an alias an address.

    Raises:
        ApiError: Not found; a conflict if it has one.
    """
    target = _target(view, place, request)
    if target.version in view.urls.get(target.name, {}):
        arn = place.function_arn(target.name, target.qualifier)
        raise ApiError(
            "ResourceConflictException",
            f"Failed to create function url config for [functionArn = {arn}]. "
            "Error message:  FunctionUrlConfig exists for this Lambda function",
        )
    now = _moment(stamp.wall_ms)
    url = FunctionUrl(
        function=target.name,
        qualifier=target.version,
        url_id=stamp.other_id.replace("-", ""),
        auth_type=request["AuthType"],
        cors=request.get("Cors"),
        invoke_mode=request.get("InvokeMode", "BUFFERED"),
        created=now,
        last_modified=now,
    )
    return url, [_put(url)]


def update(view: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Change an address's settings; members that are absent stay as they are.

    Raises:
        ApiError: Not found.
    """
    target = _target(view, place, request)
    former = _existing(view, target)
    changes = {
        name: request[member]
        for member, name in (("AuthType", "auth_type"), ("Cors", "cors"), ("InvokeMode", "invoke_mode"))
        if member in request
    }
    url = msgspec.structs.replace(former, **changes, last_modified=_moment(stamp.wall_ms))
    return url, [_put(url)]


def get(view: View, place: Place, request: Request) -> FunctionUrl:
    """
    Find an address.

    Raises:
        ApiError: Not found.
    """
    return _existing(view, _resolve(place, request))


def delete(view: View, place: Place, request: Request) -> list[Change]:
    """
    Take an address away.

    Raises:
        ApiError: Not found.
    """
    url = _existing(view, _resolve(place, request))
    return [Change("function-url", f"{url.function}:{url.qualifier}", None)]


def list_urls(view: View, place: Place, request: Request, write: Callable[[str], str]) -> Reply:
    """
    List the addresses of a function, one page.

    Args:
        view: What is known.
        place: Region and account of this node.
        request: The request.
        write: Makes an address of its identifier.

    Raises:
        ApiError: Not found.
    """
    target = resolve_function(place, request["FunctionName"])
    if target.name not in view.functions:
        raise not_found("Function does not exist")
    known = view.urls.get(target.name, {})
    keys, marker = page(sorted(known), request.get("Marker"), request.get("MaxItems"))
    return {
        "FunctionUrlConfigs": [describe(place, known[key], write(known[key].url_id)) for key in keys],
        "NextMarker": marker,
    }


def describe(place: Place, url: FunctionUrl, address: str) -> Reply:
    """Describe an address: shape FunctionUrlConfig."""
    qualifier = None if url.qualifier == "$LATEST" else url.qualifier
    return {
        "FunctionUrl": address,
        "FunctionArn": place.function_arn(url.function, qualifier),
        "AuthType": url.auth_type,
        "Cors": url.cors,
        "InvokeMode": url.invoke_mode,
        "CreationTime": url.created,
        "LastModifiedTime": url.last_modified,
    }


def _resolve(place: Place, request: Request) -> Target:
    return resolve_function(place, request["FunctionName"], request.get("Qualifier"))


def _target(view: View, place: Place, request: Request) -> Target:
    target = _resolve(place, request)
    if versions.lookup(view, target.name, target.version) is None:
        raise not_found("Function does not exist")
    return target


def _existing(view: View, target: Target) -> FunctionUrl:
    found = view.urls.get(target.name, {}).get(target.version)
    if found is None:
        raise not_found(_MISSING)
    return found


def _put(url: FunctionUrl) -> Change:
    return Change("function-url", f"{url.function}:{url.qualifier}", url)


def _moment(wall_ms: int) -> str:
    """Write a moment as URLs have it, `2026-01-31T23:59:59.123000Z`."""
    return f"{datetime.fromtimestamp(wall_ms / 1000, UTC):%Y-%m-%dT%H:%M:%S.%f}Z"
