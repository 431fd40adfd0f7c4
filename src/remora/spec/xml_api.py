"""
Services that answer in XML, as data: query (IAM, STS) and rest-xml (S3).

A query request is a form: `Action` names the operation, nested members are called `Tags.member.1.Key`.
Source: botocore's service models; Smithy 2.0 specification, "AWS Query protocol".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.loaders import Loader

from remora.spec import constraints, xml
from remora.spec.shapes import Shape, learn

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

_ITEMS_MAX: Final = 1_000
"""Elements of one list in a form."""


@dataclass(frozen=True, slots=True)
class XmlOperation:
    """
    One operation.

    Args:
        name: `CreateRole`.
        input: Shape of the request; None if it takes nothing.
        output: Shape of the reply; None if there is none.
        wrapper: Element around the members of the reply, `CreateRoleResult`; None if there is none.
    """

    name: str
    input: Shape | None
    output: Shape | None
    wrapper: str | None


class XmlApi:
    """
    Parses and lays out requests and replies of one service.

    Args:
        document: The service model.
        offered: The operations to know. Only their shapes are read.
    """

    def __init__(self, document: Mapping[str, Any], offered: Collection[str]) -> None:
        self.namespace: str = document["metadata"].get("xmlNamespace", "")
        self.shapes: dict[str, Shape] = {}
        self.operations = {
            name: self._read(name, document["shapes"], document["operations"][name]) for name in offered
        }

    def __repr__(self) -> str:
        return f"<XmlApi {self.namespace} operations={len(self.operations)}>"

    def _read(self, name: str, definitions: Mapping[str, Any], definition: Mapping[str, Any]) -> XmlOperation:
        output = definition.get("output")
        return XmlOperation(
            name,
            learn(self.shapes, definitions, definition.get("input")),
            learn(self.shapes, definitions, output),
            output.get("resultWrapper") if output else None,
        )

    def parse_form(self, operation: XmlOperation, form: Mapping[str, str]) -> dict[str, Any]:
        """
        Read and check a query request.

        Raises:
            ApiError: SerializationException if a value has the wrong type, ValidationException if the model
                does not allow it.
        """
        if operation.input is None:
            return {}
        found: dict[str, Any] = self._member(operation.input, form, "") or {}
        constraints.check(self.shapes, operation.input, found)
        return found

    def _member(self, shape: Shape, form: Mapping[str, str], name: str) -> Any:
        """Read what the form has under `name`; None if there is nothing."""
        match shape.kind:
            case "structure":
                prefix = f"{name}." if name else ""
                found = {
                    member.name: self._member(self.shapes[member.shape], form, f"{prefix}{member.wire_name}")
                    for member in shape.members.values()
                }
                present = {key: value for key, value in found.items() if value is not None}
                return present or None
            case "list":
                return self._list(shape, form, name)
            case kind:
                value = form.get(name)
                return None if value is None else xml.scalar(kind, value)

    def _list(self, shape: Shape, form: Mapping[str, str], name: str) -> list[Any] | None:
        element = self.shapes[shape.element or ""]
        prefix = name if shape.is_flattened else f"{name}.{shape.element_name or 'member'}"
        items: list[Any] = []
        while len(items) < _ITEMS_MAX:
            item = self._member(element, form, f"{prefix}.{len(items) + 1}")
            if item is None:
                break
            items.append(item)
        if not items and form.get(name) == "":
            return items
        return items or None

    def write_reply(self, operation: XmlOperation, reply: Mapping[str, Any], request_id: str) -> bytes:
        """Lay out the reply of a query operation."""
        result = ""
        if operation.output is not None and operation.wrapper is not None:
            result = xml.write(self.shapes, operation.output, reply, operation.wrapper)
        document = (
            f'<{operation.name}Response xmlns="{self.namespace}">{result}<ResponseMetadata>'
            f"<RequestId>{request_id}</RequestId></ResponseMetadata></{operation.name}Response>"
        )
        return document.encode()


def load(service: str, version: str, offered: Collection[str]) -> XmlApi:
    """
    Read a model that comes with botocore; models in the user's home are not looked at.

    Args:
        service: Its name there, `iam`.
        version: The date of its API, `2010-05-08`.
        offered: As for `XmlApi`.
    """
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return XmlApi(loader.load_service_model(service, "service-2", api_version=version), offered)
