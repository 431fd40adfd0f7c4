"""
Services that are called by the name of an operation, as data: the small part of AWS next to Lambda.

Their requests are one JSON object (AWS JSON 1.0 and 1.1) or the same in CBOR (Smithy RPC v2); an HTTP header
or the path names the operation. Source: botocore's service models; the Smithy 2.0 specifications "AWS JSON
1.1 protocol" and "Smithy RPC v2 CBOR protocol".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.loaders import Loader

from remora.spec import codec, constraints
from remora.spec.shapes import Shape, learn

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping


@dataclass(frozen=True, slots=True)
class RpcOperation:
    """
    One operation.

    Args:
        name: `ListMetrics`.
        input: Shape of the request; None if it takes nothing.
        output: Shape of the reply; None if there is none.
    """

    name: str
    input: Shape | None
    output: Shape | None


class RpcApi:
    """
    Parses and lays out requests and replies of one service.

    Args:
        document: The service model.
        offered: The operations to know; None for all. Only their shapes are read.
    """

    def __init__(self, document: Mapping[str, Any], offered: Collection[str] | None = None) -> None:
        metadata = document["metadata"]
        self.target_prefix: str = metadata["targetPrefix"]
        self.json_version: str = metadata.get("jsonVersion", "1.0")
        self.shapes: dict[str, Shape] = {}
        definitions = document["shapes"]
        self.operations = {
            name: RpcOperation(
                name,
                learn(self.shapes, definitions, definition.get("input")),
                learn(self.shapes, definitions, definition.get("output")),
            )
            for name, definition in document["operations"].items()
            if offered is None or name in offered
        }
        self.query_errors: dict[str, str] = {
            name: definition["error"]["code"]
            for name, definition in document["shapes"].items()
            if definition.get("exception") and "code" in definition.get("error", {})
        }
        """Codes of errors for clients that still know them from the former protocol, by shape."""

    def __repr__(self) -> str:
        return f"<RpcApi {self.target_prefix} operations={len(self.operations)}>"

    def parse(self, operation: RpcOperation, document: Any) -> dict[str, Any]:
        """
        Check a request that was read from its document.

        Returns:
            Members by their name in the model.

        Raises:
            ApiError: SerializationException if a value has the wrong type, ValidationException if the model
                does not allow it.
        """
        if operation.input is None:
            return {}
        found = codec.read_document(self.shapes, operation.input, document)
        constraints.check(self.shapes, operation.input, found)
        return found

    def plain(self, operation: RpcOperation, reply: Mapping[str, Any]) -> dict[str, Any]:
        """Return a reply (members by their name in the model) as the document that goes on the wire."""
        if operation.output is None:
            return {}
        return codec.write_document(self.shapes, operation.output, reply)


def load(service: str, version: str, offered: Collection[str] | None = None) -> RpcApi:
    """
    Read a model that comes with botocore; models in the user's home are not looked at.

    Args:
        service: Its name there, `cloudwatch`.
        version: The date of its API, `2010-08-01`.
        offered: As for `RpcApi`.
    """
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    return RpcApi(loader.load_service_model(service, "service-2", api_version=version), offered)
