"""
Invoke and InvokeWithResponseStream: check, resolve the version, hand over to the pool, answer.

A warm invocation touches neither disk nor database, and needs no task: what a path and query stand for is
remembered until some record changes, and the pool answers into the connection. The parts of the request are
those of the model, but they are read here by hand.
"""

from __future__ import annotations

import base64
import binascii
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from remora.artifacts.archive import ArchiveError
from remora.control.answers import write_error
from remora.control.operations import asynchronous
from remora.control.operations.payloads import check_json, too_large
from remora.control.operations.streaming import write_stream
from remora.http.answers import block
from remora.pool.base import InvokeRequest, InvokeResult, PoolError, Throttled
from remora.pool.snapshots import RestoreFailed
from remora.resources import lineage, snapshots, versions
from remora.resources.names import Target, resolve_function
from remora.runtimes.errors import RuntimeUnavailable
from remora.spec import limits
from remora.spec.errors import ApiError, invalid

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.control.context import Control
    from remora.http.exchange import Exchange
    from remora.pool.base import Deployment
    from remora.resources.records import FunctionVersion
    from remora.spec.lambda_api import Route

_log = logging.getLogger("remora.control")

_REMEMBERED_MAX: Final = 10_000
_UNUSUAL_HEADERS: Final = frozenset({b"x-amz-tenant-id", b"x-amz-durable-execution-name"})
_HEADERS: Final = _UNUSUAL_HEADERS | {
    b"x-amz-invocation-type",
    b"x-amz-log-type",
    b"x-amz-client-context",
    b"x-amzn-trace-id",
}
"""What a request may wish for."""

_LOG_TYPES: Final = (b"None", b"Tail")


class Resolution(NamedTuple):
    """
    What a path and query stand for.

    Args:
        deployment: What runs.
        invoked_arn: The ARN exactly as invoked.
        other: What runs instead for the share `weight` of the invocations; None without a weighted alias.
        weight: 0 to 1.
        ends_loops: True unless the function may run as often as it likes in one chain of requests.
    """

    deployment: Deployment
    invoked_arn: str
    other: Deployment | None = None
    weight: float = 0.0
    ends_loops: bool = True

    def draw(self, draw: Callable[[], float]) -> Deployment:
        """Return what runs this time."""
        return self.deployment if self.other is None or draw() >= self.weight else self.other


class Wishes(NamedTuple):
    """What a request's headers ask for."""

    invocation_type: bytes = b"RequestResponse"
    log_type: bytes = b"None"
    client_context: bytes | None = None
    trace_id: str = ""
    is_unusual: bool = False
    """True if there is anything that only the model can judge."""


_USUAL: Final = Wishes()


class Invocations:
    """
    Answers Invoke and InvokeWithResponseStream.

    Args:
        control: The node's parts.
    """

    def __init__(self, control: Control) -> None:
        self._control = control
        self._remembered: dict[tuple[bytes, bytes], Resolution] = {}
        control.state.subscribe(self._remembered.clear, "function", "version", "alias")

    def __repr__(self) -> str:
        return f"<Invocations remembered={len(self._remembered)}>"

    def begin(self, exchange: Exchange) -> bool:
        """
        Begin a request whose path is known already; it is answered when the pool has the answer.

        Returns:
            False if it is not known, or there is more to check: then `invoke` must be awaited.

        Raises:
            ApiError: What is wrong with it, as `invoke`.
        """
        resolution = self._remembered.get((exchange.path, exchange.query))
        if resolution is None:
            return False
        wishes = _read_headers(exchange)
        if wishes.is_unusual:
            return False
        self._begin(exchange, wishes, resolution)
        return True

    async def invoke(self, exchange: Exchange, route: Route) -> None:
        """
        Begin a request, whatever it is; it is answered when the pool has the answer.

        Raises:
            ApiError: What is wrong with it, in AWS's order: name, existence, state, payload, size.
        """
        wishes = _read_headers(exchange)
        resolution = await self._resolution(exchange, route, wishes)
        if wishes.invocation_type == b"Event":
            await self._accept(exchange, wishes, resolution)
        else:
            self._begin(exchange, wishes, resolution)

    async def invoke_with_response_stream(self, exchange: Exchange, route: Route) -> None:
        """
        Answer one request with the response as it is produced.

        Raises:
            ApiError: As `invoke`.
        """
        wishes = _read_headers(exchange)
        resolution = await self._resolution(exchange, route, wishes)
        request = self._check(exchange, wishes, resolution, streams=True)
        if request is None:
            return
        try:
            deployment = resolution.draw(self._control.draw)
            result = await self._control.pool.invoke(deployment, request)
        except (Throttled, PoolError) as error:
            raise _refusal(error) from error
        await write_stream(exchange, result)

    async def _resolution(self, exchange: Exchange, route: Route, wishes: Wishes) -> Resolution:
        resolution = self._remembered.get((exchange.path, exchange.query))
        if resolution is None or wishes.is_unusual:
            resolution = await self._resolve(exchange, route)
        return resolution

    def _begin(self, exchange: Exchange, wishes: Wishes, resolution: Resolution) -> None:
        request = self._check(exchange, wishes, resolution, streams=False)
        if request is None:
            return
        try:
            deployment = resolution.deployment
            if resolution.other is not None:
                deployment = resolution.draw(self._control.draw)
            self._control.pool.begin(deployment, request, partial(self._answer, exchange))
        except (Throttled, PoolError) as error:
            raise _refusal(error) from error

    async def _accept(self, exchange: Exchange, wishes: Wishes, resolution: Resolution) -> None:
        """Take in an invocation that nobody waits for; what runs it is found when its turn has come."""
        request = self._check(exchange, wishes, resolution, streams=False)
        assert request is not None, "only a dry run is answered by the check"
        request_id = await asynchronous.accept(
            self._control, request.invoked_arn, exchange.body, request.trace_id
        )
        exchange.respond(202, [(b"x-amzn-RequestId", request_id.encode())], b"")

    def _answer(self, exchange: Exchange, outcome: InvokeResult | PoolError | Throttled) -> None:
        """Answer one request; the pool is not to be disturbed by what goes wrong with that."""
        try:
            if isinstance(outcome, InvokeResult):
                exchange.respond(200, _answer_headers(outcome), outcome.payload)
            else:
                write_error(exchange, self._control.new_id(), _refusal(outcome))
        except Exception:  # noqa: BLE001 - the boundary "HTTP request"
            _log.exception("%s %s could not be answered", exchange.method, exchange.path)
            exchange.close()

    def _check(
        self, exchange: Exchange, wishes: Wishes, resolution: Resolution, *, streams: bool
    ) -> InvokeRequest | None:
        """Return what to run; None for a request that only wanted to be checked (it has been answered)."""
        if exchange.is_oversized:
            raise _oversized(exchange, wishes)
        payload = exchange.body
        if payload:
            check_json(payload)
        if wishes is _USUAL:
            return InvokeRequest(payload or b"{}", resolution.invoked_arn, streams=streams)
        client_context = _client_context(wishes.client_context)
        if wishes.invocation_type == b"DryRun":
            exchange.respond(204, [(b"x-amzn-RequestId", self._control.new_id().encode())], b"")
            return None
        trace_id = wishes.trace_id
        if trace_id and wishes.invocation_type != b"Event":
            trace_id = self._follow(trace_id, resolution)
        return InvokeRequest(
            payload=payload or b"{}",
            invoked_arn=resolution.invoked_arn,
            client_context=client_context,
            trace_id=trace_id,
            tail=wishes.log_type == b"Tail",
            streams=streams,
        )

    def _follow(self, trace_id: str, resolution: Resolution) -> str:
        """Return the trace header that the function gets; an invocation that closes a loop is refused."""
        arn = resolution.deployment.function.arn
        trace_id = lineage.follow(trace_id, arn)
        if resolution.ends_loops and lineage.is_loop(trace_id, arn):
            self._control.count("RecursiveInvocationsDropped", resolution.invoked_arn, 1)
            raise ApiError(
                "RecursiveInvocationException",
                f"The function {arn} has run {limits.CHAIN_RUNS_MAX} times in one chain of requests and is "
                "not invoked again: it seems to be part of a loop. If that is intended, allow it with "
                "PutFunctionRecursionConfig.",
            )
        return trace_id

    async def _resolve(self, exchange: Exchange, route: Route) -> Resolution:
        """Take the long way: everything the model says about the request is checked."""
        control = self._control
        request = control.api.parse(route, exchange.query, exchange.header, b"")
        for name in ("TenantId", "DurableExecutionName"):
            if name in request:
                raise invalid(f"{name} is not offered by this node: leave it out.")
        target = resolve_function(control.place, request["FunctionName"], request.get("Qualifier"))
        view = control.state.view
        version = control.serving(versions.find(view, control.place, target, with_latest=True))
        alias = view.aliases.get(target.name, {}).get(target.version)
        others = [] if alias is None else list(alias.weights.items())
        generation = control.state.generation
        arn = control.place.function_arn(target.name, target.qualifier)
        ends_loops = view.functions[target.name].recursive_loop == "Terminate"
        resolution = Resolution(await self._deployment(version), arn, ends_loops=ends_loops)
        for number, weight in others:
            other = control.serving(versions.find(view, control.place, Target(target.name, number)))
            resolution = resolution._replace(other=await self._deployment(other), weight=weight)
        if control.state.generation == generation:
            if len(self._remembered) >= _REMEMBERED_MAX:
                self._remembered.clear()
            self._remembered[exchange.path, exchange.query] = resolution
        return resolution

    async def _deployment(self, version: FunctionVersion) -> Deployment:
        try:
            return await self._control.deployments.make(version)
        except RuntimeUnavailable as error:
            raise ApiError("InvalidRuntimeException", f"The runtime is not available: {error}") from error
        except ArchiveError as error:
            raise ApiError("InvalidZipFileException", str(error)) from error


def _read_headers(exchange: Exchange) -> Wishes:
    """Collect the headers of the model's InvocationRequest, and the trace."""
    given = {header[0]: header[1] for header in exchange.headers if header[0] in _HEADERS}
    if not given:
        return _USUAL
    invocation_type = given.get(b"x-amz-invocation-type", _USUAL.invocation_type)
    log_type = given.get(b"x-amz-log-type", _USUAL.log_type)
    return Wishes(
        invocation_type,
        log_type,
        given.get(b"x-amz-client-context"),
        given.get(b"x-amzn-trace-id", b"").decode("latin-1"),
        invocation_type != _USUAL.invocation_type
        or log_type not in _LOG_TYPES
        or not given.keys().isdisjoint(_UNUSUAL_HEADERS),
    )


def _client_context(encoded: bytes | None) -> str | None:
    """
    Decode a client context.

    Raises:
        ApiError: InvalidRequestContentException if it is too long, no base64, or no JSON object inside.
    """
    if not encoded:
        return None
    if len(encoded) > limits.CLIENT_CONTEXT_BYTES_MAX:
        raise ApiError(
            "InvalidRequestContentException",
            f"Client context must be no more than {limits.CLIENT_CONTEXT_BYTES_MAX} bytes of base64.",
        )
    try:
        content = base64.b64decode(encoded, validate=True)
        document = msgspec.json.decode(content)
    except (binascii.Error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ApiError(
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
        ) from error
    if not isinstance(document, dict):
        raise ApiError(
            "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object."
        )
    return content.decode()


def _oversized(exchange: Exchange, wishes: Wishes) -> ApiError:
    declared = exchange.header(b"content-length")
    is_event = wishes.invocation_type == b"Event"
    most = limits.EVENT_PAYLOAD_BYTES_MAX if is_event else limits.INVOKE_PAYLOAD_BYTES_MAX
    count = declared.decode("latin-1") if declared else f"more than {most}"
    return too_large(count, wishes.invocation_type.decode("latin-1"), most)


def _refusal(error: Throttled | PoolError) -> ApiError:
    """Return the API's error for what the pool says."""
    if isinstance(error, RestoreFailed):
        return _not_restored(error)
    if isinstance(error, PoolError):
        return ApiError("ServiceException", str(error))
    headers = {"Retry-After": str(error.retry_after_s)}
    return ApiError("TooManyRequestsException", "Rate Exceeded.", headers=headers, Reason=error.reason)


def _not_restored(error: RestoreFailed) -> ApiError:
    """Return the API's error for an environment that did not come out of its snapshot."""
    if error.failure is None:
        return snapshots.not_ready()
    if error.is_timeout:
        return ApiError(
            "SnapStartTimeoutException", "Lambda couldn't restore the snapshot within the timeout limit."
        )
    return ApiError(
        "SnapStartException",
        "The afterRestore() runtime hook encountered an error. For more information, check the Amazon "
        "CloudWatch logs.",
    )


def _answer_headers(result: InvokeResult) -> bytes:
    """Return the headers of an answer as lines; what the function chose itself is checked for line breaks."""
    lines = b"Content-Type: application/json\r\n"
    if result.content_type != "application/json":
        lines = block(b"", [(b"Content-Type", result.content_type.encode("latin-1", "replace"))])
    lines += b"x-amzn-RequestId: %b\r\nX-Amz-Executed-Version: %b\r\n" % (
        result.request_id.encode(),
        result.executed_version.encode(),
    )
    if result.function_error is not None:
        lines += b"X-Amz-Function-Error: %b\r\n" % result.function_error.encode()
    if result.log_tail is not None:
        lines += b"X-Amz-Log-Result: %b\r\n" % base64.b64encode(result.log_tail)
    return lines
