"""Asks a node over HTTP; every failure becomes a `CommandError` that says what to do."""

from __future__ import annotations

import http.client
import importlib
import ssl
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar
from urllib.parse import SplitResult, urlencode, urlsplit

import click
import msgspec

from remora.cli.errors import UNREACHABLE, CommandError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    Command = Callable[..., object]

T = TypeVar("T")

ENDPOINT = "http://127.0.0.1:9000"
_TIMEOUT_S = 10.0
_EXCERPT_CHARACTERS_MAX = 200


def endpoint_option(command: Command) -> Command:
    """Give a command the option `--endpoint`."""
    return click.option(
        "--endpoint",
        envvar="REMORA_ENDPOINT",
        default=ENDPOINT,
        show_default=True,
        show_envvar=True,
        metavar="URL",
        callback=_check_endpoint,
        help="The node to ask.",
    )(command)


def get(endpoint: str, path: str, shape: type[T]) -> T:
    """
    Ask for a document.

    Args:
        endpoint: The node's URL.
        path: Path on the node, quoted.
        shape: What the JSON document is to be read as.

    Raises:
        CommandError: If the node cannot be reached, refuses, or answers something else.
    """
    with _request(endpoint, path) as response:
        body = _read(endpoint, response)
    try:
        return msgspec.json.decode(body, type=shape)
    except msgspec.MsgspecError as error:
        raise _not_a_node(endpoint, f"its answer to {path} has another form") from error


def post(endpoint: str, path: str) -> None:
    """
    Ask for something to be done.

    Args:
        endpoint: The node's URL.
        path: Path on the node, quoted.

    Raises:
        CommandError: As `get`.
    """
    with _request(endpoint, path, method="POST") as response:
        _read(endpoint, response)


def lines(endpoint: str, path: str, query: Mapping[str, str], *, is_endless: bool) -> Iterator[bytes]:
    """
    Ask for newline-delimited JSON, and give out its lines as they arrive.

    Args:
        endpoint: The node's URL.
        path: Path on the node, quoted.
        query: Parameters.
        is_endless: True if silence is no failure: more lines may come at any time.

    Raises:
        CommandError: As `get`, and if the connection is lost in between.
    """
    with _request(endpoint, f"{path}?{urlencode(query)}", is_endless=is_endless) as response:
        while True:
            try:
                line = response.readline()
            except (OSError, http.client.HTTPException) as error:
                raise CommandError(
                    f"lost the connection to the node at {endpoint} ({_reason(error)})",
                    "see whether it still runs: remora ps",
                    UNREACHABLE,
                ) from error
            if not line:
                return
            if line.strip():
                yield line.rstrip(b"\r\n")


@contextmanager
def _request(
    endpoint: str, path: str, *, method: str = "GET", is_endless: bool = False
) -> Iterator[http.client.HTTPResponse]:
    """Send a request; when the block is entered the node has answered that it succeeded."""
    url = urlsplit(endpoint)
    connection = _connection(url)
    try:
        try:
            connection.connect()
            if is_endless:
                connection.sock.settimeout(None)
            response = _ask(connection, url, method, url.path.rstrip("/") + path)
        except (OSError, http.client.HTTPException) as error:
            raise CommandError(
                f"could not reach a node at {endpoint} ({_reason(error)})",
                "start one with `remora up`, or name another with --endpoint",
                UNREACHABLE,
            ) from error
        if response.status != 200:
            raise _refusal(endpoint, path, response)
        yield response
    finally:
        connection.close()


def _ask(
    connection: http.client.HTTPConnection, url: SplitResult, method: str, target: str
) -> http.client.HTTPResponse:
    """Send a request, and again, signed, to a node that asks for keys."""
    accept = {"Accept": "application/json"}
    connection.request(method, target, headers=accept)
    response = connection.getresponse()
    if response.status != http.client.FORBIDDEN:
        return response
    response.read()
    signing = importlib.import_module("remora.cli.signing")  # botocore takes a moment to load
    connection.request(
        method, target, headers=accept | signing.signed_headers(connection, url, method, target)
    )
    return connection.getresponse()


def _connection(url: SplitResult) -> http.client.HTTPConnection:
    """Make a connection, directly: proxies are for the world outside."""
    assert url.hostname, "the endpoint was checked"
    if url.scheme == "https":
        context = ssl.create_default_context()
        return http.client.HTTPSConnection(url.hostname, url.port, timeout=_TIMEOUT_S, context=context)
    return http.client.HTTPConnection(url.hostname, url.port, timeout=_TIMEOUT_S)


def _read(endpoint: str, response: http.client.HTTPResponse) -> bytes:
    try:
        return response.read()
    except (OSError, http.client.HTTPException) as error:
        raise CommandError(
            f"lost the connection to the node at {endpoint} ({_reason(error)})", "try again", UNREACHABLE
        ) from error


def _refusal(endpoint: str, path: str, response: http.client.HTTPResponse) -> CommandError:
    body = _read(endpoint, response)
    try:
        message = msgspec.json.decode(body, type=_Refusal).message
    except msgspec.MsgspecError:
        return _not_a_node(endpoint, f"it answered {response.status} to {path}")
    return CommandError(message[:_EXCERPT_CHARACTERS_MAX], "see what there is: remora ps")


class _Refusal(msgspec.Struct):
    """The node's answer to a request that it refuses."""

    message: str


def _not_a_node(endpoint: str, reason: str) -> CommandError:
    return CommandError(
        f"what listens at {endpoint} is not a Remora node of this version ({reason})",
        "name the node with --endpoint, or update it",
        UNREACHABLE,
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    if isinstance(error, TimeoutError):
        return "no answer in time"
    return str(error) or type(error).__name__


def _check_endpoint(_context: click.Context, _parameter: click.Parameter, value: str) -> str:
    """Refuse what cannot be asked, before anything is tried."""
    try:
        url = urlsplit(value)
        is_usable = url.scheme in {"http", "https"} and bool(url.hostname) and url.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise click.BadParameter(f"{value!r} is not a URL such as {ENDPOINT}")
    return value.rstrip("/")
