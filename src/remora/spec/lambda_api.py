"""
The Lambda API as data: operations, their routes and shapes, read once from botocore's service model.

Source: botocore, `lambda/2015-03-31/service-2.json`, with the deviations listed in `_CLASSIC` and `_LOOSE`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qsl

from botocore.loaders import Loader

from remora.spec import codec, constraints, limits
from remora.spec.shapes import Shape, read_shape

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# The model's bounds are those of managed instances; ordinary functions keep the quotas.
_CLASSIC: Final = {
    "MemorySize": limits.MEMORY_MIB_MAX,
    "Timeout": limits.TIMEOUT_S_MAX,
    "EphemeralStorageSize": limits.EPHEMERAL_MIB_MAX,
}

# An unknown runtime of a function is answered with InvalidParameterValueException, by the rules, not here.
_LOOSE: Final = (("CreateFunctionRequest", "Runtime"), ("UpdateFunctionConfigurationRequest", "Runtime"))


@dataclass(frozen=True, slots=True)
class Operation:
    """
    One operation.

    Args:
        name: `CreateFunction`.
        method: HTTP method.
        segments: Path segments; a label is `{Name}`.
        constant: Query name and value that select the operation, `("find", "LayerVersion")`; None for most.
        status: HTTP status of success.
        input: Shape of the request.
        output: Shape of the reply; None if there is none.
    """

    name: str
    method: str
    segments: tuple[str, ...]
    constant: tuple[str, str] | None
    status: int
    input: Shape
    output: Shape | None


@dataclass(frozen=True, slots=True)
class Route:
    """Where a request goes: the operation, and its path labels as sent, still percent-encoded."""

    operation: Operation
    labels: Mapping[str, bytes]


@dataclass(slots=True)
class _Node:
    """One step of the route tree."""

    words: dict[bytes, _Node] = field(default_factory=dict)
    label: _Node | None = None
    operations: dict[bytes, list[Operation]] = field(default_factory=dict)
    """By method; those selected by a query constant first."""


class LambdaApi:
    """
    Routes, parses and lays out requests and replies of the Lambda API.

    Args:
        document: The service model.
    """

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.shapes = _read_shapes(document["shapes"])
        self.operations: dict[str, Operation] = {}
        self._root = _Node()
        for name, definition in document["operations"].items():
            operation = self._read_operation(name, definition)
            self.operations[name] = operation
            self._plant(operation)

    def __repr__(self) -> str:
        return f"<LambdaApi operations={len(self.operations)} shapes={len(self.shapes)}>"

    def route(self, method: bytes, path: bytes, query: bytes) -> Route | None:
        """
        Find the operation of a request.

        The raw path is split first and its segments are decoded later, so a label may contain any character.
        One slash at the end is passed over: older SDKs sent it.
        """
        segments = path.split(b"/")[1:]
        if len(segments) > 1 and not segments[-1]:
            segments.pop()
        node: _Node | None = self._root
        values: list[bytes] = []
        for segment in segments:
            assert node is not None, "the loop ends where the tree ends"
            following = node.words.get(segment)
            if following is None:
                following = node.label
                values.append(segment)
            if following is None:
                return None
            node = following
        for operation in node.operations.get(method, ()) if node else ():
            if operation.constant is None or _has(query, operation.constant):
                names = (part[1:-1] for part in operation.segments if part.startswith("{"))
                return Route(operation, dict(zip(names, values, strict=True)))
        return None

    def parse(
        self, route: Route, query: bytes, header: Callable[[bytes], bytes | None], body: bytes
    ) -> dict[str, Any]:
        """
        Parse and check a request.

        Returns:
            Members by their name in the model.

        Raises:
            ApiError: ValidationException, SerializationException or InvalidRequestContentException.
        """
        labels = {name: codec.unquote(value) for name, value in route.labels.items()}
        shape = route.operation.input
        found = codec.parse_request(
            self.shapes, shape, labels=labels, query=codec.parse_query(query), header=header, body=body
        )
        constraints.check(self.shapes, shape, found)
        return found

    def answer(self, operation: Operation, reply: Mapping[str, Any]) -> codec.Answer:
        """Lay out a reply (members by their name in the model)."""
        return codec.make_answer(self.shapes, operation.output, operation.status, reply)

    def enum(self, shape: str) -> tuple[str, ...]:
        """Return the allowed texts of the shape called `shape`."""
        return self.shapes[shape].enum

    def _read_operation(self, name: str, definition: Mapping[str, Any]) -> Operation:
        http = definition["http"]
        path, _, constant = http["requestUri"].partition("?")
        output = definition.get("output")
        return Operation(
            name=name,
            method=http["method"],
            segments=tuple(path.removeprefix("/").split("/")),
            constant=parse_qsl(constant)[0] if constant else None,
            status=http.get("responseCode", 200),
            input=self.shapes[definition["input"]["shape"]],
            output=self.shapes[output["shape"]] if output else None,
        )

    def _plant(self, operation: Operation) -> None:
        node = self._root
        for segment in operation.segments:
            if segment.startswith("{"):
                node.label = node.label or _Node()
                node = node.label
            else:
                node = node.words.setdefault(segment.encode(), _Node())
        siblings = node.operations.setdefault(operation.method.encode(), [])
        siblings.insert(0 if operation.constant else len(siblings), operation)


def load() -> LambdaApi:
    """Read the model that comes with botocore; models in the user's home are not looked at."""
    loader = Loader(
        extra_search_paths=[Loader.BUILTIN_DATA_PATH],
        include_default_search_paths=False,
    )
    return LambdaApi(loader.load_service_model("lambda", "service-2", api_version="2015-03-31"))


def _read_shapes(definitions: Mapping[str, Any]) -> dict[str, Shape]:
    shapes = {name: read_shape(name, definition) for name, definition in definitions.items()}
    for name, maximum in _CLASSIC.items():
        shapes[name] = shapes[name].with_maximum(maximum)
    for name, member in _LOOSE:
        shapes[name] = shapes[name].with_member_shape(member, "String")
    return shapes


def _has(query: bytes, constant: tuple[str, str]) -> bool:
    name, value = constant
    return value in codec.parse_query(query).get(name, ())
