"""Which programs an environment starts: its external extensions, and the runtime's bootstrap."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from remora.environment.base import Deployment

DISABLE_EXTENSIONS_FILE = "disable-extensions-jwigqn8j"
"""If /opt has an entry of this name, there are no extensions. Source: AWS's runtime interface emulator."""


def are_extensions_disabled(deployment: Deployment) -> bool:
    """
    Tell whether a file in /opt switches extensions off, external and internal.

    Source: extensions-api specification, section 1.
    """
    return deployment.opt is not None and os.path.lexists(deployment.opt / DISABLE_EXTENSIONS_FILE)


def external_extensions(deployment: Deployment) -> tuple[str, ...]:
    """Return the names of the external extensions in order of start: every file in /opt/extensions."""
    if deployment.opt is None or are_extensions_disabled(deployment):
        return ()
    try:
        with os.scandir(deployment.opt / "extensions") as entries:
            found = [entry.name for entry in entries if not entry.is_dir(follow_symlinks=False)]
    except (FileNotFoundError, NotADirectoryError):
        return ()
    return tuple(sorted(found, key=os.fsencode))


def find_bootstrap(deployment: Deployment) -> str:
    """Return the path (inside) of the first program of the runtime that exists; empty if none does."""
    roots = [("/var/task", deployment.task)]
    if deployment.opt is not None:
        roots.append(("/opt", deployment.opt))
    roots += [(target, source) for source, target in deployment.runtime.mounts]
    for bootstrap in deployment.runtime.bootstraps:
        for inside, source in roots:
            relative = bootstrap.removeprefix(inside + "/")
            if relative != bootstrap and os.path.lexists(source / relative):
                return bootstrap
    return ""
