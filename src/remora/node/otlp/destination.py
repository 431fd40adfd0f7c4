"""
Where telemetry is sent, from the environment variables that OpenTelemetry defines, and how it is sent.

Everything here blocks: it runs in the exporter's thread. A request that a collector refuses for the moment
is repeated until its time is over.

Source: OpenTelemetry, "OTLP Exporter Configuration" and "OTLP Specification 1.x", OTLP/HTTP.
"""

from __future__ import annotations

import gzip
import threading
import time
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from urllib.parse import unquote, urlsplit

import requests

from remora.node.settings import NodeError

if TYPE_CHECKING:
    from collections.abc import Mapping

Signal = Literal["traces", "metrics", "logs"]
SIGNALS: Final[tuple[Signal, ...]] = ("traces", "metrics", "logs")
PROTOCOL: Final = "http/protobuf"
TIMEOUT_MS: Final = 10_000
RETRYABLE: Final = (429, 502, 503, 504)
"""Source: OTLP Specification, "Retryable Response Codes"."""
_FIRST_PAUSE_S: Final = 0.5
_TRY_S_MIN: Final = 0.1
_PREFIX: Final = "OTEL_EXPORTER_OTLP_"


class Destination(NamedTuple):
    """
    Where one signal is sent.

    Args:
        url: The whole URL.
        headers: Sent with every request.
        timeout_s: How long a request may take, repetitions included, seconds.
        is_compressed: True for gzip.
        verify: File of certificates that are trusted; True for those of this machine.
        client: Files of the certificate and key that are shown; None for none.
    """

    url: str
    headers: dict[str, str]
    timeout_s: float = TIMEOUT_MS / 1000
    is_compressed: bool = False
    verify: str | bool = True
    client: tuple[str, str] | None = None


def destinations(variables: Mapping[str, str]) -> dict[Signal, Destination]:
    """
    Return where each signal is sent.

    Args:
        variables: The environment. `OTEL_TRACES_EXPORTER=none` and the like leave a signal out.

    Raises:
        NodeError: If something is asked for that is not offered, or cannot be understood.
    """
    found: dict[Signal, Destination] = {}
    for signal in SIGNALS:
        if variables.get(f"OTEL_{signal.upper()}_EXPORTER", "otlp").strip() == "none":
            continue
        url = _url(signal, variables)
        if url:
            found[signal] = _destination(signal, url, variables)
    return found


def _url(signal: Signal, variables: Mapping[str, str]) -> str:
    own = variables.get(f"{_PREFIX}{signal.upper()}_ENDPOINT", "").strip()
    base = variables.get(f"{_PREFIX}ENDPOINT", "").strip()
    url = own or (f"{base.rstrip('/')}/v1/{signal}" if base else "")
    if not url:
        return ""
    try:
        parts = urlsplit(url)
        is_usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_usable = False
    if not is_usable:
        raise NodeError(f"{own or base!r} is no URL of an OTLP receiver", "such as http://127.0.0.1:4318")
    return url


def _destination(signal: Signal, url: str, variables: Mapping[str, str]) -> Destination:
    def setting(name: str, usual: str = "") -> str:
        own = variables.get(f"{_PREFIX}{signal.upper()}_{name}", "")
        return (own or variables.get(_PREFIX + name, "") or usual).strip()

    protocol = setting("PROTOCOL", PROTOCOL)
    if protocol != PROTOCOL:
        raise NodeError(
            f"OTLP by {protocol!r} is not offered", f"leave {_PREFIX}PROTOCOL away, or set it to {PROTOCOL}"
        )
    compression = setting("COMPRESSION", "none")
    if compression not in {"none", "gzip"}:
        raise NodeError(f"OTLP with compression {compression!r} is not offered", "use gzip or none")
    timeout = setting("TIMEOUT", str(TIMEOUT_MS))
    if not timeout.isascii() or not timeout.isdigit() or int(timeout) == 0:
        raise NodeError(f"{_PREFIX}TIMEOUT is {timeout!r}", f"give milliseconds, such as {TIMEOUT_MS}")
    certificate, key = setting("CLIENT_CERTIFICATE"), setting("CLIENT_KEY")
    return Destination(
        url,
        pairs(setting("HEADERS")),
        int(timeout) / 1000,
        compression == "gzip",
        setting("CERTIFICATE") or True,
        (certificate, key) if certificate and key else None,
    )


def pairs(text: str) -> dict[str, str]:
    """Read `name=value,other=value` as OpenTelemetry's variables have it; values are percent-encoded."""
    parts = (part.partition("=") for part in text.split(",") if "=" in part)
    return {unquote(name.strip()): unquote(value.strip()) for name, _, value in parts}


class Sent(NamedTuple):
    """
    What became of a message.

    Args:
        problem: What went wrong; empty if it was taken.
        answer: What the receiver answered.
        may_repeat: True if another try may succeed.
        pause_s: How long the receiver wants to be left alone, seconds.
    """

    problem: str = ""
    answer: bytes = b""
    may_repeat: bool = False
    pause_s: float = 0.0


class Sender:
    """
    Sends one signal.

    Args:
        destination: Where to.
    """

    def __init__(self, destination: Destination) -> None:
        self._destination = destination
        self._session = requests.Session()
        self._session.headers.update({"Content-Type": "application/x-protobuf", **destination.headers})
        if destination.is_compressed:
            self._session.headers["Content-Encoding"] = "gzip"
        self._session.verify = destination.verify
        self._session.cert = destination.client
        self._is_ending = threading.Event()

    def send(self, message: bytes) -> Sent:
        """
        Send a message, until it is taken or refused for good, or its time is over.

        Args:
            message: A request of OTLP, serialised.
        """
        if self._destination.is_compressed:
            message = gzip.compress(message, 1)
        give_up_s = time.monotonic() + self._destination.timeout_s
        pause_s = _FIRST_PAUSE_S
        while True:
            sent = self._try(message, max(_TRY_S_MIN, give_up_s - time.monotonic()))
            pause_s = max(pause_s, sent.pause_s)
            is_late = time.monotonic() + pause_s >= give_up_s
            if not sent.may_repeat or is_late or self._is_ending.wait(pause_s):
                return sent
            pause_s *= 2

    def _try(self, message: bytes, timeout_s: float) -> Sent:
        try:
            answer = self._session.post(
                self._destination.url, data=message, timeout=timeout_s, allow_redirects=False
            )
        except (requests.ConnectionError, requests.Timeout) as error:
            return Sent(
                f"{self._destination.url} cannot be reached ({type(error).__name__})", may_repeat=True
            )
        except (requests.RequestException, OSError) as error:
            return Sent(f"{self._destination.url} could not be asked ({error})")
        if answer.status_code // 100 == 2:
            return Sent(answer=answer.content)
        after = answer.headers.get("Retry-After", "")
        return Sent(
            f"{self._destination.url} answered {answer.status_code}",
            may_repeat=answer.status_code in RETRYABLE,
            pause_s=float(after) if after.isdigit() else 0.0,
        )

    def end(self) -> None:
        """Repeat nothing any more; from any thread. Repeated calls: no effect."""
        self._is_ending.set()

    def close(self) -> None:
        """Close connections."""
        self._session.close()
