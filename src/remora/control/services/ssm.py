"""
Systems Manager: parameters, as functions and deploy tools read them.

Values of the type SecureString are sealed with the node's own key; it stands for `alias/aws/ssm`.

Source: AWS Systems Manager API Reference; user guide, "AWS Systems Manager Parameter Store".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import msgspec

from remora.auth.vault import Vault, VaultError
from remora.control.services.neighbour import Neighbour, ServiceError
from remora.control.services.pages import read_token, write_token
from remora.control.services.ssm_filters import is_below, matches
from remora.resources.names import parameter_name
from remora.resources.neighbours import Parameter
from remora.resources.view import Change, View
from remora.spec import rpc_api

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from remora.control.context import Control
    from remora.control.services.neighbour import Handler

SERVICE: Final = "ssm"
VAULT: Final = "vault.key"
"""The file with the key of secure values, in the data directory."""

Request = dict[str, Any]
Reply = dict[str, Any]

_SECURE: Final = "SecureString"
_KEY: Final = "alias/aws/ssm"
_VALUE_CHARACTERS_MAX: Final = 4_096
"""Of the tier Standard. Source: "Managing parameter tiers"."""
_TAGS_MAX: Final = 50


class Ssm:
    """
    Performs the operations.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._vault = Vault(control.data / VAULT)

    def __repr__(self) -> str:
        return f"<Ssm parameters={len(self._control.state.view.parameters)}>"

    def handlers(self) -> Mapping[str, Handler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "AddTagsToResource": self.add_tags_to_resource,
            "DeleteParameter": self.delete_parameter,
            "DeleteParameters": self.delete_parameters,
            "DescribeParameters": self.describe_parameters,
            "GetParameter": self.get_parameter,
            "GetParameters": self.get_parameters,
            "GetParametersByPath": self.get_parameters_by_path,
            "ListTagsForResource": self.list_tags_for_resource,
            "PutParameter": self.put_parameter,
            "RemoveTagsFromResource": self.remove_tags_from_resource,
        }

    # --- one parameter --------------------------------------------------------------------------------------

    async def put_parameter(self, request: Request) -> Reply:
        """Make a parameter, or change it if the request says so."""
        name, now = request["Name"], self._control.clock.wall_ms()
        if len(request["Value"]) > _VALUE_CHARACTERS_MAX:
            text = f"The value of a parameter has at most {_VALUE_CHARACTERS_MAX} characters."
            raise ServiceError("ValidationException", text)
        if request.get("Overwrite") and request.get("Tags"):
            text = (
                "Invalid request: tags and overwrite can't be used together. To create a parameter with "
                "tags, remove overwrite; to change the tags of one that there is, use AddTagsToResource."
            )
            raise ServiceError("ValidationException", text)
        former = self._control.state.view.parameters.get(name)
        kind = request.get("Type") or (former.type if former else "")
        value = request["Value"]
        _check_key(request, kind)
        if kind == _SECURE:
            value = await self._ask_vault(self._vault.seal, value, name)

        def decide(view: View) -> tuple[int, list[Change]]:
            former = view.parameters.get(name)
            if former is not None and not request.get("Overwrite"):
                text = (
                    "The parameter already exists. To overwrite this value, set the overwrite option in the "
                    "request to true."
                )
                raise ServiceError("ParameterAlreadyExists", text)
            if not kind or (former is None and "Type" not in request):
                raise ServiceError(
                    "ValidationException", "A parameter type is required when you create a parameter."
                )
            if former is not None and "Type" not in request and former.type != kind:
                text = f"The type of {name} was changed meanwhile: try again."  # it is sealed, or must not be
                raise ServiceError("TooManyUpdates", text)
            parameter = Parameter(
                name=name,
                type=kind,
                value=value,
                version=former.version + 1 if former else 1,
                modified_ms=now,
                description=request.get("Description", former.description if former else ""),
                data_type=request.get("DataType", "text"),
                tags=former.tags if former else _tags({}, request),
            )
            return parameter.version, [Change("parameter", name, parameter)]

        return {"Version": await self._control.state.change(decide), "Tier": "Standard"}

    async def get_parameter(self, request: Request) -> Reply:
        """Show a parameter."""
        found = self._find(request["Name"])
        if found is None:
            raise ServiceError("ParameterNotFound", "")
        return {"Parameter": (await self._shown([found], request))[0]}

    async def delete_parameter(self, request: Request) -> Reply:
        """Delete a parameter."""
        deleted = await self._delete([request["Name"]])
        if not deleted:
            raise ServiceError("ParameterNotFound", "")
        return {}

    # --- several --------------------------------------------------------------------------------------------

    async def get_parameters(self, request: Request) -> Reply:
        """Show several parameters, and name those that there are not."""
        names = list(dict.fromkeys(request["Names"]))
        found = {name: self._find(name) for name in names}
        known = [each for each in found.values() if each is not None]
        return {
            "Parameters": await self._shown(known, request),
            "InvalidParameters": [name for name in names if found[name] is None],
        }

    async def get_parameters_by_path(self, request: Request) -> Reply:
        """Show the parameters below a path, one page."""
        path, filters = request["Path"], request.get("ParameterFilters", ())
        if not path.startswith("/"):
            text = "The parameter doesn't meet the parameter name requirements: a path begins with a slash."
            raise ServiceError("ValidationException", text)
        deep = bool(request.get("Recursive"))
        page, token = self._page(
            request, lambda each: is_below(each.name, path, deep=deep) and matches(each, filters)
        )
        return {"Parameters": await self._shown(page, request), "NextToken": token}

    async def describe_parameters(self, request: Request) -> Reply:
        """Describe parameters without their values, one page."""
        filters = [*request.get("ParameterFilters", ()), *_newer(request.get("Filters", ()))]
        page, token = self._page(request, lambda each: matches(each, filters))
        described = [
            {
                **{name: shown for name, shown in self._describe(each).items() if name != "Value"},
                "Description": each.description or None,
                "KeyId": _KEY if each.type == _SECURE else None,
                "Tier": "Standard",
                "Policies": [],
            }
            for each in page
        ]
        return {"Parameters": described, "NextToken": token}

    async def delete_parameters(self, request: Request) -> Reply:
        """Delete several parameters, and name those that there are not."""
        names = list(dict.fromkeys(request["Names"]))
        deleted = await self._delete(names)
        return {
            "DeletedParameters": deleted,
            "InvalidParameters": [name for name in names if name not in deleted],
        }

    # --- tags -----------------------------------------------------------------------------------------------

    async def add_tags_to_resource(self, request: Request) -> Reply:
        """Give a parameter tags."""
        await self._retag(request, lambda tags: _tags(tags, request))
        return {}

    async def remove_tags_from_resource(self, request: Request) -> Reply:
        """Take tags from a parameter."""
        gone = set(request["TagKeys"])
        await self._retag(request, lambda tags: {key: tags[key] for key in tags if key not in gone})
        return {}

    async def list_tags_for_resource(self, request: Request) -> Reply:
        """List a parameter's tags."""
        tags = self._tagged(self._control.state.view, request).tags
        return {"TagList": [{"Key": key, "Value": value} for key, value in tags.items()]}

    async def _retag(self, request: Request, change: Callable[[dict[str, str]], dict[str, str]]) -> None:
        def decide(view: View) -> tuple[None, list[Change]]:
            parameter = self._tagged(view, request)
            tagged = msgspec.structs.replace(parameter, tags=change(parameter.tags))
            return None, [Change("parameter", parameter.name, tagged)]

        await self._control.state.change(decide)

    def _tagged(self, view: View, request: Request) -> Parameter:
        if request["ResourceType"] != "Parameter":
            raise ServiceError("InvalidResourceType", "Of all resources, this node has parameters only.")
        found = view.parameters.get(request["ResourceId"])
        if found is None:
            raise ServiceError("InvalidResourceId", "")
        return found

    # --- parts ----------------------------------------------------------------------------------------------

    def _find(self, text: str) -> Parameter | None:
        """Find a parameter by its name or ARN, with or without its present version."""
        known = self._control.state.view.parameters
        bare, version = parameter_name(text)
        found = known.get(bare) or known.get(bare.removeprefix("/"))
        return found if found is not None and version in {"", str(found.version)} else None

    async def _delete(self, names: Iterable[str]) -> list[str]:
        """Delete parameters; return the names of those that there were."""

        def decide(view: View) -> tuple[list[str], list[Change]]:
            known = [name for name in names if name in view.parameters]
            return known, [Change("parameter", name, None) for name in known]

        return await self._control.state.change(decide)

    def _page(
        self, request: Request, is_wanted: Callable[[Parameter], bool]
    ) -> tuple[list[Parameter], str | None]:
        """Return the page of parameters that a request asks for, and the token of the next one."""
        after = read_token(request["NextToken"], str) if "NextToken" in request else ""
        known = self._control.state.view.parameters
        found = [known[name] for name in sorted(known) if name > after and is_wanted(known[name])]
        size = request.get("MaxResults", 10)
        return found[:size], write_token(found[size - 1].name) if len(found) > size else None

    async def _shown(self, parameters: Iterable[Parameter], request: Request) -> list[Reply]:
        """Describe parameters with their values; those that are sealed are opened if the request says so."""
        return [
            {**self._describe(each), "Value": await self._ask_vault(self._vault.open, each.value, each.name)}
            if each.type == _SECURE and request.get("WithDecryption")
            else self._describe(each)
            for each in parameters
        ]

    async def _ask_vault(self, work: Callable[[str, str], str], text: str, name: str) -> str:
        try:
            return await asyncio.to_thread(work, text, name)
        except VaultError as error:
            raise ServiceError("InvalidKeyId", str(error)) from error

    def _describe(self, parameter: Parameter) -> Reply:
        return {
            "Name": parameter.name,
            "Type": parameter.type,
            "Value": parameter.value,
            "Version": parameter.version,
            "LastModifiedDate": parameter.modified_ms / 1000,
            "ARN": self._control.place.parameter_arn(parameter.name),
            "DataType": parameter.data_type,
        }


def service(control: Control) -> Neighbour:
    """Return the service."""
    handlers = Ssm(control).handlers()
    api = rpc_api.load("ssm", "2014-11-06", handlers.keys())
    return Neighbour(SERVICE, api, handlers, control.new_id)


def _check_key(request: Request, kind: str) -> None:
    """Refuse other keys than the node's own one."""
    if "KeyId" not in request:
        return
    if kind != _SECURE:
        raise ServiceError("ValidationException", "KeyId is required for SecureString type parameter only.")
    if request["KeyId"].rpartition(":")[2] != _KEY:
        raise ServiceError("InvalidKeyId", f"This node has one key, {_KEY}, and not {request['KeyId']}.")


def _tags(former: Mapping[str, str], request: Request) -> dict[str, str]:
    merged = {**former, **{tag["Key"]: tag["Value"] for tag in request.get("Tags", ())}}
    if len(merged) > _TAGS_MAX:
        raise ServiceError("TooManyTagsError", f"A parameter has at most {_TAGS_MAX} tags.")
    return merged


def _newer(filters: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return filters as former clients send them in today's form."""
    return [{"Key": each["Key"], "Option": "Equals", "Values": each["Values"]} for each in filters]
