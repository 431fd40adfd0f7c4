"""
The node's own services, called in-process in somebody's place: read, checked and permitted as over HTTP.

Values come from templates, where a number or a boolean may be written as text, and text as a number: they are
made what the service's model says. Members that the model does not know are refused.

Source: AWS CloudFormation User Guide, "Template sections" and the messages of its resource handlers.
"""

from __future__ import annotations

import asyncio
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit

from botocore.awsrequest import HeadersDict, create_request_object, prepare_request_dict
from botocore.loaders import Loader
from botocore.model import ListShape, MapShape, OperationModel, ServiceModel, Shape, StructureShape
from botocore.parsers import ResponseParser, create_parser
from botocore.serialize import Serializer, create_serializer

from remora.iac.inside import Inside

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from remora.control.callers import Caller
    from remora.control.service import LambdaService
    from remora.http.exchange import Header
    from remora.resources.names import Place

STABLE_S: Final = 900
"""How long a resource may take to become ready to use."""
_AGENT: Final = "cloudformation.amazonaws.com"
_NAMES: Final = {"CloudWatch Logs": "CloudWatchLogs", "IAM": "Iam", "SSM": "Ssm", "STS": "Sts", "ECR": "Ecr"}
"""What CloudFormation's messages call services, where it is not what their models do."""


class CallFailed(Exception):  # noqa: N818 - said of what was called
    """
    What was asked for was refused, or did not come true; its text is as CloudFormation's handlers have it.

    Args:
        service: As CloudFormation's messages have it, `Lambda`; empty if a handler itself refused.
        operation: `CreateFunction`.
        code: The error's code, `ResourceConflictException`.
        message: In the service's words.
        status: HTTP status; 0 if there was no answer.
        request_id: Of the answer.
    """

    def __init__(
        self,
        service: str,
        operation: str,
        code: str,
        message: str,
        status: int = 400,
        *,
        request_id: str = "",
    ) -> None:
        where = f" (Service: {service}, Status Code: {status}, Request ID: {request_id})" if service else ""
        super().__init__(f"{message}{where}")
        self.service = service
        self.operation = operation
        self.code = code
        self.message = message
        self.status = status
        self.request_id = request_id


class _Wire(NamedTuple):
    """How one service is spoken to."""

    model: ServiceModel
    serializer: Serializer
    parser: ResponseParser

    @property
    def name(self) -> str:
        return _NAMES.get(self.model.service_id, str(self.model.service_id))


class Calls:
    """
    The node's own services.

    Args:
        services: The application behind the node's endpoint.
        place: Region and account of this node.
        endpoint: Base URL that clients reach the node at, `http://127.0.0.1:9000`.
    """

    def __init__(self, services: LambdaService, place: Place, endpoint: str) -> None:
        self._services = services
        self._place = place
        self._endpoint = endpoint
        self._wires: dict[str, _Wire] = {}
        self._changed = asyncio.Event()
        services.subscribe(self._tell)

    def __repr__(self) -> str:
        return f"<Calls {self._services!r}>"

    async def call(
        self, caller: Caller | None, service: str, operation: str, request: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """
        Call an operation.

        Args:
            caller: In whose place; None on a node that asks nobody for keys.
            service: Its name in scopes of signatures, and in botocore: `lambda`.
            operation: Its name in the model, `CreateFunction`.
            request: Members of the request; what is None is left out.

        Returns:
            The members of the reply.

        Raises:
            CallFailed: It was refused.

        **Cancellation:** what was asked for may come to be or not.
        """
        wire = self._wires.get(service)
        if wire is None:
            wire = self._wires[service] = await asyncio.to_thread(_wire, service)
        model = wire.model.operation_model(operation)
        exchange = self._exchange(wire, model, request or {})
        await self._services.serve(exchange, caller)
        await exchange.answered()
        reply = _read(wire, model, exchange)
        facts = reply.pop("ResponseMetadata", {})
        if 200 <= exchange.status < 300:
            return reply
        error = reply.get("Error", {})
        raise CallFailed(
            wire.name,
            operation,
            error.get("Code") or "InternalFailure",
            error.get("Message") or "There was no answer.",
            exchange.status,
            request_id=facts.get("RequestId", ""),
        )

    async def until(
        self,
        caller: Caller | None,
        service: str,
        operation: str,
        request: Mapping[str, Any],
        is_done: Callable[[dict[str, Any]], bool],
    ) -> dict[str, Any]:
        """
        Call an operation that describes something, until it is as it should be.

        Args:
            caller: As for `call`.
            service: As for `call`.
            operation: As for `call`.
            request: As for `call`.
            is_done: Is given the reply, and tells.

        Returns:
            The last reply.

        Raises:
            CallFailed: A call failed; or with the code NotStabilized, it took too long.
        """
        try:
            async with asyncio.timeout(STABLE_S):
                while True:
                    changed = self._changed
                    reply = await self.call(caller, service, operation, request)
                    if is_done(reply):
                        return reply
                    await changed.wait()
        except TimeoutError as error:
            text = f"It was not ready to use within {STABLE_S} seconds, as {operation} says."
            raise CallFailed("", operation, "NotStabilized", text) from error

    def _tell(self) -> None:
        """Wake up who waits for a change."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def _exchange(self, wire: _Wire, model: OperationModel, request: Mapping[str, Any]) -> Inside:
        fitted = {} if model.input_shape is None else _fit(model.input_shape, request, "#")
        plan = wire.serializer.serialize_to_request(fitted, model)
        prepare_request_dict(plan, self._endpoint, user_agent=_AGENT)
        prepared = create_request_object(plan).prepare()
        url = urlsplit(prepared.url)
        body = prepared.body or b""
        scope = f"inside/19700101/{self._place.region}/{wire.model.signing_name}/aws4_request"
        headers: list[Header] = [
            (b"host", url.netloc.encode()),
            (b"authorization", f"AWS4-HMAC-SHA256 Credential={scope}".encode()),
        ]
        for name, value in prepared.headers.items():
            content = value if isinstance(value, bytes) else str(value).encode()
            headers.append((name.lower().encode(), content))
        return Inside(
            prepared.method,
            f"{url.path}?{url.query}".encode(),
            headers,
            body.encode() if isinstance(body, str) else bytes(body),
            self._services,
        )


@lru_cache
def _wire(service: str) -> _Wire:
    loader = Loader(extra_search_paths=[Loader.BUILTIN_DATA_PATH], include_default_search_paths=False)
    model = ServiceModel(loader.load_service_model(service, "service-2"), service)
    protocol = model.resolved_protocol
    serializer = cast("Serializer", create_serializer(protocol, include_validation=False))
    return _Wire(model, serializer, create_parser(protocol))


def _read(wire: _Wire, model: OperationModel, exchange: Inside) -> dict[str, Any]:
    if not exchange.status:
        return {}
    headers = HeadersDict({name.decode(): value.decode("latin-1") for name, value in exchange.answer_headers})
    answer = {"status_code": exchange.status, "headers": headers, "body": exchange.answer}
    output = model.output_shape
    streamed = output is not None and exchange.status < 300 and model.get_streaming_output() is not None
    if streamed:
        answer["body"] = b""  # the parser takes it for text
    parsed: dict[str, Any] = wire.parser.parse(answer, cast("Shape", output))
    if streamed:
        parsed[cast("Shape", output).serialization["payload"]] = exchange.answer
    return parsed


def _fit(shape: Shape, value: Any, where: str) -> Any:
    """
    Return a value of a template as a model has it.

    Args:
        shape: The model.
        value: What the template says.
        where: For messages, `#/Environment`.

    Raises:
        CallFailed: ValidationException: it cannot be that.
    """
    if isinstance(shape, StructureShape):
        return _fit_structure(shape, value, where)
    if isinstance(shape, ListShape):
        if not isinstance(value, (list, tuple)):
            raise _misfit(where, "JSONArray", value)
        return [_fit(shape.member, item, f"{where}/{at}") for at, item in enumerate(value)]
    if isinstance(shape, MapShape):
        if not isinstance(value, dict):
            raise _misfit(where, "JSONObject", value)
        return {str(key): _fit(shape.value, item, f"{where}/{key}") for key, item in value.items()}
    return _fit_scalar(shape.type_name, value, where)


def _fit_structure(shape: StructureShape, value: Any, where: str) -> Any:
    if not isinstance(value, dict):
        raise _misfit(where, "JSONObject", value)
    unknown = [name for name in value if name not in shape.members and not shape.is_document_type]
    if unknown:
        raise invalid(f"{where}: extraneous key [{unknown[0]}] is not permitted")
    return {
        name: _fit(shape.members[name], item, f"{where}/{name}")
        for name, item in value.items()
        if item is not None
    }


def _fit_scalar(kind: str, value: Any, where: str) -> Any:
    match kind:
        case "string":
            if isinstance(value, bool):
                return "true" if value else "false"
            if isinstance(value, (int, float, str)):
                return str(value)
            raise _misfit(where, "String", value)
        case "boolean":
            if isinstance(value, str) and value.lower() in ("true", "false"):
                return value.lower() == "true"
            if not isinstance(value, bool):
                raise _misfit(where, "Boolean", value)
        case "blob":
            if not isinstance(value, (str, bytes)):
                raise _misfit(where, "String", value)
        case "integer" | "long" | "float" | "double":
            return _number(kind, value, where)
    return value


def _number(kind: str, value: Any, where: str) -> int | float:
    is_whole = kind in ("integer", "long")
    try:
        if isinstance(value, (str, int, float)) and not isinstance(value, bool):
            number = float(value)
            if not is_whole:
                return number
            if number.is_integer():
                return int(number)
    except ValueError:
        pass
    raise _misfit(where, "Integer" if is_whole else "Number", value)


def invalid(message: str) -> CallFailed:
    """Make the error of properties that a resource may not have."""
    return CallFailed("", "", "InvalidRequest", f"Model validation failed ({message})")


def kind_of(value: Any) -> str:
    """Return what CloudFormation calls a value of a template."""
    match value:
        case None:
            return "Null"
        case bool():
            return "Boolean"
        case int():
            return "Integer"
        case float():
            return "Number"
        case str():
            return "String"
        case list():
            return "JSONArray"
    return "JSONObject"


def _misfit(where: str, expected: str, value: Any) -> CallFailed:
    return invalid(f"{where}: expected type: {expected}, found: {kind_of(value)}")
