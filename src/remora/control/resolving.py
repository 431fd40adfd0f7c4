"""Finds what runs for a name and a qualifier; an alias with weights draws lots each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from remora.artifacts.archive import ArchiveError
from remora.events.base import Gone, NotReady
from remora.resources import versions
from remora.runtimes.errors import RuntimeUnavailable
from remora.spec.errors import ApiError

if TYPE_CHECKING:
    from remora.control.context import Control
    from remora.pool.base import Deployment
    from remora.resources.records import FunctionVersion


async def deployment_of(control: Control, name: str, qualifier: str) -> Deployment:
    """
    Return what runs.

    Args:
        control: The node's parts.
        name: Bare name of a function.
        qualifier: `$LATEST`, a number, or an alias.

    Raises:
        Gone: If there is no such function.
        NotReady: If it cannot be run now.
    """
    view = control.state.view
    version = version_of(control, name, qualifier)
    alias = view.aliases.get(name, {}).get(qualifier)
    for number, weight in alias.weights.items() if alias is not None else ():
        if control.draw() < weight:
            version = version_of(control, name, number)
    try:
        return await control.deployments.make(control.serving(version))
    except (ApiError, ArchiveError, RuntimeUnavailable, OSError) as error:
        raise NotReady(f"{name}:{qualifier} cannot be run now: {error}") from error


def version_of(control: Control, name: str, qualifier: str) -> FunctionVersion:
    """
    Return the version that a qualifier stands for.

    Raises:
        Gone: If there is none.
    """
    version = versions.lookup(control.state.view, name, qualifier)
    if version is None:
        raise Gone(f"there is no function {name}:{qualifier} any more")
    return version
