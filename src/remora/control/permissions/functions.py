"""
What permissions requests to the Lambda API need: those for the operation, and for what it refers to.

Whoever gives a function a role needs `iam:PassRole` for it, whoever gives it layers needs
`lambda:GetLayerVersion` for them, and whoever takes code from a bucket `s3:GetObject`; and the role of a
function whose results go to another one has to be allowed to invoke it: nobody is to reach through a function
what is out of reach otherwise.

Source: service authorization reference, "Actions, resources, and condition keys for AWS Lambda"; AWS Lambda
Developer Guide, "Identity-based IAM policies for Lambda".
"""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any, Final

from remora.control.permissions.base import Need
from remora.resources.names import Target, parse_layer, resolve_function
from remora.resources.signing import is_config
from remora.spec import codec
from remora.spec.errors import ApiError
from remora.spec.lambda_api import Route

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from remora.control.context import Control
    from remora.control.permissions.base import Statement
    from remora.http.exchange import Exchange
    from remora.resources.names import Place
    from remora.resources.view import View

Context = dict[str, "str | tuple[str, ...]"]
Request = dict[str, Any]

_ACTIONS: Final = {
    "Invoke": "InvokeFunction",
    "InvokeWithResponseStream": "InvokeFunction",
    "GetLayerVersionByArn": "GetLayerVersion",
}
"""Operations whose permission is called otherwise."""
_READ: Final = frozenset(
    {"AddPermission", "CreateFunction", "CreateFunctionUrlConfig", "PublishLayerVersion"}
    | {"PutFunctionCodeSigningConfig", "PutFunctionEventInvokeConfig", "TagResource", "UntagResource"}
    | {"UpdateFunctionCode", "UpdateFunctionConfiguration", "UpdateFunctionEventInvokeConfig"}
    | {"UpdateFunctionUrlConfig"}
)
"""Operations whose request has to be read to know what it needs."""
_OF_QUALIFIED: Final = frozenset(
    {"AddPermission", "CreateFunctionUrlConfig", "DeleteFunction", "DeleteFunctionEventInvokeConfig"}
    | {"DeleteFunctionUrlConfig", "DeleteProvisionedConcurrencyConfig", "DeleteResourcePolicy", "GetFunction"}
    | {"GetFunctionConfiguration", "GetFunctionEventInvokeConfig", "GetFunctionUrlConfig", "GetPolicy"}
    | {"GetProvisionedConcurrencyConfig", "GetResourcePolicy", "GetRuntimeManagementConfig", "Invoke"}
    | {"InvokeAsync", "InvokeWithResponseStream", "PutFunctionEventInvokeConfig", "RemovePermission"}
    | {"PutProvisionedConcurrencyConfig", "PutResourcePolicy", "PutRuntimeManagementConfig"}
    | {"UpdateFunctionEventInvokeConfig", "UpdateFunctionUrlConfig"}
)
"""Operations on a version or alias if they name one; all others are on the function, whatever they name."""
_NUMBER: Final = re.compile(r"[0-9]{1,19}")
_SENDING: Final = ("PutFunctionEventInvokeConfig", "UpdateFunctionEventInvokeConfig")
"""Results of a function go where its role may send them."""
_LARGE_BODY_BYTES: Final = 256 * 1024
"""From here on a body is parsed in a thread."""
LAMBDA_PRINCIPAL: Final = "lambda.amazonaws.com"


async def needs_of_lambda(control: Control, exchange: Exchange) -> list[Need]:
    """
    Return the permissions that a request needs, that for the operation first.

    Raises:
        ApiError: What is wrong with the name of a function, or with the request.
    """
    route = exchange.slot
    if not isinstance(route, Route):
        return [Need("lambda:Unknown")]
    name = route.operation.name
    request: Request = {}
    if name in _READ:
        parts = (route, exchange.query, exchange.header, exchange.body)
        if len(exchange.body) < _LARGE_BODY_BYTES:
            request = control.api.parse(*parts)
        else:
            request = await asyncio.to_thread(control.api.parse, *parts)
    view, place = control.state.view, control.place
    resource, policy, tags = _resource(view, place, name, {**request, **_named(route, exchange.query)})
    if "Layers" in request:  # however they are written, they are named as policies name them
        request = {**request, "Layers": [_layer_arn(place, arn) for arn in request["Layers"]]}
    first = Need(f"lambda:{_ACTIONS.get(name, name)}", resource, policy, {**tags, **_context(request)})
    return [first, *_further(view, place, resource, request)]


def may_need_role(exchange: Exchange) -> bool:
    """Tell whether a request may need permissions of a role, which nobody else's can replace."""
    route = exchange.slot
    return isinstance(route, Route) and route.operation.name in _SENDING


def _named(route: Route, query: bytes) -> Request:
    """Return what path and query name, as the operation reads them; what it passes over is left out."""
    given = codec.parse_query(query)
    found = {name: codec.unquote(value) for name, value in route.labels.items()}
    for member in route.operation.input.members.values():
        if member.location == "querystring" and member.wire_name in given:
            found[member.name] = given[member.wire_name][0]
    return found


def _resource(
    view: View, place: Place, operation: str, named: Request
) -> tuple[str, tuple[Statement, ...], Context]:
    """Return the ARN that a request is about, the resource's own policy and its tags."""
    if name := named.get("FunctionName") or named.get("Resource") or named.get("ResourceArn"):
        if is_config(name):
            return name, (), _tags_of_config(view, name)
        target = resolve_function(place, name, named.get("Qualifier"))
        if operation not in _OF_QUALIFIED:
            target = Target(target.name, None)
        found = view.policies.get(target.name, {}).get(target.version)
        function = view.functions.get(target.name)
        context = _tags(function.tags if function is not None else {})
        arn = place.function_arn(target.name, target.qualifier)
        return arn, found.statements if found is not None else (), context
    if name := named.get("LayerName") or named.get("Arn"):
        layer, number = parse_layer(name), str(named.get("VersionNumber", ""))
        version = layer.version if "Arn" in named else None
        version = int(number) if _NUMBER.fullmatch(number) else version
        return place.layer_arn(layer.name, version), _policy_of_layer(view, layer.name, version), {}
    if name := named.get("CodeSigningConfigArn"):
        return name, (), _tags_of_config(view, name)
    return "*", (), {}


def _tags(tags: Mapping[str, str]) -> Context:
    return {f"aws:resourcetag/{key.lower()}": value for key, value in tags.items()}


def _tags_of_config(view: View, arn: str) -> Context:
    config = view.signing_configs.get(arn)
    return _tags(config.tags if config is not None else {})


def _context(request: Request) -> Context:
    """Return the condition keys that a request sets."""
    context: Context = {}
    for key, member in (("functionurlauthtype", "AuthType"), ("principal", "Principal")):
        if member in request:
            context[f"lambda:{key}"] = request[member]
    if "FunctionUrlAuthType" in request:
        context["lambda:functionurlauthtype"] = request["FunctionUrlAuthType"]
    if request.get("Layers"):
        context["lambda:layer"] = tuple(request["Layers"])
    if "CodeSigningConfigArn" in request:
        context["lambda:codesigningconfigarn"] = request["CodeSigningConfigArn"]
    tags = request.get("Tags") or {}
    context |= {f"aws:requesttag/{key.lower()}": value for key, value in tags.items()}
    if keys := tuple(tags) + tuple(request.get("TagKeys", ())):
        context["aws:tagkeys"] = keys
    return context


def _further(view: View, place: Place, function: str, request: Request) -> Iterator[Need]:
    """Go through the permissions for what a request refers to."""
    if role := request.get("Role"):
        if role.split(":")[4] != place.account:
            raise ApiError("AccessDeniedException", "Cross-account pass role is not allowed.")
        passed: Context = {
            "iam:passedtoservice": LAMBDA_PRINCIPAL,
            "iam:associatedresourcearn": function,
        }
        yield Need("iam:PassRole", role, context=passed)
    for arn in request.get("Layers", ()):
        layer = parse_layer(arn)
        is_ours = layer.account == place.account  # others are judged where they are
        policy = _policy_of_layer(view, layer.name, layer.version) if is_ours else ()
        yield Need("lambda:GetLayerVersion", arn, policy)
    source = request.get("Code") or request.get("Content") or request
    if "S3Bucket" in source and "S3Key" in source:
        where = f"{source['S3Bucket']}/{source['S3Key']}"
        action = "GetObjectVersion" if source.get("S3ObjectVersion") else "GetObject"
        text = (
            "Your access has been denied by S3, please make sure your request credentials have permission to "
            f"GetObject for {where}. S3 Error Code: AccessDenied. S3 Error Message: Access Denied"
        )
        yield Need(f"s3:{action}", f"arn:aws:s3:::{where}", refusal=text)
    yield from _destinations(view, place, request)


def _destinations(view: View, place: Place, request: Request) -> Iterator[Need]:
    """Go through the functions that a function's role has to be allowed to invoke: its results go there."""
    for each in request.get("DestinationConfig", {}).values():
        arn = each.get("Destination", "")
        function = view.functions.get(resolve_function(place, request["FunctionName"]).name)
        if ":lambda:" in arn and function is not None:
            yield need_to_send(view, place, function.latest.role, arn)


def need_to_send(view: View, place: Place, role: str, arn: str) -> Need:
    """Return the permission that a function's role needs for results to go to another function."""
    target = resolve_function(place, arn)
    found = view.policies.get(target.name, {}).get(target.version)
    return Need(
        "lambda:InvokeFunction",
        place.function_arn(target.name, target.qualifier),
        found.statements if found is not None else (),
        refusal=f"The function's execution role does not have permissions to call InvokeFunction on {arn}",
        role=role,
    )


def _layer_arn(place: Place, text: str) -> str:
    """Return the ARN of a layer version as the node itself writes it, if the layer can be one of its own."""
    layer = parse_layer(text)
    return place.layer_arn(layer.name, layer.version) if layer.account == place.account else text


def _policy_of_layer(view: View, name: str, version: int | None) -> tuple[Statement, ...]:
    found = view.layer_policies.get(name, {}).get(version or 0)
    return found.statements if found is not None else ()
