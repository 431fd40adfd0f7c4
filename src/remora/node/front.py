"""The front door: the node's own pages to the node, everything else to the AWS services."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.node.api import METRICS_PATH, PREFIX

if TYPE_CHECKING:
    from remora.http.exchange import Application, Exchange


class Front:
    """
    One application in front of two.

    Args:
        node: Answers what begins with /_remora/, and /metrics.
        services: Answers everything else.
    """

    def __init__(self, node: Application, services: Application) -> None:
        self._node = node
        self._services = services

    def began(self, exchange: Exchange) -> None:
        """Pass on."""
        self._whose(exchange).began(exchange)

    def ended(self, exchange: Exchange) -> None:
        """Pass on."""
        self._whose(exchange).ended(exchange)

    def aborted(self, exchange: Exchange) -> None:
        """Pass on."""
        self._whose(exchange).aborted(exchange)

    def _whose(self, exchange: Exchange) -> Application:
        is_ours = exchange.path.startswith(PREFIX) or exchange.path == METRICS_PATH
        return self._node if is_ours else self._services
