"""The rules of event-invoke configurations: what becomes of asynchronous invocations."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.resources import versions
from remora.resources.attachments import EventInvokeConfig
from remora.resources.names import Place, Target, resolve_function
from remora.resources.paging import page
from remora.resources.view import Change, Stamp, View
from remora.spec.errors import invalid, not_found

if TYPE_CHECKING:
    from collections.abc import Mapping

Request = dict[str, Any]
Reply = dict[str, Any]
Decision = tuple[EventInvokeConfig, list[Change]]

_SERVICE: Final = re.compile(r"arn:aws[^:]*:([^:]+):.*")
_SUCCESS_SERVICES: Final = frozenset({"events", "lambda", "sns", "sqs"})
_FAILURE_SERVICES: Final = _SUCCESS_SERVICES | {"s3"}
_SETTINGS: Final = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


def put(view: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Replace a configuration.

    Raises:
        ApiError: Not found; invalid without a setting, and for destinations that cannot be.
    """
    target = _target(view, place, request)
    return _change(
        view,
        place,
        target,
        request,
        EventInvokeConfig(function=target.name, qualifier=target.version, last_modified_ms=stamp.wall_ms),
    )


def update(view: View, place: Place, request: Request, stamp: Stamp) -> Decision:
    """
    Change the settings that are there, keep the others.

    Raises:
        ApiError: As `put`; not found if there is no configuration.
    """
    target = _target(view, place, request)
    former = _existing(view, place, target)
    base = msgspec.structs.replace(former, last_modified_ms=stamp.wall_ms)
    return _change(view, place, target, request, base)


def get(view: View, place: Place, request: Request) -> EventInvokeConfig:
    """
    Find a configuration.

    Raises:
        ApiError: Not found.
    """
    return _existing(view, place, _resolve(place, request))


def delete(view: View, place: Place, request: Request) -> list[Change]:
    """
    Delete a configuration.

    Raises:
        ApiError: Not found.
    """
    found = _existing(view, place, _resolve(place, request))
    return [Change("event-invoke-config", f"{found.function}:{found.qualifier}", None)]


def list_configs(view: View, place: Place, request: Request) -> Reply:
    """
    List the configurations of a function, one page.

    Raises:
        ApiError: Not found.
    """
    target = resolve_function(place, request["FunctionName"])
    if target.name not in view.functions:
        raise not_found("The function doesn't exist.")
    known = view.event_invoke_configs.get(target.name, {})
    keys, marker = page(sorted(known), request.get("Marker"), request.get("MaxItems"))
    return {
        "FunctionEventInvokeConfigs": [describe(place, known[key]) for key in keys],
        "NextMarker": marker,
    }


def describe(place: Place, config: EventInvokeConfig) -> Reply:
    """Describe a configuration: shape FunctionEventInvokeConfig."""
    return {
        "LastModified": config.last_modified_ms / 1000,
        "FunctionArn": place.function_arn(config.function, config.qualifier),
        "MaximumRetryAttempts": config.retry_attempts,
        "MaximumEventAgeInSeconds": config.event_age_s,
        "DestinationConfig": {
            "OnSuccess": {"Destination": config.on_success},
            "OnFailure": {"Destination": config.on_failure},
        },
    }


def _resolve(place: Place, request: Request) -> Target:
    return resolve_function(place, request["FunctionName"], request.get("Qualifier"))


def _target(view: View, place: Place, request: Request) -> Target:
    target = _resolve(place, request)
    if versions.lookup(view, target.name, target.version) is None:
        raise not_found("The function doesn't exist.")
    return target


def _existing(view: View, place: Place, target: Target) -> EventInvokeConfig:
    found = view.event_invoke_configs.get(target.name, {}).get(target.version)
    if found is None:
        arn = place.function_arn(target.name, target.version)
        raise not_found(f"The function {arn} doesn't have an EventInvokeConfig")
    return found


def _change(view: View, place: Place, target: Target, request: Request, base: EventInvokeConfig) -> Decision:
    if not any(member in request for member in _SETTINGS):
        raise invalid("You must specify at least one of error handling or destination setting.")
    changes: dict[str, Any] = {}
    if "MaximumRetryAttempts" in request:
        changes["retry_attempts"] = request["MaximumRetryAttempts"]
    if "MaximumEventAgeInSeconds" in request:
        changes["event_age_s"] = request["MaximumEventAgeInSeconds"]
    destinations = request.get("DestinationConfig", {})
    for member, name in (("OnSuccess", "on_success"), ("OnFailure", "on_failure")):
        if member in destinations:
            changes[name] = destinations[member].get("Destination") or None
    _check_destinations(view, place, target, destinations)
    config = msgspec.structs.replace(base, **changes)
    return config, [Change("event-invoke-config", f"{config.function}:{config.qualifier}", config)]


def _check_destinations(
    view: View, place: Place, target: Target, destinations: Mapping[str, Mapping[str, str]]
) -> None:
    success = destinations.get("OnSuccess", {}).get("Destination")
    failure = destinations.get("OnFailure", {}).get("Destination")
    for arn, services in ((success, _SUCCESS_SERVICES), (failure, _FAILURE_SERVICES)):
        if not arn:
            continue
        match = _SERVICE.fullmatch(arn)
        if match is None or match[1] not in services:
            raise invalid(f"The provided destination config {_shown(success, failure)} is invalid.")
        if match[1] == "lambda":
            _check_function(view, place, target, arn)


def _check_function(view: View, place: Place, target: Target, arn: str) -> None:
    destination = resolve_function(place, arn)
    if destination.name == target.name:
        raise invalid("You can't specify the function as a destination for itself.")
    if destination.name not in view.functions:  # an alias may come later, as Serverless has it
        raise invalid(f"The destination ARN {arn} is invalid.")


def _shown(success: str | None, failure: str | None) -> str:
    """Write a configuration of destinations as the service's messages do."""
    parts = [
        f"on{outcome}=" + (f"On{outcome}(destination={arn})" if arn else "null")
        for outcome, arn in (("Success", success), ("Failure", failure))
    ]
    return f"DestinationConfig({', '.join(parts)})"
