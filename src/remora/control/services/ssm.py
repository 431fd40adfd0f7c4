"""
Systems Manager: parameters, as functions and deploy tools read them.

Source: AWS Systems Manager API Reference.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from remora.control.services.neighbour import Neighbour, ServiceError
from remora.resources.neighbours import Parameter
from remora.resources.view import Change, View
from remora.spec import rpc_api

if TYPE_CHECKING:
    from collections.abc import Mapping

    from remora.control.context import Control
    from remora.control.services.neighbour import Handler

SERVICE: Final = "ssm"

Request = dict[str, Any]
Reply = dict[str, Any]

_VALUE_CHARACTERS_MAX: Final = 4_096
"""Of the tier Standard. Source: "Managing parameter tiers"."""


class Ssm:
    """
    Performs the operations.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control

    def __repr__(self) -> str:
        return f"<Ssm parameters={len(self._control.state.view.parameters)}>"

    def handlers(self) -> Mapping[str, Handler]:
        """Return what performs each operation, by its name in the model."""
        return {
            "DeleteParameter": self.delete_parameter,
            "GetParameter": self.get_parameter,
            "GetParameters": self.get_parameters,
            "PutParameter": self.put_parameter,
        }

    async def put_parameter(self, request: Request) -> Reply:
        """Make a parameter, or change it if the request says so."""
        name, now = request["Name"], self._control.clock.wall_ms()
        if len(request["Value"]) > _VALUE_CHARACTERS_MAX:
            text = f"The value of a parameter has at most {_VALUE_CHARACTERS_MAX} characters."
            raise ServiceError("ValidationException", text)
        if request.get("Type") == "SecureString":
            text = "SecureString is not offered by this node, for it has no keys to encrypt with: use String."
            raise ServiceError("ValidationException", text)

        def decide(view: View) -> tuple[int, list[Change]]:
            former = view.parameters.get(name)
            if former is not None and not request.get("Overwrite"):
                text = (
                    "The parameter already exists. To overwrite this value, set the overwrite option in the "
                    "request to true."
                )
                raise ServiceError("ParameterAlreadyExists", text)
            if former is None and "Type" not in request:
                raise ServiceError(
                    "ValidationException", "A parameter type is required when you create a parameter."
                )
            kind = request.get("Type", former.type if former else "")
            parameter = Parameter(
                name=name,
                type=kind,
                value=request["Value"],
                version=former.version + 1 if former else 1,
                modified_ms=now,
                description=request.get("Description", former.description if former else ""),
                data_type=request.get("DataType", "text"),
            )
            return parameter.version, [Change("parameter", name, parameter)]

        return {"Version": await self._control.state.change(decide), "Tier": "Standard"}

    async def get_parameter(self, request: Request) -> Reply:
        """Show a parameter."""
        found = self._find(request["Name"])
        if found is None:
            raise ServiceError("ParameterNotFound", "")
        return {"Parameter": self._describe(found)}

    async def get_parameters(self, request: Request) -> Reply:
        """Show several parameters, and name those that there are not."""
        names = list(dict.fromkeys(request["Names"]))
        found = {name: self._find(name) for name in names}
        return {
            "Parameters": [self._describe(each) for each in found.values() if each is not None],
            "InvalidParameters": [name for name in names if found[name] is None],
        }

    async def delete_parameter(self, request: Request) -> Reply:
        """Delete a parameter."""

        def decide(view: View) -> tuple[None, list[Change]]:
            if request["Name"] not in view.parameters:
                raise ServiceError("ParameterNotFound", "")
            return None, [Change("parameter", request["Name"], None)]

        await self._control.state.change(decide)
        return {}

    def _find(self, text: str) -> Parameter | None:
        """Find a parameter by its name or ARN, with or without its present version."""
        known = self._control.state.view.parameters
        bare, version = parameter_name(text)
        found = known.get(bare) or known.get(bare.removeprefix("/"))
        return found if found is not None and version in {"", str(found.version)} else None

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


def parameter_name(text: str) -> tuple[str, str]:
    """Return the name, and the version or an empty text for the present one, in a name or ARN."""
    name = text.partition(":parameter")[2] if text.startswith("arn:") else text
    bare, _, version = name.partition(":")
    return bare, version


def ssm_service(control: Control) -> Neighbour:
    """Return the service."""
    handlers = Ssm(control).handlers()
    api = rpc_api.load("ssm", "2014-11-06", handlers.keys())
    return Neighbour(SERVICE, api, handlers, control.new_id)
