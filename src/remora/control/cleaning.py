"""Removes zips and directories that no record refers to, one sweep at a time."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from remora.artifacts.layers import stack_digest

if TYPE_CHECKING:
    from remora.artifacts.artifacts import Artifacts
    from remora.control.context import Spawn
    from remora.control.state import State

_log = logging.getLogger("remora.control")


class Cleaning:
    """
    Sweeps in the background when asked; asked during a sweep, it sweeps once more.

    Args:
        state: Says what records refer to.
        artifacts: What is swept.
        spawn: Starts the sweep.
    """

    def __init__(self, state: State, artifacts: Artifacts, spawn: Spawn) -> None:
        self._state = state
        self._artifacts = artifacts
        self._spawn = spawn
        self._is_running = False
        self._is_wanted = False

    def request(self) -> None:
        """Ask for a sweep."""
        self._is_wanted = True
        if not self._is_running:
            self._is_running = True
            self._spawn(self._run(), "remove unused packages")

    async def _run(self) -> None:
        try:
            while self._is_wanted:
                self._is_wanted = False
                await self._artifacts.collect(self._live)
        except OSError as error:
            _log.warning("unused packages could not be removed: %s", error)
        finally:
            self._is_running = False

    def _live(self) -> set[str]:
        view = self._state.view
        return (
            view.digests()
            | view.object_digests()
            | {stack_digest(digests) for digests in view.layer_stacks()}
        )
