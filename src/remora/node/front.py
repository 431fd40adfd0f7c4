"""The front door: the node's own pages, function URLs, and everything else for the AWS services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.control.addresses.service import url_id_of
from remora.control.front_door import service_of
from remora.control.services.s3_requests import is_virtual
from remora.node.api import HEALTH_PATH, METRICS_PATH, PREFIX

if TYPE_CHECKING:
    from remora.http.exchange import Application, Exchange

_LAMBDA = b"/20"
"""What the paths of the Lambda API begin with."""
_HOST = b".lambda-url."


class Front:
    """
    One application in front of three.

    Args:
        node: Answers what begins with /_remora/, /metrics and /health.
        addresses: Answers function URLs.
        services: Answers everything else.
    """

    def __init__(self, node: Application, addresses: Application, services: Application) -> None:
        self._node = node
        self._addresses = addresses
        self._services = services

    def began(self, exchange: Exchange) -> None:
        """Hand on."""
        exchange.application = whose = self._whose(exchange)
        whose.began(exchange)

    def ended(self, exchange: Exchange) -> None:
        """Never called: every exchange was handed on."""
        raise AssertionError(f"{exchange!r} was not handed on")

    def aborted(self, exchange: Exchange) -> None:
        """Never called: every exchange was handed on."""
        raise AssertionError(f"{exchange!r} was not handed on")

    def _whose(self, exchange: Exchange) -> Application:
        path = exchange.path
        if path.startswith(_LAMBDA):  # most requests; those of a function URL have another host
            is_address = _HOST in (exchange.header(b"host") or b"")
            return self._addresses if is_address else self._services
        if url_id_of(exchange):
            return self._addresses
        is_ours = path.startswith(PREFIX) or path == METRICS_PATH
        return self._node if is_ours or _asks_for_health(exchange) else self._services


def _asks_for_health(exchange: Exchange) -> bool:
    """Tell /health from requests to S3 that are about a bucket of that name, or an object in one."""
    if exchange.path != HEALTH_PATH or exchange.query:
        return False
    if exchange.header(b"authorization") is not None and service_of(exchange) == "s3":
        return False
    return exchange.method in (b"GET", b"HEAD") and not is_virtual(exchange)
