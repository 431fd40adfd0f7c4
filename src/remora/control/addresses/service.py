"""
Serves function URLs: by host `<id>.lambda-url.…`, and by path /_url/<id>/… for those who cannot resolve it.

Source: control-plane specification, B.13; AWS Lambda Developer Guide, "Invoking Lambda function URLs".
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from remora.control.addresses import access, cors
from remora.control.addresses.replies import (
    PRELUDE_TYPE,
    HttpReply,
    Malformed,
    reply_of,
    split_prelude,
)
from remora.control.addresses.requests import Signer, UrlRequest, event_of
from remora.control.resolving import deployment_of
from remora.events.base import Gone, NotReady
from remora.pool.base import InvokeRequest, PoolError, Throttled
from remora.resources.names import LATEST
from remora.spec.limits import INVOKE_PAYLOAD_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.control.addresses.guard import UrlGuard
    from remora.control.context import Control
    from remora.http.exchange import Exchange, Header
    from remora.pool.base import InvokeResult, ResponseStream
    from remora.resources.attachments import FunctionUrl

PATH: Final = b"/_url/"
_HOST: Final = re.compile(rb"([a-z0-9]{32})\.lambda-url\.", re.IGNORECASE)
_TROUBLESHOOTING: Final = (
    "Forbidden. For troubleshooting Function URL authorization issues, see: "
    "https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html"
)
_TIMED_OUT: Final = b'"Sandbox.Timedout"'

_log = logging.getLogger("remora.control")
_encode: Final = msgspec.json.Encoder().encode


class UrlError(Exception):
    """
    The answer to a request that is not the function's.

    Args:
        status: HTTP status.
        code: For `x-amzn-ErrorType`.
        message: For the body.
    """

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message


class _Visit(NamedTuple):
    """One request under way."""

    exchange: Exchange
    url: FunctionUrl
    headers: dict[str, str]
    invoked_arn: str
    request_id: str
    began_ms: int


class Addresses:
    """
    The application behind function URLs.

    Args:
        control: The node's parts.
        count: Takes in a number of a metric: its name, the function's ARN as invoked, the number.
        guard: Verifies signatures; None on a node that takes any key.
    """

    def __init__(
        self, control: Control, count: Callable[[str, str, int], None], guard: UrlGuard | None = None
    ) -> None:
        self._control = control
        self._count = count
        self._guard = guard
        self._known: dict[str, FunctionUrl] = {}
        self._generation = -1

    def __repr__(self) -> str:
        return f"<Addresses {len(self._known)} known>"

    def began(self, exchange: Exchange) -> None:
        """Say how much of a body there may be."""
        exchange.body_bytes_max = INVOKE_PAYLOAD_BYTES_MAX

    def ended(self, exchange: Exchange) -> None:
        """Begin what answers."""
        try:
            self._control.spawn(self._answer(exchange), "function URL")
        except RuntimeError:
            _refuse(
                exchange, UrlError(503, "ServiceException", "Service Unavailable"), self._control.new_id()
            )

    def aborted(self, exchange: Exchange) -> None:
        """Nothing: what was asked for is done all the same."""

    # --- one request --------------------------------------------------------------------------------------

    async def _answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        visit = None
        request_id = self._control.new_id()
        try:
            visit = self._visit(exchange, request_id)
            await self._serve(visit)
        except UrlError as error:
            _refuse(exchange, error, request_id, self._cors(visit) if visit else [])
            if visit is not None:
                self._count(f"Url{error.status // 100}xxCount", visit.invoked_arn, 1)
        except Exception:  # noqa: BLE001 - the boundary "HTTP request"
            _log.exception("%s %s failed", exchange.method, exchange.path)
            _refuse(
                exchange, UrlError(502, "InternalServerErrorException", "Internal Server Error"), request_id
            )
        if visit is not None:
            self._count("UrlRequestCount", visit.invoked_arn, 1)
            took_ms = self._control.clock.wall_ms() - visit.began_ms
            self._count("UrlRequestLatency", visit.invoked_arn, max(0, took_ms))

    def _visit(self, exchange: Exchange, request_id: str) -> _Visit:
        """Find the URL that a request is for."""
        url = self._find(url_id_of(exchange))
        qualifier = None if url.qualifier == LATEST else url.qualifier
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in reversed(exchange.headers)
        }
        arn = self._control.place.function_arn(url.function, qualifier)
        return _Visit(exchange, url, headers, arn, request_id, self._control.clock.wall_ms())

    def _find(self, url_id: str) -> FunctionUrl:
        state = self._control.state
        if self._generation != state.generation:
            self._known = {url.url_id: url for urls in state.view.urls.values() for url in urls.values()}
            self._generation = state.generation
        url = self._known.get(url_id)
        if url is None:  # perhaps there was one: the function's, or an alias's, that is gone
            raise UrlError(403, "AccessDeniedException", "Forbidden")
        return url

    async def _serve(self, visit: _Visit) -> None:
        exchange, url = visit.exchange, visit.url
        if url.cors is not None and cors.is_preflight(exchange.method.decode("latin-1"), visit.headers):
            exchange.respond(200, _sent(cors.preflight(url.cors, visit.headers), visit), b"")
            return
        if exchange.is_oversized:
            raise _too_large()
        signer = await self._check_access(visit)
        event = event_of(self._request(visit, signer))
        if len(event) > INVOKE_PAYLOAD_BYTES_MAX:
            raise _too_large()
        streams = url.invoke_mode == "RESPONSE_STREAM"
        result = await self._invoke(visit, event, streams=streams)
        if result.function_error is not None:
            raise _failed(result)
        try:
            if result.stream is not None:
                await self._stream(visit, result.stream, result.content_type)
            elif result.content_type == PRELUDE_TYPE:
                self._respond(visit, _whole(result.payload))
            elif streams:
                headers = [("Content-Type", result.content_type)]
                self._respond(visit, HttpReply(200, headers, result.payload))
            else:
                self._respond(visit, reply_of(result.payload))
        except Malformed as error:
            _log.warning("the answer of %s could not be sent: %s", visit.invoked_arn, error)
            raise _internal_error() from error

    async def _check_access(self, visit: _Visit) -> Signer | None:
        """Return who signed a request; None if it needs no signature."""
        control, url = self._control, visit.url
        found = control.state.view.policies.get(url.function, {}).get(url.qualifier)
        policy = found.statements if found is not None else ()
        if url.auth_type == "NONE":
            if not access.is_open(policy, visit.invoked_arn, visit.exchange.peer):
                raise UrlError(403, "AccessDeniedException", _TROUBLESHOOTING)
            return None
        if self._guard is not None:
            signer = await self._guard.admits(visit.exchange, visit.invoked_arn, policy)
        else:
            signer = access.claimed_signer(visit.exchange, control.place)
        if signer is None:
            raise UrlError(403, "AccessDeniedException", "Forbidden")
        return signer

    def _request(self, visit: _Visit, signer: Signer | None) -> UrlRequest:
        exchange = visit.exchange
        path = exchange.path
        if path.startswith(PATH):
            path = b"/" + path[len(PATH) :].partition(b"/")[2]
        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in exchange.headers]
        given = {name for name, _ in headers}
        port = visit.headers.get("host", "").rpartition(":")[2]
        forwarded = {
            "x-forwarded-for": exchange.peer,
            "x-forwarded-port": port if port.isdigit() else "80",
            "x-forwarded-proto": "http",
        }
        headers += [pair for pair in forwarded.items() if pair[0] not in given]
        return UrlRequest(
            method=exchange.method.decode("latin-1"),
            path=path.decode("latin-1"),
            query=exchange.query.decode("latin-1"),
            headers=headers,
            body=exchange.body,
            host=visit.headers.get("host", "").partition(":")[0],
            url_id=visit.url.url_id,
            source_ip=exchange.peer,
            account=self._control.place.account,
            request_id=visit.request_id,
            now_ms=visit.began_ms,
            signer=signer,
        )

    async def _invoke(self, visit: _Visit, event: bytes, *, streams: bool) -> InvokeResult:
        request = InvokeRequest(
            event,
            visit.invoked_arn,
            trace_id=visit.headers.get("x-amzn-trace-id", ""),
            streams=streams,
            request_id=visit.request_id,
        )
        try:
            deployment = await deployment_of(self._control, visit.url.function, visit.url.qualifier)
            return await self._control.pool.invoke(deployment, request)
        except Gone as error:
            raise UrlError(404, "ResourceNotFoundException", "Not Found") from error
        except Throttled as error:
            raise UrlError(429, "TooManyRequestsException", "Rate Exceeded.") from error
        except (NotReady, PoolError) as error:
            _log.warning("%s", error)
            raise _internal_error() from error

    # --- its answer ---------------------------------------------------------------------------------------

    def _respond(self, visit: _Visit, reply: HttpReply) -> None:
        visit.exchange.respond(reply.status, self._head(visit, reply), reply.body)

    def _head(self, visit: _Visit, reply: HttpReply) -> list[Header]:
        if reply.status >= 400:
            self._count(f"Url{reply.status // 100}xxCount", visit.invoked_arn, 1)
        own = self._cors(visit)
        replaced = {name.lower() for name, _ in own}
        kept = [pair for pair in reply.headers if pair[0].lower() not in replaced]
        return _sent([*kept, *own], visit)

    def _cors(self, visit: _Visit) -> list[tuple[str, str]]:
        settings = visit.url.cors
        return [] if settings is None else cors.allowed(settings, visit.headers.get("origin"))

    async def _stream(self, visit: _Visit, stream: ResponseStream, content_type: str) -> None:
        """Answer with a response as it is produced; a stream that breaks off breaks the connection off."""
        exchange = visit.exchange
        is_begun, begun = False, b""
        if content_type != PRELUDE_TYPE:
            exchange.begin(200, self._head(visit, HttpReply(200, [("Content-Type", content_type)])))
            is_begun = True
        try:
            async for chunk in stream.chunks():
                piece = chunk
                if not is_begun:
                    begun += chunk
                    parts = split_prelude(begun)
                    if parts is None:
                        continue
                    reply, piece = parts
                    exchange.begin(reply.status, self._head(visit, reply))
                    is_begun = True
                exchange.write(piece)
                await exchange.drain()
                if not exchange.is_open:
                    return
        except BaseException:
            if is_begun:
                exchange.close()
            raise
        finally:
            stream.abandon()
        if not is_begun:
            raise Malformed("the stream ended within its head")
        if stream.end.error_code:
            exchange.close()
        else:
            exchange.finish()


def url_id_of(exchange: Exchange) -> str:
    """Return the identifier of the URL that a request is for; empty if it is for none."""
    if exchange.path.startswith(PATH):
        return exchange.path[len(PATH) :].partition(b"/")[0].decode("latin-1")
    match = _HOST.match(exchange.header(b"host") or b"")
    return match[1].decode().lower() if match else ""


def _whole(payload: bytes) -> HttpReply:
    """Return a stream that came whole as an answer."""
    parts = split_prelude(payload)
    if parts is None:
        raise Malformed("the stream ended within its head")
    return parts[0]._replace(body=parts[1])


def _failed(result: InvokeResult) -> UrlError:
    if _TIMED_OUT in result.payload[:200]:
        return UrlError(504, "GatewayTimeoutException", "Gateway Timeout")
    return _internal_error()


def _internal_error() -> UrlError:
    return UrlError(502, "InternalServerErrorException", "Internal Server Error")


def _too_large() -> UrlError:
    text = f"Request must be smaller than {INVOKE_PAYLOAD_BYTES_MAX} bytes for the InvokeFunction operation"
    return UrlError(413, "RequestEntityTooLargeException", text)


def _sent(headers: list[tuple[str, str]], visit: _Visit) -> list[Header]:
    """Return headers as they are sent, with the request's id."""
    return [
        *((name.encode(), value.encode("latin-1", "replace")) for name, value in headers),
        (b"x-amzn-RequestId", visit.request_id.encode()),
    ]


def _refuse(
    exchange: Exchange, error: UrlError, request_id: str, headers: list[tuple[str, str]] | None = None
) -> None:
    """Answer with an error; what was begun already can only be broken off."""
    sent: list[Any] = [
        (b"Content-Type", b"application/json"),
        (b"x-amzn-RequestId", request_id.encode()),
        (b"x-amzn-ErrorType", error.code.encode()),
        *((name.encode(), value.encode("latin-1", "replace")) for name, value in headers or ()),
    ]
    if error.status == 429:
        sent.append((b"Retry-After", b"1"))
    exchange.respond(error.status, sent, _encode({"Message": error.message}))
