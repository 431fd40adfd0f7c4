"""
The service CloudFormation behind a node's endpoint; it is loaded when it is first called, or has work left.

Templates, models and types take a moment to load and some memory, which nodes without stacks do not need.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any, Final

from remora.spec import limits

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.control.service import LambdaService
    from remora.http.exchange import Exchange

SERVICE: Final = "cloudformation"


class Stacks:
    """
    The application behind the service.

    Args:
        control: The node's parts.
        services: The node's services, which stacks are made of.
        endpoint: Base URL of the node.
    """

    body_bytes_max: Final = limits.OTHER_BODY_BYTES_MAX

    def __init__(self, control: Control, services: LambdaService, endpoint: str) -> None:
        self._control = control
        self._services = services
        self._endpoint = endpoint
        self._made: asyncio.Future[Any] | None = None

    def __repr__(self) -> str:
        return f"<Stacks {len(self._control.state.view.stacks)} loaded={self._made is not None}>"

    async def answer(self, exchange: Exchange) -> None:
        """Answer one request, whatever is wrong with it."""
        formation = await self._load()
        await formation.service.answer(exchange)

    async def resume(self) -> None:
        """Take up what a former process left."""
        if any(stack.is_busy for stack in self._control.state.view.stacks.values()):
            formation = await self._load()
            formation.resume()

    async def _load(self) -> Any:
        if self._made is None:
            self._made = asyncio.get_running_loop().run_in_executor(None, self._make)
        return await asyncio.shield(self._made)

    def _make(self) -> Any:
        module = importlib.import_module("remora.iac.service")
        return module.CloudFormation(self._control, self._services, self._endpoint)
