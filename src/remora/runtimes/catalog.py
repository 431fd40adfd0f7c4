"""Which runtimes this machine has, and how each is made ready."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import TYPE_CHECKING

from remora.runtimes import interpreters, preparation, provided
from remora.runtimes.errors import RuntimeUnavailable
from remora.runtimes.layout import RuntimeLayout

if TYPE_CHECKING:
    from collections.abc import Sequence


PACKAGES = (preparation.CLIENT, "boto3")
"""What Python functions find in /var/runtime: the runtime client, and like in Lambda the AWS SDK."""


def default_cache() -> Path:
    """Return where a user's nodes share prepared runtimes (XDG Base Directory Specification)."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base, "remora", "runtimes")


class Runtimes:
    """
    The runtimes of this machine.

    Args:
        cache: Where prepared runtimes are kept, `default_cache()` as a rule.
        region: Shown in version ARNs.
        packages: What Python functions find in /var/runtime, as pip's requirements.
        directories: Where interpreters are looked for; the usual places if not given.
    """

    def __init__(
        self,
        cache: Path,
        region: str,
        *,
        packages: Sequence[str] = PACKAGES,
        directories: Sequence[Path] | None = None,
    ) -> None:
        self._cache = cache
        self._region = region
        self._packages = tuple(packages)
        self._directories = None if directories is None else tuple(directories)
        self._candidates: dict[str, tuple[Path, ...]] | None = None
        self._layouts: dict[str, asyncio.Future[RuntimeLayout]] = {}

    def __repr__(self) -> str:
        """State what is ready."""
        ready = sorted(name for name, future in self._layouts.items() if future.done())
        return f"<Runtimes in {self._cache}, ready: {', '.join(ready) or 'none'}>"

    def names(self) -> tuple[str, ...]:
        """Return the identifiers of all runtimes found here (by file name: no interpreter has been run)."""
        if self._candidates is None:
            self._candidates = interpreters.candidates(self._directories or interpreters.usual_directories())
        return (*self._candidates, *provided.NAMES)

    async def prepare(self, name: str) -> RuntimeLayout:
        """
        Make a runtime ready to be mounted; takes seconds the first time on this machine, then nothing.

        Raises:
            RuntimeUnavailable: If this machine does not have it or cannot make it.

        **Cancellation:** the work goes on in the background for the next who asks.
        Repeated calls: the same layout; calls at the same time share the work; a failure is not remembered.
        """
        if name in provided.NAMES:
            return provided.layout(name)
        work = self._layouts.get(name)
        if work is None or (work.done() and not _is_there(work.result())):
            if name not in self.names():
                raise RuntimeUnavailable(self._missing(name))
            work = asyncio.get_running_loop().run_in_executor(None, self._lay_out, name)
            work.add_done_callback(lambda done: self._settle(name, done))
            self._layouts[name] = work
        return await asyncio.shield(work)

    def _settle(self, name: str, work: asyncio.Future[RuntimeLayout]) -> None:
        """Forget work that failed, so that it can be tried again."""
        if work.cancelled() or work.exception() is not None:
            self._layouts.pop(name, None)

    def _lay_out(self, name: str) -> RuntimeLayout:
        """Choose the interpreter and make its directory (in a thread)."""
        assert self._candidates is not None, "names are known before one is prepared"
        interpreter = interpreters.choose(name, self._candidates[name])
        if interpreter is None:
            paths = ", ".join(str(path) for path in self._candidates[name])
            raise RuntimeUnavailable(
                f"the runtime {name} cannot be used: {paths} does not work; reinstall it"
            )
        place = preparation.prepare(interpreter, self._cache, self._packages)
        version = name.removeprefix("python")
        return RuntimeLayout(
            name=name,
            mounts=((interpreter.prefix, "/var/lang"), (place.directory, "/var/runtime")),
            bootstraps=("/var/runtime/bootstrap",),
            # The second is for bootstrap.py, which takes it away: where layers are without isolation.
            variables={"PYTHONPATH": "/var/runtime", "_REMORA_OPT": "/opt"},
            version=f"python:{version}.v{place.prepared.client_version}",
            version_arn=f"arn:aws:lambda:{self._region}::runtime:{place.prepared.digest}",
        )

    def _missing(self, name: str) -> str:
        """Return what to tell who asks for a runtime that is not here."""
        found = ", ".join(self.names())
        minor = interpreters.minor_of(name)
        if minor < interpreters.MINOR_MIN:
            return f"the runtime {name} is not offered; choose one of {found}"
        return (
            f"the runtime {name} is not on this machine (found: {found}); install that Python where the "
            f"search path finds it (for example `uv python install 3.{minor}`), or choose another runtime"
        )


def _is_there(layout: RuntimeLayout) -> bool:
    """Tell whether nobody has cleared the cache since."""
    return all(directory.is_dir() for directory, _ in layout.mounts)
