"""
AWS::Lambda::Permission and AWS::Lambda::Url: who may invoke a function, and at which address.

Source: AWS CloudFormation Template Reference, "AWS::Lambda::Permission", "AWS::Lambda::Url".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.types.base import Made, ResourceType, chosen, function_of, known, never_changes, remove
from remora.iac.types.shapes import OBJECT, TEXT

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_CONDITIONS: Final = (
    *("EventSourceToken", "FunctionUrlAuthType", "InvokedViaFunctionUrl", "PrincipalOrgID", "SourceAccount"),
    "SourceArn",
)


async def _permit(context: Context, properties: Properties) -> Made:
    """Add a statement to the policy of a function, a version or an alias."""
    request = {
        **_target(context, properties["FunctionName"]),
        "StatementId": context.token,
        **chosen(properties, "Action", "Principal", *_CONDITIONS),
    }
    await context.call("lambda", "AddPermission", request)
    return Made(context.token, {"Id": context.token})


async def _forbid(context: Context, physical_id: str, properties: Properties) -> None:
    request = {**_target(context, properties["FunctionName"]), "StatementId": physical_id}
    await remove(context, "lambda", "RemovePermission", request)


def _statement_id(context: Context, _: Properties) -> str:
    return context.token


PERMISSION: Final = ResourceType(
    properties=known(
        required=("FunctionName", "Action", "Principal"),
        replacing=("FunctionName", "Action", "Principal", *_CONDITIONS),
        shapes={"FunctionName": TEXT},
    ),
    create=_permit,
    update=never_changes,
    delete=_forbid,
    attributes=frozenset({"Id"}),
    predicted_id=_statement_id,
)
"""A permission, known by the identifier of its statement."""


async def _open(context: Context, properties: Properties) -> Made:
    """Give a function or an alias an address."""
    request = {**_at(context, properties), **chosen(properties, "AuthType", "Cors", "InvokeMode")}
    return _made(await context.call("lambda", "CreateFunctionUrlConfig", request))


async def _reopen(context: Context, _: str, __: Properties, properties: Properties) -> Made:
    """Change the settings of an address."""
    request = {
        **_at(context, properties),
        "AuthType": properties["AuthType"],
        "Cors": properties.get("Cors") or {},
        "InvokeMode": properties.get("InvokeMode") or "BUFFERED",
    }
    return _made(await context.call("lambda", "UpdateFunctionUrlConfig", request))


async def _close(context: Context, _: str, properties: Properties) -> None:
    await remove(context, "lambda", "DeleteFunctionUrlConfig", _at(context, properties))


def _url_id(context: Context, properties: Properties) -> str:
    target = function_of(context, properties["TargetFunctionArn"], properties.get("Qualifier"))
    return context.place.function_arn(target.name, target.qualifier)


def _made(reply: dict[str, Any]) -> Made:
    arn = reply["FunctionArn"]
    return Made(arn, {"FunctionArn": arn, "FunctionUrl": reply["FunctionUrl"]})


URL: Final = ResourceType(
    properties=known(
        *("Cors", "InvokeMode"),
        required=("TargetFunctionArn", "AuthType"),
        replacing=("TargetFunctionArn", "Qualifier"),
        shapes={"Cors": OBJECT, "Qualifier": TEXT, "TargetFunctionArn": TEXT},
    ),
    create=_open,
    update=_reopen,
    delete=_close,
    attributes=frozenset({"FunctionArn", "FunctionUrl"}),
    predicted_id=_url_id,
)
"""An address, known by the ARN of the function or alias that it leads to."""


def _at(context: Context, properties: Properties) -> dict[str, Any]:
    return _target(context, properties["TargetFunctionArn"], properties.get("Qualifier"))


def _target(context: Context, text: Any, qualifier: Any = None) -> dict[str, Any]:
    target = function_of(context, text, qualifier)
    return {"FunctionName": target.name, "Qualifier": target.qualifier}
