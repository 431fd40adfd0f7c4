"""
AWS::Lambda::EventInvokeConfig: what becomes of asynchronous invocations.

Source: AWS CloudFormation Template Reference, "AWS::Lambda::EventInvokeConfig"; Lambda API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import (
    Made,
    ResourceType,
    already_exists,
    chosen,
    find,
    function_of,
    known,
    remove,
)
from remora.iac.types.shapes import TEXT

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_SETTINGS: Final = ("MaximumRetryAttempts", "MaximumEventAgeInSeconds", "DestinationConfig")


async def _create(context: Context, properties: Properties) -> Made:
    """Say what becomes of a function's, a version's or an alias's events, if nobody has said so yet."""
    of = _target(context, properties)
    if await find(context, "lambda", "GetFunctionEventInvokeConfig", of) is not None:
        name = f"{of['FunctionName']}|{of['Qualifier']}"
        raise already_exists("AWS::Lambda::EventInvokeConfig", name)
    return await _put(context, context.token, properties)


async def _update(context: Context, physical_id: str, _: Properties, properties: Properties) -> Made:
    return await _put(context, physical_id, properties)


async def _put(context: Context, physical_id: str, properties: Properties) -> Made:
    # Without any setting there is still a configuration, of AWS's defaults.
    settings = chosen(properties, *_SETTINGS) or {"DestinationConfig": {}}
    request = {**_target(context, properties), **settings}
    await context.call("lambda", "PutFunctionEventInvokeConfig", request)
    return Made(physical_id, {})


async def _delete(context: Context, _: str, properties: Properties) -> None:
    await remove(context, "lambda", "DeleteFunctionEventInvokeConfig", _target(context, properties))


def _target(context: Context, properties: Properties) -> dict[str, Any]:
    name = function_of(context, properties["FunctionName"]).name
    return {"FunctionName": name, "Qualifier": str(properties["Qualifier"])}


def _identifier(context: Context, _: Properties) -> str:
    return context.token


EVENT_INVOKE_CONFIG: Final = ResourceType(
    properties=known(
        *_SETTINGS,
        required=("FunctionName", "Qualifier"),
        replacing=("FunctionName", "Qualifier"),
        shapes={"FunctionName": TEXT, "Qualifier": TEXT},
    ),
    create=_create,
    update=_update,
    delete=_delete,
    predicted_id=_identifier,
)
"""A configuration, known by an identifier that nothing else uses."""
