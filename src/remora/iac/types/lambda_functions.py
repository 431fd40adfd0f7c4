"""
AWS::Lambda::Function.

Source: AWS CloudFormation Template Reference, "AWS::Lambda::Function"; Lambda API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.iac.calls import CallFailed
from remora.iac.types.base import (
    Made,
    ResourceType,
    by_name,
    changed,
    chosen,
    known,
    lost_tags,
    remove,
    tag_map,
    undoing,
)
from remora.iac.types.lambda_code import code_of, is_refiled
from remora.iac.types.shapes import OBJECT, TEXT, Members

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.iac.types.base import Context, Properties

_SETTINGS: Final[Mapping[str, Any]] = {
    "DeadLetterConfig": {"TargetArn": ""},
    "Description": "",
    "Environment": {"Variables": {}},
    "EphemeralStorage": {"Size": 512},
    "FileSystemConfigs": [],
    "Handler": None,
    "ImageConfig": {},
    "KmsKeyArn": "",
    "Layers": [],
    "LoggingConfig": {"LogFormat": "Text"},
    "MemorySize": 128,
    "Role": None,
    "Runtime": None,
    "SnapStart": {"ApplyOn": "None"},
    "Timeout": 3,
    "TracingConfig": {"Mode": "PassThrough"},
    "VpcConfig": {"SubnetIds": [], "SecurityGroupIds": []},
}
"""What UpdateFunctionConfiguration changes, and what it is told if a property is there no more."""
_RENAMED: Final = {"KmsKeyArn": "KMSKeyArn"}
"""Properties that the API calls otherwise."""


async def create(context: Context, properties: Properties) -> Made:
    """Create a function, wait until it is Active, then set what has operations of its own."""
    request = {
        "FunctionName": context.name,
        "Code": code_of(properties),
        "Tags": tag_map(context, properties) or None,
        **chosen(properties, "Architectures", "CodeSigningConfigArn", "PackageType", "TenancyConfig"),
        **_renamed(chosen(properties, *_SETTINGS)),
    }
    await context.call("lambda", "CreateFunction", request)
    async with undoing(lambda: delete(context, context.name, properties)):
        configuration = await settled(context, context.name)
        told = chosen(properties, "CodeSigningConfigArn")
        await _set_aside(context, context.name, told, properties)
    return _made(context.name, configuration)


async def update(context: Context, physical_id: str, former: Properties, properties: Properties) -> Made:
    """Change code, then configuration, waiting for each, then what has operations of its own."""
    of = {"FunctionName": physical_id}
    if changed(former, properties, "Code", "Architectures") or is_refiled(former, properties):
        architectures = properties.get("Architectures") or ["x86_64"]
        await context.call(
            "lambda", "UpdateFunctionCode", {**of, **code_of(properties), "Architectures": architectures}
        )
        await settled(context, physical_id)
    if names := changed(former, properties, *_SETTINGS):
        settings = {name: properties.get(name, _SETTINGS[name]) for name in names}
        if "LoggingConfig" in settings:
            settings["LoggingConfig"] = _logging(physical_id, settings["LoggingConfig"])
        await context.call("lambda", "UpdateFunctionConfiguration", {**of, **_renamed(settings)})
        await settled(context, physical_id)
    await _set_aside(context, physical_id, former, properties)
    await _tag(context, physical_id, former, properties)
    return _made(physical_id, await context.call("lambda", "GetFunctionConfiguration", of))


async def delete(context: Context, physical_id: str, _: Properties) -> None:
    """Delete the function with its versions."""
    await remove(context, "lambda", "DeleteFunction", {"FunctionName": physical_id})


async def settled(context: Context, name: str, qualifier: str | None = None) -> dict[str, Any]:
    """
    Wait until a function is Active and no update of it is in progress; return its configuration.

    Raises:
        CallFailed: NotStabilized: it is Failed, or its update is.
    """
    configuration = await context.until(
        "lambda", "GetFunctionConfiguration", {"FunctionName": name, "Qualifier": qualifier}, _is_settled
    )
    for state, reason in (("State", "StateReason"), ("LastUpdateStatus", "LastUpdateStatusReason")):
        if configuration.get(state) == "Failed":
            text = configuration.get(reason) or "The function could not be made ready."
            raise CallFailed("", "GetFunctionConfiguration", "NotStabilized", text)
    return configuration


def _is_settled(configuration: dict[str, Any]) -> bool:
    return configuration.get("State") != "Pending" and configuration.get("LastUpdateStatus") != "InProgress"


def _logging(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return how a function logs with all that is not said, which the API would leave as it was."""
    levels = {"ApplicationLogLevel": "INFO", "SystemLogLevel": "INFO"}
    rest = levels if given.get("LogFormat") == "JSON" else {"LogFormat": "Text"}
    return {"LogGroup": f"/aws/lambda/{name}", **rest, **given}


def _renamed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {_RENAMED.get(name, name): value for name, value in settings.items()}


async def _set_aside(context: Context, name: str, former: Properties, properties: Properties) -> None:
    """Set what is no part of a function's configuration: concurrency, runtime management, loops, signing."""
    of = {"FunctionName": name}
    for member in changed(former, properties, "ReservedConcurrentExecutions"):
        if properties.get(member) is None:
            await context.call("lambda", "DeleteFunctionConcurrency", of)
        else:
            await context.call("lambda", "PutFunctionConcurrency", {**of, member: properties[member]})
    for member in changed(former, properties, "RuntimeManagementConfig"):
        config = properties.get(member) or {"UpdateRuntimeOn": "Auto"}
        await context.call("lambda", "PutRuntimeManagementConfig", {**of, **config})
    for member in changed(former, properties, "RecursiveLoop"):
        loop = {member: properties.get(member) or "Terminate"}
        await context.call("lambda", "PutFunctionRecursionConfig", {**of, **loop})
    for member in changed(former, properties, "CodeSigningConfigArn"):
        if properties.get(member):
            await context.call("lambda", "PutFunctionCodeSigningConfig", {**of, member: properties[member]})
        else:
            await context.call("lambda", "DeleteFunctionCodeSigningConfig", of)


async def _tag(context: Context, physical_id: str, former: Properties, properties: Properties) -> None:
    of = {"Resource": context.place.function_arn(physical_id)}
    if keys := lost_tags(context, former, properties):
        await remove(context, "lambda", "UntagResource", {**of, "TagKeys": keys})
    if tags := tag_map(context, properties):
        await context.call("lambda", "TagResource", {**of, "Tags": tags})


def _made(name: str, configuration: Mapping[str, Any]) -> Made:
    snap_start = configuration.get("SnapStart") or {}
    attributes = {
        "Arn": configuration["FunctionArn"],
        "SnapStartResponse": snap_start,
        "SnapStartResponse.ApplyOn": snap_start.get("ApplyOn", "None"),
        "SnapStartResponse.OptimizationStatus": snap_start.get("OptimizationStatus", "Off"),
    }
    return Made(name, attributes)


FUNCTION: Final = ResourceType(
    properties=known(
        *_SETTINGS,
        *("Architectures", "CodeSigningConfigArn", "RecursiveLoop", "ReservedConcurrentExecutions"),
        *("RuntimeManagementConfig", "Tags"),
        required=("Code", "Role"),
        replacing=("FunctionName", "PackageType", "TenancyConfig"),
        shapes={
            "Code": Members(optional={"ZipFile": TEXT}),
            "FunctionName": TEXT,
            "LoggingConfig": OBJECT,
            "RuntimeManagementConfig": OBJECT,
        },
    ),
    create=create,
    update=update,
    delete=delete,
    attributes=frozenset(
        {"Arn", "SnapStartResponse", "SnapStartResponse.ApplyOn", "SnapStartResponse.OptimizationStatus"}
    ),
    predicted_id=by_name,
    name_property="FunctionName",
    name_length_max=64,
)
"""A function, known by its name."""
