"""
AWS::Lambda::Version and AWS::Lambda::Alias, with what is provisioned for them.

Source: AWS CloudFormation Template Reference, "AWS::Lambda::Version", "AWS::Lambda::Alias".
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.calls import CallFailed
from remora.iac.types.base import (
    Made,
    ResourceType,
    changed,
    chosen,
    function_of,
    known,
    never_changes,
    remove,
    undoing,
)
from remora.iac.types.lambda_functions import settled
from remora.iac.types.shapes import OBJECT, TEXT, Members

if TYPE_CHECKING:
    from remora.iac.types.base import Context, Properties

_PROVISIONED: Final = "ProvisionedConcurrencyConfig"
_PAGE: Final = 10_000
_WEIGHT: Final = Members({"FunctionVersion": TEXT, "FunctionWeight": TEXT}, is_closed=True)


# --- versions -----------------------------------------------------------------------------------------------


async def _publish(context: Context, properties: Properties) -> Made:
    """Publish what a function is now; what has been published already is not published again."""
    name = function_of(context, properties["FunctionName"]).name
    former = await _versions(context, name)
    request = {"FunctionName": name, **chosen(properties, "Description", "CodeSha256")}
    published = await context.call("lambda", "PublishVersion", request)
    number = published["Version"]
    if number in former:
        text = (
            f"A version for this Lambda function exists ( {number} ). "
            "Modify the function to create a new version."
        )
        raise CallFailed("", "PublishVersion", "AlreadyExists", text)
    arn = context.place.function_arn(name, number)
    async with undoing(lambda: _unpublish(context, arn, properties)):
        await settled(context, name, number)
        if policy := properties.get("RuntimePolicy"):
            of = {"FunctionName": name, "Qualifier": number}
            await context.call("lambda", "PutRuntimeManagementConfig", {**of, **policy})
        await _provision(context, name, number, properties)
    return Made(arn, {"Version": number, "FunctionArn": arn})


async def _versions(context: Context, name: str) -> set[str]:
    """Return the numbers of a function's versions."""
    found: set[str] = set()
    marker = None
    while True:
        request = {"FunctionName": name, "MaxItems": _PAGE, "Marker": marker}
        page = await context.call("lambda", "ListVersionsByFunction", request)
        found |= {version["Version"] for version in page["Versions"]}
        marker = page.get("NextMarker")
        if not marker:
            return found


async def _unpublish(context: Context, physical_id: str, _: Properties) -> None:
    """Delete a version."""
    name, number = physical_id.rsplit(":", 1)
    await remove(context, "lambda", "DeleteFunction", {"FunctionName": name, "Qualifier": number})


VERSION: Final = ResourceType(
    properties=known(
        required=("FunctionName",),
        replacing=("FunctionName", "CodeSha256", "Description", _PROVISIONED, "RuntimePolicy"),
        shapes={"FunctionName": TEXT, _PROVISIONED: OBJECT, "RuntimePolicy": OBJECT},
    ),
    create=_publish,
    update=never_changes,
    delete=_unpublish,
    attributes=frozenset({"Version", "FunctionArn"}),
)
"""A version, known by its ARN."""


# --- aliases ------------------------------------------------------------------------------------------------


async def _create_alias(context: Context, properties: Properties) -> Made:
    """Create an alias, and wait until what is provisioned for it is ready."""
    name, alias = _named(context, properties)
    request = {
        "FunctionName": name,
        "Name": alias,
        "FunctionVersion": properties["FunctionVersion"],
        "RoutingConfig": _routing(properties) or None,
        **chosen(properties, "Description"),
    }
    arn = (await context.call("lambda", "CreateAlias", request))["AliasArn"]
    async with undoing(lambda: _delete_alias(context, arn, properties)):
        await _provision(context, name, alias, properties)
    return Made(arn, {"AliasArn": arn})


async def _update_alias(
    context: Context, physical_id: str, former: Properties, properties: Properties
) -> Made:
    """
    Change an alias.

    Nothing may be provisioned for an alias with weights: so it is taken away before there are some, and asked
    for after they are gone.
    """
    name, alias = _named(context, properties)
    if former.get(_PROVISIONED) and not properties.get(_PROVISIONED):
        of = {"FunctionName": name, "Qualifier": alias}
        await remove(context, "lambda", "DeleteProvisionedConcurrencyConfig", of)
    if changed(former, properties, "FunctionVersion", "Description", "RoutingConfig"):
        request = {
            "FunctionName": name,
            "Name": alias,
            "FunctionVersion": properties["FunctionVersion"],
            "Description": properties.get("Description") or "",
            "RoutingConfig": {"AdditionalVersionWeights": {}, **_routing(properties)},
        }
        await context.call("lambda", "UpdateAlias", request)
    await _provision(context, name, alias, properties)
    return Made(physical_id, {"AliasArn": physical_id})


async def _delete_alias(context: Context, physical_id: str, properties: Properties) -> None:
    name, alias = _named(context, properties)
    assert physical_id.endswith(f":{alias}"), "another name is another alias"
    await remove(context, "lambda", "DeleteAlias", {"FunctionName": name, "Name": alias})


def _alias_arn(context: Context, properties: Properties) -> str:
    name, alias = _named(context, properties)
    return context.place.function_arn(name, alias)


def _named(context: Context, properties: Properties) -> tuple[str, str]:
    return function_of(context, properties["FunctionName"]).name, str(properties["Name"])


def _routing(properties: Properties) -> dict[str, Any]:
    """Return the weights of other versions: a list in templates, a map in the API."""
    weights = (properties.get("RoutingConfig") or {}).get("AdditionalVersionWeights")
    if not weights:
        return {}
    return {
        "AdditionalVersionWeights": {str(each["FunctionVersion"]): each["FunctionWeight"] for each in weights}
    }


ALIAS: Final = ResourceType(
    properties=known(
        *("Description", _PROVISIONED, "RoutingConfig"),
        required=("FunctionName", "FunctionVersion", "Name"),
        replacing=("FunctionName", "Name"),
        shapes={
            "FunctionName": TEXT,
            "Name": TEXT,
            _PROVISIONED: OBJECT,
            "RoutingConfig": Members({"AdditionalVersionWeights": [_WEIGHT]}, is_closed=True),
        },
    ),
    create=_create_alias,
    update=_update_alias,
    delete=_delete_alias,
    attributes=frozenset({"AliasArn"}),
    predicted_id=_alias_arn,
)
"""An alias, known by its ARN."""


async def _provision(context: Context, name: str, qualifier: str, properties: Properties) -> None:
    """
    Wait until as many environments as wanted are ready.

    Raises:
        CallFailed: NotStabilized: they cannot be.
    """
    config = properties.get(_PROVISIONED)
    if not config:
        return
    of = {"FunctionName": name, "Qualifier": qualifier}
    await context.call("lambda", "PutProvisionedConcurrencyConfig", {**of, **config})
    found = await context.until("lambda", "GetProvisionedConcurrencyConfig", of, _is_provisioned)
    if found["Status"] != "READY":
        why = found.get("StatusReason") or "no reason given"
        text = f"Provisioned concurrency of {name}:{qualifier} failed: {why}"
        raise CallFailed("", "GetProvisionedConcurrencyConfig", "NotStabilized", text)


def _is_provisioned(config: dict[str, Any]) -> bool:
    return bool(config["Status"] != "IN_PROGRESS")
