"""
What an extension asks of the Telemetry API or the Logs API: read, checked, and compared with what it has.

Pure. Source: telemetry-api specification, sections 1 and 2; logs-api specification, sections 1 and 6.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import urlsplit

from remora.spec.telemetry import (
    API_PORT,
    BYTES,
    BYTES_DEFAULT,
    CATEGORIES,
    EVENT_WORDS,
    HOSTS,
    ITEMS,
    ITEMS_DEFAULT,
    LOGS_V1,
    LOGS_V2,
    PORT_MAX,
    SUBSCRIPTIONS_MAX,
    TCP_PORT_MIN,
    TIMEOUT_MS,
    TIMEOUT_MS_DEFAULT,
    V1,
    V2,
    V3,
    VERSIONS,
)
from remora.telemetry.reading import Unreadable, Value, read

if TYPE_CHECKING:
    from collections.abc import Iterable

_MEMBERS: Final = ("schemaVersion", "types", "buffering", "destination")
_BUFFERING: Final = ("maxItems", "maxBytes", "timeoutMs")
_DESTINATION: Final = ("protocol", "URI", "port", "method", "encoding")
_U32_MAX: Final = 2**32 - 1


class Api(Enum):
    """The two APIs by which an extension subscribes; the value is the prefix of their error types."""

    TELEMETRY = "Telemetry"
    LOGS = "Logs"


class Destination(NamedTuple):
    """
    Where events are delivered: an HTTP server, or a TCP port, that listens inside the environment.

    Args:
        port: Its port.
        method: `POST` or `PUT`; empty for TCP.
        target: Path and query of the request.
    """

    port: int
    method: str = ""
    target: str = ""


class Buffering(NamedTuple):
    """When a batch is delivered: with so many items, so many bytes, or after so many milliseconds."""

    items: int = ITEMS_DEFAULT
    payload_bytes: int = BYTES_DEFAULT
    timeout_ms: int = TIMEOUT_MS_DEFAULT


class Subscription(NamedTuple):
    """One subscription; two that are equal are the same one."""

    name: str
    """The extension's."""
    api: Api
    version: str
    """Schema of the events."""
    types: tuple[str, ...]
    buffering: Buffering
    destination: Destination


class Refusal(Exception):  # noqa: N818 - an answer
    """
    A subscription is refused.

    Args:
        status: HTTP status.
        error_type: Without the API's prefix.
        message: For whoever asked.
    """

    def __init__(self, status: int, error_type: str, message: str) -> None:
        super().__init__(message)
        self.status, self.error_type, self.message = status, error_type, message


def read_subscription(name: str, api: Api, body: bytes) -> Subscription:
    """
    Read and check the body of a request.

    Args:
        name: The extension's.
        api: Which API was called.
        body: JSON.

    Raises:
        Refusal: If it cannot be read, or asks for what there is not.
    """
    try:
        whole = read(body)
        members = whole.members(_MEMBERS, "struct SubscribeRequest")
        version = members["schemaVersion"].word(VERSIONS) if "schemaVersion" in members else ""
        types = tuple(item.word(EVENT_WORDS) for item in _required(members, "types", whole).items())
        buffering = _read_buffering(members.get("buffering"))
        target = _required(members, "destination", whole)
        destination, problems = _read_destination(target)
    except Unreadable as error:
        raise Refusal(400, "DeserializationError", str(error)) from error
    version = _checked_version(api, version)
    problems += _problems_with_types(types)
    problems += _problems_with_buffering(buffering)
    if problems:
        raise Refusal(400, "ValidationError", "; ".join(problems))
    return Subscription(name, api, version, types, buffering, destination)


def place(subscription: Subscription, held: Iterable[Subscription]) -> bool:
    """
    Tell whether a subscription is to be added to those that the environment has.

    Returns:
        False if there is the same already.

    Raises:
        Refusal: If its extension uses the other API, or there are too many.
    """
    count = 0
    for each in held:
        count += 1
        if each == subscription:
            return False
        if each.name == subscription.name and each.api is not subscription.api:
            message = (
                f"The extension {each.name} is already subscribed to the {each.api.value}API. "
                "You must either subscribe to the LogsAPI or the TelemetryAPI"
            )
            raise Refusal(400, "AccessDenied", message)
    if count >= SUBSCRIPTIONS_MAX:
        raise Refusal(400, "ValidationError", f"An environment may have {SUBSCRIPTIONS_MAX} subscriptions")
    return True


def _required(members: dict[str, Value], name: str, whole: Value) -> Value:
    if name not in members:
        raise whole.problem(f"missing field `{name}`")
    return members[name]


def _checked_version(api: Api, version: str) -> str:
    if api is Api.LOGS:
        if version in ("", LOGS_V1, LOGS_V2):
            return version or LOGS_V1
        text = f"LogsAPI only supports the following SchemaVersion: {LOGS_V1}, {LOGS_V2}"
        raise Refusal(400, "ValidationError", text)
    if version in (V1, V2, V3):
        return version
    text = f"TelemetryAPI only supports the SchemaVersion released after {LOGS_V2}"
    raise Refusal(400, "ValidationError", text)


def _problems_with_types(types: tuple[str, ...]) -> list[str]:
    if not types:
        return ["types should not be empty"]
    if any(word not in CATEGORIES for word in types):
        return ["Unrecognized enum variant"]
    return ["types should be unique"] if len(set(types)) < len(types) else []


def _read_buffering(value: Value | None) -> Buffering:
    usual = Buffering()
    if value is None:
        return usual
    given = {
        name: member.natural(_U32_MAX)
        for name, member in value.members(_BUFFERING, "struct Buffering").items()
    }
    return Buffering(
        given.get("maxItems", usual.items),
        given.get("maxBytes", usual.payload_bytes),
        given.get("timeoutMs", usual.timeout_ms),
    )


def _problems_with_buffering(buffering: Buffering) -> list[str]:
    limits = (ITEMS, BYTES, TIMEOUT_MS)
    return [
        f"{name} should be between {least} and {most}"
        for name, value, (least, most) in zip(_BUFFERING, buffering, limits, strict=True)
        if not least <= value <= most
    ]


def _read_destination(value: Value) -> tuple[Destination, list[str]]:
    members = value.members(_DESTINATION, "struct Destination")
    protocol = _required(members, "protocol", value).word(("HTTP", "TCP"))
    method = members["method"].word(("POST", "PUT")) if "method" in members else "POST"
    if "encoding" in members:
        members["encoding"].word(("JSON",))
    if protocol == "TCP":
        port = _required(members, "port", value).natural(PORT_MAX)
        return Destination(port), _problems_with_tcp_port(port)
    return _read_uri(_required(members, "URI", value).string(), method)


def _problems_with_tcp_port(port: int) -> list[str]:
    if port < TCP_PORT_MIN:
        return [f"port should be between {TCP_PORT_MIN} and {PORT_MAX}"]
    return _problems_with_port(port)


def _problems_with_port(port: int) -> list[str]:
    return [f"port {API_PORT} is reserved for the Runtime API"] if port == API_PORT else []


def _read_uri(uri: str, method: str) -> tuple[Destination, list[str]]:
    unusable = Destination(0, method)
    if not uri.isascii() or any(character <= " " or character == "\x7f" for character in uri):
        return unusable, ["URI is not valid"]
    try:
        parts = urlsplit(uri)
        host, port = parts.hostname, parts.port
    except ValueError:
        return unusable, ["URI is not valid"]
    if parts.scheme != "http":
        raise Refusal(403, "AccessDenied", "Only 'http' scheme is supported.")
    if host not in HOSTS:
        raise Refusal(403, "AccessDenied", "Only 'sandbox.localdomain' hostname is supported.")
    if not port:
        return unusable, ["URI port is not provided"]
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    return Destination(port, method, target), _problems_with_port(port)
