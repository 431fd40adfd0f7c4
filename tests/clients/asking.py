"""Asks function URLs, whose names not every machine knows."""

from __future__ import annotations

import urllib.request
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from tests.acceptance.nodes import Node


def fetched(node: Node, url: str) -> bytes:
    """Return what a node answers at the URL of one of its functions."""
    headers = {"Host": urlsplit(url).netloc}
    with urllib.request.urlopen(urllib.request.Request(node.endpoint, headers=headers)) as reply:
        content: bytes = reply.read()
        return content
