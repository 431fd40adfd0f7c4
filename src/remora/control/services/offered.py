"""The services next to Lambda that live on the node's own records; each is made when it is first called."""

from __future__ import annotations

import asyncio
import importlib
from functools import partial
from typing import TYPE_CHECKING

from remora.spec import limits

if TYPE_CHECKING:
    from collections.abc import Callable

    from remora.control.context import Control
    from remora.control.service import Service
    from remora.http.exchange import Exchange


class Later:
    """
    A service that is made when it is first called: reading its model takes a moment.

    Args:
        make: Makes it; called in a thread.
        body_bytes_max: How long a request's body may be.
    """

    def __init__(self, make: Callable[[], Service], body_bytes_max: int) -> None:
        self.body_bytes_max = body_bytes_max
        self._make = make
        self._made: asyncio.Future[Service] | None = None

    def __repr__(self) -> str:
        return f"<Later made={self._made is not None}>"

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request."""
        if self._made is None:
            self._made = asyncio.get_running_loop().run_in_executor(None, self._make)
        service = await asyncio.shield(self._made)
        await service.answer(exchange)


def record_services(control: Control) -> dict[str, Service]:
    """Return the services, by their names in the scope of signatures."""

    def make(name: str) -> Service:
        """Load a service's module, which has a function `service`: some load libraries of their own."""
        module = importlib.import_module(f"remora.control.services.{name}")
        made: Service = module.service(control)
        return made

    sizes = dict.fromkeys(("ecr", "iam", "ssm", "sts"), limits.OTHER_BODY_BYTES_MAX) | {
        "s3": limits.OBJECT_BYTES_MAX
    }
    return {name: Later(partial(make, name), size) for name, size in sizes.items()}
